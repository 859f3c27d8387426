"""The rules and the package lora are those of one checkout, or nothing runs.

The kind: every way in which Python imports another lora than the one next to the rules. Before any
job: another copy imported first, no copy next to the rules, a copy of another version next to them.
In a job: the working directory (`python -m` looks there first), PYTHONPATH, an installed package,
the Python of a node or container. Also a folder lora that is something else.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from helpers.models import ROOT
from helpers.workflow import copy_checkout, snakemake

import lora

PLAN = ["plan", "--config", "device=cpu", "--directory"]
OTHER = "9.9.9"


def make_other(folder: Path) -> Path:
    """A copy of the package with another version, in a folder; returns the folder."""
    shutil.copytree(ROOT / "lora", folder / "lora")
    return set_version(folder)


def set_version(folder: Path) -> Path:
    path = folder / "lora/__init__.py"
    text = path.read_text()
    path.write_text(text.replace(lora.__version__, OTHER, 1))
    assert path.read_text() != text
    return folder


def refused(*arguments, **options) -> str:
    """The message of a run that stops before any job."""
    code, output = snakemake(*arguments, check=False, **options)
    assert code != 0 and "Traceback" not in output and "Finished jobid" not in output, output
    assert "rule plan" not in output, output
    return output


def test_the_rules_state_the_version_of_the_package():
    text = (ROOT / "workflow/rules/checkout.smk").read_text()
    assert re.findall(r'^VERSION = "(.*)"', text, re.M) == [lora.__version__]


@pytest.mark.parametrize("where", ["working directory", "PYTHONPATH"])
def test_another_package_that_could_be_found_is_not_used(tmp_path, where):
    """Another copy, or a folder or file lora that is something else, is in the working directory
    or in PYTHONPATH: the jobs run with the rules' own."""
    other = make_other(tmp_path / "other")
    env = dict(PYTHONPATH=str(other)) if where == "PYTHONPATH" else {}
    output = snakemake(*PLAN, other, env=env, cwd=other)
    assert "18 cells, 5 seeds each" in output
    shutil.rmtree(other / "lora")
    (other / "lora.py").write_text("raise SystemExit('not this file')")
    assert "18 cells, 5 seeds each" in snakemake(*PLAN, other, env=env, cwd=other)


def test_a_package_of_another_version_next_to_the_rules(tmp_path):
    """As after half an update: both versions, the folder, and what to do."""
    checkout = set_version(copy_checkout(tmp_path / "checkout"))
    output = refused(*PLAN, tmp_path, snakefile=checkout / "Snakefile")
    for part in (lora.__version__, OTHER, str(checkout), "Copy the folder lora"):
        assert part in output, output


@pytest.mark.parametrize("installed", [False, True])
def test_rules_without_a_package(tmp_path, installed):
    """A copy of Snakefile, workflow and config alone, with and without an older lora in Python."""
    checkout = copy_checkout(tmp_path / "checkout")
    shutil.rmtree(checkout / "lora")
    env = dict(PYTHONPATH=str(make_other(tmp_path / "older"))) if installed else {}
    options = dict(snakefile=checkout / "Snakefile", env=env, cwd=tmp_path)
    output = refused(*PLAN, tmp_path, **options)
    assert f"the rules in {checkout}" in output and lora.__version__ in output
    assert not installed or (OTHER in output and f"{tmp_path}/older" in output)


def test_a_package_that_the_importing_workflow_imported(tmp_path):
    """Python keeps the first lora that it imports: of another checkout, or something else."""
    other = make_other(tmp_path / "other")
    (tmp_path / "unrelated").mkdir()
    (tmp_path / "unrelated/lora.py").write_text("")
    for folder, version in ((other, OTHER), (tmp_path / "unrelated", "unknown")):
        path = tmp_path / "Snakefile"
        path.write_text(
            f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport lora\n"
            f"module them:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n    config: {{}}\n"
            "use rule * from them\n"
        )
        output = refused("-n", snakefile=path, cwd=tmp_path)
        for part in (str(ROOT), lora.__version__, str(folder), version):
            assert part in output, output


SITE = """
import sys
from pathlib import Path

if "-m" in sys.orig_argv and "lora" in sys.orig_argv:  # a job of the workflow, not Snakemake
    sys.path.insert(0, {other!r})
"""


def test_a_job_that_imports_another_package(tmp_path):
    """As the Python of a node or an image could: its command refuses, before it reads arguments
    that the other version may not have."""
    other = make_other(tmp_path / "other")
    path = other / "lora/cli.py"
    path.write_text(path.read_text().replace('"--output-dir"', '"--out"'))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE.format(other=str(other)))
    env = dict(PYTHONPATH=f"{tmp_path}/site:{os.environ.get('PYTHONPATH', '')}")
    code, output = snakemake(*PLAN, tmp_path, env=env, check=False)
    assert code != 0 and "Traceback" not in output
    for part in (lora.__version__, OTHER, str(ROOT), str(other), "PYTHONPATH"):
        assert part in output, output
    assert "unrecognized arguments" not in output
