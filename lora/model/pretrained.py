"""Load a frozen BERT or RoBERTa encoder from a model folder.

transformers fills missing tensors with random values and ignores surplus ones, with a line in the
log. Here both are errors (see `model_files`), because a run on such a model would look like any
other. Two exceptions: BERT's pooler may be missing (the head's dense layer then starts from the
run's seed, as RoBERTa's does), and heads of other tasks are ignored. Pickled weights are never
opened.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from lora.errors import ConfigError, shown
from lora.experiment.cell import MODEL_FAMILIES
from lora.model import config, model_files

if TYPE_CHECKING:
    from transformers import BertModel, RobertaModel

BaseModel: TypeAlias = "BertModel | RobertaModel"
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
    family = config.read(folder).get("model_type")
    if family not in MODEL_FAMILIES:
        raise ValueError(f"{folder}: model family {family!r}; allowed: {', '.join(MODEL_FAMILIES)}")
    model_files.check(folder)
    base, report = _from_pretrained(folder, family, dtype)
    missing = set(report["missing_keys"])
    if missing and all(name.startswith("pooler.") for name in missing):
        base.pooler, missing = None, set()
        log.info("%s has no pooler: the head's dense layer starts from the run's seed", folder)
    infinite = (name for name, value in base.named_parameters() if not torch.isfinite(value.sum()))
    problems = [
        *_list_some("missing in *.safetensors", missing),
        *_list_some(
            "other shape than in config.json", (entry[0] for entry in report["mismatched_keys"])
        ),
        *_list_some(
            "not part of a model with this config.json",
            filter(_is_encoder, report["unexpected_keys"]),
        ),
        *_list_some("not finite", infinite),
    ]
    if problems:
        raise ConfigError(
            f"{folder}: the weights do not fit its config.json. Fetch the model again:", problems
        )
    return base.requires_grad_(False).eval()


def _from_pretrained(folder: Path, family: str, dtype: torch.dtype) -> tuple[BaseModel, Report]:
    """Return the encoder and transformers' report of missing, surplus and mismatched tensors."""
    from transformers import BertModel, RobertaModel
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
            if family == "bert":
                loaded: object = BertModel.from_pretrained(folder, **options)
            else:
                loaded = RobertaModel.from_pretrained(folder, add_pooling_layer=False, **options)
            return cast("tuple[BaseModel, Report]", loaded)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a config that it cannot build can raise anything
            what = f"{type(error).__name__}: {shown(str(error), 300)}"
            raise ValueError(
                f"{folder}: transformers cannot load this model ({what}); fetch it again"
            ) from error


def _is_encoder(name: str) -> bool:
    """Return whether a tensor belongs to the encoder, not to a head on top of it."""
    return ".encoder.layer." in f".{name}" or ".embeddings." in f".{name}"


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
