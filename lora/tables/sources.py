"""Check that a cell was trained on the model and data that published values are about.

A published value is of a registered source: a model or data set of config/sources.csv. A name alone
says little, since a config may put another folder under it. So a cell is compared only if the
config and every run.json have what pins the registered content: the revision of a hub source, the
checksum of an archive or folder. Where nothing pins it, the config can claim that it is the same
(`same_as`), and a note repeats the claim. Runs imported from the course record no revision, so they
need that claim too.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.source import Source, content_pin
from lora.files import Row
from lora.tables.labels import Note, listed

if TYPE_CHECKING:
    from lora.tables.statistics import RunRows  # imports pandas


def registered_name(grid: Grid, name: str) -> str:
    """Return the source of config/sources.csv that a source is, or is claimed to be."""
    return grid.sources[name].same_as or name


def problem(grid: Grid, cell: Cell, runs: "Iterable[RunRows]") -> str:
    """Return why a cell cannot be compared with published values; empty if it can.

    Args:
        grid: The grid.
        cell: The cell.
        runs: Its runs. Missing ones record nothing and do not count.
    """
    trained = [run.rows.iloc[0] for run in runs if run.line["status"] != "missing"]
    dataset = grid.tasks[cell.task].dataset
    for name, column in ((cell.model, "base_source"), (dataset, "data_source")):
        recorded = sorted({str(row[column]) for row in trained})
        found = _source_problem(grid, name, recorded)
        if found:
            return f"{'model' if column == 'base_source' else 'data'} {name}: {found}"
    return ""


def _source_problem(grid: Grid, name: str, recorded: list[str]) -> str:
    """Return why a source is not known to be the registered one.

    Args:
        grid: The grid.
        name: Name of the source.
        recorded: Its identities in the run.json of the runs.
    """
    source = grid.sources[name]
    wanted = registered_name(grid, name)
    if source.role == "data" and name in grid.registered and wanted != name:
        return f"the config says that it is the same as {wanted}, which is another data set"
    registered = grid.registered.get(wanted)
    if registered is None:
        return "config/sources.csv does not have it"
    if not source.same_as and not content_pin(registered.identity):
        return "config/sources.csv has no revision or checksum of it"
    if not source.same_as and not _is_same(source.identity, registered):
        return f"the config replaces the registered source with {source.identity}"
    for identity in recorded:
        pin = content_pin(identity)
        if _is_same(identity, registered):
            continue
        if not source.same_as:
            return (
                f"runs record {identity}, not the registered source"
                if pin
                else "runs do not record which revision or checksum they were trained with"
            )
        if pin and content_pin(source.identity) not in ((), pin):
            return f"runs record {identity}, not the source that the config says is {wanted}"
    return ""


def _is_same(identity: str, registered: Source) -> bool:
    """Return whether an identity is known to have the content of a registered source."""
    pin = content_pin(identity)
    return bool(pin) and pin == content_pin(registered.identity)


def notes(grid: Grid, cells: list[Row], values: list[Row]) -> list[Note]:
    """Return notes on cells that are not compared because of their source, and on claims.

    Args:
        grid: The grid.
        cells: Rows of the table, with the columns TABLE_COLUMNS.
        values: Its published values, with the columns PUBLISHED_COLUMNS.
    """
    found = []
    withheld = {(v["ours_model"], v["task"]) for v in values if v["relation"] == "unverified"}
    reasons: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell["source_problem"] and (cell["model"], cell["task"]) in withheld:
            reasons.setdefault(cell["source_problem"], {})[cell["task_title"]] = None
    for reason, titles in reasons.items():
        text = (
            f"No difference to published values for {listed(list(titles))}; {reason}. If the "
            "content is the same, say so in the config: `same_as:` under `sources:`."
        )
        found.append(Note(text, (("source problem", reason),)))
    compared = [value for value in values if value["relation"] in ("same", "context")]
    names = [name for value in compared for name in _source_names(grid, value)]
    for name in dict.fromkeys(names):
        source = grid.sources[name]
        if source.same_as:
            text = (
                f"The config says that {name} ({source.identity}) is the same as {source.same_as} "
                "of config/sources.csv (`same_as`). The comparisons rely on it."
            )
            found.append(Note(text))
    return found


def _source_names(grid: Grid, value: Row) -> list[str]:
    """Return the sources of ours that a published value is compared with."""
    task = grid.tasks.get(value["task"])
    datasets = [task.dataset] if task else []
    return [name for name in (value["ours_model"], *datasets) if name]
