"""Tasks: a data set, its columns, its labels and its metric."""

from collections.abc import Sequence
from dataclasses import dataclass

from lora.errors import ConfigError, shown
from lora.experiment.names import MAX_INT, check_name

METRICS = ("accuracy", "f1", "precision", "recall", "matthews", "pearson", "spearman")


@dataclass(frozen=True)
class Task:
    """A task: how a data set is read, and how a model is evaluated on it.

    Attributes:
        name: Name in config/tasks.csv.
        title: Name in tables and figures.
        dataset: Source of the data, by its name in config/sources.csv.
        format: Format of the files; see `lora.data.formats`.
        text_columns: One column (sentence) or two (sentence pair).
        num_labels: Number of classes; 1 is regression.
        metric: One of METRICS: shown in tables, and used to choose the best epoch.
        eval_splits: The reported split; MNLI has a second one, which is recorded too.
        mirrors: For demo tasks, the GLUE task of the same kind; otherwise empty.
        label_names: Name of each class, class 0 first. Empty for regression, and where the names
            are unknown.

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

    def __post_init__(self) -> None:
        problems = check_name("task", self.name) + check_name("dataset", self.dataset)
        if not 1 <= self.num_labels <= MAX_INT:
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
            raise ConfigError(f"config/tasks.csv, task {self.name!r}:", problems)

    @property
    def is_regression(self) -> bool:
        return self.num_labels == 1


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
