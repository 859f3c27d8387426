"""What a reader must know to read a table: what n and ± are, which epoch, which metric, which protocol, which traps.

Built from the grid and the figures shown, so that a note never speaks of something that is not on the page. What is to be
minded about a published figure is written once, in the note column of config/published.csv; here the notes are gathered
by what they say, with the rows and tasks they say it of. Those that most rows have are a note of their own, EXPLAINED.
"""

import math

from lora.experiment.cell import BASE_METHODS
from lora.experiment.hparams import PRETRAINED
from lora.tables.labels import (
    COPIED,
    METHODS,
    METRICS,
    MODELS,
    OTHER_SETS,
    SYMBOLS,
    adapted,
    origin,
    published_name,
)

FROM_PRIOR_WORK = "copied by the paper from prior work"
DAGGER = "dagger: "
PRINTED_AVERAGE = "as printed: "
MATCHED = ("read as matched", "the caption says overall")
EXPLAINED = (
    FROM_PRIOR_WORK,
    DAGGER,
    PRINTED_AVERAGE,
    *MATCHED,
)  # notes of published.csv that have a footnote of their own
FROM_MNLI = "LoRA starts from the paper's MNLI adapter"


def footnotes(grid, table, cells: list[dict], facts: list[dict]) -> tuple[str, ...]:
    """The footnotes of one table, in reading order."""
    tasks = [grid.tasks[name] for name in table.tasks]
    demo = [task.title for task in tasks if task.mirrors]
    notes = [
        f"Ours: one run per seed ({_seeds(grid.seeds)}), so n = {len(grid.seeds)} where nothing else is said; fewer "
        "finished runs are said with their count, and nothing stands in for them. ± is the sample standard deviation (n−1) "
        "over seeds; one run has none.",
        "Best epoch: each run's epoch with the highest metric, the earliest of equals. It is chosen on the set it is "
        "reported on, as in the paper, and so it flatters; the last epoch is not chosen. The table of selection says by how "
        "much.",
        _metrics(tasks),
        _protocols(grid, table),
        *_starts(grid, table, facts),
        "Trainable parameters are counted without the classification head, as the paper counts them (microsoft/LoRA #16); "
        "ours are those that trained, the paper's are as it prints them.",
        *_precision(cells),
    ]
    if any(cell["metric"] == "average" for cell in cells):
        notes.append(
            "Avg is the mean of the row's eight figures; of MNLI it takes the matched one."
        )
    notes += [*_sets(cells, facts), *_sizes(cells)]
    if demo:
        notes.append(
            f"{_listed(demo)} {'are demo tasks' if len(demo) > 1 else 'is a demo task'} of this project and not GLUE: no "
            "published figure is of the same thing, so none is compared."
        )
    return tuple(notes + _differences(grid, facts) + _marks(facts) + _published_notes(grid, facts))


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


def _protocols(grid, table) -> str:
    """Which methods ran under which protocol, and where each one's epochs and learning rates come from."""
    blocks = {}
    for block in table.blocks:
        for protocol in block.protocols:
            blocks.setdefault(protocol, {}).setdefault(block.method, []).append(block)
    parts = []
    for protocol, by_method in blocks.items():
        changes = dict(grid.config["protocols"].get(protocol, {}))
        base = changes.pop("base", protocol)
        about = f" ({base} with {_changes(changes)})" if base != protocol else ""
        methods = []
        for method, of_method in by_method.items():
            sources = dict.fromkeys(
                source for block in of_method for source in _sources(grid, table, block, base)
            )
            methods.append(
                f"{METHODS[method]} [{'; '.join(sources)}]" if sources else METHODS[method]
            )
        parts.append(f"{protocol}{about}: {', '.join(methods)}")
    over = (
        f" For every run the config sets {_changes(grid.config['overrides'])}."
        if grid.config["overrides"]
        else ""
    )
    title = f"Protocol{'s' * (len(parts) > 1)} of config/hparams.csv, with the sources of epochs and learning rates"
    return f"{title}: {'. '.join(parts)}.{over}"


def _changes(changes: dict) -> str:
    return (
        _listed([f"{name} = {value}" for name, value in changes.items()])
        if changes
        else "no change"
    )


