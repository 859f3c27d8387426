"""Tasks of the config (`tasks`): the same Task and Source as the tables of config/ give.

The source of a task of a local path is pinned by the content of its files, so an edited file is
fetched, prepared and trained again. The names of classes that the config does not list are those of
the training data. `lora.data.prepare` finds them; tokens.json and run.json record them.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora import files, paths
from lora.errors import ConfigError, shown
from lora.experiment import local_data, task_names
from lora.experiment.config_data import TaskConfig
from lora.experiment.names import simplified
from lora.experiment.source import Source
from lora.experiment.task import TABLE, TableOptions, Task

REGRESSION = ("regression",)
DEV = "validation"  # name of the evaluation split of every task of a config
KEYS = ("path", "hub", "config", "revision")


@dataclass(frozen=True)
class OwnTasks:
    """Valid tasks of a config with their sources by name, and what is wrong with the others."""

    tasks: dict[str, Task]
    sources: dict[str, Source]
    problems: list[str]


def source_name(task: str) -> str:
    """Return the name of the source of a task of the config."""
    return f"task-{task}"


def read(
    configs: Mapping[str, TaskConfig],
    registered: Mapping[str, Task],
    sources: Mapping[str, Source],
    results: str,
) -> OwnTasks:
    """Return the tasks of a config and their sources.

    Args:
        configs: `tasks` of the config.
        registered: The tasks of config/tasks.csv.
        sources: The sources of config/sources.csv and of the config.
        results: The results folder, which knows the content and the classes of earlier runs.
    """
    own = OwnTasks({}, {}, [])
    for name, config in configs.items():
        others = [*registered, *(other for other in configs if other != name)]
        problems = _check_name(name, others, sources) + _check_origin(config)
        try:
            task = _task(name, config)
            if not problems:
                own.sources[task.dataset] = _source(task.dataset, config, results)
                own.tasks[name] = task.with_labels(_recorded_labels(name, results))
        except ConfigError as error:
            problems += error.problems
        own.problems.extend(f"tasks.{name}: {problem}" for problem in problems)
    return own


def _check_name(name: str, others: list[str], sources: Mapping[str, Source]) -> list[str]:
    same = [other for other in others if simplified(other) == simplified(name)]
    if simplified(name) in {*task_names.MATCHED, *task_names.MISMATCHED}:
        same = ["mnli"]
    if same:
        return [f"the name is that of the task {same[0]}; use another name"]
    if source_name(name) in sources:
        return [f"sources has the name {source_name(name)!r}, which this task uses; rename one"]
    return []


def _check_origin(config: TaskConfig) -> list[str]:
    """Return what is wrong with the keys that say where the data are."""
    given = [key for key in KEYS if getattr(config, key)]
    if ("path" in given) == ("hub" in given):
        return ["give either path, for local files, or hub, for a data set of the hub"]
    if "path" in given and len(given) > 1:
        return [f"{' and '.join(given[1:])} is for a data set of the hub; leave it out with path"]
    if "hub" in given and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", config.hub):
        return [f"hub is {shown(config.hub)}; allowed: owner/name of a data set"]
    return []


def _task(name: str, config: TaskConfig) -> Task:
    """Return a task of the config, with 0 classes if its labels are left out."""
    regression = config.labels == REGRESSION
    problems = []
    if len(config.labels) == 1 and not regression:
        problems.append(
            f"labels has only {shown(config.labels[0])}; allowed: two classes or more, regression, "
            "or nothing"
        )
    if config.label in config.text:
        problems.append(f"label and text are the same column {shown(config.label)}; give two")
    if config.decimal == "," and not regression:
        problems.append('decimal: "," is for scores; allowed with labels: regression')
    metric = config.metric or ("pearson" if regression else "accuracy")
    if regression != (metric in ("pearson", "spearman")):
        allowed = "pearson, spearman" if regression else "a metric of classes, such as accuracy"
        problems.append(f"metric is {metric!r}; allowed for these labels: {allowed}")
        metric = "pearson" if regression else "accuracy"
    if problems:
        raise ConfigError("", problems)
    return Task(
        name=name,
        title=config.title or name,
        dataset=source_name(name),
        format=TABLE,
        text_columns=config.text,
        num_labels=1 if regression else len(config.labels),
        metric=metric,
        eval_splits=(DEV,),
        mirrors="",
        label_names=() if regression else config.labels,
        table=TableOptions(
            label=config.label,
            train=config.splits.train if config.splits else "",
            dev=config.splits.dev if config.splits else "",
            dev_fraction=config.dev_fraction,
            split_seed=config.split_seed,
            missing=config.missing,
            separator=config.separator or "",
            decimal=config.decimal,
            labels=config.labels,
        ),
    )


def _source(name: str, config: TaskConfig, results: str) -> Source:
    if config.hub:
        locator = f"{config.hub}:{config.config}" if config.config else config.hub
        return Source(name, "data", "hub", locator, config.revision, "", "")
    path = Path(config.path)
    sha256 = local_data.content_sha256(path) if path.exists() else _fetched_sha256(results, name)
    return Source(name, "data", "file", config.path, "", sha256, "")


def _fetched_sha256(results: str, name: str) -> str:
    """Return the hash of the files that were fetched before; empty if there are none."""
    manifest = Path(paths.manifest(results, name))
    return next((str(one.get("sha256", "")) for one in _read([manifest])), "")


def _recorded_labels(task: str, results: str) -> list[str]:
    """Return the classes that tokens or runs of a task recorded; empty if there are none."""
    pattern = f"{paths.tokens_dir('.', '*', task, '*')}/{paths.TOKENS_JSON}"
    for found in _read(Path(results).glob(pattern)):
        if isinstance(names := found.get("label_names"), list):
            return [str(name) for name in names]
    pattern = re.sub(r"\{(\w+)\}", "*", paths.RUN_PATTERN.replace("{task}", task))
    for found in _read(Path(paths.runs_dir(results)).glob(f"{pattern}/{paths.RUN_JSON}")):
        data = found.get("data")
        if isinstance(data, dict) and data.get("label_names"):
            return [str(name) for name in data["label_names"]]
    return []


def _read(candidates: Iterable[Path]) -> Iterator[files.JsonObject]:
    """Yield the JSON objects in those of these files that have one."""
    for path in candidates:
        with contextlib.suppress(OSError, ValueError):
            yield files.read_object(path, "")
