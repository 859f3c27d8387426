"""run.json: the record of one training run, written and read through one model.

A person may have edited a run.json, and an older version may have written it. So unknown keys are
kept, keys that are missing get a default, and a value of another type is an error that names its
key. An unknown text is empty and an unknown number is null. Whether the settings are those of the
config is checked by `lora.experiment.verify`.
"""

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from lora import files
from lora.columns import CELL_COLUMNS, METRICS_COLUMNS
from lora.errors import ConfigError, shown

# The keys that say which run it is.
IDENTITY = ("settings.hparams", "settings.seed", *(f"settings.{axis}" for axis in CELL_COLUMNS))
EXPECTED = {  # type of a pydantic error -> what the message says is expected
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "an object",
    "string_type": "text",
}
Hashes = dict[str, str]


class _Part(BaseModel):
    """One object of run.json. Unknown keys are kept; values keep their JSON type."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_unknowns(cls, values: object) -> object:
        """Read an empty text as null where a number is expected; drop null elsewhere."""
        if not isinstance(values, dict) or not any(v is None or v == "" for v in values.values()):
            return values
        texts, nullable = _text_and_nullable_keys(cls)
        read = {
            name: None if value == "" and name in cls.model_fields and name not in texts else value
            for name, value in values.items()
        }
        return {
            name: value
            for name, value in read.items()
            if value is not None or name not in cls.model_fields or name in nullable
        }


@functools.cache
def _text_and_nullable_keys(part: type[BaseModel]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys of a part that hold a text, and those that may be null."""
    kinds = {name: field.annotation for name, field in part.model_fields.items()}
    texts = frozenset(name for name, kind in kinds.items() if kind is str)
    nullable = frozenset(name for name, kind in kinds.items() if type(None) in get_args(kind))
    return texts, nullable


class Settings(_Part):
    """What was requested: these values and the data decide every number of the run."""

    model: str = Field(default="", description="name in config/sources.csv")
    task: str = Field(default="", description="name in config/tasks.csv")
    method: str = Field(default="", description="lora, ft, bitfit or an adapter")
    weights: str = Field(default="", description="adapted weight types: letters of qkvo for lora")
    rank: int = Field(default=0, description="LoRA rank r, bottleneck of an adapter, or 0")
    protocol: str = Field(default="", description="name in config/hparams.csv or of the config")
    seed: int = Field(default=0, description="seed of the run")
    hparams: dict[str, JsonValue] = Field(default={}, description="every hyperparameter, by name")


class Parameters(_Part):
    """Numbers of parameters."""

    trainable: int | None = Field(default=None, description="trained, without the head")
    head: int | None = Field(default=None, description="of the trained classification head")
    frozen: int | None = Field(default=None, description="not trained")


class Data(_Part):
    """Data that the run was trained and evaluated on."""

    source: str = Field(default="", description="identity of the source: what pins its content")
    tokens_sha256: str = Field(default="", description="sha256 of the prepared tokens")
    train_examples: int | None = Field(default=None, description="size of the training set")
    train_tokens: int | None = Field(default=None, description="tokens in the training set")
    eval_examples: int | None = Field(default=None, description="size of the first evaluation set")
    label_counts: dict[str, dict[str, int]] = Field(
        default={},
        description="examples of each label in each evaluation set; empty for regression",
    )
    read_counts: dict[str, dict[str, int]] = Field(
        default={},
        description="counted while the data were read, by split: skipped_lines and long_lines of "
        "official files, or skipped rows of a task of the config, empty_texts, repeated (texts of "
        "an earlier example), in_train (texts that are in train too), truncated (examples cut at "
        "max_tokens)",
    )
    made_splits: dict[str, str] = Field(
        default={}, description="how evaluation sets were made of train; empty if they were given"
    )
    label_names: list[str] = Field(
        default=[],
        description="name of each class, class 0 first; empty for regression or unknown names",
    )


class Base(_Part):
    """Pre-trained model."""

    source: str = Field(default="", description="identity of the source: what pins its content")
    base_sha256: str = Field(default="", description="sha256 of its tensors")
    family: str = Field(default="", description="model_type of the base model's config.json")


class Start(_Part):
    """Adapter that training started from."""

    source: str = Field(default="", description="the run, or the folder")
    sha256: str = Field(default="", description="sha256 of its tensors")
    frozen_biases: str = Field(
        default="none",
        description="biases that it has in place of the base model's, which do not train: none, "
        "lora_only or all",
    )


class Best(_Part):
    """Best epoch: the one whose adapter was saved."""

    epoch: int | None = Field(default=None, description="from 1; 0 if the metric is never defined")
    metric: str = Field(default="", description="the metric of the task")
    value: float | None = Field(default=None, description="its value; null if it is never defined")


class Speed(_Part):
    """Time and memory."""

    wall_s: float | None = Field(
        default=None, description="seconds of training, shared by the pack"
    )
    examples_per_s: float | None = Field(
        default=None, description="training examples of this run a second"
    )
    pack: int | None = Field(default=None, description="runs trained together, this one included")
    peak_host_bytes: int | None = Field(
        default=None, description="peak resident memory of the process"
    )
    peak_device_bytes: int | None = Field(default=None, description="peak GPU memory; 0 on a CPU")


class Versions(_Part):
    """Versions of the software."""

    python: str = Field(default="", description="version of Python")
    torch: str = Field(default="", description="version of PyTorch, with its build")
    transformers: str = Field(default="", description="version of transformers")
    lora: str = Field(default="", description="version of this package")