def _sources(grid, table, block, protocol: str) -> list[str]:
    """The sources of the rows of hparams.csv that may decide a method's epochs and learning rate."""
    ranks = [str(table.rank(weights, rank)) for weights in block.weights for rank in block.ranks]
    wanted = dict(method=(block.method,), model=block.models, task=table.tasks, rank=ranks)
    return [
        row["source"]
        for row in grid.hparam_rows
        if row["protocol"] == protocol
        and row["name"] in ("epochs", "learning_rate")
        and all(row[key] in ("*", *allowed) for key, allowed in wanted.items())
    ]


def _starts(grid, table, facts: list[dict]) -> list[str]:
    """What ours start from, where that is not the pre-trained model, or is although the published figure beside is not."""
    others, plain = {}, {}
    same = [fact for fact in facts if fact["relation"] == "same" and FROM_MNLI in fact["note"]]
    from_mnli = {
        (fact["model"], fact["task"], fact["method"], fact["ours_protocol"]) for fact in same
    }
    for cell in table.cells:
        start, title = grid.hparams(cell).start, grid.tasks[cell.task].title
        who = f"{METHODS[cell.method]} under {cell.protocol}"
        if start != PRETRAINED:
            task = grid.tasks[start].title if start in grid.tasks else ""
            what = (
                f"the best {task} run of this grid of the same model, method and protocol"
                if task
                else start
            )
            others.setdefault((who, what), {})[title] = None
        elif (cell.model, cell.task, cell.method, cell.protocol) in from_mnli:
            plain.setdefault(who, {})[title] = None
    parts = [
        f"{_listed(list(titles))} of {who} from {what}" for (who, what), titles in others.items()
    ]
    parts += [
        f"{_listed(list(titles))} of {who} from the pre-trained model, unlike the paper's"
        for who, titles in plain.items()
    ]
    rest = ", all others from the pre-trained model" if others else ""
    return [f"Start: {'; '.join(parts)}{rest}."] if parts else []


def _precision(cells: list[dict]) -> list[str]:
    """In which precision the model was, and a warning where runs of a frozen one differ."""
    notes = []
    frozen = _precisions([cell for cell in cells if cell["method"] not in BASE_METHODS])
    if frozen:
        mixed = (
            " Not one precision throughout: the column base_precision of the CSV says which cell has which."
            * (len(frozen) > 1)
        )
        notes.append(
            f"Frozen model in {_listed(frozen)}; adapter, head, loss and optimiser in float32.{mixed}"
        )
    own = [cell for cell in cells if cell["method"] in BASE_METHODS]
    whole = _precisions(own)
    if whole:
        methods = _listed(
            [METHODS[method] for method in dict.fromkeys(cell["method"] for cell in own)]
        )
        notes.append(
            f"No model is frozen in {methods}: model, head, loss and optimiser in {_listed(whole)}."
        )
    return notes


def _precisions(cells: list[dict]) -> list[str]:
    return sorted({one for cell in cells for one in cell["base_precision"].split()})


def _sets(cells: list[dict], facts: list[dict]) -> list[str]:
    """Which evaluation set of MNLI a column is of, and which one the paper's figure is read as."""
    shown = {cell["metric"] for cell in cells} & set(OTHER_SETS)
    what = {
        "accuracy_mismatched": "MNLI-mm is the mismatched one",
        "accuracy_overall": "MNLI-all is both as one (overall)",
    }
    about = "; ".join(what[metric] for metric in OTHER_SETS if metric in shown)
    notes = (
        [f"MNLI is the matched set; {about}, at the epoch that the matched one chose."]
        if shown
        else []
    )
    if any(fact["task"] == "mnli" and fact["table"] == "table2" for fact in facts):
        notes.append(
            "The paper's caption says overall for MNLI, but its 87.5 of LoRA on RoBERTa-base is the matched figure (README "
            "of microsoft/LoRA: 87.5 matched, 86.9 mismatched): its MNLI figures are compared with our matched ones."
        )
    return notes


