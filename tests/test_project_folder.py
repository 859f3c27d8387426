"""A new project folder: files that are read by what reads them, and nothing replaced."""

import re

import pytest
import yaml
from helpers.models import ROOT

from lora import project_folder
from lora.__main__ import main
from lora.experiment import config_files, grid
from lora.experiment.csv_tables import read_rows


def read(path) -> dict:
    return yaml.safe_load(path.read_text())


def test_the_config_is_a_grid_of_the_demos_sources(tmp_path):
    """Nothing in it needs the Hugging Face hub."""
    project_folder.create(tmp_path)
    requested = grid.load(config_files.read(str(tmp_path / project_folder.CONFIG)))
    assert len(requested.cells) * len(requested.seeds) == 14
    used = {cell.model for cell in requested.cells}
    used |= {requested.tasks[cell.task].dataset for cell in requested.cells}
    assert {requested.sources[name].kind for name in used} == {"pypi"}


def test_the_other_keys_of_the_config_are_comments_with_their_defaults():
    """Without the # they are YAML, and with the given keys they are all keys."""
    text = project_folder.config_text()
    keys = config_files.read_defaults()
    (others,) = re.findall("# Other keys, with their defaults:\n(.*)", text, re.S)
    lines = [line for line in others.splitlines() if re.match(r"# [a-z_]+: ", line)]
    lines = [line for line in lines if line[2:].partition(":")[0] in keys]
    found = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))
    given = yaml.safe_load(text)
    assert {**found, **given}.keys() == keys.keys() and not found.keys() & given.keys()
    assert found == {key: keys[key] for key in found}
    assert max(map(len, text.splitlines())) <= 100


def test_the_config_lists_the_names_of_the_tables():
    text = " ".join(project_folder.config_text().replace("#", "").split())
    models = [row["name"] for row in read_rows("sources.csv") if row["role"] == "model"]
    tasks = [row["task"] for row in read_rows("tasks.csv")]
    assert f"models: {', '.join(models)} tasks: {', '.join(tasks)} methods: lora, ft" in text


@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_a_clusters_profile_is_that_of_the_workflow(tmp_path, profile):
    project_folder.create(tmp_path, profile)
    shipped = read(ROOT / f"workflow/profiles/{profile}/profile.yaml")
    assert read(tmp_path / project_folder.PROFILE) == shipped | {"rerun-triggers": "mtime"}
    assert "workflow/profiles" not in (tmp_path / project_folder.PROFILE).read_text()


def test_the_local_profile(tmp_path):
    project_folder.create(tmp_path)
    assert read(tmp_path / project_folder.PROFILE) == {
        "rerun-triggers": "mtime",
        "resources": {"gpu": 1},
    }


def test_no_file_has_a_path_of_this_machine(tmp_path):
    for path in project_folder.create(tmp_path):
        assert str(ROOT) not in path.read_text() and str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("name", ["Snakefile", project_folder.CONFIG, project_folder.PROFILE])
@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_a_file_that_is_there_is_kept(tmp_path, refused, name, kind):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    assert f"{path} exists already" in refused("init", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert kind != "file" or path.read_text() == "mine"


@pytest.mark.parametrize("inside", ["", "a", "a/b"])
def test_a_file_in_place_of_a_folder(tmp_path, refused, inside):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    assert f"{path} is a file" in refused("init", path / inside if inside else path)
    for name in ("config", "profiles"):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_text("mine")
        assert f"{folder / name} is a file" in refused("init", folder)
        assert [one.name for one in folder.iterdir()] == [name]
    assert path.read_text() == "mine"


def test_a_folder_with_other_files_and_the_next_commands(tmp_path, capsys, logging_as_before):
    """Spaces in its name are quoted for the shell."""
    folder = tmp_path / "my grid"
    folder.mkdir()
    (folder / "data.csv").write_text("mine")
    assert main(["init", str(folder)]) == 0
    written = capsys.readouterr().out
    assert f"cd '{folder}'" in written and "snakemake --cores 1" in written
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"Snakefile", project_folder.CONFIG, project_folder.PROFILE, "data.csv"}


def test_an_unknown_profile():
    with pytest.raises(ValueError, match="profile is 'sge'; allowed: local, slurm, generic"):
        project_folder.create(ROOT / "nowhere", "sge")
