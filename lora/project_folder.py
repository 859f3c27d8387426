"""A new folder for a grid of your own: config, Snakefile and profile, for `lora init`."""

import itertools
import shlex
import textwrap
from pathlib import Path

import yaml

from lora import files
from lora.errors import shown
from lora.experiment import config, config_files, hparam_rows, registry
from lora.experiment.cell import METHODS
from lora.paths import CONFIG_DIR, ROOT

TEMPLATES = ROOT / "workflow/project"
CONFIG = "config/config.yaml"  # as in the template of the Snakefile
PROFILE = "profiles/default/profile.yaml"  # Snakemake uses it without an option
PROFILES = {  # name -> its file, and the command that runs the workflow with it
    "local": (TEMPLATES / "profile.yaml", "snakemake --cores 1"),
    "slurm": (ROOT / "workflow/profiles/slurm/profile.yaml", "snakemake"),
    "generic": (ROOT / "workflow/profiles/generic/profile.yaml", "snakemake"),
}
HEAD = """\
# Options of `snakemake` in this folder. The command line overrides them.
# Checksums decide what is made again, not a changed command, setting or version of the package.
rerun-triggers: mtime
"""
WIDTH = 100


def create(folder: Path, profile: str = "local") -> list[Path]:
    """Write the files of a new project.

    Args:
        folder: The project's folder. It may have other files.
        profile: A name of PROFILES.

    Returns:
        The files, the Snakefile first.

    Raises:
        ValueError: If the folder has one of the files, or is a file. Nothing is written then.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile is {shown(profile)}; allowed: {', '.join(PROFILES)}")
    texts = {
        folder / "Snakefile": files.read_text(TEMPLATES / "Snakefile"),
        folder / CONFIG: config_text(),
        folder / PROFILE: profile_text(profile),
    }
    folders = {parent for path in texts for parent in path.parents}
    blocking = sorted(path for path in folders if path.is_file())
    if blocking:
        raise ValueError(f"{blocking[0]} is a file; rename it, or give another folder")
    existing = [str(path) for path in texts if path.exists() or path.is_symlink()]
    if existing:
        raise ValueError(
            f"{', '.join(existing)} exists already. Nothing was written. Rename it, or give "
            "another folder"
        )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
    return list(texts)


def config_text() -> str:
    """Return the config of a new project: a small grid, allowed names, and the other keys."""
    path = TEMPLATES / "config.yaml"
    sources = registry.read_sources().values()
    names = {
        "models": [source.name for source in sources if source.role == "model"],
        "tasks": list(registry.read_tasks()),
        "methods": list(METHODS),
        "protocols": sorted({row.protocol for row in hparam_rows.read_hparam_rows()}),
    }
    lines = ["", f"# Names to choose from (tables in {CONFIG_DIR.name}/ of the package):"]
    for kind, allowed in names.items():
        lines += _comment(f"{kind}: {', '.join(allowed)}", indent="  ")
    lines += ["", "# Other keys, with their defaults:"]
    given, defaults = config_files.read_yaml(path), config_files.read_defaults()
    for key, part in config.json_schema()["properties"].items():
        if key not in given:
            lines += ["", *_comment(part["description"])]
            lines += _comment(f"{key}: {_as_yaml(defaults[key])}")
    return files.read_text(path) + "\n".join(lines) + "\n"


def profile_text(profile: str) -> str:
    """Return the profile of a new project.

    Those of a cluster are the workflow's, without the comment on how to use them in a checkout.
    """
    path, _ = PROFILES[profile]
    lines = files.read_text(path).splitlines(keepends=True)
    settings = "".join(itertools.dropwhile(lambda line: line.startswith("#"), lines)).lstrip()
    return HEAD + settings


def next_steps(folder: Path, profile: str = "local") -> str:
    """Return what to type in a new project."""
    command = PROFILES[profile][1]
    lines = [
        "Next:",
        f"  cd {shlex.quote(str(folder))}",
        f"  {command} -n".ljust(26) + "# show the jobs; downloads and trains nothing",
        f"  {command}".ljust(26) + "# train, and make tables and figures in results/",
        f"Change the grid in {folder / CONFIG}. Every key: {ROOT / 'config/README.md'}",
    ]
    return "\n".join(lines)


def _as_yaml(value: object) -> str:
    """Return a value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _comment(text: str, indent: str = "") -> list[str]:
    """Return a text as lines of a YAML comment."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"# {indent}",
        subsequent_indent=f"# {indent}  ",
        break_on_hyphens=False,
    )
