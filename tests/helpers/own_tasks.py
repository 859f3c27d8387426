"""Tasks of a config, and tables for them."""

from pathlib import Path

from helpers.configs import changed
from lora.experiment import grid
from lora.experiment.task import Task

ROWS = [(f"sentence number {at}", "good" if at % 3 else "bad") for at in range(30)]


def own_task(path: Path | str, results: Path | str = "nowhere", **keys) -> Task:
    """Return the task `mine` of a config with these keys; text and label are the usual columns."""
    task = {"path": str(path), "text": "text"} | keys
    config = changed(tasks={"mine": task}, results=str(results))
    return grid.load(config).tasks["mine"]


def write_csv(path: Path, rows=ROWS, header="text,label", separator=",") -> Path:
    """Write rows without quoting; a row may be a whole line."""
    lines = [row if isinstance(row, str) else separator.join(map(str, row)) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
