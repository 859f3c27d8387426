"""One folder has the defaults and the tables of facts, for the workflow and the command line.

The rule: config/ of the checkout, or the folder that LORA_CONFIG_DIR names. It does not depend on
the working directory. The kind: every edit of a copy that is not read. CSV files (a row added,
changed or removed, a column added, a file that can't be read) and config.yaml, in config/ of the
working directory: of a deployment, a module's project, an older checkout, --directory. Not of the
kind: copies with the same content, other projects' files of the same name, an unrelated config/.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.models import ROOT
from helpers.workflow import copy_checkout, small_config, snakemake, write_config

ROW = "my-task,My task,glue-sst2,glue,sentence,2,bad good,accuracy,validation,,this test\n"


def cli(*arguments, cwd: Path, **env: str) -> tuple[int, str]:
    """The exit status and the output of a command of lora."""
    environment = os.environ | dict(PYTHONPATH=str(ROOT)) | env
    done = subprocess.run(
        [sys.executable, "-m", "lora", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def deployed(tmp_path) -> Path:
    """A folder with a copy of config/, as snakedeploy makes it."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def add_row(folder: Path) -> Path:
    path = folder / "config/tasks.csv"
    path.write_text(path.read_text() + ROW)
    return folder


def refused(folder: Path) -> list[str]:
    """The messages of the workflow and of the command line, which must be the same refusal."""
    code, workflow = snakemake("-n", "--directory", folder, check=False)
    assert code != 0 and "Traceback" not in workflow and "rule train" not in workflow
    code, command = cli("plan", cwd=folder)
    assert code == 2 and "Traceback" not in command
    return [workflow, command]


def changed_header(text: str) -> str:
    return text.replace("task,title", "task,nickname,title", 1)


@pytest.mark.parametrize(
    "name, change",
    [
        ("hparams.csv", lambda text: text.replace(",learning_rate,", ",weight_decay,", 1)),
        ("published.csv", lambda text: text.rsplit("\n", 2)[0] + "\n"),
        ("tasks.csv", changed_header),
        ("devices.csv", lambda text: text + '"unclosed'),
    ],
)
def test_edits_that_are_not_read_stop_the_workflow_and_commands(deployed, name, change):
    """A value, a removed row, an added column, a damaged file."""
    path = deployed / "config" / name
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    for message in refused(deployed):
        for part in (name, str(deployed / "config"), f"{ROOT}/config", "export LORA_CONFIG_DIR="):
            assert part in message, message
        listed = [other.name for other in (ROOT / "config").glob("*.csv") if other.name != name]
        assert not [other for other in listed if f"- {other}" in message]


def test_copies_and_files_of_other_projects_are_no_edits(deployed):
    """The same rows with Windows line ends and a byte-order mark; tables of something else."""
    path = deployed / "config/hparams.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    (deployed / "config/sources.csv").write_text("name,latitude,longitude\nmill,51.5,0.1\n")
    (deployed / "config/tasks.csv").write_text("id;owner\n1;me\n")
    (deployed / "config/models.csv").write_text("")
    (deployed / "config/lengths.csv").unlink()
    (deployed / "config/lengths.csv").mkdir()
    output = snakemake("-n", "--directory", deployed)
    assert f"Defaults and tables of facts are read from {ROOT}/config\n" in output
    code, output = cli("plan", cwd=deployed)
    assert code == 0 and f"tables of facts (CSV) are read from {ROOT}/config\n" in output


def test_the_checkouts_own_tables_are_read(tmp_path):
    """Edits in a clone count, from any working directory."""
    checkout = add_row(copy_checkout(tmp_path / "clone"))
    config = ["--config", "tables={table2: {tasks: [my-task]}}"]
    for folder in (checkout, tmp_path / "elsewhere"):
        output = snakemake(
            "-n", "--directory", folder, *config, snakefile=checkout / "Snakefile", cwd=tmp_path
        )
        assert "task=my-task" in output and f"are read from {checkout}/config\n" in output


@pytest.mark.parametrize("named", ["config", "absolute"])
def test_the_named_folder_is_read_by_rules_jobs_and_commands(deployed, named):
    """Relative to the working directory, or absolute. The job that tokenizes finds the task that is
    only there; its log names the folder."""
    folder = "config" if named == "config" else str(deployed / "config")
    config = small_config(add_row(deployed))
    table = config["tables"]["table2"] | dict(tasks=["my-task"])
    config["sources"]["glue-sst2"]["locator"] += "/SST-2"
    path = write_config(deployed, config, tables=dict(table2=table, table6=None), protocol="demo")
    options = ["--configfile", path, "--directory", deployed, "--until", "prepare"]
    output = snakemake(*options, env=dict(LORA_CONFIG_DIR=folder))
    assert f"Defaults and tables of facts are read from {deployed}/config\n" in output
    log = (deployed / "results/logs/prepare/tiny/my-task/t20.log").read_text()
    assert f"tables of facts (CSV) are read from {deployed}/config\n" in log
    code, output = cli("plan", "--config", path, cwd=deployed, LORA_CONFIG_DIR=folder)
    assert code == 0 and "my-task" in output and f"are read from {deployed}/config\n" in output


def test_a_named_folder_without_the_files(tmp_path):
    """No folder, or one that lacks a table: which file, and where to copy it from."""
    shutil.copytree(ROOT / "config", tmp_path / "part")
    (tmp_path / "part/models.csv").unlink()
    (tmp_path / "none").mkdir()
    for name, missing in (("part", "models.csv"), ("none", "config.yaml"), ("no", "config.yaml")):
        env = dict(LORA_CONFIG_DIR=str(tmp_path / name))
        code, output = snakemake("-n", "--directory", tmp_path, env=env, check=False)
        assert code != 0 and "Traceback" not in output
        assert f"{tmp_path}/{name}/{missing}" in output, output
        code, output = cli("plan", cwd=tmp_path, **env)
        assert code == 2 and f"{tmp_path}/{name}/{missing}" in output and "Traceback" not in output
    assert f"copy it from {ROOT}/config" in output


def test_a_config_yaml_that_is_not_read_gives_a_warning(deployed):
    """Not when it is the default's copy, when --configfile names it, or in a module's project."""
    path = deployed / "config/config.yaml"
    warning = "config/config.yaml is not read. To use it, give --configfile config/config.yaml"
    assert warning not in snakemake("-n", "--directory", deployed)
    path.write_text(path.read_text().replace("\ndevice: auto", "\ndevice: cpu"))
    assert warning in snakemake("-n", "--directory", deployed)
    named = ["--configfile", "config/config.yaml"]
    assert warning not in snakemake("-n", "--directory", deployed, *named, cwd=deployed)
    (deployed / "Snakefile").write_text(
        'configfile: "config/config.yaml"\n'
        f"module lora:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n    config: config\n"
        "use rule * from lora\n"
    )
    output = snakemake("-n", snakefile=deployed / "Snakefile", cwd=deployed)
    assert warning not in output and not re.findall(r"gpu=1\b", output)


def test_an_edit_in_a_modules_project_is_refused(deployed):
    (add_row(deployed) / "Snakefile").write_text(
        f"module lora:\n    snakefile: {str(ROOT / 'workflow/Snakefile')!r}\n    config: {{}}\n"
        "use rule * from lora\n"
    )
    code, output = snakemake("-n", snakefile=deployed / "Snakefile", cwd=deployed, check=False)
    assert code != 0 and "tasks.csv" in output and "export LORA_CONFIG_DIR=" in output
    assert "In a module, give the config" not in output
