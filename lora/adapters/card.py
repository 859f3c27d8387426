"""README.md of an adapter folder: what the adapter is, and the code that loads it."""

from lora.adapters.base_reference import BaseReference
from lora.experiment.cell import BASE_METHODS
from lora.experiment.task import Task
from lora.run_record import RunRecord

TEMPLATE = """{metadata}# {method} on {task}

- Method: {method}, {size}
- Base model: {base}
- Task: {title} (`{task}`), {kind}
- Result: {result}
- Licence of the base model: {licence}

## Load it

{load}
"""
PEFT = """```python
from peft import AutoPeftModelForSequenceClassification
model = AutoPeftModelForSequenceClassification.from_pretrained("{folder}", {labels})
```

`{folder}` is this folder. The head is part of the adapter. {where}"""
ON_HUB = (
    "peft downloads the base model from the Hugging Face hub, at the commit above. To use a local "
    "copy, set `base_model_name_or_path` in adapter_config.json to its folder and `revision` to "
    "null."
)
IN_FOLDER = (
    "peft reads the base model from the folder above. If that folder is moved, set "
    "`base_model_name_or_path` in adapter_config.json to the new one."
)
MERGE = """peft has no such method and cannot load this folder. Write a transformers checkpoint:

```
lora merge --adapter-dir {folder} --model-dir <folder of the base model> --output-dir merged
```

Then `AutoModelForSequenceClassification.from_pretrained("merged")` loads it."""
NEITHER = (
    "peft has no such method and cannot load this folder. `lora merge` cannot merge it, because it "
    "adds layers. `start: <this folder>` in a config trains another run from it."
)
EMPTY = "The run failed before its first epoch ended, so there is no adapter to load."


def text(record: RunRecord, task: Task, base: BaseReference) -> str:
    """Return the README.md of a run's adapter folder.

    Args:
        record: The run's run.json.
        task: Its task.
        base: Its base model.
    """
    settings, best = record.settings, record.best
    named = base.name_or_path if base.revision is None else f"{base.name_or_path}@{base.revision}"
    metadata = ""
    if settings.method == "lora":
        on_hub = f"base_model: {base.name_or_path}\n" if base.revision else ""
        metadata = f"---\n{on_hub}library_name: peft\n---\n"
    result = "none, the metric is never defined"
    if best.value is not None:
        result = (
            f"{best.metric} {best.value:.4f} on {task.eval_splits[0]}, after epoch {best.epoch}; "
            "that epoch's parameters are saved here"
        )
    return TEMPLATE.format(
        metadata=metadata,
        method={"lora": "LoRA"}.get(settings.method, settings.method),
        task=task.name,
        title=task.title,
        size=_size(record),
        base=f"{settings.model}, `{named}`",
        kind=_kind(task),
        result=result,
        licence=base.licence or "unknown",
        load=_load(record, task, base),
    )


def _size(record: RunRecord) -> str:
    """Return weights, rank, scale, protocol and seed in words."""
    settings = record.settings
    parts = [f"weights `{settings.weights}`"]
    if settings.rank:
        parts.append(f"rank {settings.rank}")
    if settings.method == "lora":
        parts.append(f"alpha {settings.hparams.get('alpha')}")
    return ", ".join([*parts, f"protocol `{settings.protocol}`", f"seed {settings.seed}"])


def _kind(task: Task) -> str:
    """Return the classes of a task in words."""
    if task.is_regression:
        return "regression"
    if not task.label_names:
        return f"{task.num_labels} classes without names"
    names = (f"{number} `{name}`" for number, name in enumerate(task.label_names))
    return f"classes {', '.join(names)}"


def _load(record: RunRecord, task: Task, base: BaseReference) -> str:
    """Return the code that loads the adapter, or what to do where peft cannot."""
    if not record.best.epoch:
        return EMPTY
    if record.settings.method == "lora":
        labels = f"num_labels={task.num_labels}"
        if task.label_names:
            labels += f", id2label={dict(enumerate(task.label_names))!r}"
        where = ON_HUB if base.revision else IN_FOLDER
        return PEFT.format(folder="path/to/adapter", labels=labels, where=where)
    if record.settings.method in BASE_METHODS:
        return MERGE.format(folder="path/to/adapter")
    return NEITHER
