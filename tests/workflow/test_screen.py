"""What a run of the workflow shows: a short summary, or Snakemake's own log."""

import re
import shutil
import sys
from pathlib import Path

from helpers.models import ROOT
from helpers.workflow import small_config, snakemake, write_config


def test_screen_of_a_grid(tmp_path):
    """A first run, a second one with nothing to do, and the ways to Snakemake's log."""
    config = write_config(tmp_path, small_config(tmp_path), results=str(tmp_path / "results"))

    def run(*more, screen=""):
        return snakemake("--configfile", config, *more, env={"LORA_SCREEN": screen})

    shown = run()
    lines = shown.splitlines()
    assert lines[0] == "Trains    tiny on 2 tasks: 3 cells, 2 seeds"
    assert lines[1] == "To do     6 runs, in 3 jobs; then tables and figures"
    cells = [line for line in lines if re.match(r"\[[123]/3\] .*: \w+ ", line)]
    assert len(cells) == 3 and "LoRA by rank and weight type" in shown
    assert "Claims of the paper" in shown and "rule train" not in shown and len(lines) < 70
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)
    (log,) = [line.split(maxsplit=1)[1] for line in lines if line.startswith("Log ")]
    assert Path(log).read_text().count("rule train:") == 3
    assert not list((tmp_path / "results/logs").rglob("progress.json"))

    again = run()
    assert "Nothing to be done" in again and "Trains" not in again
    for more, screen in ((["-n"], ""), (["--verbose"], ""), ([], "snakemake")):
        assert "Building DAG of jobs" in run(*more, screen=screen)


def test_slurm_that_is_not_there_is_one_sentence(tmp_path):
    """Before any job: nothing is written to the results folder."""
    config = write_config(tmp_path, small_config(tmp_path), results=str(tmp_path / "results"))
    profile = ["--profile", ROOT / "workflow/profiles/slurm", "--configfile", config]
    for program in ("bash", "sh", "which", "env", "uname"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    env = dict(LORA_SCREEN="", PATH=f"{Path(sys.executable).parent}:{tmp_path}/bin")
    code, shown = snakemake(*profile, cores=(), env=env, check=False)
    assert code and "There is no sbatch on this machine" in shown and "Traceback" not in shown
    assert ".smk" not in shown and not (tmp_path / "results").exists()
