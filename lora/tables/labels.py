"""What a page is made of: the records that every format is rendered from, and how figures are written in text.

Text is plain, with two marks of its own that `render` turns into sub- and superscripts: `W_q` and `Adpt^D`. Numbers are
written as the paper writes them, one decimal and `±.2`, so that the two can be read side by side; the CSVs have the
digits that this drops. Where things stand on a page is `layout`.
"""

import math
from dataclasses import dataclass

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
SYMBOLS = {  # as the paper's Table 2 prints them
    "ft": "FT",
    "bitfit": "BitFit",
    "adapter_drop": "Adpt^D",
    "adapter_pfeiffer": "Adpt^P",
    "adapter_houlsby": "Adpt^H",
    "lora": "LoRA",
}
COPIED = ("ft", "bitfit", "adapter_drop")  # rows that the paper copied from prior work: its mark *
METRICS = {"matthews": "Matthews correlation × 100", "pearson": "Pearson correlation × 100"}
METRICS |= {"spearman": "Spearman correlation × 100", "f1": "F1"}
GLUE = (
    "mnli",
    "sst2",
    "mrpc",
    "cola",
    "qnli",
    "qqp",
    "rte",
    "stsb",
)  # the columns of the paper's Table 2, in order
OTHER_SETS = {
    "accuracy_mismatched": "mm",
    "accuracy_overall": "all",
}  # of MNLI: metric -> what its column's name ends in
STATISTICS = (  # how ours are shown: words, centre, spread
    ("best epoch, median ± std", "best_median", "best_std"),
    ("last epoch, mean ± std", "last_mean", "last_std"),
)
NONE = "–"


@dataclass(frozen=True)
class Line:
    """One line of a table; kind is published, ours, difference, reference, or axis for what a column stands for."""

    kind: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Page:
    """A table ready to be rendered. `details` is the second table, of the columns `details_columns`, of which the first
    `details_texts` are words; one without rows is left out."""

    name: str
    title: str
    caption: str
    partial: str  # why the table is not whole, or empty
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    footnotes: tuple[str, ...]
    details_texts: int
    details_columns: tuple[str, ...]
    details: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Listing:
    """A plain table of rows with a text below."""

    title: str
    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    text_title: str
    text: str


def number(value: float, places: int = 1) -> str:
    """`95.1`; a dash for NaN."""
    return NONE if math.isnan(value) else f"{value:.{places}f}"


def spread(value: float, places: int = 1) -> str:
    """`±.2` or `±1.2`, as the paper writes it; nothing for NaN."""
    return (
        ""
        if math.isnan(value)
        else "±" + f"{value:.{places}f}".removeprefix("0" if value < 1 else "")
    )


def difference(value: float, places: int = 1) -> str:
    """`+0.3`, `−1.2` or `0.0`; a dash for NaN."""
    if math.isnan(value):
        return NONE
    text = f"{abs(value):.{places}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def parameters(count: float) -> str:
    """`0.3M` for 294,912, as the paper prints counts; thousands below 50,000."""
    if math.isnan(count):
        return NONE
    return f"{count / 1e6:.1f}M" if count >= 5e4 else f"{count / 1e3:.1f}K"


def weight_types(letters: str) -> str:
    """`W_q,W_v` for qv."""
    return ",".join(f"W_{letter}" for letter in letters)


def adapted(method: str, weights: str) -> str:
    """What a method adapts: `W_q,W_v`, or the word for it."""
    if method == "adapter_drop":
        return (
            "FFN, all layers"
            if weights == "ffn0"
            else f"FFN, layers from {int(weights.removeprefix('ffn')) + 1}"
        )
    words = {
        "ft": "all",
        "bitfit": "biases",
        "adapter_houlsby": "attention and FFN",
        "adapter_pfeiffer": "FFN",
    }
    return words.get(method) or weight_types(weights)


def method_name(cell: dict) -> str:
    """A row of ours in words: `LoRA r=8 on W_q,W_v`, `Houlsby adapter (Adpt^H), bottleneck 64`."""
    method, rank = cell["method"], cell["rank"]
    if method == "lora":
        return f"LoRA r={rank} on {weight_types(cell['weights'])}"
    dropped = int(cell["weights"].removeprefix("ffn")) if method == "adapter_drop" else 0
    size = f", bottleneck {rank}" if rank else ""
    return METHODS[method] + size + (f", none in the lowest {dropped} layers" if dropped else "")


def published_name(fact: dict) -> str:
    """A published row as the paper prints it: `FT*` is copied from prior work, `LoRA†` set up as Houlsby et al. (2019)."""
    paper = origin(fact) == "paper"
    return SYMBOLS[fact["method"]] + (
        "*" if paper and fact["method"] in COPIED else "†" if fact["protocol"] else ""
    )


def ours(cell: dict, centre: str, around: str) -> str:
    """A cell of ours: `95.1±.2`, with the counts where not all runs finished."""
    text = number(cell[centre]) + spread(cell[around])
    if cell["n"] == cell["n_expected"]:
        return text
    failed = f", {cell['n_failed']} failed" if cell["n_failed"] else ""
    counts = f"{cell['n']} of {cell['n_expected']}{failed}"
    return f"{text} (n={counts})" if cell["n"] else f"{NONE} ({counts})"


def published(fact: dict) -> str:
    """A published figure as it was printed, with its spread."""
    return fact["value"] + spread(fact["spread"])


def origin(fact: dict) -> str:
    """paper or course."""
    return "course" if "cs5782_final_project" in fact["source"] else "paper"
