"""Footnotes of a table: runs, epochs, metrics, protocols, start, precision and published values.

They are built from the grid and the values on the page, so each applies to something shown there.
Notes on published values come from the note column of config/published.csv, gathered by text with
the rows and tasks that they apply to. Notes that most rows have get one footnote, see EXPLAINED.
"""

import math

from lora.experiment.cell import BASE_METHODS
from lora.experiment.grid import Block, Grid, Table
from lora.experiment.hparams import PRETRAINED
from lora.experiment.task import Task
from lora.files import Row
from lora.tables import constant, majority, margins, sources
from lora.tables.labels import (
    COPIED,
    METHODS,
    METRICS,
    OTHER_SETS,
    SYMBOLS,
    listed,
    model_name,
    origin,
    published_name,
)

FROM_PRIOR_WORK = "copied by the paper from prior work"
DAGGER = "dagger: "
PRINTED_AVERAGE = "as printed: "
MATCHED = ("read as matched", "the caption says overall")
# Notes of published.csv that have their own footnote.
EXPLAINED = (FROM_PRIOR_WORK, DAGGER, PRINTED_AVERAGE, *MATCHED)
FROM_MNLI = "LoRA starts from the paper's MNLI adapter"


def footnotes(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> tuple[str, ...]:
    """Return the footnotes of a table, in reading order.

    Args:
        grid: The grid of the table.
        table: The table.
        cells: Its rows, with the columns TABLE_COLUMNS.
        values: Its published values, with the columns PUBLISHED_COLUMNS.
    """
    tasks = [grid.tasks[name] for name in table.tasks]
    notes = [
        f"n is the number of finished runs: {len(grid.seeds)} ({_seeds(grid.seeds)}) unless a cell "
        "has another n. Failed and missing runs are counted, not replaced. ± of "
        "our means is the sample standard deviation (n−1) over seeds, [a, b] of our medians is the "
        "range from the lowest to the highest run; one run has neither.",
        "Best epoch: the epoch of each run with the highest metric, the earliest of equals. It is "
        "chosen on the set that is reported, as in the paper, so it is optimistic; the selection "
        "table shows by how much. The last epoch is not chosen.",
        _metrics(tasks),
        _protocols(grid, table),
        *_starts(grid, table, values),
        "Trainable parameters do not include the classification head, as in the paper "
        "(microsoft/LoRA #16). Ours are counted in the model, the paper's are as printed.",
        *_precision(cells),
    ]
    if any(cell["metric"] == "average" for cell in cells):
        notes.append("Avg is the mean of the eight values of the row, with matched MNLI.")
    notes += [*_evaluation_sets(cells, values), *_sizes(cells), *_demo(tasks), *_own(tasks)]
    notes += sources.notes(grid, cells, values)
    notes += majority.notes(tasks, cells)
    notes += constant.notes(cells)
    notes += [
        *_differences(grid, values),
        *margins.notes(grid, values),
        *_marks(values),
        *_published_notes(grid, values),
    ]
    return tuple(notes)


def _seeds(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {listed([str(seed) for seed in seeds])}"


def _metrics(tasks: list[Task]) -> str:
    by_metric: dict[str, list[str]] = {}
    for task in tasks:
        by_metric.setdefault(METRICS.get(task.metric, task.metric), []).append(task.title)
    parts = "; ".join(f"{metric} for {listed(titles)}" for metric, titles in by_metric.items())
    return f"Metric, in per cent: {parts}."


def _own(tasks: list[Task]) -> list[str]:
    """Return a note on tasks of the config, with the names of their classes."""
    own = [task for task in tasks if task.table is not None]
    if not own:
        return []
    parts = (f"{task.title} ({listed([*task.label_names] or ['scores'])})" for task in own)
    return [f"Tasks of the config, without published values: {'; '.join(parts)}."]


def _demo(tasks: list[Task]) -> list[str]:
    """Return a note on tasks that are not of GLUE."""
    titles = [task.title for task in tasks if task.mirrors]
    if not titles:
        return []
    are = "are demo tasks" if len(titles) > 1 else "is a demo task"
    return [
        f"{listed(titles)} {are} of this project, not GLUE. No published value is for the same "
        "task, so nothing is compared."
    ]


def _protocols(grid: Grid, table: Table) -> str:
    """Return the methods of each protocol, and the sources of epochs and learning rates."""
    blocks: dict[str, dict[str, list[Block]]] = {}
    for block in table.blocks:
        for protocol in block.protocols:
            blocks.setdefault(protocol, {}).setdefault(block.method, []).append(block)
    parts = []
    for protocol, by_method in blocks.items():
        base = grid.base_protocol(protocol)
        changes = _changes(grid.protocol_changes(protocol))
        about = f" ({base} with {changes})" if base != protocol else ""
        methods = []
        for method, of_method in by_method.items():
            found = [s for block in of_method for s in _sources(grid, table, block, base)]
            sources = f" [{'; '.join(dict.fromkeys(found))}]" if found else ""
            methods.append(f"{METHODS[method]}{sources}")
        parts.append(f"{protocol}{about}: {', '.join(methods)}")
    overrides = grid.config.overrides
    over = f" For every run the config sets {_changes(overrides)}." if overrides else ""
    title = f"Protocol{'s' * (len(parts) > 1)}, with the sources of epochs and learning rates"
    return f"{title}: {'. '.join(parts)}.{over}"


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


def _starts(grid: Grid, table: Table, values: list[Row]) -> list[str]:
    """Return a note on runs that do not start from the pre-trained model.

    It also names runs that do, although the published value beside them does not.
    """
    warm: dict[tuple[str, str], list[str]] = {}
    cold: dict[str, list[str]] = {}
    from_mnli = {
        (value["ours_model"], value["task"], value["method"], value["ours_protocol"])
        for value in values
        if value["relation"] == "same" and FROM_MNLI in value["note"]
    }
    for cell in table.cells:
        start, title = grid.hparams(cell).start, grid.tasks[cell.task].title
        runs = f"{METHODS[cell.method]} under {cell.protocol}"
        if start != PRETRAINED:
            source = start
            if start in grid.tasks:
                best = f"the best {grid.tasks[start].title} run of this grid"
                source = f"{best} of the same model, method and protocol"
            warm.setdefault((runs, source), []).append(title)
        elif (cell.model, cell.task, cell.method, cell.protocol) in from_mnli:
            cold.setdefault(runs, []).append(title)
    parts = [
        f"{_distinct(titles)} of {runs} from {source}" for (runs, source), titles in warm.items()
    ]
    parts += [
        f"{_distinct(titles)} of {runs} from the pre-trained model, unlike the paper's"
        for runs, titles in cold.items()
    ]
    rest = ", all others from the pre-trained model" if warm else ""
    return [f"Start: {'; '.join(parts)}{rest}."] if parts else []


def _distinct(titles: list[str]) -> str:
    return listed(list(dict.fromkeys(titles)))


def _precision(cells: list[Row]) -> list[str]:
    """Return notes on the precision of the model, with a warning where cells differ."""
    notes = []
    frozen = _precisions([cell for cell in cells if cell["method"] not in BASE_METHODS])
    if frozen:
        mixed = " Cells differ in precision: see the column base_precision of the CSV."
        notes.append(
            f"Frozen model in {listed(frozen)}; adapter, head, loss and optimizer in float32."
            f"{mixed * (len(frozen) > 1)}"
        )
    trained = [cell for cell in cells if cell["method"] in BASE_METHODS]
    whole = _precisions(trained)
    if whole:
        methods = _distinct([METHODS[cell["method"]] for cell in trained])
        notes.append(
            f"No model is frozen in {methods}: model, head, loss and optimizer in {listed(whole)}."
        )
    return notes


def _precisions(cells: list[Row]) -> list[str]:
    return sorted({word for cell in cells for word in cell["base_precision"].split()})


def _evaluation_sets(cells: list[Row], values: list[Row]) -> list[str]:
    """Return notes on the evaluation sets of MNLI, ours and the paper's."""
    notes = []
    shown = {cell["metric"] for cell in cells} & set(OTHER_SETS)
    if shown:
        names = {
            "accuracy_mismatched": "MNLI-mm is the mismatched set",
            "accuracy_overall": "MNLI-all is both sets together (overall)",
        }
        about = "; ".join(name for metric, name in names.items() if metric in shown)
        notes.append(f"MNLI is the matched set; {about}, at the best epoch of the matched set.")
    if any(value["task"] == "mnli" and value["table"] == "table2" for value in values):
        notes.append(
            "The paper's caption says overall for MNLI, but its 87.5 for LoRA on RoBERTa-base is "
            "the matched value (README of microsoft/LoRA: 87.5 matched, 86.9 mismatched). So its "
            "MNLI values are compared with our matched ones."
        )
    return notes


def _sizes(cells: list[Row]) -> list[str]:
    """Return a note on the number of evaluation examples, and what one is worth in accuracy."""
    sizes = {}
    for cell in cells:
        if not math.isnan(cell["eval_examples"]):
            is_accuracy = cell["metric"] == "accuracy"
            worth = f" (one is {100 / cell['eval_examples']:.2g})" if is_accuracy else ""
            sizes[cell["task_title"]] = f"{cell['task_title']} {cell['eval_examples']:,}{worth}"
    title = "Evaluation examples, and what one of them is worth in per cent of accuracy"
    return [f"{title}: {', '.join(sizes.values())}."] if sizes else []


def _differences(grid: Grid, values: list[Row]) -> list[str]:
    """Return a note on how differences are computed, and between which protocols."""
    same = [value for value in values if value["relation"] == "same"]
    if not same:
        return []
    text = (
        "Differences are ours minus published, for the same model, task, method, weights and rank, "
        "by the statistic and selection of the published value"
    )
    if any(value["statistic"] == "single" for value in same):
        text += "; a value of one seed is compared with our median"
    unknown = [SYMBOLS[value["method"]] for value in same if value["statistic"] == "unknown"]
    if unknown:
        text += (
            f"; those of {_distinct(unknown)} are unknown, and our median over best epochs is "
            "compared"
        )
    over = " with the overrides of the config" if grid.config.overrides else ""
    pairs: dict[str, list[str]] = {}
    for value in same:
        if value["ours_protocol"] != (value["protocol"] or origin(value)) or over:
            pairs.setdefault(value["ours_protocol"], []).append(f"the {origin(value)}'s")
    if not pairs:
        return [f"{text}."]
    which = "; ".join(
        f"ours {ours}{over}, published {_distinct(theirs)}" for ours, theirs in pairs.items()
    )
    return [f"{text}. The protocols differ: {which}."]


def _marks(values: list[Row]) -> list[str]:
    """Return notes on the marks * and †, the paper's ±, and the course."""
    paper = [value for value in values if origin(value) == "paper"]
    notes = []
    if any(value["method"] in COPIED for value in paper):
        notes.append(f"* {FROM_PRIOR_WORK}, each with its own protocol.")
    if any(value["protocol"] for value in paper):
        notes.append(
            "† set up as Houlsby et al. (2019): length 128, one batch size for all tasks, start "
            "from the pre-trained model (Sec. 5.2, D.1). Compared only with our runs under that "
            "protocol."
        )
    kinds = {value["spread_kind"] for value in paper if value["method"] == "lora"}
    if "unspecified" in kinds:
        notes.append(
            "The paper does not say what its ± is. Its value is the median over 5 seeds of the "
            "best epoch (D.1)."
        )
    if any(value["note"].startswith(PRINTED_AVERAGE) for value in values):
        notes.append("A published Avg is as printed: the mean of the row's eight values, rounded.")
    if any(origin(value) == "course" for value in values):
        notes.append(
            "Course: github.com/tn292/cs5782_final_project at 2d2b0b7, a re-implementation."
        )
    return notes


def _published_notes(grid: Grid, values: list[Row]) -> list[str]:
    """Return the notes of the published values, each once, with the rows and cells it is about."""
    by_row: dict[str, dict[str, None]] = {}
    gathered: dict[str, dict[str, dict[str, None]]] = {}
    for value in values:
        row, cell = _row_of(value), margins.column_name(grid, value)
        by_row.setdefault(row, {})[cell] = None
        for part in filter(None, value["note"].split("; ")):
            if not part.startswith(EXPLAINED):
                gathered.setdefault(part, {}).setdefault(row, {})[cell] = None
    notes: dict[str, list[str]] = {}
    for part, about in gathered.items():
        subjects = [
            row if list(cells) == list(by_row[row]) else f"{row}, {listed(list(cells))}"
            for row, cells in about.items()
        ]
        notes.setdefault("; ".join(subjects), []).append(part)
    return [f"{subject}: {'; '.join(parts)}." for subject, parts in notes.items()]


def _row_of(value: Row) -> str:
    """Return a name for the published row that a value is in."""
    size = f" {value['trainable']}" if value["method"] not in ("lora", *BASE_METHODS) else ""
    course = ", course" if origin(value) == "course" else ""
    return f"{model_name(value['model'])} ({published_name(value)}{size}){course}"
