"""The checkout that this package is part of: its git commit, and the rules that call it.

A checkout is a folder with `.git` (a folder, or a file in a worktree or submodule), or an exported
archive with `.git_archival.txt`. Where the package is only a part of another project, that
project's commit says nothing about it and is not recorded.
"""

import os
import re
import subprocess
from pathlib import Path

import lora
from lora.paths import ROOT

NAME = 'name = "lora-reproduction"'  # in pyproject.toml
ARCHIVE = ".git_archival.txt"  # git writes the commit into it when it exports an archive
UNCHECKED = "-unchecked"  # after a commit: git could not tell whether files were changed
RULES_VARIABLE = "LORA_RULES"  # version and folder of the rules that run a command


def commit(root: Path = ROOT) -> str:
    """Return the commit of a checkout: 12 hex digits or more.

    Args:
        root: The checkout's folder.

    Returns:
        The commit, with -dirty after local changes, or -unchecked if git is missing or fails, and
        in an exported archive. Empty if the folder is no checkout of this project.
    """
    try:
        if NAME not in (root / "pyproject.toml").read_text(encoding="utf-8"):
            return ""
        if (root / ".git").exists():
            return _describe(root) or _unchecked(_head(root))
        return _unchecked((root / ARCHIVE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""


def _describe(root: Path) -> str:
    """Return what git says of the commit and of local changes; empty if it is missing or fails.

    The repository may belong to another user: its code runs anyway. Variables of a surrounding git
    command (a hook, `git rebase --exec`) would name another repository.
    """
    options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
    describe = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= dict(GIT_CEILING_DIRECTORIES=str(root.parent), GIT_OPTIONAL_LOCKS="0")
    try:
        done = subprocess.run(
            ["git", *options, *describe],
            cwd=root,
            env=env,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _head(root: Path) -> str:
    """Return the commit that HEAD names, from the files of git."""
    git = root / ".git"
    if git.is_file():
        git = root / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    common = git / "commondir"  # of a worktree: the folder that has the branches
    shared = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head
    name = head.removeprefix("ref:").strip()
    if (shared / name).is_file():
        return (shared / name).read_text(encoding="utf-8")
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line for line in packed if line.endswith(f" {name}")), "")


def _unchecked(text: str) -> str:
    """Return the commit in a text, marked as unchecked; empty if there is none."""
    found = re.search(r"\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b", text)
    return found.group()[:12] + UNCHECKED if found else ""


def check_rules() -> None:
    """Refuse to run as another package than that of the rules which run this command.

    Raises:
        ValueError: If the rules have another version, or are in another checkout.
    """
    version, _, folder = os.environ.get(RULES_VARIABLE, "").partition(" ")
    if not version or (version == lora.__version__ and _same(Path(folder))):
        return
    raise ValueError(
        f"the rules are those of version {version} in {folder}, but this job's Python imported the "
        f"package lora, version {lora.__version__}, from {ROOT}. Remove {ROOT} from this job's "
        "Python (PYTHONPATH, `pip uninstall lora-reproduction`, or the container image), or run "
        f"`snakemake -s {ROOT}/Snakefile`"
    )


def _same(folder: Path) -> bool:
    """Return whether this package is in a folder; not if this machine can't read it."""
    try:
        return folder.samefile(ROOT)
    except OSError:
        return False
