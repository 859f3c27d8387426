"""Notes on protocols: sources of their values, the config's overrides, and warm starts."""

from lora.experiment.cell import Cell
from lora.experiment.grid import Block, Grid, Table
from lora.experiment.hparams import PRETRAINED
from lora.files import Row
from lora.tables.labels import METHODS, Note, Subject, listed, listed_once

FROM_MNLI = "LoRA starts from the paper's MNLI adapter"


def protocols(grid: Grid, table: Table) -> list[Note]:
    """Return a note on each protocol: its methods, and the sources of epochs and learning rates."""
    blocks: dict[str, dict[str, list[Block]]] = {}
    for block in table.blocks:
        for protocol in block.protocols:
            blocks.setdefault(protocol, {}).setdefault(block.method, []).append(block)
    found = []
    for protocol, by_method in blocks.items():
        base = grid.base_protocol(protocol)
        changes = _changes(grid.protocol_changes(protocol))
        about = f" ({base} with {changes})" if base != protocol else ""
        methods = []
        for method, of_method in by_method.items():
            rows = [s for block in of_method for s in _sources(grid, table, block, base)]
            sources = f" [{'; '.join(dict.fromkeys(rows))}]" if rows else ""
            methods.append(f"{METHODS[method]}{sources}")
        text = (
            "Protocol, with the sources of epochs and learning rates: "
            f"{protocol}{about}: {', '.join(methods)}."
        )
        found.append(Note(text, (("protocol", protocol),) if len(blocks) > 1 else ()))
    overrides = grid.config.overrides
    if overrides:
        found.append(Note(f"For every run the config sets {_changes(overrides)}."))
    return found


def _changes(changes: dict[str, int | float | str]) -> str:
    if not changes:
        return "no change"
    return listed([f"{name} = {value}" for name, value in changes.items()])


def _sources(grid: Grid, table: Table, block: Block, protocol: str) -> list[str]:
    """Return the sources of the rows of hparams.csv for a method's epochs and learning rate."""
    ranks = [str(table.rank(weights, rank)) for weights in block.weights for rank in block.ranks]
    return [
        row.source
        for row in grid.hparam_rows
        if row.protocol == protocol
        and row.name in ("epochs", "learning_rate")
        and row.method in ("*", block.method)
        and row.model in ("*", *block.models)
        and row.task in ("*", *table.tasks)
        and row.rank in ("*", *ranks)
    ]


def starts(grid: Grid, table: Table, values: list[Row]) -> list[Note]:
    """Return notes on runs that do not start from the pre-trained model.

    They also name runs that do, although the published value beside them does not.
    """
    starts: dict[str, dict[str, list[Cell]]] = {}
    from_mnli = {
        (value["ours_model"], value["task"], value["method"], value["ours_protocol"])
        for value in values
        if value["relation"] == "same" and FROM_MNLI in value["note"]
    }
    for cell in table.cells:
        start = grid.hparams(cell).start
        runs = f"{METHODS[cell.method]} under {cell.protocol}"
        if start != PRETRAINED:
            source = start
            if start in grid.tasks:
                best = f"the best {grid.tasks[start].title} run of this grid"
                source = f"{best} of the same model, method and protocol"
            starts.setdefault(runs, {}).setdefault(source, []).append(cell)
        elif (cell.model, cell.task, cell.method, cell.protocol) in from_mnli:
            source = "the pre-trained model, unlike the paper's"
            starts.setdefault(runs, {}).setdefault(source, []).append(cell)
    return [
        Note(
            f"Start: {listed_once([grid.tasks[cell.task].title for cell in cells])} of {runs} from "
            f"{source}.",
            tuple(dict.fromkeys(start_of(vars(cell)) for cell in cells)),
        )
        for runs, by_source in starts.items()
        for source, cells in by_source.items()
    ]


def start_of(cell: Row) -> Subject:
    """Return the subject of notes on what the runs of a cell start from."""
    return ("start", cell["model"], cell["task"], cell["method"], cell["protocol"])