def _sizes(cells: list[dict]) -> list[str]:
    """How many evaluation examples there are, and for accuracy what one of them is worth."""
    sizes = {}
    for cell in cells:
        if not math.isnan(cell["eval_examples"]):
            worth = (
                f" (one is {100 / cell['eval_examples']:.2g})"
                if cell["metric"] == "accuracy"
                else ""
            )
            sizes[cell["task_title"]] = f"{cell['task_title']} {cell['eval_examples']:,}{worth}"
    title = "Evaluation examples, and what one of them is worth in per cent of accuracy"
    return [f"{title}: {', '.join(sizes.values())}."] if sizes else []


def _differences(grid, facts: list[dict]) -> list[str]:
    same = [fact for fact in facts if fact["relation"] == "same"]
    if not same:
        return []
    text = "Differences are ours minus published, each by the published figure's own statistic and selection"
    if any(fact["statistic"] == "single" for fact in same):
        text += "; a figure of one seed is compared with our median"
    unknown = dict.fromkeys(
        SYMBOLS[fact["method"]] for fact in same if fact["statistic"] == "unknown"
    )
    if unknown:
        text += (
            f"; of {_listed(list(unknown))} neither is known, and our best-epoch median is compared"
        )
    text += ". They are of the same model, task, method, weights and rank."
    over = " with the config's overrides" if grid.config["overrides"] else ""
    pairs = {}
    for fact in same:
        if fact["ours_protocol"] != (fact["protocol"] or origin(fact)) or over:
            pairs.setdefault(fact["ours_protocol"], {})[f"the {origin(fact)}'s"] = None
    if pairs:
        which = "; ".join(
            f"ours {ours}{over}, published {_listed(list(theirs))}"
            for ours, theirs in pairs.items()
        )
        text += f" They are not of the same protocol: {which}."
    return [text]


def _marks(facts: list[dict]) -> list[str]:
    paper = [fact for fact in facts if origin(fact) == "paper"]
    notes = []
    if any(fact["method"] in COPIED for fact in paper):
        notes.append(f"* {FROM_PRIOR_WORK}, each under a protocol of its own.")
    if any(fact["protocol"] for fact in paper):
        notes.append(
            "† set up as Houlsby et al. (2019): length 128, one batch size for all tasks, started from the pre-trained "
            "model (Sec. 5.2, D.1); compared with ours under that protocol alone."
        )
    kinds = {fact["spread_kind"] for fact in paper if fact["method"] == "lora"}
    if "unspecified" in kinds:
        notes.append(
            "The paper does not say what its ± is; its centre is the median over 5 seeds of the best epoch (D.1)."
        )
    if any(fact["note"].startswith(PRINTED_AVERAGE) for fact in facts):
        notes.append("A published Avg is as printed: the mean of the row's eight figures, rounded.")
    if any(origin(fact) == "course" for fact in facts):
        notes.append(
            "Course: github.com/tn292/cs5782_final_project at 2d2b0b7, a re-implementation."
        )
    return notes


def _published_notes(grid, facts: list[dict]) -> list[str]:
    """The notes of the published figures shown, each once, with the rows and the cells that it is about."""
    by_row, gathered = {}, {}
    for fact in facts:
        row = f"{MODELS.get(fact['model'], fact['model'])} ({published_name(fact)}"
        row += f" {fact['trainable']})" if fact["method"] not in ("lora", *BASE_METHODS) else ")"
        row += ", course" if origin(fact) == "course" else ""
        suffix = OTHER_SETS.get(fact["metric"])
        cell = (
            "Avg"
            if fact["task"] == "average"
            else grid.tasks[fact["task"]].title + (f"-{suffix}" if suffix else "")
        )
        if fact["table"] != "table2":
            cell = f"{adapted(fact['method'], fact['weights'])} r={fact['rank']}"
        by_row.setdefault(row, {})[cell] = None
        for part in filter(None, fact["note"].split("; ")):
            if not part.startswith(EXPLAINED):
                gathered.setdefault(part, {}).setdefault(row, {})[cell] = None
    notes = {}
    for part, about in gathered.items():
        whose = [
            row if list(cells) == list(by_row[row]) else f"{row}, {_listed(list(cells))}"
            for row, cells in about.items()
        ]
        notes.setdefault("; ".join(whose), []).append(part)
    return [f"{whose}: {'; '.join(parts)}." for whose, parts in notes.items()]
