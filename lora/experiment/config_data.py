"""Config keys of data sets, models and the user's own tasks, as pydantic models."""

from typing import Literal

from pydantic import Field

from lora.experiment.config_types import Section, Texts
from lora.experiment.names import MAX_INT
from lora.experiment.task import METRICS


class SourceConfig(Section):
    """A data set or model that replaces a row of config/sources.csv, or adds one."""

    role: Literal["model", "data"] | None = Field(
        None, description="Model or data set; required for a new name."
    )
    kind: Literal["hub", "file", "pypi"] = Field(
        description="Where it is: the Hugging Face hub, a folder, or a package on PyPI."
    )
    locator: str = Field(min_length=1, description="Hub name, folder, or package==version#path.")
    revision: str = Field("", description="Commit (hub), or wheel or sdist (pypi).")
    sha256: str = Field("", description="Checksum of the archive (pypi) or the folder (file).")
    licence: str = Field("", description="SPDX name of the licence.")
    same_as: str = Field(
        "",
        description="Source of config/sources.csv that has the same content. Tables then compare "
        "with its published values, and a note repeats the claim.",
    )


class SplitsConfig(Section):
    """Names of the files or splits of a task."""

    train: str = Field(
        "",
        description="Training split; if left out, `train`, or the file that `path` names.",
    )
    dev: str = Field(
        "",
        description="Split that runs are evaluated on; if left out, validation, dev, valid or val. "
        "If there is none, it is made of train.",
    )


class TaskConfig(Section):
    """A task of the user's own data."""

    path: str = Field(
        "",
        description="A CSV, TSV, JSONL or parquet file (also .gz), a folder of them, or a folder "
        "that `save_to_disk` of datasets wrote.",
    )
    hub: str = Field("", description="Instead of `path`: data set of the hub, owner/name.")
    config: str = Field("", description="Configuration of the data set of the hub.")
    revision: str = Field("", description="Its commit of 40 digits.")
    text: Texts = Field(description="Column of the text, or a list of two columns for pairs.")
    label: str = Field("label", min_length=1, description="Column of the labels.")
    labels: Texts = Field(
        (),
        description="Names of the classes in their order, or regression for scores. If left out, "
        "all labels of train, sorted by name, whole numbers by value.",
    )
    metric: Literal[METRICS] | None = Field(  # type: ignore[valid-type]
        None,
        description="Metric of tables and of the best epoch; if left out, accuracy, or pearson for "
        "scores.",
    )
    title: str = Field("", description="Name in tables and figures; if left out, the task's name.")
    splits: SplitsConfig | None = Field(
        None, description="Names of the files (without their ending) or splits."
    )
    dev_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of train that becomes the evaluation split if there is none: the same "
        "share of each class; rows with the same texts and label stay together. 0.2 if left out.",
    )
    split_seed: int = Field(0, ge=0, le=MAX_INT, description="Seed of that choice; 0 if left out.")
    missing: Literal["error", "drop"] = Field(
        "error",
        description="Rows without a text or a label are an error (if left out), or are left out "
        "and counted.",
    )
    separator: Literal[",", ";", "\t", "|"] | None = Field(
        None,
        description="Between the cells of a CSV file; if left out, the one of , ; tab | that gives "
        "the header the columns of the task.",
    )
    decimal: Literal[".", ","] = Field(
        ".", description="Decimal mark of scores in text files; a point if left out."
    )
