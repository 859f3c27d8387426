"""Where the workflow, the config and every file of a results folder are; reading users' paths.

Python and the rules of the workflow both use it. Functions return text, because Snakemake compares
paths and parameters as text. The config reads `results` once, with `expand` and `canonical`. The
functions below them keep the text of the results folder.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / "installed"  # in a wheel alone: copies of the files below
# Has Snakefile, workflow/, config/ and envs/: the checkout, or the copies in an installed package.
ROOT = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent
CONFIG_DIR_VARIABLE = "LORA_CONFIG_DIR"
# The folder of config.yaml, which has the defaults, and of the tables of facts (CSV).
CONFIG_DIR = Path(os.environ.get(CONFIG_DIR_VARIABLE) or ROOT / "config").expanduser().absolute()

# A run's folder below the folder of all runs, as a pattern of wildcards.
RUN_PATTERN = "{protocol}/{model}/{task}/{method}/{weights}/r{rank}/seed{seed}"

ADAPTER = "adapter/adapter_model.safetensors"  # in a run's folder
ADAPTER_CONFIG = "adapter/adapter_config.json"
ADAPTER_LABELS = "adapter/labels.json"
ADAPTER_CARD = "adapter/README.md"
METRICS = "metrics.csv"
RUN_JSON = "run.json"
TRAIN_LOG = "train.log"  # in a job's folder of logs
MANIFEST = "fetched.json"  # in the folder of a source
TOKENS_ARRAYS = "tokens.safetensors"  # in a folder of tokens
TOKENS_JSON = "tokens.json"

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand(path: str) -> str:
    """Return a path with `~`, `~user`, `$NAME` and `${NAME}` replaced, as a shell does.

    Raises:
        ValueError: If a variable is not set or empty, or there is no such user.
    """
    names = {braced or plain for braced, plain in VARIABLE.findall(path)}
    unset = sorted(name for name in names if not os.environ.get(name))
    if unset:
        raise ValueError(
            f"environment variable {', '.join(unset)} is not set or empty; run `export "
            f"{unset[0]}=...` first, or write the path in full. A folder with ${unset[0]} in its "
            "name needs a symbolic link with another name"
        )
    # As in a shell, a ~ counts at the start of what was written, not of what a variable gave.
    expanded = os.path.expanduser(path) if path.startswith("~") else path
    if expanded.startswith("~"):
        user = expanded.split("/")[0]
        raise ValueError(
            f"there is no home folder of {user}; write the path in full, or ./{user} for a folder "
            "of that name"
        )
    expanded = VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], expanded)
    # What is read again, in a job, must give the same path.
    if VARIABLE.search(expanded) or expanded.startswith("~"):
        raise ValueError(
            f"it expands to {expanded!r}; allowed: a path without ~ and $, or variables that give "
            "one"
        )
    return expanded


def argument(path: str) -> Path:
    """Return a path of the command line. The shell expands all but the ~ in `--output-dir=~/x`."""
    return Path(os.path.expanduser(path))


def canonical(path: str) -> str:
    """Return one spelling of a path; a relative path stays relative to the working directory.

    `.`, `..` and repeated slashes are removed; `..` after a symbolic link is the parent of the
    link's target. Other symbolic links are kept. Addresses with :// are returned unchanged.
    """
    if "://" in path:
        return path
    here = os.path.realpath(".")
    folder = Path("/")
    for part in Path(here, path).parts[1:]:
        if part == "..":
            folder = (folder.resolve() if folder.is_symlink() else folder).parent
        else:
            folder /= part
    if path.startswith("/"):
        return str(folder)
    relative = os.path.relpath(folder, here)
    return str(folder) if relative.startswith("~") else relative


def runs_dir(results: str | Path) -> str:
    """Return the folder of all runs."""
    return f"{results}/runs"


def run_dir(runs: str | Path, cell_path: str, seed: int) -> str:
    """Return the folder of one run; `runs` is the folder of all runs."""
    return f"{runs}/{cell_path}/seed{seed}"


def source_dir(results: str | Path, name: str) -> str:
    """Return the folder of a fetched model or data set; `name` is its name in sources.csv."""
    return f"{results}/sources/{name}"


def manifest(results: str | Path, name: str) -> str:
    """Return the file that lists what was fetched of a source. It is written last."""
    return f"{source_dir(results, name)}/{MANIFEST}"


def tokens_dir(results: str | Path, model: str, task: str, max_tokens: int | str) -> str:
    """Return the folder of a task's tokens for a model, cut at `max_tokens`."""
    return f"{results}/tokens/{model}/{task}/t{max_tokens}"


def state_dir(results: str | Path) -> str:
    """Return the folder of the checkpoints of all runs."""
    return f"{results}/state"


def checkpoint_dir(state: str | Path, digest: str) -> str:
    """Return the folder of one run's checkpoints; `state` is the folder of all checkpoints."""
    return f"{state}/{digest[:16]}"


def tracking_dir(results: str | Path) -> str:
    """Return the folder of the trackers' files, one folder a tracker."""
    return f"{results}/tracking"


def plan_dir(results: str | Path) -> str:
    """Return the folder of the plan."""
    return f"{results}/plan"


def tables_dir(results: str | Path) -> str:
    """Return the folder of the tables."""
    return f"{results}/tables"


def figures_dir(results: str | Path) -> str:
    """Return the folder of the figures of the tables."""
    return f"{results}/figures"


def subspace_dir(results: str | Path) -> str:
    """Return the folder of the subspace analysis: its tables and figures."""
    return f"{results}/subspace"


def train_log_dir(logs: str | Path, packed: Collection[str]) -> str:
    """Return the folder of a training job's log, as a pattern of the axes that are not packed.

    Args:
        logs: The folder of all logs.
        packed: The axes that a job trains together.
    """
    kept = [
        part
        for part in Path(RUN_PATTERN).parts
        if not any(f"{{{axis}}}" in part for axis in packed)
    ]
    return str(Path(logs, "train", *kept))


def logs_dir(results: str | Path) -> str:
    """Return the folder of the logs of all rules, one folder a rule."""
    return f"{results}/logs"
