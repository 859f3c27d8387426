"""Check that the runs of a pack fit their model and their tokens, before any training."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lora.data import tokens
from lora.errors import ConfigError
from lora.model import config as model_config
from lora.training.run_state import RunState

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check(pack: Sequence[RunState], base: "PreTrainedModel") -> None:
    """Raise ConfigError with every reason why a run does not fit its model or its tokens."""
    problems = [problem for run in pack for problem in _misfits(run, base)]
    if problems:
        raise ConfigError("The run does not fit its model and data:", sorted(set(problems)))


def _misfits(run: RunState, base: "PreTrainedModel") -> Iterator[str]:
    spec, facts = run.spec, run.facts
    config = model_config.with_defaults(base.config.to_dict())
    task, max_tokens = spec.task, spec.hparams.max_tokens
    longest = model_config.longest_sequence(config)
    if (facts.task, facts.num_labels) != (task.name, task.num_labels):
        yield (
            f"task is {task.name}, but the tokens in {spec.tokens_dir} are of {facts.task}; "
            f"give those of {task.name}"
        )
    lacking = [split for split in ("train", *task.eval_splits) if split not in facts.splits]
    if lacking:
        yield (
            f"the tokens in {spec.tokens_dir} have no split {', '.join(lacking)}; "
            "prepare them again"
        )
    if max_tokens != facts.max_tokens:
        yield f"max_tokens is {max_tokens}, the prepared tokens have {facts.max_tokens}"
    if max_tokens > longest:
        yield f"max_tokens is {max_tokens}; this model takes at most {longest}"
    yield from tokens.misfits(run.tokens, config)
    if spec.cell.rank > config["hidden_size"]:
        yield f"rank is {spec.cell.rank}; at most the model's width, {config['hidden_size']}"
    last = config["num_hidden_layers"] - 1
    if spec.cell.first_layer > last:
        yield f"weights is {spec.cell.weights}; allowed: at most this model's last layer, {last}"
