"""Tables 5 and 6 on a page: the shape of the metric over weight types and over ranks, beside GPT-3's.

The paper has both tables of GPT-3 175B alone, so its level never stands next to a difference; what can be compared is the
shape. It is shown by what a line is named for: in Table 6 the spread over r, the largest minus the smallest figure; in
Table 5 each figure minus the mean of its line. Both need more than one figure and say so where some are not there. Cells
under several protocols, or of several methods, stand in sections of their own.
"""

import math

from lora.tables.labels import (
    METHODS,
    MODELS,
    NONE,
    STATISTICS,
    Line,
    Section,
    adapted,
    difference,
    number,
    origin,
    ours,
    published,
    weight_types,
)


def table6(grid, table, cells: list[dict], facts: list[dict]):
    """Columns and sections of Table 6: ranks across, what is adapted down."""
    ranks = sorted({cell["rank"] for cell in cells})
    asked = list(dict.fromkeys(cell["weights"] for cell in cells))
    facts = sorted(facts, key=lambda fact: asked.index(fact["weights"]))
    parts = []
    for (model, task, method, protocol), mine in _groups(
        cells, "model", "task", "method", "protocol"
    ).items():
        named = (
            f"{MODELS.get(model, model)}, {grid.tasks[task].title}{_which(table, method, protocol)}"
        )
        by_weights = _groups(mine, "weights")
        for words, centre, around in STATISTICS:
            lines = []
            for (weights,), line in by_weights.items():
                of_rank = {cell["rank"]: cell for cell in line}
                texts = (
                    ours(of_rank[rank], centre, around) if rank in of_rank else NONE
                    for rank in ranks
                )
                values = [cell[centre] for cell in line]
                lines.append(
                    Line("ours", (adapted(method, weights), *texts, _range(values, "ranks")))
                )
            parts.append(Section(f"{named}, ours: {words}", tuple(lines)))
        theirs = [
            fact
            for fact in facts
            if fact["relation"] == "same" and fact["ours_protocol"] == protocol
        ]
        theirs = [
            fact
            for fact in theirs
            if (fact["model"], fact["task"], fact["method"]) == (model, task, method)
        ]
        if theirs:
            whose = origin(theirs[0])
            about = (
                f"{named}, course: one seed, best epoch" if whose == "course" else f"{named}, paper"
            )
            parts.append(Section(about, _fact_lines("published", theirs, ranks)))
            parts.append(
                Section(
                    f"{named}: ours, best epoch, minus {whose}", _difference_lines(theirs, ranks)
                )
            )
    reference = [fact for fact in facts if fact["relation"] == "reference"]
    if reference:
        title = "GPT-3 175B, MNLI, paper: its level can never be compared, its shape can"
        parts.append(Section(title, _fact_lines("reference", reference, ranks)))
    return (
        "Weight type",
        *(f"r = {rank}" if rank else "no r" for rank in ranks),
        "Spread over r",
    ), tuple(parts)


def _groups(rows: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _which(table, method: str, protocol: str) -> str:
    """What tells a section from another one of the same model and task: method and protocol, where there are several."""
    named = (
        METHODS[method]
        if len({block.method for block in table.blocks}) > 1 or method != "lora"
        else ""
    )
    words = [named, f"protocol {protocol}" if len(table.protocols) > 1 else ""]
    return "".join(f", {word}" for word in words if word)


def _range(values: list[float], what: str, places: int = 1) -> str:
    """Largest minus smallest; said to be of fewer where some have no figure."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return NONE
    fewer = f" ({len(known)} of {len(values)} {what})" if len(known) < len(values) else ""
    return number(max(known) - min(known), places) + fewer


def _places(facts: list[dict]) -> int:
    """Digits after the point as printed."""
    return max((len(fact["value"].partition(".")[2]) for fact in facts), default=1)


def _fact_lines(kind: str, facts: list[dict], ranks: list[int]) -> tuple[Line, ...]:
    lines = []
    for (weights,), line in _groups(facts, "weights").items():
        by_rank = {fact["rank"]: fact for fact in line}
        values = [float(by_rank[rank]["value"]) if rank in by_rank else math.nan for rank in ranks]
        texts = (published(by_rank[rank]) if rank in by_rank else NONE for rank in ranks)
        lines.append(
            Line(kind, (weight_types(weights), *texts, _range(values, "ranks", _places(line))))
        )
    return tuple(lines)


def _difference_lines(facts: list[dict], ranks: list[int]) -> tuple[Line, ...]:
    lines = []
    for (weights,), line in _groups(facts, "weights").items():
        by_rank = {fact["rank"]: fact["difference"] for fact in line}
        texts = (difference(by_rank.get(rank, math.nan)) for rank in ranks)
        lines.append(Line("difference", (weight_types(weights), *texts, "")))
    return tuple(lines)


def table5(grid, table, cells: list[dict], facts: list[dict]):
    """Columns and sections of Table 5: weight types across with the rank that each has under the budget, tasks down."""
    letters = list(table.weights)
    parts = []
    budgets = [cell | dict(budget=cell["rank"] * len(cell["weights"])) for cell in cells]
    for (model, protocol, budget), mine in _groups(budgets, "model", "protocol", "budget").items():
        ranks = {cell["weights"]: cell["rank"] for cell in mine}
        counts = [next((one["trainable"] for one in mine if one["weights"] == weights and one["n"]), math.nan)
                  for weights in letters]  # fmt: skip
        lines = [
            Line("axis", ("rank r of each", *(str(ranks[weights]) for weights in letters), "")),
            Line(
                "axis",
                (
                    "# trainable",
                    *(NONE if math.isnan(count) else f"{count:,}" for count in counts),
                    "",
                ),
            ),
        ]
        for (task,), of_task in _groups(mine, "task").items():
            of_weights = {cell["weights"]: cell for cell in of_task}
            for words, centre, around in STATISTICS:
                line = [of_weights[weights] for weights in letters]
                values = [cell[centre] for cell in line]
                texts = (ours(cell, centre, around) for cell in line)
                label = f"{grid.tasks[task].title}, {words}"
                lines.append(Line("ours", (label, *texts, _range(values, "weight types"))))
                lines.append(_shape_line("difference", values))
        named = f"{MODELS.get(model, model)}{_which(table, 'lora', protocol)}"
        parts.append(
            Section(f"{named}, ours: a budget of rank {budget} on one weight type", tuple(lines))
        )
        reference = {fact["weights"]: fact for fact in facts if fact["relation"] == "reference"}
        reference = {
            weights: fact for weights, fact in reference.items() if fact["rank"] == ranks[weights]
        }
        if reference:
            values = [
                float(reference[weights]["value"]) if weights in reference else math.nan
                for weights in letters
            ]
            texts = (
                published(reference[weights]) if weights in reference else NONE
                for weights in letters
            )
            spread = _range(values, "weight types")
            lines = (Line("reference", ("MNLI", *texts, spread)), _shape_line("reference", values))
            title = "GPT-3 175B, MNLI, paper, same ranks: its level can never be compared, its shape can"
            parts.append(Section(title, lines))
    return ("Weight type", *map(weight_types, letters), "Spread"), tuple(parts)


def _shape_line(kind: str, values: list[float]) -> Line:
    """Each figure minus the mean of its line; dashes where a figure is not there, for then the mean is of another line."""
    mean = sum(values) / len(values)
    return Line(
        kind, ("minus mean of the line", *(difference(value - mean) for value in values), "")
    )
