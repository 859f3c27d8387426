"""Conda files and the Dockerfile install the pins of pyproject.toml.

Checked without a conda channel or a container engine.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers.models import ROOT
from helpers.workflow import small_config, snakemake, write_config
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPE = (ROOT / "envs/Dockerfile").read_text()
MATCH_SPEC = re.compile(
    r"(?:[\w.-]+::)?[a-z0-9_.-]+(?: *[=<>!~]=?[\w.*,<>=!|]+)?"
)  # of conda, without builds


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda path: path.name)
def test_conda_files_are_valid(path):
    """Known keys, conda-forge without the default channels, MatchSpecs, then pip's list."""
    env = yaml.safe_load(path.read_text())
    assert set(env) <= {"name", "channels", "dependencies", "variables", "prefix"}
    assert env["channels"] == ["conda-forge", "nodefaults"]
    *packages, last = env["dependencies"]
    assert all(MATCH_SPEC.fullmatch(package) for package in packages) and "pip" in packages
    assert set(last) == {"pip"}
    for wanted in map(Requirement, last["pip"]):
        assert wanted.specifier and not wanted.extras and not wanted.marker, wanted
    (python,) = (package.split("=")[1] for package in packages if package.startswith("python "))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert f"FROM python:{python}-slim" in RECIPE


def test_dockerfile_passes_hadolint():
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "envs/Dockerfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("index", ["", "https://example.org/cpu"])
def test_dockerfile_installs_the_pins_of_pyproject(tmp_path, index):
    """Run its commands with a fake pip that records its arguments, on the files it copies."""
    (sources,) = re.findall(r"^COPY (.*) \./$", RECIPE, re.M)
    for name in sources.split():
        shutil.copy(ROOT / name, tmp_path)
    ignored = (ROOT / "envs/Dockerfile.dockerignore").read_text().split()
    assert ignored == ["*", *(f"!{name}" for name in sources.split())]
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@" >> pip-arguments\n')
    (tmp_path / "pip").chmod(0o755)
    *_, command = re.findall(r"^RUN ((?:.*\\\n)*.*)$", RECIPE, re.M)
    paths = dict(
        PATH=f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}", TORCH_INDEX=index
    )
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, env=os.environ | paths, check=True)
    assert (tmp_path / "wanted.txt").read_text().splitlines() == PROJECT["dependencies"]
    first = [f"install --no-cache-dir --no-deps --index-url {index} torch==2.13.0"] if index else []
    rest = ["install --no-cache-dir -c requirements.lock -r wanted.txt", "check"]
    assert (tmp_path / "pip-arguments").read_text().splitlines() == first + rest
    assert "torch==2.13.0" in PROJECT["dependencies"]


APPTAINER = """#!/bin/sh
[ "$1" = --version ] && echo "apptainer version 1.3.6" && exit
printf '%s\\n' "$@" >> "$CALLS"
for command; do :; done
exec bash -c "$command"
"""


@pytest.mark.slow
def test_jobs_run_in_the_image_that_the_config_names(tmp_path):
    """A fake apptainer records its arguments and runs the job: image, bind mount, own Python."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apptainer").write_text(APPTAINER)
    (tmp_path / "bin/apptainer").chmod(0o755)
    calls, image = tmp_path / "calls", tmp_path / "lora.sif"
    image.touch()
    environment = dict(
        PATH=f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}", CALLS=str(calls)
    )
    config = small_config(tmp_path)
    path = write_config(tmp_path, config, container=str(image))
    options = [
        "--configfile",
        path,
        "--directory",
        tmp_path,
        "--until",
        "prepare",
        "--sdm",
        "apptainer",
    ]
    snakemake(*options, "--apptainer-args=--nv", env=environment)
    words = calls.read_text().splitlines()
    assert words.count("exec") == 3 + 2  # three sources fetched, two tasks prepared
    assert words.count("--nv") == words.count(str(image)) == words.count(str(ROOT)) == 5
    assert words[words.index(str(ROOT)) - 1] == "--bind" and "export PATH" not in calls.read_text()
    calls.unlink()
    snakemake(*options[:-2], "--forceall", env=environment)
    assert not calls.exists()
    write_config(tmp_path, config)
    code, output = snakemake(*options, env=environment, check=False)
    assert code != 0 and "--sdm apptainer needs an image: set container" in output


@pytest.mark.parametrize("image", ["my image.sif", "{image}.sif", "it's.sif"])
def test_image_names_with_spaces_braces_or_quotes_are_refused(tmp_path, image):
    path = write_config(tmp_path, dict(container=image))
    code, output = snakemake("-n", "--configfile", path, "--directory", tmp_path, check=False)
    assert (
        code != 0 and "container: got" in output and "without spaces, braces and quotes" in output
    )
