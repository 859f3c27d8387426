"""The recorded commit in every kind of checkout, and the refusal of another checkout's package."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from helpers.models import ROOT

import lora
from lora import checkout
from lora.__main__ import main

IDENTITY = {
    f"GIT_{who}_{what}": "t@example.org"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; returns what it writes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=env | IDENTITY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def make_repository(folder: Path, **texts: str) -> Path:
    """A repository with one commit of these files, and .gitattributes for exports."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    for name in (".git_archival.txt", ".gitattributes"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def repository(tmp_path) -> Path:
    return make_repository(tmp_path / "clone", pyproject_toml=checkout.NAME)


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD")[:12]


@pytest.fixture
def no_git(monkeypatch, tmp_path):
    """A machine without git."""
    (tmp_path / "empty").mkdir()
    return lambda: monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def checkouts(repository: Path, tmp_path: Path) -> dict[str, Path]:
    """Every kind of checkout: a clone, a detached, a shallow and a packed one, a worktree (`.git`
    is a file), one with a separate git folder, and a submodule of another project."""
    found = dict(clone=repository)
    options = dict(detached=[], shallow=["--depth=1"], packed=[])
    options |= dict(separate=[f"--separate-git-dir={tmp_path}/separate-git"])
    for name, given in options.items():
        found[name] = tmp_path / name
        git(tmp_path, "clone", "-q", *given, f"file://{repository}", name)
    git(found["detached"], "checkout", "-q", "--detach")
    git(found["packed"], "pack-refs", "--all")
    git(repository, "worktree", "add", "-q", "-b", "other/branch", str(tmp_path / "worktree"))
    found["worktree"] = tmp_path / "worktree"
    project = make_repository(tmp_path / "project", readme_md="another project")
    git(project, "submodule", "add", "-q", str(repository), "lora-workflow")
    git(project, "commit", "-q", "-m", "submodule")
    found["submodule"] = project / "lora-workflow"
    return found


def test_the_commit_of_every_kind_of_checkout(repository, tmp_path, no_git):
    found = checkouts(repository, tmp_path)
    heads = {name: head(folder) for name, folder in found.items()}
    kinds = {name: (folder / ".git").is_file() for name, folder in found.items()}
    assert [name for name, file in kinds.items() if file] == ["separate", "worktree", "submodule"]
    assert {name: checkout.commit(folder) for name, folder in found.items()} == heads
    for folder in found.values():
        (folder / "pyproject.toml").write_text(f"{checkout.NAME}\nchanged = true\n")
    dirty = {name: f"{commit}-dirty" for name, commit in heads.items()}
    assert {name: checkout.commit(folder) for name, folder in found.items()} == dirty
    no_git()
    unchecked = {name: f"{commit}-unchecked" for name, commit in heads.items()}
    assert {name: checkout.commit(folder) for name, folder in found.items()} == unchecked


def test_an_exported_archive_has_its_commit(repository, tmp_path):
    """As `git archive` and a hosting site's download write it; a copy of the files has none."""
    git(repository, "archive", "--prefix=exported/", f"--output={tmp_path}/archive.tar", "HEAD")
    with tarfile.open(tmp_path / "archive.tar") as archive:
        archive.extractall(tmp_path)
    assert checkout.commit(tmp_path / "exported") == f"{head(repository)}-unchecked"
    copy = shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    assert checkout.commit(copy) == ""


def test_the_commit_of_another_project_is_not_recorded(repository, tmp_path):
    """The package inside another repository: installed in it, copied to its top or below it, and
    where `.git` is empty or points nowhere."""
    project = make_repository(tmp_path / "project", pyproject_toml='name = "another"')
    assert checkout.commit(project) == ""  # lora/ next to the project's own pyproject.toml
    for name in ("below", "empty", "nowhere"):
        (project / name).mkdir()
        (project / name / "pyproject.toml").write_text(checkout.NAME)
    (project / "empty/.git").mkdir()
    (project / "nowhere/.git").write_text("gitdir: /does/not/exist\n")
    git(project, "add", "below")
    git(project, "commit", "-q", "-m", "a copy of the workflow")
    for name in ("below", "empty", "nowhere", "site-packages"):
        assert checkout.commit(project / name) == ""
    git(tmp_path, "init", "-q", "unborn")
    (tmp_path / "unborn/pyproject.toml").write_text(checkout.NAME)
    assert checkout.commit(tmp_path / "unborn") == ""


def test_variables_of_a_surrounding_git_command_do_not_count(repository, tmp_path, monkeypatch):
    """In a hook or `git rebase --exec` of another project git names that project's repository."""
    other = make_repository(tmp_path / "other", readme_md="another project")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert checkout.commit(repository) == head(repository)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another owner")
def test_a_repository_of_another_owner(repository):
    """git refuses it, on shared disks and in containers, unless safe.directory allows it."""
    expected = head(repository)
    for path in [repository, *repository.rglob("*")]:
        os.chown(path, 12345, 12345)
    refused = subprocess.run(["git", "describe", "--always"], cwd=repository, capture_output=True)
    assert b"dubious ownership" in refused.stderr
    assert checkout.commit(repository) == expected
    (repository / "pyproject.toml").write_text(f"{checkout.NAME}\nchanged = true\n")
    assert checkout.commit(repository) == f"{expected}-dirty"


def test_git_that_fails_leaves_the_commit(repository, tmp_path, monkeypatch):
    """Too old for the repository's format, or without the right to read a file."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexit 128\n")
    (tmp_path / "bin/git").chmod(0o755)
    expected = f"{head(repository)}-unchecked"
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert checkout.commit(repository) == expected


@pytest.mark.parametrize(
    "rules", [f"{lora.__version__} /elsewhere", f"0.0.9 {ROOT}", "0.0.9 /elsewhere"]
)
def test_a_command_refuses_the_rules_of_another_checkout(rules, monkeypatch, capsys, tmp_path):
    """Another folder, another version, or both; also a folder that this machine can't read."""
    monkeypatch.setenv("LORA_RULES", rules)
    version, folder = rules.split()
    assert main(["merge", "--adapter-dir", "x", "--model-dir", "x", "--output-dir", "x"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    for part in (version, folder, lora.__version__, str(ROOT), f"snakemake -s {ROOT}/Snakefile"):
        assert part in message


def test_a_command_accepts_its_own_rules(monkeypatch, tmp_path):
    """Also by another path, such as a link on a shared disk; a person's command has no rules."""
    (tmp_path / "a link").symlink_to(ROOT)
    for folder in (ROOT, tmp_path / "a link"):
        monkeypatch.setenv("LORA_RULES", f"{lora.__version__} {folder}")
        checkout.check_rules()
    monkeypatch.delenv("LORA_RULES")
    checkout.check_rules()


def test_python_finds_this_checkout(tmp_path):
    """From any folder, the commit is that of the package's checkout."""
    command = [sys.executable, "-c", "from lora import checkout; print(checkout.commit())"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().split("-")[0] == (head(ROOT) if (ROOT / ".git").exists() else "")
