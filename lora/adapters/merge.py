"""Merge a trained run into a plain transformers checkpoint.

A merged LoRA layer is one matrix W0 + (alpha/r) B A of W0's size and adds nothing at inference
(paper Sec. 4.1). Full fine-tuning and BitFit replace the base model's own parameters. Bottleneck
adapters are extra layers and cannot be merged. The base model is read and the sum is computed in
float64, and rounded once to the type that is written, so merged and unmerged logits differ by
rounding only. The output folder is renamed into place.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from torch import Tensor

from lora.adapters import adapter_folder, belonging, label_names, peft_folder, peft_names
from lora.adapters.adapter_folder import AdapterFolder
from lora.adapters.peft_checks import Adapter
from lora.data import fetch
from lora.errors import ConfigError
from lora.experiment.task import check_label_names
from lora.model import config as model_config
from lora.model import methods, modules, pretrained
from lora.model.families.registry import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
TOKENIZER_FILES = [name for name in fetch.MODEL_FILES if "*" not in name and name != "config.json"]


def merge(
    adapter_dir: Path,
    model_dir: Path,
    output_dir: Path,
    dtype: torch.dtype = torch.float32,
    names: Sequence[str] = (),
) -> None:
    """Write the sequence classification model that an adapter makes of its base model.

    The checkpoint has the head, num_labels, problem_type and the names of the classes in its
    config, safetensors files, and the tokenizer files of the base model.

    Args:
        adapter_dir: PEFT LoRA folder, or the adapter folder of a run of `ft` or `bitfit`; or a
            folder with one adapter below it, such as a run's.
        model_dir: Folder of the base model.
        output_dir: New or empty folder.
        dtype: Type of the written weights.
        names: Name of each class, class 0 first. Without them they are those of the adapter's
            folder, see `label_names.read`, or LABEL_0, LABEL_1, ... with a warning; never those of
            the base model, which has other classes.

    Raises:
        ConfigError: If the number of names is not that of the classes, or a number is too large
            for `dtype`.
        ValueError: If the adapter cannot be merged into this model, or `output_dir` is not empty.
    """
    adapter_dir, model_dir, output_dir = Path(adapter_dir), Path(model_dir), Path(output_dir)
    if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise ValueError(
            f"{output_dir} exists and is not an empty folder; give another one, or delete it"
        )
    adapter = adapter_folder.find(adapter_dir, "--adapter-dir")
    belonging.check_merge(adapter, model_dir)
    base = pretrained.load_base(model_dir, torch.float64)
    family = FAMILIES[base.config.model_type]
    encoder, head = _adapted(adapter, base)
    if "head.dense.weight" not in head and not _has_pooler(model_dir):
        raise ValueError(
            f"neither {adapter_dir} nor {model_dir} has a pooler; give an adapter that was saved "
            "with it"
        )
    num_labels = head["head.out.weight"].shape[0]
    names = _class_names(adapter.path, num_labels, names)
    state = {f"{family.prefix}.{name}": value for name, value in encoder.items()}
    for name, value in head.items():
        state[peft_names.peft_name(name, family.name).removeprefix(peft_names.PREFIX)] = value
    rounded = _rounded(state, dtype, adapter_dir)
    _write(_classifier(rounded, base, names, model_dir, dtype), model_dir, output_dir)


def _rounded(state: dict[str, Tensor], dtype: torch.dtype, adapter_dir: Path) -> dict[str, Tensor]:
    """Return tensors in the type that is written; raise ConfigError if it is too small for one."""
    rounded = {name: value.to(dtype) for name, value in state.items()}
    problems = [
        f"{name}: got numbers too large for {dtype}; allowed: up to {torch.finfo(dtype).max:.4g}"
        for name, value in rounded.items()
        if not torch.isfinite(value).all()
    ]
    if problems:
        raise ConfigError(
            f"{adapter_dir} cannot be merged, its update overflows; give another adapter:", problems
        )
    return rounded


def _class_names(adapter_dir: Path, num_labels: int, given: Sequence[str]) -> list[str]:
    """Return the name of each class: those that are given, else the folder's, else LABEL_<n>."""
    names = given or label_names.read(adapter_dir)
    problems = check_label_names(names, num_labels)
    if problems:
        source = "--label-names" if given else f"the names of the classes of {adapter_dir}"
        raise ConfigError(
            f"{source} do not fit the adapter; give --label-names with one name for each class:",
            problems,
        )
    if not names and num_labels > 1:
        log.warning(
            "%s has no names of its classes; the checkpoint gets LABEL_0 to LABEL_%d. To give "
            "names, use --label-names, class 0 first",
            adapter_dir,
            num_labels - 1,
        )
    return list(names) or [f"LABEL_{number}" for number in range(num_labels)]


