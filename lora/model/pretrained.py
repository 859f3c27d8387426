"""The frozen encoder in a model folder, or a refusal that says what in the folder is wrong.

transformers is lenient: tensors that a folder lacks are drawn at random, those it has no place for are left out, each with
a line in a log. A run on such a model would look like any other and mean nothing, so here both stop it. The one exception
is BERT's pooler, which checkpoints of its language model may lack: it is what a head's dense layer starts from, and that
then starts from the run's seed, as RoBERTa's does. Heads of other tasks are left out. Pickled weights are never opened.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import safetensors
import torch
from torch import nn

from lora.errors import ConfigError, shown
from lora.experiment.cell import MODEL_FAMILIES
from lora.model import config

log = logging.getLogger(__name__)
SHOWN = 3  # tensors that a message names before "and N more"


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The frozen encoder in a local folder, in evaluation mode.

    Raises ValueError for another family, a damaged file, or weights that are not all there, finite and of the shapes that
    config.json says.
    """
    folder = Path(folder)
    family = config.read(folder).get("model_type")
    if family not in MODEL_FAMILIES:
        raise ValueError(f"{folder}: model family {family!r}; allowed: {', '.join(MODEL_FAMILIES)}")
    _check_files(folder)
    base, report = _from_pretrained(folder, family, dtype)
    lacking = set(report["missing_keys"])
    if lacking and all(name.startswith("pooler.") for name in lacking):
        base.pooler, lacking = None, set()
        log.info("%s has no pooler: the head's dense layer starts from the run's seed", folder)
    problems = [
        *_some("missing in *.safetensors", lacking),
        *_some(
            "of another shape than config.json says",
            (entry[0] for entry in report["mismatched_keys"]),
        ),
        *_some(
            "without a place in a model of this config.json",
            filter(_is_encoder, report["unexpected_keys"]),
        ),
        *_some(
            "not finite",
            (name for name, value in base.named_parameters() if not torch.isfinite(value.sum())),
        ),
    ]
    if problems:
        raise ConfigError(
            f"{folder}: the weights are not those of its config.json; fetch the model again:",
            problems,
        )
    return base.requires_grad_(False).eval()


def _check_files(folder: Path) -> None:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(
            f"{folder}: no *.safetensors file; pickled weights are not loaded, convert them first"
        )
    for path in paths:
        try:
            with safetensors.safe_open(path, framework="pt"):
                pass
        except (
            safetensors.SafetensorError,
            OSError,
            RuntimeError,
        ) as error:  # the last: no file handle left
            raise ValueError(
                f"{path} is not a whole safetensors file ({error}); fetch the model again"
            ) from None


def _from_pretrained(folder: Path, family: str, dtype: torch.dtype) -> tuple[nn.Module, dict]:
    """The encoder, and transformers' report of the tensors it did not find, did not use or could not fit in."""
    from transformers import BertModel, RobertaModel
    from transformers.utils import logging as quieted

    quieted.disable_progress_bar()
    kind = dict(
        local_files_only=True, use_safetensors=True, dtype=dtype, attn_implementation="eager"
    )
    kind |= dict(output_loading_info=True, ignore_mismatched_sizes=True)
    with _quiet(quieted):
        try:
            if family == "bert":
                return BertModel.from_pretrained(folder, **kind)
            return RobertaModel.from_pretrained(folder, add_pooling_layer=False, **kind)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what a config that it cannot build leads to is of every kind
            what = f"{type(error).__name__}: {shown(str(error), 300)}"
            raise ValueError(
                f"{folder}: transformers cannot load this model ({what}); fetch it again"
            ) from error


def _is_encoder(name: str) -> bool:
    """Whether a tensor belongs to the encoder, and not to some head on top of it."""
    return ".encoder.layer." in f".{name}" or ".embeddings." in f".{name}"


def _some(what: str, names) -> list[str]:
    """One line that names a few tensors of many; none for none."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what}: {', '.join(names[:SHOWN])}{more}"] if names else []


@contextlib.contextmanager
def _quiet(logging) -> Iterator[None]:
    """transformers reports unused weights (a language-model head) at length; they are expected here."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
