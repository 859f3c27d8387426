"""The config: its keys, as pydantic models.

No key has a default here: `config/config.yaml` has them all (see `config_files`). The models check
types and limits. `grid` checks what needs the tables of `config/`, such as the names of tasks and
models. `json_schema()` is the schema for editors.
"""

import functools
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from lora.errors import ConfigError
from lora.experiment import config_errors, config_values
from lora.experiment.config_data import SourceConfig, TaskConfig
from lora.experiment.config_types import (
    AS_TUPLE,
    Axes,
    FolderName,
    MethodName,
    Names,
    Numbers,
    Section,
    Seeds,
    Setting,
)
from lora.experiment.names import MAX_INT

MODELS = "Models, by their names in config/sources.csv."
TASKS = "Tasks, by their names in config/tasks.csv or in `tasks`."
METHOD = "What is added to the model and trained."
WEIGHTS = (
    "What is adapted: for lora, letters of qkvo in that order; for adapter_drop, ffn<n> for "
    "adapters from layer n on; the other methods have one value, which may be left out."
)
RANKS = "LoRA ranks or adapter bottlenecks; in table5, the rank that the weight types share."
PROTOCOLS = "Protocols to run; if left out, the config's `protocol`."


class ProtocolConfig(Section):
    """A protocol that is defined in the config."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]

    base: str = Field(description="The protocol of config/hparams.csv that is changed.")

    @property
    def changes(self) -> dict[str, Setting]:
        """The hyperparameters that differ from `base`."""
        return dict(self.__pydantic_extra__)


class BaselineConfig(Section):
    """One further method of a table. Models and protocols default to the table's."""

    models: Names = Field((), min_length=1, description=MODELS)
    method: MethodName = Field(description=METHOD)
    weights: Names = Field((), min_length=1, description=WEIGHTS)
    ranks: Numbers = Field((), min_length=1, description=RANKS)
    protocols: Names = Field((), min_length=1, description=PROTOCOLS)


class TableConfig(Section):
    """One table: all combinations of its axes, and further methods on the same tasks."""

    models: Names = Field(min_length=1, description=MODELS)
    tasks: Names = Field(min_length=1, description=TASKS)
    method: MethodName = Field(description=METHOD)
    weights: Names = Field((), min_length=1, description=WEIGHTS)
    ranks: Numbers = Field((), min_length=1, description=RANKS)
    protocols: Names = Field((), min_length=1, description=PROTOCOLS)
    baselines: Annotated[tuple[BaselineConfig, ...], AS_TUPLE] = Field(
        (), description="Further methods on the same tasks, each with its own axes."
    )

    @property
    def blocks(self) -> "tuple[TableConfig | BaselineConfig, ...]":
        """The table's methods, its main one first."""
        return (self, *self.baselines)


class TablesConfig(Section):
    """The tables to make; null leaves one out."""

    table2: TableConfig | None = Field(None, description="Methods by tasks (Table 2), or null.")
    table5: TableConfig | None = Field(
        None, description="Weight types at equal parameter count (Table 5), or null."
    )
    table6: TableConfig | None = Field(
        None, description="Ranks by weight types (Table 6), or null."
    )

    @property
    def wanted(self) -> dict[str, TableConfig]:
        """The tables that are not null, by name."""
        tables = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: table for name, table in tables.items() if table is not None}


class SubspaceConfig(Section):
    """Runs whose adapters are compared (Sec. 7.2 and 7.3)."""

    model: str = Field(description="Model, by its name in config/sources.csv.")
    task: str = Field(description="Task, by its name in config/tasks.csv or in `tasks`.")
    protocol: str = Field("", description="Protocol; if left out, the config's `protocol`.")
    weights: str = Field(description="What the runs adapt: letters of qkvo.")
    ranks: Numbers = Field(
        min_length=2, max_length=2, description="A lower and a higher LoRA rank."
    )
    seeds: Seeds = Field(min_length=2, max_length=2, description="Two of the config's seeds.")
    letters: str = Field(
        "", min_length=1, description="Weight types to show; if left out, all of `weights`."
    )
    layers: Numbers = Field(
        (),
        min_length=1,
        description="Layers of Figures 6 and 7, from 1; if left out, the first, a third, two "
        "thirds and the last.",
    )


