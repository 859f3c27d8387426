"""Where things stand in a table: its cells and what is published, arranged as the paper arranges them.

Ours and theirs never share a line, and each section says which epoch and which statistic it shows. A figure of another
model or another task stands in a section of its own, never next to a difference. It computes only what a line is named
for: the spread over r, the largest minus the smallest figure of the line. Nothing here chooses epochs or statistics.
"""

import math

from lora import footnotes
from lora.page import (
    METHODS,
    METRICS,
    MODELS,
    NONE,
    Line,
    Page,
    Section,
    difference,
    number,
    origin,
    ours,
    parameters,
    published,
    spread,
    weight_types,
)

COLUMNS = ("mnli", "mnli-mm", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb", "average")  # the paper's order
STATISTICS = (  # how ours are shown: words, centre, spread
    ("best epoch, median ± std", "best_median", "best_std"),
    ("last epoch, mean ± std", "last_mean", "last_std"),
)


def page(grid, table, cells: list[dict], facts: list[dict]) -> Page:
    """The page of one table: cells as records.TABLE_COLUMNS, facts as records.PUBLISHED_COLUMNS."""
    columns, parts = {"table2": _table2, "table6": _table6}[table.name](grid, table, cells, facts)
    title, caption = {
        "table2": (
            "LoRA on the tasks of Table 2",
            "Evaluation set figures in per cent, laid out as Table 2 of Hu et al. (2021), beside the published figures.",
        ),
        "table6": (
            "LoRA by rank and weight type",
            "Evaluation set figures in per cent, laid out as Table 6 of Hu et al. (2021): rank r across, the adapted weight "
            "types down. Spread over r is the largest minus the smallest figure of the line: the paper's claim is that it "
            "is small.",
        ),
    }[table.name]
    details_columns, details = _details(cells)
    return Page(
        name=table.name,
        title=title,
        caption=caption,
        partial=_partial(cells),
        columns=columns,
        sections=parts,
        footnotes=footnotes.footnotes(grid, table, cells, facts),
        details_columns=details_columns,
        details=details,
    )


def _partial(cells: list[dict]) -> str:
    runs = [cell for cell in cells if cell["metric"] not in ("average", "accuracy_mismatched")]
    missing, expected = sum(cell["n_missing"] for cell in runs), sum(cell["n_expected"] for cell in runs)
    return f"{missing} of {expected} runs asked for are not there" if missing else ""


def _name(model: str) -> str:
    return MODELS.get(model, model)


def _table2(grid, table, cells: list[dict], facts: list[dict]):
    present = {cell["column"]: cell["task_title"] for cell in cells}
    order = [name for name in COLUMNS if name in present]
    order += [name for name in grid.tasks if name in present and name not in order]
    titles = ("Method", "# trainable", *(present[name] for name in order))
    parts = []
    for model in table.models:
        theirs = [fact for fact in facts if fact["model"] == model and fact["relation"] in ("same", "context")]
        parts += _published_section(model, theirs, order)
        for row in dict.fromkeys(cell["row"] for cell in cells if cell["model"] == model):
            parts.append(_our_section({cell["column"]: cell for cell in cells if cell["row"] == row}, theirs, order))
    reference = {fact["column"]: fact for fact in facts if fact["relation"] == "reference"}
    if reference:
        texts = [
            f"{published(reference[name])} ({grid.tasks[reference[name]['task']].title})" if name in reference else NONE
            for name in order
        ]
        first = next(iter(reference.values()))
        label = f"{_name(first['model'])} ({METHODS[first['method']]}), paper"
        line = Line("reference", (label, first["trainable"], *texts))
        parts.append(Section("For orientation only: another model on other tasks (GLUE), never to be compared", (line,)))
    return titles, tuple(parts)


def _published_section(model: str, facts: list[dict], order: list[str]) -> list[Section]:
    lines = []
    for key in dict.fromkeys((fact["method"], fact["trainable"], origin(fact)) for fact in facts):
        line = {fact["column"]: fact for fact in facts if (fact["method"], fact["trainable"], origin(fact)) == key}
        if set(line) & (set(order) - {"average"}):
            label = f"{_name(model)} ({METHODS.get(key[0], key[0])})" + (", course" if key[2] == "course" else "")
            texts = tuple(published(line[name]) if name in line else NONE for name in order)
            lines.append(Line("published", (label, key[1], *texts)))
    return [Section(f"{_name(model)}, published", tuple(lines))] if lines else []


def _our_section(row: dict[str, dict], facts: list[dict], order: list[str]) -> Section:
    some = next(iter(row.values()))
    count = parameters(some["trainable"])
    lines = [
        Line("ours", (words, count, *(ours(row[name], centre, around) if name in row else NONE for name in order)))
        for words, centre, around in STATISTICS
    ]
    same = [fact for fact in facts if fact["relation"] == "same" and _of(fact, some)]
    for source in ("paper", "course"):
        line = {fact["column"]: fact["difference"] for fact in same if origin(fact) == source}
        if line:
            texts = (difference(line.get(name, math.nan)) for name in order)
            lines.append(Line("difference", (f"best epoch, minus {source}", "", *texts)))
    title = f"{_name(some['model'])}, ours: LoRA r={some['rank']} on {weight_types(some['weights'])}"
    return Section(title, tuple(lines))


def _of(fact: dict, cell: dict) -> bool:
    return all(fact[key] == cell[key] for key in ("model", "method", "weights", "rank"))


def _table6(grid, table, cells: list[dict], facts: list[dict]):
    ranks = sorted(table.ranks)
    parts = []
    for model in table.models:
        for task in table.tasks:
            mine = [cell for cell in cells if (cell["model"], cell["task"]) == (model, task)]
            of_task = {(cell["weights"], cell["rank"]): cell for cell in mine}
            named = f"{_name(model)}, {grid.tasks[task].title}"
            for words, centre, around in STATISTICS:
                lines = tuple(
                    _rank_line("ours", weights, [of_task[weights, rank] for rank in ranks], centre, around)
                    for weights in table.weights
                )
                parts.append(Section(f"{named}, ours: {words}", lines))
            theirs = [fact for fact in facts if (fact["model"], fact["task"]) == (model, task)]
            if theirs:
                lines = _fact_lines("published", theirs, table, ranks)
                parts.append(Section(f"{named}, course: one seed, best epoch", lines))
                lines = _difference_lines(theirs, table, ranks)
                parts.append(Section(f"{named}: ours, best epoch, minus course", lines))
    reference = [fact for fact in facts if fact["relation"] == "reference"]
    if reference:
        title = "GPT-3 175B, MNLI, paper: its level can never be compared, its shape can"
        parts.append(Section(title, _fact_lines("reference", reference, table, ranks)))
    return ("Weight type", *(f"r = {rank}" for rank in ranks), "Spread over r"), tuple(parts)


def _rank_line(kind: str, weights: str, of_ranks: list[dict], centre: str, around: str) -> Line:
    texts = (ours(cell, centre, around) for cell in of_ranks)
    return Line(kind, (weight_types(weights), *texts, _range([cell[centre] for cell in of_ranks])))


def _range(values: list[float], places: int = 1) -> str:
    """Largest minus smallest; said to be of fewer ranks where some have no figure."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return NONE
    return number(max(known) - min(known), places) + (
        f" ({len(known)} of {len(values)} ranks)" if len(known) < len(values) else ""
    )


def _fact_lines(kind: str, facts: list[dict], table, ranks: list[int]) -> tuple[Line, ...]:
    lines = []
    for weights in table.weights:
        by_rank = {fact["rank"]: fact for fact in facts if fact["weights"] == weights}
        values = [float(by_rank[rank]["value"]) if rank in by_rank else math.nan for rank in ranks]
        places = max((len(fact["value"].partition(".")[2]) for fact in by_rank.values()), default=1)
        if by_rank:
            texts = (published(by_rank[rank]) if rank in by_rank else NONE for rank in ranks)
            lines.append(Line(kind, (weight_types(weights), *texts, _range(values, places))))
    return tuple(lines)


def _difference_lines(facts: list[dict], table, ranks: list[int]) -> tuple[Line, ...]:
    lines = []
    for weights in table.weights:
        by_rank = {fact["rank"]: fact["difference"] for fact in facts if fact["weights"] == weights}
        if by_rank:
            texts = (difference(by_rank.get(rank, math.nan)) for rank in ranks)
            lines.append(Line("difference", (weight_types(weights), *texts, "")))
    return tuple(lines)


def _details(cells: list[dict]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """All statistics of every cell, for the second table."""
    columns = ("Model", "Task", "Weights", "r", "Metric", "# trainable", "n", "failed", "missing")
    columns += ("Best: median", "mean", "std", "min", "max", "Last: mean", "median", "std", "Published", "Difference")
    statistics = ("best_median", "best_mean", "best_std", "best_min", "best_max", "last_mean", "last_median", "last_std")
    rows = []
    for cell in cells:
        metric = "accuracy" if cell["metric"] == "accuracy_mismatched" else METRICS.get(cell["metric"], cell["metric"])
        facts = f"{number(cell['published'])}{spread(cell['published_spread'])}" if cell["published_source"] else NONE
        rows.append(
            (
                _name(cell["model"]),
                cell["task_title"],
                weight_types(cell["weights"]),
                str(cell["rank"]),
                metric.removesuffix(" × 100"),
                parameters(cell["trainable"]),
                f"{cell['n']} of {cell['n_expected']}",
                str(cell["n_failed"]),
                str(cell["n_missing"]),
                *(number(cell[key], 2) for key in statistics),
                facts,
                difference(cell["difference"], 2),
            )
        )
    return columns, tuple(rows)
