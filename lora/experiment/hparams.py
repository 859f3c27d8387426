"""Hyperparameters of a run: names, units, allowed values and parsing."""

import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from lora.errors import ConfigError, shown
from lora.experiment.cell import Cell
from lora.experiment.names import MAX_INT
from lora.files import NUMBER

PRETRAINED = "pretrained"
KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "one line of text"}


def _setting(
    unit: str,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a field of Hparams with its unit and allowed values; Any, as dataclasses.field is."""
    limits = dict(minimum=minimum, above=above, maximum=maximum, below=below, choices=choices)
    return field(metadata=dict(unit=unit) | limits)


@dataclass(frozen=True)
class Hparams:
    """Hyperparameters of a run: what its protocol decides. The values come from config/hparams.csv.

    `alpha` is a number here; in the CSV it may also be `<c>r`, c times the rank. The other methods
    ignore what only LoRA has: alpha, lora_dropout, init_a and init_a_std.

    Raises:
        ConfigError: If a value is not allowed.
    """

    epochs: int = _setting("passes over the training set", minimum=1, maximum=MAX_INT)
    learning_rate: float = _setting("peak, after warm-up", above=0)
    examples_per_step: int = _setting("examples per optimizer step", minimum=1, maximum=MAX_INT)
    max_tokens: int = _setting(
        "tokens, with the special ones; longer examples are cut", minimum=4, maximum=512
    )
    alpha: float = _setting(
        "LoRA scale is alpha/r; a number, or <c>r for c times the rank", above=0
    )
    lora_dropout: float = _setting("probability, on the input of A", minimum=0, maximum=0.9)
    init_a: str = _setting("initialization of A (B is zero)", choices=("kaiming", "gaussian"))
    init_a_std: float = _setting("standard deviation of a gaussian A", above=0)
    head: str = _setting("whether the classification head trains", choices=("trained", "frozen"))
    start: str = _setting(
        "pretrained, a task (start from the best run of its protocol), or a PEFT folder"
    )
    weight_decay: float = _setting("decoupled, off biases and LayerNorm", minimum=0)
    warmup_frac: float = _setting("share of all steps", minimum=0, maximum=1)
    max_grad_norm: float = _setting("per run; 0 is off", minimum=0)
    adam_beta1: float = _setting("", minimum=0, below=1)
    adam_beta2: float = _setting("", minimum=0, below=1)
    adam_epsilon: float = _setting("", above=0)

    def __post_init__(self) -> None:
        problems = [
            problem
            for name in HPARAM_NAMES
            if (problem := check_setting(name, getattr(self, name)))
        ]
        if problems:
            raise ConfigError("hyperparameters:", problems)

    def as_dict(self) -> dict[str, int | float | str]:
        return dataclasses.asdict(self)

    @property
    def start_task(self) -> str | None:
        """The task whose best run this one starts from; None for `pretrained` or a folder."""
        return None if self.start == PRETRAINED or "/" in self.start else self.start


def run_settings(cell: Cell, seed: int, hparams: Hparams) -> dict[str, object]:
    """Return what run.json holds under `settings`, as plain JSON values.

    Raises:
        ValueError: If the seed is not a whole number from 0 to 2^32 - 1.
    """
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(
            f"seed is {shown(seed)}; allowed: a whole number of at least 0, below 2^32"
        )
    return dataclasses.asdict(cell) | dict(seed=seed, hparams=hparams.as_dict())


HPARAM_FIELDS = {spec.name: spec for spec in dataclasses.fields(Hparams)}
HPARAM_NAMES = tuple(HPARAM_FIELDS)
HPARAM_TYPES: dict[str, type[int] | type[float] | type[str]] = get_type_hints(Hparams)


def allowed_values(name: str) -> str:
    """Return the allowed values of a hyperparameter, in words."""
    limits = HPARAM_FIELDS[name].metadata
    if limits["choices"]:
        return " or ".join(limits["choices"])
    words = KINDS[HPARAM_TYPES[name]]
    for limit, word in (
        ("minimum", " of at least"),
        ("above", " above"),
        ("maximum", ", at most"),
        ("below", ", below"),
    ):
        if limits[limit] is not None:
            words += f"{word} {limits[limit]}"
    return words


def check_setting(name: str, value: object) -> str | None:
    """Return what is wrong with a value of a hyperparameter, or None."""
    limits, kind = HPARAM_FIELDS[name].metadata, HPARAM_TYPES[name]
    if limits["choices"]:
        fits = value in limits["choices"]
    elif kind is str:
        fits = isinstance(value, str) and value == value.strip() != "" and value.isprintable()
    else:
        is_number = isinstance(value, int) or (kind is float and isinstance(value, float))
        fits = is_number and not isinstance(value, bool) and _within(value, limits)
    return None if fits else f"{name} is {shown(value)}; allowed: {allowed_values(name)}"


def _within(value: Any, limits: Mapping[str, Any]) -> bool:
    """Return whether a number is finite, also as a float, and within a hyperparameter's limits."""
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False
    tests = dict(minimum=operator.ge, above=operator.gt, maximum=operator.le, below=operator.lt)
    return finite and all(
        limits[name] is None or test(value, limits[name]) for name, test in tests.items()
    )


def parse_setting(name: str, text: object, rank: int) -> int | float | str:
    """Return a hyperparameter's value from its form in the CSV, the config or the command line.

    Args:
        name: The hyperparameter.
        text: A number, or text. Alpha may be `<c>r`.
        rank: The cell's rank, for alpha.

    Raises:
        ValueError: If there is no such hyperparameter, or the value is not allowed.
    """
    if name not in HPARAM_FIELDS:
        raise ValueError(f"no hyperparameter {shown(name)}; there are: {', '.join(HPARAM_NAMES)}")
    kind = HPARAM_TYPES[name]
    value = text.strip() if isinstance(text, str) else text
    if kind is not str and isinstance(value, str):
        value = _number(name, value, rank)
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INT:
        value = int(value)
    problem = check_setting(name, value)
    if problem:
        raise ValueError(problem)
    return kind(value) if isinstance(value, (int, float)) else str(value)


def _number(name: str, written: str, rank: int) -> float | str:
    """Return the number in a text, with `<c>r` of alpha resolved; the text if it is no number."""
    is_factor = name == "alpha" and written.endswith("r")
    digits = written.removesuffix("r") if is_factor else written
    if not NUMBER.fullmatch(digits):
        return written
    return float(digits) * (max(1, rank) if is_factor else 1)  # methods without a rank ignore alpha
