"""Where every file of a results folder is. Python and the rules of the workflow both use it.

Functions return text, not `Path`: Snakemake compares the text of parameters, and a `Path` would
change `./results` to `results`, which would train every run again.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of this checkout

# A run's folder below the folder of all runs, as a pattern of wildcards.
RUN_PATTERN = "{protocol}/{model}/{task}/{method}/{weights}/r{rank}/seed{seed}"

ADAPTER = "adapter/adapter_model.safetensors"  # in a run's folder
ADAPTER_CONFIG = "adapter/adapter_config.json"
METRICS = "metrics.csv"
RUN_JSON = "run.json"
TOKENS_JSON = "tokens.json"  # in a folder of tokens


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
    return f"{source_dir(results, name)}/fetched.json"


def tokens_dir(results: str | Path, model: str, task: str, max_tokens: int | str) -> str:
    """Return the folder of a task's tokens for a model, cut at `max_tokens`."""
    return f"{results}/tokens/{model}/{task}/t{max_tokens}"


def state_dir(results: str | Path) -> str:
    """Return the folder of the checkpoints of all runs."""
    return f"{results}/state"


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


def logs_dir(results: str | Path) -> str:
    """Return the folder of the logs of all rules, one folder a rule."""
    return f"{results}/logs"
