"""Hyperparameters of a run: names, units, allowed values and parsing."""

import dataclasses
import math
import operator
from dataclasses import dataclass, field

from lora.errors import ConfigError, shown
from lora.experiment.cell import Cell
from lora.experiment.names import MAX_INT
from lora.files import NUMBER

PRETRAINED = "pretrained"


def _setting(unit: str, minimum=None, above=None, maximum=None, below=None, choices=None):
    """A field of Hparams with its unit and the values it may take."""
    limits = dict(minimum=minimum, above=above, maximum=maximum, below=below, choices=choices)
    return field(metadata=dict(unit=unit) | limits)


@dataclass(frozen=True)
class Hparams:
    """Everything about a run that its protocol decides. No field has a default: `config/hparams.csv` is the one place.

    `alpha` is a number here; in the CSV it may also be `<c>r`, c times the rank. `max_grad_norm` 0 is no clipping. What
    LoRA alone has (alpha, its dropout, the start of A) means nothing for the other methods.
    """

    epochs: int = _setting("passes over the training set", minimum=1, maximum=MAX_INT)
    learning_rate: float = _setting("peak, after warm-up", above=0)
    examples_per_step: int = _setting(
        "examples of one run that one optimiser step sees", minimum=1, maximum=MAX_INT
    )
    max_tokens: int = _setting(
        "tokens, with the special ones; longer examples are cut", minimum=4, maximum=512
    )
    alpha: float = _setting(
        "LoRA scale is alpha/r; a number, or <c>r for c times the rank", above=0
    )
    lora_dropout: float = _setting("probability, on the input of A", minimum=0, maximum=0.9)
    init_a: str = _setting("how A starts (B is zero)", choices=("kaiming", "gaussian"))
    init_a_std: float = _setting("standard deviation of a gaussian A", above=0)
    head: str = _setting("whether the classification head trains", choices=("trained", "frozen"))
    start: str = _setting(
        "what it starts from: pretrained, a task (the best run of its protocol), or a PEFT folder"
    )
    weight_decay: float = _setting("decoupled, off biases and LayerNorm", minimum=0)
    warmup_frac: float = _setting("share of all steps", minimum=0, maximum=1)
    max_grad_norm: float = _setting("per run; 0 is off", minimum=0)
    adam_beta1: float = _setting("", minimum=0, below=1)
    adam_beta2: float = _setting("", minimum=0, below=1)
    adam_epsilon: float = _setting("", above=0)

    def __post_init__(self):
        problems = [
            problem
            for name in HPARAM_NAMES
            if (problem := check_setting(name, getattr(self, name)))
        ]
        if problems:
            raise ConfigError("hyperparameters:", problems)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    @property
    def start_task(self) -> str | None:
        """The task whose best run this one starts from; None where it starts from the pre-trained model or a folder."""
        return None if self.start == PRETRAINED or "/" in self.start else self.start


def run_settings(cell: Cell, seed: int, hparams: Hparams) -> dict:
    """What run.json holds under `settings`: all that was asked of one run, as plain JSON values. Raises ValueError for a
    seed that no generator takes."""
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(
            f"seed is {shown(seed)}; allowed: a whole number of at least 0, below 2^32"
        )
    return dataclasses.asdict(cell) | dict(seed=seed, hparams=hparams.as_dict())


HPARAM_FIELDS = {spec.name: spec for spec in dataclasses.fields(Hparams)}
HPARAM_NAMES = tuple(HPARAM_FIELDS)


def allowed_values(name: str) -> str:
    """In words: the values hyperparameter `name` may take."""
    spec = HPARAM_FIELDS[name]
    limits = spec.metadata
    if limits["choices"]:
        return " or ".join(limits["choices"])
    words = {int: "a whole number", float: "a number", str: "one line of text"}[spec.type]
    for limit, word in (
        ("minimum", " of at least"),
        ("above", " above"),
        ("maximum", ", at most"),
        ("below", ", below"),
    ):
        if limits[limit] is not None:
            words += f"{word} {limits[limit]}"
    return words


def check_setting(name: str, value) -> str | None:
    """What is wrong with this value of hyperparameter `name`, or None."""
    spec = HPARAM_FIELDS[name]
    limits = spec.metadata
    if limits["choices"]:
        fits = value in limits["choices"]
    elif spec.type is str:
        fits = isinstance(value, str) and value == value.strip() != "" and value.isprintable()
    else:
        fits = (
            isinstance(value, (int, spec.type))
            and not isinstance(value, bool)
            and _within(value, limits)
        )
    return None if fits else f"{name} is {shown(value)}; allowed: {allowed_values(name)}"


def _within(value: int | float, limits) -> bool:
    """Whether a number is finite, also as a float, and within a hyperparameter's limits."""
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False
    tests = dict(minimum=operator.ge, above=operator.gt, maximum=operator.le, below=operator.lt)
    return finite and all(
        limits[name] is None or test(value, limits[name]) for name, test in tests.items()
    )


def parse_setting(name: str, text, rank: int):
    """A hyperparameter from its written form in CSV, config or command line; raises ValueError saying what is allowed."""
    if name not in HPARAM_FIELDS:
        raise ValueError(f"no hyperparameter {shown(name)}; there are: {', '.join(HPARAM_NAMES)}")
    kind = HPARAM_FIELDS[name].type
    value = text.strip() if isinstance(text, str) else text
    if kind is not str and isinstance(value, str):
        value = _number(name, value, rank)
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INT:
        value = int(value)
    problem = check_setting(name, value)
    if problem:
        raise ValueError(problem)
    return kind(value)


def _number(name: str, written: str, rank: int) -> float | str:
    """The number that a text says, alpha's `<c>r` times the rank; the text itself where it says none."""
    is_factor = name == "alpha" and written.endswith("r")
    digits = written.removesuffix("r") if is_factor else written
    if not NUMBER.fullmatch(digits):
        return written
    return float(digits) * (
        max(1, rank) if is_factor else 1
    )  # a method without a rank has no use for it
