"""Names of tasks as people write them, such as STS-B, sts-b or MNLI-m, and as they are registered.

Paths, tables and digests have the registered name only: names are replaced where they come in, from
the command line and the config.
"""

from collections.abc import Collection, Mapping

from lora.experiment.config import Config
from lora.experiment.config_errors import check_choice
from lora.experiment.config_types import Setting
from lora.experiment.names import simplified

MATCHED = {"mnlim": "mnli", "mnlimatched": "mnli"}
MISMATCHED = {"mnlimm", "mnlimismatched"}
MNLI_SPLITS = (
    "MNLI's mismatched split is part of task mnli: each run of mnli records "
    "validation_mismatched too. Use mnli"
)


def registered(name: str, tasks: Collection[str]) -> str:
    """Return the registered name of a task, or `name` itself if there is no such task.

    Args:
        name: The name, in any case, with or without hyphens and underscores.
        tasks: The registered names.
    """
    if name in tasks:
        return name
    wanted = MATCHED.get(simplified(name), simplified(name))
    found = [task for task in tasks if simplified(task) == wanted]
    return found[0] if len(found) == 1 else name


def check(where: str, name: str, tasks: Collection[str]) -> list[str]:
    """Return what is wrong with a registered name of a task: no line or one."""
    problems = check_choice(where, name, tasks)
    if problems and simplified(name) in MISMATCHED and "mnli" in tasks:
        return [f"{problems[0]}. {MNLI_SPLITS}"]
    return problems


def with_registered_names(config: Config, tasks: Mapping[str, object]) -> Config:
    """Return a config with the registered names of its tasks; unknown names are unchanged."""
    tables: dict[str, object] = {}
    for key, table in config.tables.wanted.items():
        names = tuple(registered(name, tasks) for name in table.tasks)
        if len(set(names)) == len(names):  # a task given twice is reported with its spelling
            tables[key] = table.model_copy(update={"tasks": names})
    changes: dict[str, object] = {"tables": config.tables.model_copy(update=tables)}
    if config.subspace is not None:
        task = registered(config.subspace.task, tasks)
        changes["subspace"] = config.subspace.model_copy(update={"task": task})
    changes["overrides"] = config.overrides | _start(config.overrides, tasks)
    changes["protocols"] = {
        name: protocol.model_copy(update=_start(protocol.changes, tasks))
        for name, protocol in config.protocols.items()
    }
    return config.model_copy(update=changes)


def _start(settings: Mapping[str, Setting], tasks: Collection[str]) -> dict[str, Setting]:
    """Return the hyperparameter `start` with its task's registered name, {} if it is not set."""
    start = settings.get("start")
    return {"start": registered(start, tasks)} if isinstance(start, str) else {}