class RunRecord(_Part):
    """One run: what was requested, what it was trained on, and how it ended."""

    settings: Settings = Field(default=Settings(), description="what was requested of the run")
    digest: str = Field(
        default="", description="sha256 of everything that decides the run's numbers"
    )
    results_version: int | None = Field(
        default=None, description="version of the method; another version gives other numbers"
    )
    status: str = Field(default="", description="ok or non_finite")
    parameters: Parameters = Field(default=Parameters(), description="numbers of parameters")
    data: Data = Field(default=Data(), description="data that the run was trained and evaluated on")
    base: Base = Field(default=Base(), description="pre-trained model")
    start: Start | None = Field(
        default=None,
        description="adapter that training started from; null for the pre-trained model",
    )
    best: Best = Field(default=Best(), description="best epoch: the one whose adapter was saved")
    speed: Speed = Field(default=Speed(), description="time and memory")
    versions: Versions = Field(default=Versions(), description="versions of the software")
    precision: str = Field(
        default="", description="of the base model and its activations: bf16 or fp32"
    )
    device: str = Field(default="", description="the CPU or GPU that the run was trained on")
    commit: str = Field(default="", description="git commit of the checkout")
    finished: str = Field(default="", description="end of training, UTC, ISO 8601")
    files: Hashes = Field(
        default={}, description="sha256 of metrics.csv and of the adapter's tensors"
    )
    checksum: str = Field(
        default="", description="sha256 of all other keys; delete it if you edit the file"
    )
    _content: dict[str, Any] = PrivateAttr(default_factory=dict)  # of the file that was read

    @property
    def altered(self) -> bool:
        """Whether the file that was read has a checksum that does not match its content."""
        return files.checksum_fails(self._content)

    @property
    def base_precision(self) -> str:
        """Precision of the base model; fp32 in files older than the choice."""
        return self.precision or "fp32"

    def has(self, key: str) -> bool:
        """Return whether the file has this key. `key` is dotted, as in "base.family"."""
        part: object = self
        for name in key.split("."):
            if not isinstance(part, BaseModel) or name not in part.model_fields_set:
                return False
            part = getattr(part, name)
        return True

    def get(self, key: str) -> object:
        """Return the value of a dotted key, such as "base.family"; None if it is not in the file.

        A text that is in the file but unknown is empty.
        """
        part: object = self
        for name in key.split("."):
            if isinstance(part, BaseModel) and name in part.model_fields_set:
                part = getattr(part, name)
            elif isinstance(part, dict):
                part = part.get(name)
            else:
                return None
        return part

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without hashes of files and the checksum."""
        return self.model_dump(mode="json", exclude={"files", "checksum"})


def parse(record: dict[str, Any], where: str, needed: Sequence[str] = ()) -> RunRecord:
    """Build a record from the object that a run.json holds.

    Args:
        record: The object.
        where: Start of an error message: the file, and what to do about it.
        needed: Dotted keys that the caller cannot do without.

    Raises:
        ConfigError: If a value has the wrong type or a needed key is missing. The message names
            every such key.
    """
    try:
        found = RunRecord.model_validate(record)
    except ValidationError as error:
        raise ConfigError(where, list(_problems(error, record, needed))) from None
    missing = [f"{key} is missing" for key in needed if not found.has(key)]
    if missing:
        raise ConfigError(where, missing)
    found._content = record
    return found


def _problems(error: ValidationError, record: object, needed: Sequence[str]) -> Iterator[str]:
    """One line for each wrong value, and one for each needed key that is missing."""
    for one in error.errors(include_url=False):
        key = ".".join(map(str, one["loc"]))
        expected = EXPECTED.get(one["type"], one["msg"])
        yield f"{key} is {shown(one['input'])}; expected {expected}"
    for key in needed:
        value = record
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            yield f"{key} is missing"


def read(path: Path, advice: str, needed: Sequence[str] = ()) -> RunRecord:
    """Read a run.json.

    Args:
        path: The file.
        advice: What the user can do about a wrong file; ends the error message.
        needed: Dotted keys that the caller cannot do without.

    Raises:
        ValueError: If the file is not a JSON object.
        ConfigError: If it is not a valid record; the message names every wrong key.
    """
    record = files.read_object(path, advice)
    return parse(record, f"{path} is not a valid run.json; {advice}:", needed)


def write_run(folder: Path, record: RunRecord, rows: list[dict[str, Any]], *others: str) -> None:
    """Write the run.json of a run and, last, its metrics.csv.

    Args:
        folder: Folder of the run.
        record: The record. The hashes and the checksum are added here.
        rows: One row per epoch, with the columns of METRICS_COLUMNS.
        others: Files in `folder`, already written, whose sha256 is recorded too.
    """
    folder = Path(folder)
    text = files.csv_text(folder / "metrics.csv", METRICS_COLUMNS, rows)
    hashes = {name: files.file_sha256(folder / name) for name in others}
    hashes["metrics.csv"] = hashlib.sha256(text.encode()).hexdigest()
    files.write_json(folder / "run.json", files.with_checksum(record.as_json() | {"files": hashes}))
    files.write_text(folder / "metrics.csv", text)


def best_epoch(values: Sequence[float]) -> int | None:
    """Return the epoch with the highest metric: the earliest of equals; NaN is never the best.

    Args:
        values: The metric after each epoch, from epoch 1 on.

    Returns:
        The epoch, counted from 1; None if every value is NaN or there is none.
    """
    defined = [epoch for epoch, value in enumerate(values, start=1) if not math.isnan(value)]
    return max(defined, key=lambda epoch: values[epoch - 1], default=None)
