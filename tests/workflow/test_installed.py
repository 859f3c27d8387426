"""The package as a user installs it: an sdist, the wheel that is built of it, a fresh environment
without the checkout, another folder, and an empty home folder.

The environment sees the libraries of the running one through links. Building it with pip would
download torch for each test. Links also keep the checkout out, which an editable install would
otherwise show. Everything here could pass with files of the checkout, so `environment` checks where
lora is imported from.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from helpers.models import ROOT
from helpers.workflow import run_files, small_config, snakemake

import lora

pytestmark = pytest.mark.slow
NAME = f"lora_reproduction-{lora.__version__}"
SHIPPED = ("Snakefile", "config", "envs", "workflow")
# Needed in a checkout alone: to build the image, and to make documents of the repository.
NOT_SHIPPED = ("envs/Dockerfile", "workflow/scripts/")
# Not of the user's environment: the checkout, and what a fresh environment has itself.
NOT_SHARED = re.compile(r"__editable__|lora|pip(-|$)|(_)?distutils|.*\.pth$|__pycache__")
NEWEST_PYTHON = "python3.13"  # of those that are supported
# What `lora init`, `lora plan` and `snakemake -n` import, without the libraries of training.
LIGHT = ("snakemake", "pydantic", "pyyaml", "tqdm", "jinja2", "numpy", "pandas", "safetensors")


def tracked(*folders: str) -> set[str]:
    """The files of the repository in these folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in found.split("\n") if name and (ROOT / name).is_file()}


def shipped() -> set[str]:
    """The files of the workflow that a wheel has copies of."""
    return {name for name in tracked(*SHIPPED) if not name.startswith(NOT_SHIPPED)}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist of the repository, and the wheel that is built of the sdist."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked("."):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", folder, folder / f"{NAME}.tar.gz"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built / f"{NAME}-py3-none-any.whl"


@dataclass
class Environment:
    """A virtual environment with the wheel, and an empty home folder."""

    folder: Path
    home: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    def run(self, *command, cwd: Path, check=True, **env: str) -> tuple[int, str]:
        """The exit status and the output of a command, by its name in the environment."""
        kept = {
            name: os.environ[name] for name in ("LANG", "OMP_NUM_THREADS") if name in os.environ
        }
        paths = dict(HOME=str(self.home), PATH=f"{self.folder}/bin:/usr/bin:/bin")
        done = subprocess.run(
            [self.folder / "bin" / command[0], *map(str, command[1:])],
            cwd=cwd,
            env=kept | paths | env,
            capture_output=True,
            text=True,
        )
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, output[-4000:]
        return done.returncode, output

    def snakemake(self, *arguments, cwd: Path, check=True, **env: str) -> tuple[int, str]:
        """Run Snakemake without its shell script, which has the other environment's Python."""
        env = dict(LORA_SCREEN="snakemake") | env
        return self.run("python", "-m", "snakemake", *arguments, cwd=cwd, check=check, **env)


