"""Notes of a table: runs, epochs, metrics, protocols, start, precision and evaluation sets.

They are built from the grid and the values on the page, so each applies to something shown there,
and name their subjects, so that `anchors` can put a letter there. Those on published values are in
`published_notes`.
"""

import math

from lora.experiment.cell import BASE_METHODS
from lora.experiment.grid import Grid, Table
from lora.experiment.task import Task
from lora.files import Row
from lora.tables import constant, majority, margins, protocol_notes, published_notes, sources
from lora.tables.labels import METHODS, METRICS, OTHER_SETS, Note, listed, remarks


def footnotes(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> tuple[Note, ...]:
    """Return the notes of a table, in reading order.

    Args:
        grid: The grid of the table.
        table: The table.
        cells: Its rows, with the columns TABLE_COLUMNS.
        values: Its published values, with the columns PUBLISHED_COLUMNS.
    """
    tasks = [grid.tasks[name] for name in table.tasks]
    is_short = table.name == "table2"
    found = [
        _runs(grid, table.name, with_spreads=not is_short),
        *_best_epoch(table.name),
        *_metrics(tasks, by_column=is_short),
        *protocol_notes.protocols(grid, table),
        *protocol_notes.starts(grid, table, values),
        Note(
            "Trainable parameters do not include the classification head, as in the paper "
            "(microsoft/LoRA #16). Ours are counted in the model, the paper's are as printed.",
            (("column", "trainable"),),
        ),
        *_precision(cells),
    ]
    if any(cell["metric"] == "average" for cell in cells):
        text = "Avg is the mean of the eight values of the row, with matched MNLI."
        found.append(Note(text, (("column", "average"),)))
    found += [*_evaluation_sets(cells, values), *_sizes(cells), *_demo(tasks), *_own(tasks)]
    found += sources.notes(grid, cells, values)
    found += majority.notes(tasks, cells)
    found += [Note(text, (("constant",),)) for text in constant.notes(cells)]
    found += published_notes.differences(grid, values)
    if is_short:
        found += [*_remarks(cells), *margins.beyond(values)]
    else:
        found += margins.notes(grid, values)
    return (*found, *published_notes.marks(values), *published_notes.notes(grid, values))


def of_details(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> tuple[Note, ...]:
    """Return the notes of the page with all statistics; the arguments are those of `footnotes`."""
    published = Note(
        "Published: the paper's value, or the course's where the paper has none; the CSV with "
        "the published values has all of them."
    )
    return (
        _runs(grid, table.name, with_spreads=False),
        *_best_epoch(table.name),
        Note("std is the sample standard deviation (n−1) over seeds; one run has none."),
        Note("constant: the number of finished runs that predict one class for all examples."),
        *([published] if any(value["relation"] == "same" for value in values) else []),
        *published_notes.differences(grid, values),
        *margins.notes(grid, values),
    )


def _runs(grid: Grid, table: str, with_spreads: bool) -> Note:
    """Return a note on the number of runs, and on the spreads of Tables 5 and 6."""
    text = (
        f"n is the number of finished runs: {len(grid.seeds)} ({_seeds(grid.seeds)}) unless a cell "
        "has another n. Failed and missing runs are counted, not replaced."
    )
    if with_spreads:
        text += (
            " ± of our means is the sample standard deviation (n−1) over seeds, [a, b] of our "
            "medians is the range from the lowest to the highest run; one run has neither."
        )
    return Note(text)


def _best_epoch(table: str) -> list[Note]:
    """Return a note on our values."""
    text = (
        "Best epoch: the epoch of each run with the highest metric, the earliest of equals. It is "
        "chosen on the set that is reported, as in the paper, so it is optimistic; the selection "
        "table shows by how much. The last epoch is not chosen."
    )
    if table == "table2":
        text = (
            "Our values are the median over runs of each run's best epoch. A row without "
            "published values also has the mean ± sample standard deviation of the last epoch. "
            f"{text}"
        )
    return [Note(text)]


def _remarks(cells: list[Row]) -> list[Note]:
    """Return a note for each remark on cells of Table 2, such as `n=2 of 3`."""
    found = dict.fromkeys(
        text for cell in cells for text in remarks(cell, "best_median") + remarks(cell, "last_mean")
    )
    return [Note(f"{text}.", (("remark", text),)) for text in found]


def _seeds(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {listed([str(seed) for seed in seeds])}"


def _metrics(tasks: list[Task], by_column: bool) -> list[Note]:
    """Return notes on the metrics. `by_column`: rarer ones are at their columns."""
    by_metric: dict[str, list[Task]] = {}
    for task in tasks:
        by_metric.setdefault(METRICS.get(task.metric, task.metric), []).append(task)
    ordered = sorted(by_metric.items(), key=lambda item: -len(item[1]))
    if by_column and len(ordered) > 1:
        others = [
            Note(f"{metric[0].upper()}{metric[1:]}.", tuple(("column", t.name) for t in of_metric))
            for metric, of_metric in ordered[1:]
        ]
        return [
            Note(f"Metric, in per cent: {ordered[0][0]} unless the column has a note."),
            *others,
        ]
    parts = "; ".join(
        f"{metric} for {listed([task.title for task in of_metric])}"
        for metric, of_metric in by_metric.items()
    )
    return [Note(f"Metric, in per cent: {parts}.")]


def _own(tasks: list[Task]) -> list[Note]:
    """Return a note on tasks of the config, with the names of their classes."""
    own = [task for task in tasks if task.table is not None]
    if not own:
        return []
    parts = (f"{task.title} ({listed([*task.label_names] or ['scores'])})" for task in own)
    text = f"Tasks of the config, without published values: {'; '.join(parts)}."
    return [Note(text, tuple(("column", task.name) for task in own if len(own) < len(tasks)))]


def _demo(tasks: list[Task]) -> list[Note]:
    """Return a note on tasks that are not of GLUE."""
    ours = [task for task in tasks if task.mirrors]
    if not ours:
        return []
    are = "are demo tasks" if len(ours) > 1 else "is a demo task"
    text = (
        f"{listed([task.title for task in ours])} {are} of this project, not GLUE. No published "
        "value is for the same task, so nothing is compared."
    )
    return [Note(text, tuple(("column", task.name) for task in ours if len(ours) < len(tasks)))]


def _precision(cells: list[Row]) -> list[Note]:
    """Return notes on the precision of the model, with a warning where cells differ."""
    found = []
    trained = [cell for cell in cells if cell["method"] in BASE_METHODS]
    whole = _precisions(trained)
    frozen = _precisions([cell for cell in cells if cell["method"] not in BASE_METHODS])
    if frozen:
        mixed = " Cells differ in precision: see the column base_precision of the CSV."
        found.append(
            Note(
                f"Frozen model in {listed(frozen)}; adapter, head, loss and optimizer in float32."
                f"{mixed * (len(frozen) > 1)}"
            )
        )
    if whole:
        methods = list(dict.fromkeys(cell["method"] for cell in trained))
        found.append(
            Note(
                f"No model is frozen in {listed([METHODS[method] for method in methods])}: model, "
                f"head, loss and optimizer in {listed(whole)}.",
                tuple(("method", method) for method in methods),
            )
        )
    return found


def _precisions(cells: list[Row]) -> list[str]:
    return sorted({word for cell in cells for word in cell["base_precision"].split()})


def _evaluation_sets(cells: list[Row], values: list[Row]) -> list[Note]:
    """Return notes on the evaluation sets of MNLI, ours and the paper's."""
    found = []
    shown = {cell["metric"] for cell in cells} & set(OTHER_SETS)
    if shown:
        names = {
            "accuracy_mismatched": "MNLI-mm is the mismatched set",
            "accuracy_overall": "MNLI-all is both sets together (overall)",
        }
        about = "; ".join(name for metric, name in names.items() if metric in shown)
        text = f"MNLI is the matched set; {about}, at the best epoch of the matched set."
        columns = ("mnli", *(f"mnli-{OTHER_SETS[metric]}" for metric in OTHER_SETS))
        found.append(Note(text, tuple(("column", name) for name in columns)))
    if any(value["task"] == "mnli" and value["table"] == "table2" for value in values):
        text = (
            "The paper's caption says overall for MNLI, but its 87.5 for LoRA on RoBERTa-base is "
            "the matched value (README of microsoft/LoRA: 87.5 matched, 86.9 mismatched). So its "
            "MNLI values are compared with our matched ones."
        )
        found.append(Note(text, (("column", "mnli"),)))
    return found


def _sizes(cells: list[Row]) -> list[Note]:
    """Return a note on the number of evaluation examples, and what one is worth in accuracy."""
    sizes = {}
    for cell in cells:
        if not math.isnan(cell["eval_examples"]):
            is_accuracy = cell["metric"] == "accuracy"
            worth = f" (one is {100 / cell['eval_examples']:.2g})" if is_accuracy else ""
            sizes[cell["task_title"]] = f"{cell['task_title']} {cell['eval_examples']:,}{worth}"
    title = "Evaluation examples, and what one of them is worth in per cent of accuracy"
    return [Note(f"{title}: {', '.join(sizes.values())}.")] if sizes else []
