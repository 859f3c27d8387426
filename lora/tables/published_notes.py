"""Notes on published values and on our differences to them.

Notes on values come from the note column of config/published.csv, gathered by text with the rows
and tasks that they apply to. Notes that most rows have get one note, see EXPLAINED.
"""

from lora.experiment.cell import BASE_METHODS
from lora.experiment.grid import Grid
from lora.files import Row
from lora.tables import margins
from lora.tables.labels import (
    COPIED,
    SYMBOLS,
    Note,
    Subject,
    Subjects,
    listed,
    listed_once,
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


def differences(grid: Grid, values: list[Row]) -> list[Note]:
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
            f"; those of {listed_once(unknown)} are unknown, and our median over best epochs is "
            "compared"
        )
    over = " with the overrides of the config" if grid.config.overrides else ""
    pairs: dict[str, list[str]] = {}
    for value in same:
        if value["ours_protocol"] != (value["protocol"] or origin(value)) or over:
            pairs.setdefault(value["ours_protocol"], []).append(f"the {origin(value)}'s")
    if not pairs:
        return [Note(f"{text}.")]
    which = "; ".join(
        f"ours {ours}{over}, published {listed_once(theirs)}" for ours, theirs in pairs.items()
    )
    return [Note(f"{text}. The protocols differ: {which}.")]


def marks(values: list[Row]) -> list[Note]:
    """Return notes on the marks * and †, the paper's ±, and the course."""
    paper = [value for value in values if origin(value) == "paper"]
    found = []
    if any(value["method"] in COPIED for value in paper):
        found.append(Note(f"* {FROM_PRIOR_WORK}, each with its own protocol."))
    if any(value["protocol"] for value in paper):
        found.append(
            Note(
                "† set up as Houlsby et al. (2019): length 128, one batch size for all tasks, "
                "start from the pre-trained model (Sec. 5.2, D.1). Compared only with our runs "
                "under that protocol."
            )
        )
    kinds = {value["spread_kind"] for value in paper if value["method"] == "lora"}
    if "unspecified" in kinds:
        text = (
            "The paper does not say what its ± is. Its value is the median over 5 seeds of the "
            "best epoch (D.1)."
        )
        found.append(Note(text, (("published", "paper", "lora"),)))
    if any(value["note"].startswith(PRINTED_AVERAGE) for value in values):
        text = "A published Avg is as printed: the mean of the row's eight values, rounded."
        found.append(Note(text, (("column", "average"),)))
    if any(origin(value) == "course" for value in values):
        text = "Course: github.com/tn292/cs5782_final_project at 2d2b0b7, a re-implementation."
        found.append(Note(text, (("origin", "course"),)))
    return found


def notes(grid: Grid, values: list[Row]) -> list[Note]:
    """Return the notes of the published values, each once, with the rows and cells it is about."""
    by_row: dict[str, dict[str, None]] = {}
    gathered: dict[str, dict[str, dict[str, None]]] = {}
    for value in values:
        row, cell = _row_of(value), margins.column_name(grid, value)
        by_row.setdefault(row, {})[cell] = None
        for part in filter(None, value["note"].split("; ")):
            if not part.startswith(EXPLAINED):
                gathered.setdefault(part, {}).setdefault(row, {})[cell] = None
    found: dict[str, list[str]] = {}
    about: dict[str, Subjects] = {}
    for part, by_cells in gathered.items():
        subjects: list[Subject] = []
        texts = []
        for row, cells in by_cells.items():
            is_whole = list(cells) == list(by_row[row])
            texts.append(row if is_whole else f"{row}, {listed(list(cells))}")
            subjects += [("row", row)] if is_whole else [("value", row, cell) for cell in cells]
        found.setdefault("; ".join(texts), []).append(part)
        about["; ".join(texts)] = tuple(subjects)
    return [Note(f"{name}: {'; '.join(parts)}.", about[name]) for name, parts in found.items()]


def of_row(value: Row) -> Subjects:
    """Return the subjects of notes on all values of a published row."""
    source = origin(value)
    return (("row", _row_of(value)), ("origin", source), ("published", source, value["method"]))


def of_value(grid: Grid, value: Row) -> Subjects:
    """Return the subjects of notes on one published value."""
    return (("value", _row_of(value), margins.column_name(grid, value)),)


def _row_of(value: Row) -> str:
    """Return a name for the published row that a value is in."""
    size = f" {value['trainable']}" if value["method"] not in ("lora", *BASE_METHODS) else ""
    course = ", course" if origin(value) == "course" else ""
    return f"{model_name(value['model'])} ({published_name(value)}{size}){course}"