def make_environment(folder: Path, python: str, wheel: Path) -> Environment:
    """A fresh virtual environment with the wheel and none of its dependencies."""
    home = folder / "home"
    home.mkdir()
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True, capture_output=True)
    made = Environment(folder / "venv", home)
    made.run("pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Environment:
    """This Python's version, with the libraries of the running environment."""
    folder = tmp_path_factory.mktemp("environment")
    made = make_environment(folder, sys.executable, wheel)
    # dill asks whether the path of a library has this name in it.
    links = folder / "site-packages"
    links.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not NOT_SHARED.match(path.name):
            (links / path.name).symlink_to(path)
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    (packages / "shared.pth").write_text(f"{links}\n")
    code = "import lora, sys; print(lora.__file__, *sys.path, sep='\\n')"
    imported, *path = made.run("python", "-c", code, cwd=folder)[1].split()
    assert Path(imported) == packages / "lora/__init__.py"
    assert not [one for one in path if Path(one).resolve() == ROOT]
    return made


@pytest.fixture
def project(environment, tmp_path) -> Path:
    environment.run("lora", "init", "grid", cwd=tmp_path)
    return tmp_path / "grid"


def small(project: Path, **changes) -> None:
    """Replace the project's config by a small grid over local files."""
    config = small_config(project.parent)
    config["tables"]["table2"]["tasks"] = ["sst2"]
    (project / "config/config.yaml").write_text(yaml.safe_dump(config | changes))


def test_the_wheel_has_every_file_of_the_package_and_the_workflow(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {f"lora/installed/{name}" for name in shipped()}
    assert names == tracked("lora") | files
    for ending in (".csv", ".yaml", ".smk", ".rst", ".j2", ".css", ".lock"):
        assert [name for name in names if name.endswith(ending)], ending


def test_the_sdist_has_what_the_wheel_is_built_of(built):
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        files = {one.name.partition("/")[2] for one in archive if one.isfile()}
    assert tracked("lora") | shipped() <= files
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= files
    assert not [name for name in files if name.startswith(("tests/", "results/", "benchmarks/"))]


def test_twine_accepts_both(built):
    pytest.importorskip("twine", reason="needs twine, of the extra dev")
    command = [sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_commands_outside_a_checkout(environment, tmp_path):
    """The version, the help, and a plan of the default grid and of a shipped config."""
    facts = next(environment.folder.glob("lib/*/site-packages/lora/installed/config"))
    assert environment.run("lora", "--version", cwd=tmp_path)[1] == f"lora {lora.__version__}\n"
    assert "import-course" in environment.run("lora", "--help", cwd=tmp_path)[1]
    output = environment.run("lora", "plan", cwd=tmp_path)[1]
    assert "18 cells, 5 seeds each" in output and f"are read from {facts}\n" in output
    output = environment.run("lora", "plan", "--config", facts / "demo.yaml", cwd=tmp_path)[1]
    assert "12 cells, 3 seeds each" in output
    assert list(tmp_path.iterdir()) == []


def test_tables_of_facts_of_the_user(environment, tmp_path):
    """LORA_CONFIG_DIR names them; a copy with other rows and without the variable is refused."""
    facts = next(environment.folder.glob("lib/*/site-packages/lora/installed/config"))
    shutil.copytree(facts, tmp_path / "config")
    path = tmp_path / "config/tasks.csv"
    path.write_text(path.read_text().replace("sst2,SST-2,", "sst2,My title,"))
    named = dict(LORA_CONFIG_DIR="config")
    assert f"from {tmp_path}/config" in environment.run("lora", "plan", cwd=tmp_path, **named)[1]
    code, output = environment.run("lora", "plan", cwd=tmp_path, check=False)
    assert code == 2 and "export LORA_CONFIG_DIR=" in output and str(facts) in output


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory) -> tuple[Path, str]:
    """A project after `snakemake` trained a small grid, and what was on the screen."""
    folder = tmp_path_factory.mktemp("finished")
    environment.run("lora", "init", "grid", cwd=folder)
    small(folder / "grid")
    command = ["python", "-m", "snakemake", "--cores", "1"]  # not with the tests' LORA_SCREEN
    return folder / "grid", environment.run(*command, cwd=folder / "grid")[1]


def test_the_jobs_of_a_new_project(environment, project):
    output = environment.snakemake("--cores", "1", "-n", cwd=project)[1]
    assert len(re.findall(r"^rule train:", output, re.M)) == 7
    assert not (project / "results").exists()


def test_results_of_a_project(environment, finished):
    """The summary on the screen, runs, tables, figures, the report, and `lora status`."""
    project, screen = finished
    assert "Trains" in screen and "Claims" in screen and "rule train" not in screen, screen
    assert len(run_files(project)) == 4
    record = json.loads(next(project.rglob("run.json")).read_text())
    assert record["versions"]["lora"] == lora.__version__
    for name in ("tables/table6.html", "figures/rank_curves.svg", "tables/claims.csv"):
        assert (project / "results" / name).stat().st_size
    environment.snakemake("--cores", "1", "--report", "report.html", cwd=project)
    report = (project / "report.html").read_text()
    assert "table6.html" in report and "rank_curves" in report
    config = ["--config", "config/config.yaml"]
    assert "4 runs: 4 done" in environment.run("lora", "status", *config, cwd=project)[1]


def test_a_finished_project_has_nothing_to_do(environment, finished):
    """Also where settings that change no number are others, and files are newer."""
    project, _ = finished
    for changes in ({}, dict(pack=[], threads=2)):
        small(project, **changes)
        output = environment.snakemake("--cores", "1", "-n", cwd=project)[1]
        assert "rule train:" not in output


def test_runs_equal_those_of_the_checkout(finished, tmp_path):
    """The same rows and adapters, to the byte."""
    project, _ = finished
    small(project)
    options = ["--configfile", project / "config/config.yaml", "--directory", tmp_path]
    snakemake(*options, "--until", "train", cores=("--cores", "1"))
    assert run_files(tmp_path) == run_files(project)
    adapters = sorted(project.rglob("results/runs/**/adapter_model.safetensors"))
    assert len(adapters) == 4
    for path in adapters:
        assert (tmp_path / path.relative_to(project)).read_bytes() == path.read_bytes(), path


def test_a_package_that_is_not_the_rules(environment, project, tmp_path):
    """Another lora that comes first in PYTHONPATH stops the installed rules. A folder of data with
    the package's name in the project is no package."""
    shutil.copytree(ROOT / "lora", tmp_path / "other/lora")
    (project / "lora").mkdir()
    (project / "lora/__main__.py").write_text("raise SystemExit('not this file')")
    plan = ["plan", "--cores", "1"]
    assert "7 cells, 2 seeds each" in environment.snakemake(*plan, cwd=project)[1]
    rules = next(environment.folder.glob("lib/*/site-packages/lora/installed/Snakefile"))
    code, output = environment.snakemake(
        "-s", rules, *plan, cwd=tmp_path, check=False, PYTHONPATH=str(tmp_path / "other")
    )
    assert code != 0 and "environment that lora is installed in" in output
    assert f"{tmp_path}/other/lora" in output and "Traceback" not in output


CONTAINER = """#!/bin/sh
[ "$1" = --version ] && echo "apptainer version 1.3.6" && exit
printf '%s\\n' "$@" >> "$CALLS"
for command; do :; done
exec bash -c "$command"
"""


def test_jobs_in_a_container_import_the_installed_package(environment, project, tmp_path):
    """A stand-in for apptainer runs the commands with a Python that has no lora itself. What they
    import is a link in the working directory, and the package is bound to the container."""
    small(project, container="image.sif")
    (project / "image.sif").write_text("")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("apptainer", "singularity"):
        (programs / name).write_text(CONTAINER)
        (programs / name).chmod(0o755)
    clean = make_python_without_lora(environment, tmp_path)
    (programs / "python").write_text(f'#!/bin/sh\nexec {clean} "$@"\n')
    (programs / "python").chmod(0o755)
    path = f"{programs}:{environment.folder}/bin:/usr/bin:/bin"
    calls = dict(PATH=path, CALLS=str(tmp_path / "calls"))
    environment.snakemake(
        "--cores", "1", "--sdm", "apptainer", "--until", "prepare", cwd=project, **calls
    )
    assert list(project.glob("results/tokens/*/*/*/tokens.json"))
    package = next(environment.folder.glob("lib/*/site-packages/lora"))
    assert f"--bind\n{package}\n" in (tmp_path / "calls").read_text()


def make_python_without_lora(environment: Environment, folder: Path) -> Path:
    """A Python with the libraries of the environment and without its package lora."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "clean"], check=True)
    (packages,) = (folder / "clean/lib").glob("python*/site-packages")
    (shared,) = environment.folder.glob("lib/*/site-packages/shared.pth")
    shutil.copy(shared, packages)
    python = folder / "clean/bin/python"
    command = [python, "-c", "import torch, lora"]
    done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True)
    assert "No module named 'lora'" in done.stderr
    return python


def test_the_newest_python(wheel, tmp_path):
    """Commands, `lora init` and a dry run, with the libraries that these need."""
    if (other := find_python(NEWEST_PYTHON)) is None:
        pytest.skip(f"there is no {NEWEST_PYTHON} on this machine")
    environment = make_environment(tmp_path, other, wheel)
    lock = ROOT / "envs/requirements.lock"
    install = ["pip", "install", "--quiet", "-c", lock, *LIGHT]
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    code, output = environment.run(*install, cwd=tmp_path, check=False, **pip)
    if code:
        pytest.skip(f"pip could not install the libraries: {output[-300:]}")
    (package,) = environment.folder.glob("lib/*/site-packages/lora")
    check = ["-W", "error", "-m", "compileall", "-q", "-f", package]
    environment.run("python", *check, cwd=tmp_path)
    assert environment.run("lora", "--version", cwd=tmp_path)[1] == f"lora {lora.__version__}\n"
    environment.run("lora", "init", "grid", cwd=tmp_path)
    config = ["--config", "grid/config/config.yaml"]
    assert "7 cells" in environment.run("lora", "plan", *config, cwd=tmp_path)[1]
    output = environment.snakemake("--cores", "1", "-n", cwd=tmp_path / "grid")[1]
    assert len(re.findall(r"^rule train:", output, re.M)) == 7


def find_python(name: str) -> str | None:
    """A Python of this version: on the PATH, or one that pyenv has."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = sorted(pyenv.glob(f"versions/{name.removeprefix('python')}.*/bin/{name}"))
    candidates = [shutil.which(name), *map(str, installed)]
    for path in filter(None, candidates):
        if subprocess.run([path, "-c", "import venv"], capture_output=True).returncode == 0:
            return path
    return None