class TrackingConfig(Section):
    """Which trackers get a copy of the rows of metrics.csv."""

    tensorboard: bool = Field(description="Event files in <results>/tracking/tensorboard.")
    mlflow: bool = Field(
        description="MLflow on the server of MLFLOW_TRACKING_URI, otherwise in an SQLite file in "
        "<results>/tracking/mlflow."
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The trackers that are on."""
        return tuple(name for name in type(self).model_fields if getattr(self, name))


class Config(Section):
    """A whole config. No key has a default here: config/config.yaml has them all."""

    mode: Literal["train", "existing", "partial"] = Field(
        description="train: train missing runs; existing: make tables from existing runs and stop "
        "if one is missing; partial: the same, with an empty cell for a missing run."
    )
    results: str = Field(min_length=1, description="Folder for everything the workflow writes.")
    protocol: str = Field(
        description="Protocol of all runs: a name in config/hparams.csv or `protocols`."
    )
    protocols: dict[FolderName, ProtocolConfig] = Field(
        description="Own protocols by name: `base`, and the hyperparameters that differ from it."
    )
    seeds: Seeds = Field(
        min_length=1, description="Seeds below 2^32; each cell has one run per seed."
    )
    pack: Axes = Field(
        description="Axes whose runs one job trains together over one frozen model; [] trains one "
        "run per job."
    )
    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = Field(
        description="Training device; auto uses a GPU if there is one: NVIDIA (cuda), Apple (mps) "
        "or Intel (xpu)."
    )
    container: Annotated[str, Field(min_length=1)] | None = Field(
        description="Image for --sdm apptainer, built from envs/Dockerfile, or null."
    )
    threads: int = Field(ge=1, le=MAX_INT, description="CPU threads per training job.")
    micro_batch: int = Field(
        ge=0,
        le=MAX_INT,
        description="Examples per forward pass, to limit memory; 0 uses a whole optimizer step. "
        "Results change by rounding only.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        description="Number format of the frozen base model and its activations; auto uses bf16 "
        "where the device multiplies it clearly faster."
    )
    checkpoint_every_s: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="Seconds between checkpoints, besides those at the end of each epoch.",
    )
    max_runtime: Annotated[int, Field(ge=1)] | None = Field(
        description="Minutes that a training job may take, or null. A job that needs more saves "
        "before the limit and continues in its next attempt."
    )
    tracking: TrackingConfig = Field(
        description="Trackers that get a copy of the metrics of each epoch. They change no result."
    )
    plan_device: str = Field(
        description="Device of config/devices.csv for time and memory estimates; auto is the CPU "
        "if `device` is cpu, otherwise the slowest GPU."
    )
    overrides: dict[str, Setting] = Field(
        description="Hyperparameters by name, set for every run instead of the protocol's values."
    )
    sources: dict[str, SourceConfig] = Field(
        description="Data sets and models, by name, that replace rows of config/sources.csv or add "
        "to them."
    )
    tasks: dict[FolderName, TaskConfig] = Field(
        description="Tasks of your own data, by name, beside those of config/tasks.csv."
    )
    tables: TablesConfig = Field(description="The tables to make.")
    subspace: SubspaceConfig | None = Field(
        description="Runs of the tables whose adapters are compared, or null."
    )

    def as_dict(self) -> dict[str, Any]:
        """Return the config as nested dicts and lists, with the keys that were given."""
        return self.model_dump(mode="json", exclude_unset=True)


def resolved(config: object) -> Any:
    """Return a config with numbers and lists that are given as text, and paths expanded."""
    return config_values.read_values(config, json_schema())


def validate(config: object) -> Config | list[ErrorDetails]:
    """Return the config, or what pydantic found wrong with it. Texts are not read as numbers."""
    try:
        return Config.model_validate(config)
    except ValidationError as error:
        return error.errors(include_url=False)


def parse(config: object) -> Config:
    """Read and validate a config given as nested dicts and lists.

    Raises:
        ConfigError: One line per problem, each with the key, what was given and what is allowed.
    """
    found = validate(resolved(config))
    if isinstance(found, Config):
        return found
    raise ConfigError(config_errors.TITLE, config_errors.explain(found, json_schema()))


@functools.cache
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config, without titles and defaults."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of the LoRA workflow",
    }
    return head | _without_defaults(Config.model_json_schema())


def _without_defaults(node: Any) -> Any:
    """Drop pydantic's titles and defaults from a JSON Schema; `properties` may have such names."""
    if isinstance(node, list):
        return [_without_defaults(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_defaults(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _without_defaults(value)
        for key, value in node.items()
        if key not in ("title", "default")
    }
