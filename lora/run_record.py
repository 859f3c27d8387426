"""A run.json read back, with what stands in it of the kind it must be.

Tables, later runs that start from a run, and the analysis of its adapter all read it, and a person may have edited it, or an
older version written it. Something of another kind is told with its place, so that nobody after this module meets a list
where a number was. What is missing is told only where the caller cannot do without it; whether the settings are those that
are asked for is `collect`'s to say.
"""

import hashlib
from pathlib import Path

from lora import columns, files
from lora.columns import CELL_COLUMNS
from lora.errors import ConfigError, shown

KINDS = {  # place in a run.json -> what must stand there, where something does
    **dict.fromkeys(
        ("settings", "settings.hparams", "parameters", "data", "base", "start", "best"), dict
    ),
    **dict.fromkeys(("speed", "versions", "files"), dict),
    **dict.fromkeys(
        ("settings.rank", "settings.seed", "parameters.trainable", "data.train_examples"), int
    ),
    **dict.fromkeys(("data.eval_examples", "best.epoch", "speed.pack", "results_version"), int),
    **dict.fromkeys(("speed.peak_host_bytes", "speed.peak_device_bytes"), int),
    **dict.fromkeys(("best.value", "speed.wall_s", "speed.examples_per_s"), float),
    **{f"settings.{axis}": str for axis in CELL_COLUMNS if axis != "rank"},
    **dict.fromkeys(
        ("digest", "status", "precision", "device", "commit", "finished", "best.metric", "seal"),
        str,
    ),
    **dict.fromkeys(
        ("data.source", "data.tokens_sha256", "base.source", "base.base_sha256", "base.family"), str
    ),
    **dict.fromkeys(("start.source", "start.sha256"), str),
    **{f"versions.{name}": str for name in ("python", "torch", "transformers", "lora")},
}
IDENTITY = (
    "settings.hparams",
    "settings.seed",
    *(f"settings.{axis}" for axis in CELL_COLUMNS),
)  # which run it is of


def value_at(record: dict, place: str):
    """The value at a dotted place in a run.json, None where there is none."""
    for key in place.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    return record


def read(path: Path, advice: str, needed: tuple[str, ...] = ()) -> dict:
    """A run.json; raises ValueError that names every place of KINDS where something else stands, and those of `needed` where
    nothing does. An empty text is what nobody wrote down, and allowed. `advice` is what to do about a wrong file."""
    record, wrong = files.read_object(path, advice), []
    for place, kind in KINDS.items():
        value = value_at(record, place)
        fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(
            value, bool
        )
        if value is None and place in needed:
            wrong.append(f"{place} is missing")
        elif not fits and value not in (None, ""):
            wrong.append(f"{place} is {shown(value)}; expected {kind.__name__}")
    if wrong:
        raise ConfigError(f"{path} is not of a run here; {advice}:", wrong)
    return record


def write_run(folder: Path, record: dict, rows: list[dict], *others: str) -> None:
    """A run's run.json, sealed, with the hashes of metrics.csv and of `others`, which are there; and, last, metrics.csv."""
    folder = Path(folder)
    text = files.csv_text(folder / "metrics.csv", columns.METRICS_COLUMNS, rows)
    hashes = {name: files.file_sha256(folder / name) for name in others}
    hashes["metrics.csv"] = hashlib.sha256(text.encode()).hexdigest()
    files.write_json(folder / "run.json", files.with_checksum(record | dict(files=hashes)))
    files.write_text(folder / "metrics.csv", text)
