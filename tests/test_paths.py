"""Paths of a results folder, and paths as a user writes them.

Of the kind "the same folder in two spellings" are: slashes at the end and doubled, `.`, `..` inside
and outside the working directory and after a symbolic link, `~`, variables, and folders that are
not there yet. bash gives the expected values.
"""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from lora import cli, paths
from lora.experiment.cell import Cell


@pytest.mark.parametrize("installed", [False, True])
def test_files_of_the_workflow_in_a_checkout_and_in_a_wheel(tmp_path, installed, monkeypatch):
    """A wheel has the folder `installed`; LORA_CONFIG_DIR names the config in both."""
    package = tmp_path / "lora"
    (package / "installed" if installed else package).mkdir(parents=True)
    copy = shutil.copy(paths.__file__, package)
    monkeypatch.delenv(paths.CONFIG_DIR_VARIABLE, raising=False)
    root = package / "installed" if installed else tmp_path
    found = runpy.run_path(str(copy))
    assert (found["ROOT"], found["CONFIG_DIR"]) == (root, root / "config")
    monkeypatch.setenv(paths.CONFIG_DIR_VARIABLE, str(tmp_path / "mine"))
    assert runpy.run_path(str(copy))["CONFIG_DIR"] == tmp_path / "mine"


def test_a_run_folder_matches_the_pattern_of_the_rules():
    cell = Cell("roberta-base", "mrpc", "lora", "qv", 8, "paper")
    expected = paths.RUN_PATTERN.format(
        protocol="paper",
        model="roberta-base",
        task="mrpc",
        method="lora",
        weights="qv",
        rank=8,
        seed=3,
    )
    runs = paths.runs_dir("results")
    assert paths.run_dir(runs, cell.path, 3) == f"results/runs/{expected}"


@pytest.mark.parametrize("results", ["results", "./results", "/somewhere else/results"])
def test_the_text_of_a_results_folder_is_kept(results):
    """Snakemake compares parameters as text: another spelling would train every run again."""
    assert paths.manifest(results, "minilm") == f"{results}/sources/minilm/fetched.json"
    assert paths.tokens_dir(results, "m", "rte", 128) == f"{results}/tokens/m/rte/t128"
    folders = ("runs", "tables", "figures", "subspace", "logs", "state", "plan")
    for name in folders:
        assert getattr(paths, f"{name}_dir")(results) == f"{results}/{name}"


def test_the_root_is_the_checkout():
    assert (paths.ROOT / "Snakefile").is_file()


SPELLINGS = [
    "~",
    "~/a b",
    "~root/x",
    "$ONE/x",
    "${ONE}x",
    "$ONE$TWO/x",
    "a/$TWO",
    "a~/~",
    "$",
    "a$/x",
    "plain",
    "~/$TWO",
]


@pytest.mark.parametrize("path", SPELLINGS)
def test_a_path_is_expanded_as_bash_expands_it(monkeypatch, tmp_path, path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ONE", "/one")
    monkeypatch.setenv("TWO", "two")
    written = path.replace(" ", "\\ ")
    done = subprocess.run(["bash", "-c", f"printf %s {written}"], capture_output=True, text=True)
    assert paths.expand(path) == done.stdout and paths.expand(done.stdout) == done.stdout


@pytest.mark.parametrize(
    "path, message",
    [
        ("$NO/x", "variable NO is not set or empty; run `export NO=...`"),
        ("$NO/${NOR}x", "variable NO, NOR is not set"),
        ("$EMPTY/x", "variable EMPTY is not set or empty"),
        ("$NO/x", "A folder with $NO in its name needs a symbolic link"),
        ("a$$NO/x", "A folder with $NO in its name"),
        ("~no-such-user/x", "no home folder of ~no-such-user"),
        ("~no-such-user/x", "or ./~no-such-user for a folder"),
        ("$DOLLAR", "expands to 'a$b'; allowed: a path without"),
        ("$TILDE", "expands to '~/x'; allowed: a path without"),
    ],
)
def test_a_path_that_cannot_be_expanded_is_refused(monkeypatch, path, message):
    for name, value in (("EMPTY", ""), ("DOLLAR", "a$b"), ("TILDE", "~/x")):
        monkeypatch.setenv(name, value)
    for name in ("NO", "NOR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError) as caught:
        paths.expand(path)
    assert message in str(caught.value)


def test_a_folder_has_one_spelling(monkeypatch, tmp_path):
    """os.path.samefile says that it is the same folder."""
    here = tmp_path / "here"
    for folder in (here / "results", here / "a/b", tmp_path / "far/inside"):
        folder.mkdir(parents=True)
    (here / "link").symlink_to(tmp_path / "far/inside")
    monkeypatch.chdir(here)
    for path in (
        "results",
        "./results",
        "results/",
        ".//results//.",
        "a/../results",
        "../here/results",
    ):
        assert paths.canonical(path) == "results" and os.path.samefile(path, "results")
    assert paths.canonical("not/there/../yet/") == "not/yet"
    assert paths.canonical("../far/./inside/") == "../far/inside"
    for path in (
        f"{here}/results",
        f"{here}//results/",
        f"{here}/a/../results",
        f"/../{here}/results",
    ):
        assert paths.canonical(path) == f"{here}/results"
    for path in ("link/..", "link/../", f"{here}/link/.."):  # not the working directory
        assert os.path.samefile(paths.canonical(path), tmp_path / "far")
    assert (paths.canonical("link"), paths.canonical(".")) == ("link", ".")
    assert paths.canonical("./~/x") == f"{here}/~/x"  # read again, ~/x would be in the home folder
    assert paths.canonical("s3://bucket//x/../y") == "s3://bucket//x/../y"


def test_a_home_folder_in_an_option_is_expanded(monkeypatch, tmp_path):
    """bash leaves the ~ of `--output-dir=~/x`; it would become a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["train", "--seed", "0", "--output-dir=~/out", "--model-dir=~/m", "--log=~/log"]
    given = cli.parser().parse_args(words)
    found = [given.output_dir, given.model_dir, given.log]
    assert found == [tmp_path / "out", tmp_path / "m", tmp_path / "log"]
    every = [
        action
        for command in next(
            one for one in cli.parser()._actions if one.dest == "name"
        ).choices.values()
        for action in command._actions
    ]
    assert Path not in [action.type for action in every]
    assert paths.argument("$HOME/a~b") == Path("$HOME/a~b")  # the shell expands variables
