"""What a reader must know to read a table: what n and ± are, which epoch, which metric, which protocol, which traps.

Built from the grid and the figures shown, so that a note never speaks of something that is not on the page. What is to be
minded about a published figure is written once, in the note column of config/published.csv; here the notes are gathered
by what they say, with the rows and tasks they say it of.
"""

import math

from lora.page import METHODS, METRICS, MODELS, origin, weight_types

COPIED = "copied by the paper from prior work"  # a note of config/published.csv that the mark * stands for


def footnotes(grid, table, cells: list[dict], facts: list[dict]) -> tuple[str, ...]:
    """The footnotes of one table, in reading order."""
    tasks = [grid.tasks[name] for name in table.tasks]
    demo = [task.title for task in tasks if task.mirrors]
    notes = [
        f"Ours: one run per seed ({_seeds(grid.seeds)}), so n = {len(grid.seeds)} where nothing else is said; fewer "
        "finished runs are said with their count, and nothing stands in for them. ± is the sample standard deviation (n−1) "
        "over seeds; one run has none.",
        "Best epoch: each run's epoch with the highest metric, the earliest of equals. It is chosen on the set it is "
        "reported on, as in the paper, and so it flatters; the last epoch is not chosen.",
        _metrics(tasks),
        f"Protocol: {_listed(list(table.protocols))} (config/hparams.csv). Trainable parameters are counted without the "
        "classification head, as the paper counts them.",
        *_precision(cells),
    ]
    if any(cell["metric"] == "average" for cell in cells):
        notes.append("Avg is the mean of the row's eight figures, MNLI-mm left out.")
    if any(cell["metric"] == "accuracy_mismatched" for cell in cells):
        notes.append("MNLI is the matched set; MNLI-mm is the mismatched one, at the epoch that the matched one chose.")
    notes += _sizes(cells)
    if demo:
        notes.append(
            f"{_listed(demo)} {'are demo tasks' if len(demo) > 1 else 'is a demo task'} of this project and not GLUE: no "
            "published figure is of the same thing, so none is compared."
        )
    return tuple(notes + _differences(facts) + _marks(facts) + _published_notes(grid, facts))


def _seeds(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {_listed([str(seed) for seed in seeds])}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _metrics(tasks: list) -> str:
    by_metric = {}
    for task in tasks:
        by_metric.setdefault(METRICS.get(task.metric, task.metric), []).append(task.title)
    parts = "; ".join(f"{metric} for {_listed(titles)}" for metric, titles in by_metric.items())
    return f"Metric, in per cent: {parts}."


def _precision(cells: list[dict]) -> list[str]:
    """In which precision the frozen model was, and a warning where runs differ."""
    found = sorted({one for cell in cells for one in cell["base_precision"].split()})
    if not found:
        return []
    mixed = " Not one precision throughout: the column base_precision of the CSV says which cell has which." * (
        len(found) > 1
    )
    return [f"Frozen model in {_listed(found)}; adapter, head, loss and optimiser in float32.{mixed}"]


def _sizes(cells: list[dict]) -> list[str]:
    """How many evaluation examples there are, and for accuracy what one of them is worth."""
    sizes = {}
    for cell in cells:
        if not math.isnan(cell["eval_examples"]):
            worth = f" (one is {100 / cell['eval_examples']:.2g})" if cell["metric"] == "accuracy" else ""
            sizes[cell["task_title"]] = f"{cell['task_title']} {cell['eval_examples']:,}{worth}"
    title = "Evaluation examples, and what one of them is worth in per cent of accuracy"
    return [f"{title}: {', '.join(sizes.values())}."] if sizes else []


def _differences(facts: list[dict]) -> list[str]:
    same = [fact for fact in facts if fact["relation"] == "same"]
    if not same:
        return []
    text = "Differences are ours minus published, each by the published figure's own statistic and selection"
    if any(fact["statistic"] == "single" for fact in same):
        text += "; a figure of one seed is compared with our median"
    return [f"{text}. They are of the same model, task, weight types and rank, not of the same protocol."]


def _marks(facts: list[dict]) -> list[str]:
    methods = {fact["method"] for fact in facts}
    notes = []
    if methods & {"ft", "bitfit", "adapter_drop"}:
        notes.append(f"* {COPIED}.")
    if methods & {"lora_dagger", "adapter_pfeiffer", "adapter_houlsby"}:
        notes.append("† set up as Houlsby et al. (2019).")
    kinds = {fact["spread_kind"] for fact in facts if fact["method"] == "lora" and origin(fact) == "paper"}
    if "unspecified" in kinds:
        notes.append("The paper does not say what its ± is; its centre is the median over 5 seeds of the best epoch (D.1).")
    if any(origin(fact) == "course" for fact in facts):
        notes.append("Course: github.com/tn292/cs5782_final_project at 2d2b0b7, a re-implementation.")
    return notes


def _published_notes(grid, facts: list[dict]) -> list[str]:
    """The notes of the published figures shown, each once, with the rows and the cells that it is about."""
    by_row, gathered = {}, {}
    for fact in facts:
        method = METHODS.get(fact["method"], fact["method"]).rstrip("*")
        row = f"{MODELS.get(fact['model'], fact['model'])} ({method})" + (", course" if origin(fact) == "course" else "")
        known = grid.tasks.get(fact["task"])
        cell = known.title if known else "Avg"
        if fact["table"] == "table6":
            cell = f"{weight_types(fact['weights'])} r={fact['rank']}"
        by_row.setdefault(row, []).append(cell)
        for part in filter(None, fact["note"].split("; ")):
            if part != COPIED:
                gathered.setdefault(part, {}).setdefault(row, []).append(cell)
    notes = {}
    for part, about in gathered.items():
        whose = []
        for row, about_cells in about.items():
            which = "" if about_cells == by_row[row] else f", {_listed(list(dict.fromkeys(about_cells)))}"
            whose.append(f"{row}{which}")
        notes.setdefault("; ".join(whose), []).append(part)
    return [f"{whose}: {'; '.join(parts)}." for whose, parts in notes.items()]
