"""Compare two runs, or two cells with the same seeds: settings that differ, and their metrics."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from lora import files, paths, run_record
from lora.columns import METRICS_COLUMNS
from lora.experiment.verify import flat_settings
from lora.run_record import RunRecord
from lora.tables.differences import paired
from lora.tables.labels import Line, Note, Page, Section, difference, interval, number

ADVICE = "give the folder of a run, or of a cell with its seed<n> folders"
EPOCHS = ("best", "last")
# Keys of run.json, beside the settings, that decide a run's numbers.
INPUTS = ("data.source", "data.tokens_sha256", "base.source", "base.base_sha256", "start.sha256")
OTHERS = ("precision", "device", "results_version", "versions.torch", "versions.transformers")


@dataclass(frozen=True)
class Run:
    """A run.json and the task's metric after each epoch, as fractions."""

    record: RunRecord
    values: tuple[float, ...]

    def value(self, epoch: str) -> float:
        """Return the metric in the best or the last epoch, in per cent; NaN if undefined."""
        if not self.values:
            return math.nan
        best = run_record.best_epoch(self.values)
        index = (best or len(self.values)) if epoch == "best" else len(self.values)
        return 100 * self.values[index - 1]


def read(folder: Path) -> dict[int, Run]:
    """Return the runs in a folder by seed: one run, or those in its seed<n> folders.

    Raises:
        ValueError: If there is no run, or a run.json cannot be read.
    """
    folders = [folder] if (folder / paths.RUN_JSON).is_file() else sorted(folder.glob("seed*"))
    found: dict[int, Run] = {}
    for one in folders:
        if (one / paths.RUN_JSON).is_file() and (one / paths.METRICS).is_file():
            needed = ("settings.seed", "best.metric")
            record = run_record.read(one / paths.RUN_JSON, ADVICE, needed)
            rows = files.read_csv(one / paths.METRICS, METRICS_COLUMNS)
            values = tuple(float(row[record.best.metric]) for row in rows)
            found[record.settings.seed] = Run(record, values)
    if not found:
        raise ValueError(f"no finished run in {folder}; {ADVICE}")
    return found


def page(first: Path, second: Path) -> Page:
    """Return the comparison as a table.

    Two folders of one run each are compared whatever their seeds are. Cells are compared by seed.

    Raises:
        ValueError: If a folder has no finished run, or the folders share no seed.
    """
    one, other = read(first), read(second)
    if len(one) == len(other) == 1:
        pairs = [(next(iter(one.values())), next(iter(other.values())))]
    else:
        pairs = [(one[seed], other[seed]) for seed in sorted(set(one) & set(other))]
    if not pairs:
        raise ValueError(
            f"{first} has the seeds {_seeds(one)}, {second} has {_seeds(other)}; allowed: folders "
            "that share a seed"
        )
    metrics = [{a.record.best.metric, b.record.best.metric} for a, b in pairs]
    same_metric = all(len(names) == 1 for names in metrics)
    values = [_values(pairs, epoch) for epoch in EPOCHS] if same_metric else []
    notes = [
        f"A is {first}, B is {second}.",
        f"n: {len(pairs)} pair{'s' * (len(pairs) > 1)} of runs. The interval is that of the paired "
        "t test (scipy.stats.ttest_rel).",
    ]
    if not same_metric:
        notes.append("The runs have different metrics, so their values are not compared.")
    name = next(iter(metrics[0]))
    sections = [Section(f"{name} in per cent", tuple(values))] if values else []
    settings = _settings(*pairs[0])
    sections.append(Section("What differs", settings or (Line("ours", ("nothing",)),)))
    return Page(
        name="compare",
        title="A compared with B",
        caption="",
        partial="",
        columns=("", "A", "B", "A − B", "95 % interval"),
        sections=tuple(sections),
        notes=tuple(map(Note, notes)),
    )


def _seeds(runs: dict[int, Run]) -> str:
    return ", ".join(map(str, sorted(runs)))


def _values(pairs: list[tuple[Run, Run]], epoch: str) -> Line:
    """Return the means of A and B, their difference and its interval."""
    ones, others = ([pair[side].value(epoch) for pair in pairs] for side in (0, 1))
    found = paired([one - other for one, other in zip(ones, others, strict=True)])
    means = [number(sum(values) / len(values), 2) for values in (ones, others)]
    around = interval(found["low"], found["high"], 2)
    label = f"{epoch} epoch, mean" if len(pairs) > 1 else f"{epoch} epoch"
    return Line("ours", (label, *means, difference(found["difference"], 2), around))


def _settings(one: Run, other: Run) -> tuple[Line, ...]:
    """Return a line for each setting, input and version that differs, seeds left out."""
    flat = [_flat(run.record) for run in (one, other)]
    keys = [key for key in dict.fromkeys([*flat[0], *flat[1]]) if key != "seed"]
    return tuple(
        Line("ours", (key, *(_text(values.get(key)) for values in flat)))
        for key in keys
        if flat[0].get(key) != flat[1].get(key)
    )


def _flat(record: RunRecord) -> dict[str, object]:
    settings = flat_settings(record.settings.model_dump(exclude_unset=True))
    return settings | {key: record.get(key) for key in (*INPUTS, *OTHERS)}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}…" if len(text) == 64 else text
