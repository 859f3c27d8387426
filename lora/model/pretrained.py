"""Load a frozen encoder of a supported family from a model folder.

transformers fills missing tensors with random values and ignores surplus ones, with a line in the
log. Here both are errors (see `model_files`), because a run on such a model would look like any
other. Two exceptions: BERT's pooler may be missing (the head's dense layer then starts from the
run's seed, as in other families), and heads of other tasks are ignored. Pickled weights are never
opened.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import safetensors
import torch

from lora.errors import ConfigError, shown
from lora.model import config, model_files
from lora.model.families import registry
from lora.model.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BaseModel: TypeAlias = "PreTrainedModel"  # an encoder of one of registry.FAMILIES
Report: TypeAlias = dict[str, list[Any]]  # transformers: names of tensors by kind of problem
log = logging.getLogger(__name__)
MAX_NAMES = 3  # tensors that a message names before "and N more"


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> BaseModel:
    """Load the encoder of a model folder, frozen and in evaluation mode, on the CPU.

    Args:
        folder: Folder with config.json and *.safetensors, as `save_pretrained` writes it.
        dtype: Type of the weights.

    Raises:
        ValueError: If the model is of another family or a file is damaged.
        ConfigError: If a tensor is missing, surplus, not finite, or has another shape than
            config.json says.
    """
    folder = Path(folder)
    settings = config.read(folder)
    if "model_type" not in settings:
        raise ValueError(f"{folder}: {config.NAME} has no model_type; allowed: {registry.ALLOWED}")
    family = registry.family_of(settings)
    model_files.check(folder)
    base, report = _from_pretrained(folder, family, dtype)
    missing = set(report["missing_keys"])
    if missing and all(name.startswith("pooler.") for name in missing):
        base.register_module("pooler", None)
        missing = set()
        log.info("%s has no pooler: the head's dense layer starts from the run's seed", folder)
    infinite = (name for name, value in base.named_parameters() if not torch.isfinite(value.sum()))
    problems = [
        *_list_some("missing in *.safetensors", missing),
        *_list_some(
            "other shape than in config.json", (entry[0] for entry in report["mismatched_keys"])
        ),
        *_list_some(
            "not part of a model with this config.json",
            (key for key in report["unexpected_keys"] if _is_encoder(key, family)),
        ),
        *_list_some("not finite", infinite),
    ]
    if problems:
        raise ConfigError(
            f"{folder}: the weights do not fit its config.json. Fetch the model again:", problems
        )
    _read_pooler(base, folder)
    return base.requires_grad_(False).eval()


@torch.no_grad()
def _read_pooler(base: BaseModel, folder: Path) -> None:
    """Read BERT's pooler in at least float32: the head starts from it, and trains.

    A bf16 base is rounded, but what trains must start from the values of the file.
    """
    pooler = getattr(base, "pooler", None)
    if pooler is None or base.dtype.itemsize >= torch.float32.itemsize:
        return
    pooler.float()
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                if (name := key.rpartition("pooler.dense.")[2]) in ("weight", "bias") and (
                    "pooler.dense." in key
                ):
                    getattr(pooler.dense, name).copy_(stored.get_tensor(key))


def _from_pretrained(folder: Path, family: Family, dtype: torch.dtype) -> tuple[BaseModel, Report]:
    """Return the encoder and transformers' report of missing, surplus and mismatched tensors."""
    import transformers
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    options: dict[str, Any] = {
        "local_files_only": True,
        "use_safetensors": True,
        "dtype": dtype,
        "attn_implementation": "eager",
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    with _errors_only():
        try:
            model_class: type[PreTrainedModel] = getattr(transformers, family.model_class)
            loaded: object = model_class.from_pretrained(folder, **family.model_options, **options)
            return cast("tuple[BaseModel, Report]", loaded)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a config that it cannot build can raise anything
            what = f"{type(error).__name__}: {shown(str(error), 300)}"
            raise ValueError(
                f"{folder}: transformers cannot load this model ({what}); fetch it again"
            ) from error


def _is_encoder(name: str, family: Family) -> bool:
    """Return whether a tensor belongs to the encoder, not to a head on top of it."""
    return f".{family.layers}." in f".{name}" or ".embeddings." in f".{name}"


def _list_some(what: str, names: Iterable[str]) -> list[str]:
    """Return one line that names the first few tensors; no line if there are none."""
    names = sorted(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return [f"{what}: {', '.join(names[:MAX_NAMES])}{more}"] if names else []


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Silence transformers' report of unused weights, such as a language-model head."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
