"""Names and number formats of the tables, and the page records that `render` writes.

Text is plain but for two marks that `render` turns into sub- and superscripts: `W_q` and `Adpt^D`.
Numbers are written as in the paper, one decimal and `±.2`; the CSVs hold all digits.
"""

import math
from dataclasses import dataclass

from lora.files import Row
from lora.tables import constant

MODELS = {
    "roberta-base": "RoBERTa-base",
    "roberta-large": "RoBERTa-large",
    "deberta-xxl": "DeBERTa-XXL",
    "gpt3-175b": "GPT-3 175B",
    "minilm": "MiniLM",
}
METHODS = {  # in the order of the paper's Table 2
    "ft": "full fine-tuning",
    "bitfit": "BitFit",
    "adapter_drop": "AdapterDrop (Adpt^D)",
    "adapter_pfeiffer": "Pfeiffer adapter (Adpt^P)",
    "adapter_houlsby": "Houlsby adapter (Adpt^H)",
    "lora": "LoRA",
}
SYMBOLS = {  # as printed in the paper's Table 2
    "ft": "FT",
    "bitfit": "BitFit",
    "adapter_drop": "Adpt^D",
    "adapter_pfeiffer": "Adpt^P",
    "adapter_houlsby": "Adpt^H",
    "lora": "LoRA",
}
COPIED = ("ft", "bitfit", "adapter_drop")  # rows that the paper copied from prior work, marked *
METRICS = {
    "matthews": "Matthews correlation × 100",
    "pearson": "Pearson correlation × 100",
    "spearman": "Spearman correlation × 100",
    "f1": "F1",
}
GLUE = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")  # columns of Table 2
OTHER_SETS = {  # metric of another evaluation set of MNLI -> end of its column's name
    "accuracy_mismatched": "mm",
    "accuracy_overall": "all",
}
# Of our runs: label, column of the center, columns of the spread (std, or min and max).
STATISTICS = (
    ("best epoch, median [range]", "best_median", ("best_min", "best_max")),
    ("last epoch, mean ± std", "last_mean", ("last_std",)),
)
NONE = "–"
MARGIN = "± 95 % margin"  # of a difference to a published value


Subject = tuple[str, ...]  # what a note is about, such as ("column", "mnli")
Subjects = tuple[Subject, ...]


@dataclass(frozen=True)
class Note:
    """A note below a table.

    Attributes:
        text: The note, one or more sentences.
        about: Its subjects. `anchors` puts a letter at each cell and heading that has one of them.
            A note without subjects, or with subjects that the page does not have, is about the
            whole table.
    """

    text: str
    about: Subjects = ()


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        kind: `published`, `ours`, `difference`, `reference`, or `axis` (what a column is).
        cells: The texts, at most one per column.
        about: The subjects of each cell, as far as notes may be about it; it may be shorter.
    """

    kind: str
    cells: tuple[str, ...]
    about: tuple[Subjects, ...] = ()


@dataclass(frozen=True)
class Section:
    """Lines under a title, and the subjects of the title."""

    title: str
    lines: tuple[Line, ...]
    about: Subjects = ()


@dataclass(frozen=True)
class Page:
    """A table, ready to be rendered.

    Attributes:
        name: Name of the table, as in the config.
        title: Heading.
        caption: What the table shows.
        partial: Why the table is incomplete; empty if it is complete.
        columns: Headings of the columns.
        sections: The lines of the table.
        notes: Notes below the table.
        columns_about: The subjects of each heading; it may be shorter than `columns`.
    """

    name: str
    title: str
    caption: str
    partial: str
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[Note, ...] = ()
    columns_about: tuple[Subjects, ...] = ()

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The texts of the notes."""
        return tuple(note.text for note in self.notes)


@dataclass(frozen=True)
class Listing:
    """A plain table of rows."""

    title: str
    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float, digits: int = 1) -> str:
    """Return `95.1` or `−3.4`; a dash for NaN."""
    return NONE if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def spread(value: float, digits: int = 1) -> str:
    """Return `±.2` or `±1.2`, as in the paper; nothing for NaN."""
    if math.isnan(value):
        return ""
    return "±" + f"{value:.{digits}f}".removeprefix("0" if value < 1 else "")


def difference(value: float, digits: int = 1, margin: float = math.nan) -> str:
    """Return `+0.3`, `−1.2±.4` or `0.0`; a dash for NaN."""
    if math.isnan(value):
        return NONE
    text = f"{abs(value):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "−"
    return sign + text + spread(margin, digits)


def interval(low: float, high: float, digits: int = 1) -> str:
    """Return `[−0.3, +12.1]`, the interval of a difference; a dash for NaN."""
    if math.isnan(low):
        return NONE
    return f"[{difference(low, digits)}, {difference(high, digits)}]"