def _adapted(
    adapter: AdapterFolder, base: pretrained.BaseModel
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the encoder's state with the adapter merged in, and the head's tensors by name."""
    if adapter.method == "lora":
        tensors, described = peft_folder.read_adapter(
            adapter.path,
            base.config.model_type,
            model_config.with_defaults(base.config.to_dict()),
        )
        encoder = _with_pairs(base, tensors, described)
    else:
        tensors = peft_folder.read_tensors(adapter.path)
        encoder = _replaced(base, tensors, adapter.method, adapter.path)
    return encoder, {name: value for name, value in tensors.items() if name.startswith("head.")}


@torch.no_grad()
def _with_pairs(
    base: pretrained.BaseModel, tensors: dict[str, Tensor], adapter: Adapter
) -> dict[str, Tensor]:
    """Return the base model's state with W0 + s B A in place of every adapted W0, and its biases.

    s is the pair's own scale, alpha/r by default.
    """
    if left_out := adapter.left_out(modules.architecture_of(base).layers):
        log.info(
            "by its adapter_config.json the adapter has no pairs on %s, in layers counted from 0; "
            "their weights stay the base model's",
            ", ".join(left_out),
        )
    for name, pair in adapter.pairs.items():
        layer, letter = name.split(".")
        weight = modules.linear_of(base, int(layer), letter).weight
        delta = tensors[f"{name}.b"].double() @ tensors[f"{name}.a"].double()
        weight.copy_(weight.double() + pair.scale * delta)
    state = base.state_dict()
    biases = {name.removeprefix("base."): name for name in tensors if name.startswith("base.")}
    wrong = [
        f"{name}: got {list(tensors[biases[name]].shape)}, the base model has "
        f"{list(state[name].shape) if name in state else 'no such bias'}"
        for name in biases
        if name not in state or tensors[biases[name]].shape != state[name].shape
    ]
    if wrong:
        raise ConfigError(
            "The adapter's biases do not fit the base model; give the model it was trained on:",
            wrong,
        )
    return state | {name: tensors[stored].to(state[name].dtype) for name, stored in biases.items()}


def _replaced(
    base: pretrained.BaseModel, tensors: dict[str, Tensor], method: str, folder: Path
) -> dict[str, Tensor]:
    """Return the base model's state with the parameters that the run trained."""
    state = base.state_dict()
    trained = {name for name, _ in base.named_parameters() if methods.trains(method, name)}
    width = modules.architecture_of(base).width
    labels = max([1, *tensors["head.out.weight"].shape[:1]]) if "head.out.weight" in tensors else 1
    expected = {f"base.{name}": tuple(state[name].shape) for name in trained}
    expected |= {"head.dense.weight": (width, width), "head.dense.bias": (width,)}
    expected |= {"head.out.weight": (labels, width), "head.out.bias": (labels,)}
    problems = [f"{name} is missing" for name in sorted(set(expected) - set(tensors))]
    for name, value in tensors.items():
        if name not in expected:
            problems.append(f"{name} is not trained by {method} in the base model")
        elif tuple(value.shape) != expected[name]:
            problems.append(
                f"{name} has shape {list(value.shape)}, the base model has {list(expected[name])}"
            )
    if problems:
        raise ConfigError(
            f"{folder / peft_folder.TENSORS} does not fit the base model; give the model it was "
            "trained on:",
            problems,
        )
    return state | {name: tensors[f"base.{name}"].to(state[name].dtype) for name in trained}


def _has_pooler(model_dir: Path) -> bool:
    """Return whether a model folder has a pooler; transformers fills a missing one at random."""
    for path in model_dir.glob("*.safetensors"):
        with safetensors.safe_open(path, framework="pt") as stored:
            keys = stored.keys()
            if any(key.endswith("pooler.dense.weight") for key in keys):
                return True
    return False


def _classifier(
    state: dict[str, Tensor],
    base: pretrained.BaseModel,
    names: Sequence[str],
    model_dir: Path,
    dtype: torch.dtype,
) -> "PreTrainedModel":
    """Return transformers' sequence classification model with exactly these tensors and classes."""
    import transformers

    problem_type = "regression" if len(names) == 1 else "single_label_classification"
    config: Any = type(base.config).from_pretrained(model_dir, problem_type=problem_type)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.dtype = dtype
    classifier = getattr(transformers, FAMILIES[config.model_type].classifier_class)
    with torch.device("meta"):
        model: PreTrainedModel = classifier(config)
    model.load_state_dict(state, strict=True, assign=True)
    return model


def _write(model: "PreTrainedModel", model_dir: Path, output_dir: Path) -> None:
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output_dir.name}.", dir=output_dir.parent) as work:
        content = Path(work) / "content"
        model.save_pretrained(content)
        tokenizer = [name for name in TOKENIZER_FILES if (model_dir / name).is_file()]
        for name in tokenizer:
            shutil.copyfile(model_dir / name, content / name)
        if not tokenizer:
            log.warning(
                "%s has no tokenizer files: there are none in %s either", model_dir, output_dir
            )
        os.rename(content, output_dir)
