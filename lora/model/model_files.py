"""Check of the files in a model folder: weights of exactly one model, with the tensors it needs.

transformers loads model.safetensors, or the shards of model.safetensors.index.json, and takes no
notice of what else is there: a second set of weights, surplus tensors, pickles. With
adapter_config.json it loads another model than that of the folder. Only the headers of the files
are read. This module imports no torch.
"""

import fnmatch
import logging
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import safetensors

from lora import files
from lora.errors import ConfigError, shown
from lora.model import config
from lora.model.architecture import Architecture

log = logging.getLogger(__name__)
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FETCH_AGAIN = "fetch it again, or save it again with save_pretrained into an empty folder"
ONE_MODEL = "a model folder has the weights of one model; move the other files out of the folder"
MAX_NAMES = 3  # names that a line of a message lists before "and N more"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.*")
# Files of a model folder that no run reads, and that transformers would read in other settings.
NOT_READ = {
    "other formats of the weights": (
        *("pytorch_model*.bin", "pytorch_model*.bin.index.json", "model.ckpt*", "*.pt", "*.pth"),
        *("tf_model*.h5", "flax_model*.msgpack", "rust_model.ot", "*.onnx", "*.gguf", "*.mlmodel"),
        *("onnx", "openvino", "coreml"),
    ),
    "state of a training": (
        *("optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json"),
        *("training_args.bin", "checkpoint-*", "global_step*"),
    ),
}


def check(folder: Path) -> None:
    """Check that a folder has the weights of one model, with the tensors of its config.json.

    Files that are not read are named in the log.

    Raises:
        ValueError: If there is no config.json or no *.safetensors file, or a file is damaged.
        ConfigError: If weights are missing, surplus or there twice. It names every problem.
    """
    folder = Path(folder)
    architecture = Architecture.of(config.read(folder))
    names = sorted(path.name for path in folder.iterdir())
    stored = fnmatch.filter(names, "*.safetensors")
    if not stored:
        pickled = [
            name for name in names if fnmatch.fnmatch(name, "pytorch_model*.bin") or name == "onnx"
        ]
        has = f" It has {', '.join(pickled)}." if pickled else ""
        raise ValueError(
            f"{folder}: no *.safetensors file.{has} Pickled weights are not loaded: save the "
            "model again with transformers' save_pretrained, which writes model.safetensors"
        )
    headers = {name: _keys(folder / name) for name in stored}
    problems = check_names(names)
    if not problems and INDEX in names:
        problems = _check_index(folder / INDEX, headers)
    keys = [key for found in headers.values() for key in found]
    problems = problems or _check_keys(keys, architecture)
    if problems:
        raise ConfigError(
            f"{folder}: the weights do not fit its config.json. {FETCH_AGAIN.capitalize()}:",
            problems,
        )
    for what, patterns in NOT_READ.items():
        found = [name for name in names if any(fnmatch.fnmatch(name, one) for one in patterns)]
        if found:
            log.info("%s: not read, %s: %s", folder, what, _some(found))


def check_names(names: Collection[str]) -> list[str]:
    """Return a problem for weights of a second model, by the names of a folder's files."""
    problems = []
    adapter = [name for name in names if any(fnmatch.fnmatch(name, one) for one in ADAPTER_FILES)]
    if adapter:
        problems.append(
            f"{_some(adapter)}: files of an adapter, which transformers loads into the model; move "
            "them to a folder of their own"
        )
    stored = {name for name in fnmatch.filter(names, "*.safetensors") if name not in adapter}
    indexes = sorted(fnmatch.filter(names, "*.safetensors.index.json"))
    if surplus := [name for name in indexes if name != INDEX]:
        problems.append(f"{_some(surplus)}: allowed: {INDEX} alone; {ONE_MODEL}")
    if WEIGHTS in stored and len(stored) > 1:
        problems.append(
            f"{WEIGHTS} and also {_some(stored - {WEIGHTS})}: several sets of weights; {ONE_MODEL}"
        )
    elif WEIGHTS not in stored and INDEX not in names and stored:
        problems.append(
            f"{_some(stored)}: neither {WEIGHTS} nor {INDEX} is there, so it is not clear which "
            f"weights are the model's; rename the only file to {WEIGHTS}, or fetch the index"
        )
    return problems


def _check_index(path: Path, headers: dict[str, set[str]]) -> list[str]:
    """Return where the index of a sharded model and its shards disagree."""
    weight_map = files.read_object(path, FETCH_AGAIN).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(name, str) for name in weight_map.values()
    ):
        return [f"{INDEX}: weight_map is {shown(weight_map)}; allowed: files by name of tensor"]
    shards = set(weight_map.values())
    problems = []
    for what, names in (
        (f"shards that {INDEX} names are missing", shards - set(headers)),
        (f"files that {INDEX} does not name, another set of weights", set(headers) - shards),
    ):
        problems += [f"{what}: {_some(names)}"] if names else []
    if problems:
        return problems
    seen: dict[str, list[str]] = {}
    for name, keys in headers.items():
        for key in keys:
            seen.setdefault(key, []).append(name)
    for what, keys in (
        ("tensors that are in several shards", {key for key in seen if len(seen[key]) > 1}),
        (f"tensors of {INDEX} that are in no shard", set(weight_map) - set(seen)),
        (f"tensors of the shards that {INDEX} does not name", set(seen) - set(weight_map)),
        (
            f"tensors that are in another shard than {INDEX} says",
            {key for key in seen if len(seen[key]) == 1 and weight_map.get(key) not in seen[key]}
            & set(weight_map),
        ),
    ):
        problems += [f"{what}: {_some(keys)}"] if keys else []
    return problems


def _check_keys(keys: Collection[str], architecture: Architecture) -> list[str]:
    """Return the missing, foreign and double tensors of a model."""
    family = architecture.family
    plain: dict[str, list[str]] = {}
    for key in keys:
        plain.setdefault(_modern(key.removeprefix(f"{family.prefix}.")), []).append(key)
    expected = family.tensor_names(
        architecture.layers,
        architecture.projects_embeddings,
        architecture.relative,
        architecture.convolution,
    )
    surplus = [
        one
        for name, stored in plain.items()
        if name not in expected and not re.fullmatch(family.surplus, name)
        for one in stored
    ]
    twice = [" and ".join(sorted(stored)) for stored in plain.values() if len(stored) > 1]
    lines = {
        "missing in *.safetensors": expected - set(plain),
        "not part of a model with this config.json": surplus,
        "there under two names": twice,
    }
    return [f"{what}: {_some(names)}" for what, names in lines.items() if names]


def _modern(key: str) -> str:
    """Return the name of a tensor without the old names gamma and beta."""
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", key.replace("Norm.beta", "Norm.bias"))


def _keys(path: Path) -> set[str]:
    try:
        with safetensors.safe_open(path, framework="np") as stored:
            return set(stored.keys())
    # RuntimeError: no file handle is left.
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fetch the model again"
        ) from None


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