def parameters(count: float) -> str:
    """Return `0.3M` for 294,912, as in the paper; thousands below 50,000."""
    if math.isnan(count):
        return NONE
    return f"{count / 1e6:.1f}M" if count >= 5e4 else f"{count / 1e3:.1f}K"


def listed(words: list[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def listed_once(names: list[str]) -> str:
    """Return the names as `listed` does, each once."""
    return listed(list(dict.fromkeys(names)))


def model_name(model: str) -> str:
    """Return the usual spelling of a model's name."""
    return MODELS.get(model, model)


def weight_types(letters: str) -> str:
    """Return `W_q,W_v` for qv."""
    return ",".join(f"W_{letter}" for letter in letters)


def adapted(method: str, weights: str) -> str:
    """Return what a method adapts: `W_q,W_v` for LoRA, words for other methods."""
    if method == "adapter_drop":
        first = int(weights.removeprefix("ffn"))
        return f"FFN, layers from {first + 1}" if first else "FFN, all layers"
    words = {
        "ft": "all",
        "bitfit": "biases",
        "adapter_houlsby": "attention and FFN",
        "adapter_pfeiffer": "FFN",
    }
    return words.get(method) or weight_types(weights)


def method_name(cell: Row) -> str:
    """Return the method of a cell with its size.

    For example `LoRA r=8 on W_q,W_v` or `Houlsby adapter (Adpt^H), bottleneck 64`.
    """
    method, rank = cell["method"], cell["rank"]
    if method == "lora":
        return f"LoRA r={rank} on {weight_types(cell['weights'])}"
    dropped = int(cell["weights"].removeprefix("ffn")) if method == "adapter_drop" else 0
    size = f", bottleneck {rank}" if rank else ""
    return METHODS[method] + size + (f", none in the lowest {dropped} layers" if dropped else "")


def short_name(cell: Row) -> str:
    """Return the method of a cell with its size, in few words: `AdapterDrop 48, from layer 9`."""
    if cell["method"] == "lora":
        return method_name(cell)
    name = METHODS[cell["method"]].partition(" (")[0] + (f" {cell['rank']}" if cell["rank"] else "")
    dropped = int(cell["weights"].removeprefix("ffn")) if cell["method"] == "adapter_drop" else 0
    return name + (f", from layer {dropped + 1}" if dropped else "")


def published_name(value: Row) -> str:
    """Return the method of a published value as printed, with the paper's marks * and †."""
    mark = "†" if value["protocol"] else ""
    if origin(value) == "paper" and value["method"] in COPIED:
        mark = "*"
    return SYMBOLS[value["method"]] + mark


def runs_text(row: Row) -> str:
    """Return `3`, or `2 of 3` and the number of failed runs if not every run finished."""
    if row["n"] == row["n_expected"]:
        return str(row["n"])
    failed = f", {row['n_failed']} failed" if row["n_failed"] else ""
    return f"{row['n']} of {row['n_expected']}{failed}"


def ours(cell: Row, center: str, around: tuple[str, ...]) -> str:
    """Return a value of ours: `95.1±.2` or `95.1 [94.8, 95.3]`, with n if not every run finished.

    It is `constant` if every finished run has constant predictions, and counts such runs otherwise.

    Args:
        cell: A row with the columns TABLE_COLUMNS.
        center: Column of the statistic.
        around: Column of the standard deviation, or those of the lowest and the highest value.
    """
    if not cell["n"]:
        return f"{NONE} ({runs_text(cell)})"
    text, found = center_text(cell, center), remarks(cell, center)
    if text != constant.WORD and len(around) == 1:
        text += spread(cell[around[0]])
    elif text != constant.WORD and cell["n"] > 1:
        text += f" [{number(cell[around[0]])}, {number(cell[around[1]])}]"
    return f"{text} ({'; '.join(found)})" if found else text


def center_text(cell: Row, center: str) -> str:
    """Return a value of ours without its spread; `constant` if all predictions are."""
    return constant.WORD if constant.is_constant(cell, center) else number(cell[center])


def remarks(cell: Row, center: str) -> list[str]:
    """Return how many runs a value of ours has if not all finished, and how many are constant."""
    found, runs = [], constant.count(cell, center)
    if cell["n"] != cell["n_expected"]:
        found.append(f"n={runs_text(cell)}")
    if runs and not constant.is_constant(cell, center):
        of = "" if cell["metric"] == "average" else f" of {cell['n']}"
        found.append(f"{runs}{of} {constant.WORD}")
    return found


def published(value: Row, metric: str = "") -> str:
    """Return a published value as printed, with its spread, and its metric if one is given."""
    mark = f" ({METRICS.get(metric, metric).removesuffix(' × 100')})" if metric else ""
    return str(value["value"]) + spread(value["spread"]) + mark


def origin(value: Row) -> str:
    """Return where a published value is from: `paper` or `course`."""
    return "course" if "cs5782_final_project" in value["source"] else "paper"
