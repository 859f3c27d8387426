"""Format measurements as Markdown tables.

A row is one measurement: the request and the answer of ways.py, in the columns below. Values are
medians over the repeats that succeeded. A ratio of two ways is the median of the ratios within each
repeat, because both then ran under the same conditions.
"""

from collections.abc import Callable
from statistics import median

import numpy as np
from shapes import EXAMPLES_PER_STEP, LENGTHS, draw_lengths

# Units: seconds (start-up, first step, all steps after the first), GiB, GFLOP/s of large products.
# examples and tokens count the timed steps of all runs; flops_per_token is from training_flops.
COLUMNS = (
    "table model lengths way pack rank steps repeat threads status precision startup_s "
    "first_step_s train_s examples tokens flops_per_token peak_rss_gib "
    "peak_cuda_gib gemm_fp32 gemm_bf16"
).split()
WAYS = {
    "course": "course: Trainer, fp32, padded to 128, own LoRA layer",
    "peft": "peft: Trainer, padded to the longest of the batch",
    "peft_grouped": "peft_grouped: the same, batches of like length",
    "ours": "ours: lora, one run",
    "ours_pack5": "ours_pack5: lora, a pack of five seeds",
}


def examples_per_s(row: dict) -> float:
    return row["examples"] / row["train_s"]


def tokens_per_s(row: dict) -> float:
    return row["tokens"] / row["train_s"]


def step_ms(row: dict) -> float:
    return 1000 * row["train_s"] / (row["steps"] - 1)


def share(row: dict) -> float:
    """Useful operations per second, divided by the rate of a large matrix product.

    The product has the same precision and is of the same repeat. NaN if it was not measured.
    """
    product = row.get(f"gemm_{row['precision']}")
    return tokens_per_s(row) * row["flops_per_token"] / 1e9 / product if product else float("nan")


def ratio(above: list[dict], below: list[dict], value: Callable[[dict], float]) -> float | None:
    """Median over the repeats that both have of value(above) / value(below)."""
    divisors = {row["repeat"]: value(row) for row in below}
    ratios = [value(row) / divisors[row["repeat"]] for row in above if row["repeat"] in divisors]
    return median(ratios) if ratios else None


def rounded(value: float | None, unit: str = "") -> str:
    """Format a value with three digits, or as a dash if it is None or NaN."""
    if value is None or value != value:
        return "-"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:.{digits}f}{unit}"


def spread(rows: list[dict], value: Callable[[dict], float]) -> str:
    """Format the median of a value, with its range if there is more than one row."""
    values = [value(row) for row in rows]
    text = rounded(median(values))
    return text if len(values) == 1 else f"{text} ({rounded(min(values))}-{rounded(max(values))})"


def memory(rows: list[dict]) -> str:
    """Format the median peak memory in GiB, of tensors on the GPU and of the process."""
    process = rounded(median(row["peak_rss_gib"] for row in rows))
    on_gpu = median(row["peak_cuda_gib"] for row in rows)
    return f"{rounded(on_gpu)} GPU, {process} process" if on_gpu else process


