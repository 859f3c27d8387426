"""Tasks: a data set, its columns, its labels and its metric."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lora.errors import ConfigError, shown
from lora.experiment.names import MAX_INT, check_name

CONFIG, TABLE = "tasks in the config", "table"  # where a task is from; format of such a task
MAX_CLASSES = 1000  # of labels that the config does not list
METRICS = ("accuracy", "f1", "precision", "recall", "matthews", "pearson", "spearman")


@dataclass(frozen=True)
class TableOptions:
    """How the files of a task of the config are read (`tasks` of a config).

    Attributes:
        label: Column of the labels.
        train: Name of the training file or split.
        dev: Name of the evaluation file or split; empty if it is found by its usual name, or made.
        dev_fraction: Share of train that becomes the evaluation split if there is none.
        split_seed: Seed of that choice.
        missing: error or drop: rows without a text or a label.
        separator: Character between the cells of a CSV file; empty if the header decides.
        decimal: Decimal mark of scores, "." or ",".
        labels: Names of the classes as the config lists them, or ("regression",); empty if the
            training data decide.
    """

    label: str = "label"
    train: str = ""
    dev: str = ""
    dev_fraction: float = 0.2
    split_seed: int = 0
    missing: str = "error"
    separator: str = ""
    decimal: str = "."
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A task: how a data set is read, and how a model is evaluated on it.

    Attributes:
        name: Name in config/tasks.csv, or in `tasks` of the config.
        title: Name in tables and figures.
        dataset: Name of the source of the data.
        format: Format of the files; see `lora.data.formats`.
        text_columns: One column (sentence) or two (sentence pair).
        num_labels: Number of classes; 1 is regression. 0 if the training data decide, which only a
            task of the config allows: `with_labels` sets it.
        metric: One of METRICS: shown in tables, and used to choose the best epoch.
        eval_splits: The reported split; MNLI has a second one, which is recorded too.
        mirrors: For demo tasks, the GLUE task of the same kind; otherwise empty.
        label_names: Name of each class, class 0 first. Empty for regression, and where the names
            are unknown.
        table: How the files are read; None for the tasks of config/tasks.csv.

    Raises:
        ConfigError: If a value is not allowed.
    """

    name: str
    title: str
    dataset: str
    format: str
    text_columns: tuple[str, ...]
    num_labels: int
    metric: str
    eval_splits: tuple[str, ...]
    mirrors: str
    label_names: tuple[str, ...] = ()
    # Not in the text of a task: that is a parameter of rules, which older results have recorded.
    table: TableOptions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        problems = check_name("task", self.name) + check_name("dataset", self.dataset)
        lowest = 1 if self.table is None else 0
        if not lowest <= self.num_labels <= MAX_INT:
            problems.append(
                f"num_labels is {shown(self.num_labels)}; allowed: 1 (regression) or the number of "
                "classes"
            )
        if self.metric not in METRICS:
            problems.append(f"metric is {self.metric!r}; allowed: {', '.join(METRICS)}")
        if (self.num_labels == 1) != (self.metric in ("pearson", "spearman")):
            problems.append(f"metric {self.metric!r} does not fit num_labels {self.num_labels}")
        if len(self.text_columns) not in (1, 2):
            problems.append(
                f"text_columns has {len(self.text_columns)} names; allowed: 1 (sentence) or 2 "
                "(sentence pair)"
            )
        if len(self.eval_splits) not in (1, 2):
            problems.append(
                f"eval_splits has {len(self.eval_splits)} names; allowed: 1, or 2 as MNLI has"
            )
        for key, names in (("text_columns", self.text_columns), ("eval_splits", self.eval_splits)):
            if len(set(names)) < len(names):
                problems.append(f"{key} is {' '.join(names)!r}; allowed: each only once")
        if "train" in self.eval_splits:
            problems.append(
                "eval_splits has 'train'; allowed: splits that the run does not train on"
            )
        problems += check_label_names(self.label_names, self.num_labels)
        if problems:
            where = "config/tasks.csv" if self.table is None else CONFIG
            raise ConfigError(f"{where}, task {self.name!r}:", problems)

    @property
    def is_regression(self) -> bool:
        return self.num_labels == 1

    def with_labels(self, names: Sequence[str]) -> "Task":
        """Return the task with the classes of its training data, if the config lists none."""
        if self.table is None or self.table.labels:
            return self
        return replace(self, num_labels=len(names), label_names=tuple(names))


def check_label_names(names: Sequence[str], num_labels: int) -> list[str]:
    """Return what is wrong with the names of classes, one line each; no names are allowed.

    Args:
        names: Name of each class, class 0 first.
        num_labels: Number of classes; 1 is regression, which has none.
    """
    if not names:
        return []
    if num_labels == 1:
        return [f"label_names is {shown(' '.join(names))}; allowed: nothing, for regression"]
    problems = []
    if len(names) != num_labels:
        problems.append(
            f"label_names has {len(names)} names; allowed: {num_labels}, the number of classes, or "
            "nothing"
        )
    if len(set(names)) < len(names):
        problems.append(f"label_names is {shown(' '.join(names))}; allowed: each only once")
    problems += [
        f"label_names has {shown(name)}; allowed: printable text"
        for name in names
        if not name.strip() or not name.isprintable()
    ]
    return problems