def line(cells: list[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def table(titles: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table with the first column on the left."""
    rule = line([":--"] + ["--:"] * (len(titles) - 1))
    return "\n".join([line(titles), rule, *map(line, lines)]) + "\n"


def measured(
    name: str, rows: list[dict], width: int, cells: Callable[[list[dict]], list[str]]
) -> list[str]:
    """Return the cells of a table line, with the error of measurements that failed.

    Args:
        name: First cell.
        rows: Measurements of this line.
        width: Number of cells.
        cells: Function that formats the measurements that succeeded, without the first cell.
    """
    succeeded = [row for row in rows if row["status"] == "ok"]
    errors = [row["status"] for row in rows if row["status"] != "ok"]
    if not succeeded:
        return [name, errors[0], *["-"] * (width - 2)]
    if errors:
        name = f"{name} ({len(errors)} of {len(rows)} {errors[0]})"
    return [name, *cells(succeeded)]


def ways_table(rows: list[dict]) -> str:
    """Compare the ways for one model and kind of lengths."""
    rows_of = {way: [row for row in rows if row["way"] == way] for way in WAYS}
    succeeded = {way: [row for row in rows_of[way] if row["status"] == "ok"] for way in WAYS}
    titles = [
        "Way",
        "Examples/s (range)",
        "Real tokens/s",
        "ours is",
        "ours_pack5 is",
        "Precision",
        "Share of product rate",
        "Start-up, s",
        "Peak memory, GiB",
    ]

    def cells(found: list[dict]) -> list[str]:
        ours, pack = (
            ratio(succeeded[way], found, examples_per_s) for way in ("ours", "ours_pack5")
        )
        return [
            spread(found, examples_per_s),
            rounded(median(map(tokens_per_s, found))),
            rounded(ours, "x"),
            rounded(pack, "x"),
            found[0]["precision"],
            rounded(100 * median(map(share, found)), " %"),
            rounded(median(row["startup_s"] for row in found)),
            memory(found),
        ]

    lines = [measured(WAYS[way], rows_of[way], len(titles), cells) for way in WAYS if rows_of[way]]
    return table(titles, lines)


def scaling_table(rows: list[dict]) -> str:
    """Cost of a step of `lora` by pack size and rank, relative to one run of rank 8."""
    kinds = list(dict.fromkeys((row["pack"], row["rank"]) for row in rows))
    alone = [row for row in rows if (row["pack"], row["rank"], row["status"]) == (1, 8, "ok")]
    titles = [
        "Runs in the pack, rank",
        "Step, ms (range)",
        "A step of one run, rank 8, is 1",
        "Examples/s",
        "Against one run after another",
        "Share of product rate",
        "Start-up, s",
        "Peak memory, GiB",
    ]

    def cells(found: list[dict]) -> list[str]:
        return [
            spread(found, step_ms),
            rounded(ratio(found, alone, step_ms)),
            rounded(median(map(examples_per_s, found))),
            rounded(ratio(found, alone, examples_per_s), "x") if found[0]["rank"] == 8 else "-",
            rounded(100 * median(map(share, found)), " %"),
            rounded(median(row["startup_s"] for row in found)),
            memory(found),
        ]

    lines = []
    for pack, rank in kinds:
        chosen = [row for row in rows if (row["pack"], row["rank"]) == (pack, rank)]
        lines.append(measured(f"{pack}, r={rank}", chosen, len(titles), cells))
    return table(titles, lines)


def lengths_table(count: int) -> str:
    """Compare the lengths in GLUE with `count` drawn lengths, in brackets."""
    lines = []
    for name, facts in LENGTHS.items():
        drawn = draw_lengths(facts, count)
        pairs = [
            (facts.mean, drawn.mean()),
            (facts.median, np.median(drawn)),
            (facts.p95, np.quantile(drawn, 0.95)),
            (facts.maximum, drawn.max()),
            (facts.squares, (drawn**2).sum() / drawn.sum()),
        ]
        lines.append(
            [
                name,
                *(f"{'-' if fact is None else fact} ({value:.1f})" for fact, value in pairs),
                facts.source,
            ]
        )
    return table(["Lengths", "mean", "median", "95 %", "maximum", "E[L^2]/E[L]", "Source"], lines)


def markdown(rows: list[dict], header: list[str]) -> str:
    """Return the page with all tables; `header` are lines about the device and the versions."""
    parts = [
        "# Ways of training LoRA, timed side by side\n",
        "".join(f"- {entry}\n" for entry in header),
    ]
    parts.append("How to read it: [README.md](../README.md).\n\n## Sentence lengths\n")
    parts.append(
        "Tokens of a sentence or pair in GLUE's training set; in brackets, of the drawn lengths.\n"
    )
    parts.append(lengths_table(max(row["steps"] for row in rows) * EXAMPLES_PER_STEP))
    for kind, title, make in (
        ("ways", "Ways", ways_table),
        ("scaling", "What a step of ours costs, by pack and rank", scaling_table),
    ):
        chosen = [row for row in rows if row["table"] == kind]
        if chosen:
            parts.append(f"## {title}\n")
        for model, lengths in dict.fromkeys((row["model"], row["lengths"]) for row in chosen):
            parts.append(f"### {model}, {lengths} lengths\n")
            parts.append(
                make([row for row in chosen if (row["model"], row["lengths"]) == (model, lengths)])
            )
    return "\n".join(parts)
