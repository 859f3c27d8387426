"""Cells: a cell is a run without its seed. The methods and weight types that it may have."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from lora.errors import ConfigError, shown
from lora.experiment.names import MAX_INT, check_name

WEIGHT_TYPES = "qkvo"  # in the paper's order (Sec. 4.2: Wq, Wk, Wv, Wo)
# Method -> the allowed `weights`: None for letters of WEIGHT_TYPES, otherwise one word, in which
# <n> is a number.
METHODS: dict[str, str | None] = {
    "lora": None,
    "ft": "all",
    "bitfit": "bias",
    "adapter_houlsby": "both",  # after both sublayers of a layer: self-attention and feed-forward
    "adapter_pfeiffer": "ffn",  # after the feed-forward of every layer
    "adapter_drop": "ffn<n>",  # after the feed-forward of the layers from n on; n starts at 0
}
# Methods that train the base model's own parameters: runs can't share it, and there is no rank.
BASE_METHODS = ("ft", "bitfit")


@dataclass(frozen=True, order=True)
class Cell:
    """A run without its seed.

    Its path is its identity, so a cell that two tables need is trained once.

    Attributes:
        model: Model, by its name in config/sources.csv.
        task: Task, by its name in config/tasks.csv.
        method: A key of METHODS.
        weights: What is adapted: letters of WEIGHT_TYPES for lora, the word of METHODS otherwise.
        rank: LoRA's r, an adapter's bottleneck, or 0 for BASE_METHODS.
        protocol: Protocol, by its name in config/hparams.csv or in the config.

    Raises:
        ConfigError: If a value is not allowed.
    """

    model: str
    task: str
    method: str
    weights: str
    rank: int
    protocol: str

    def __post_init__(self) -> None:
        problems = [
            problem
            for axis in ("protocol", "model", "task")
            for problem in check_name(axis, getattr(self, axis))
        ]
        if self.method not in METHODS:
            problems.append(f"method is {shown(self.method)}; allowed: {', '.join(METHODS)}")
        elif problem := _check_weights(self.method, self.weights):
            problems.append(problem)
        is_whole = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if self.method in BASE_METHODS and not (is_whole and self.rank == 0):
            problems.append(
                f"rank is {shown(self.rank)}; allowed for method {self.method!r}: 0, it has none"
            )
        elif self.method not in BASE_METHODS and not (is_whole and 1 <= self.rank <= MAX_INT):
            problems.append(
                f"rank is {shown(self.rank)}; allowed: an integer of at least 1, at most {MAX_INT}"
            )
        if problems:
            raise ConfigError(f"cell {shown(self.model)}/{shown(self.task)}:", problems)

    @property
    def path(self) -> str:
        """Folder of the cell's runs: protocol/model/task/method/weights/r<rank>."""
        return f"{self.protocol}/{self.model}/{self.task}/{self.method}/{self.weights}/r{self.rank}"

    @property
    def first_layer(self) -> int:
        """The first layer with an adapter, counted from 0."""
        return int(self.weights.removeprefix("ffn") or 0) if self.method == "adapter_drop" else 0

    @classmethod
    def parse(cls, path: str) -> "Cell":
        """Return the cell with this `path`; raise ValueError if it is not a cell's path."""
        parts = PurePosixPath(path).parts
        if len(parts) != 6 or not parts[5].startswith("r") or not parts[5][1:].isdecimal():
            raise ValueError(
                f"not the path of a cell: {path!r}; allowed: "
                "protocol/model/task/method/weights/r<rank>"
            )
        return cls(*parts[1:5], rank=int(parts[5][1:]), protocol=parts[0])


def _check_weights(method: str, weights: str) -> str | None:
    """Return what is wrong with the weights of a cell of this method, or None."""
    word = METHODS[method]
    if word is None:
        canonical = "".join(letter for letter in WEIGHT_TYPES if letter in weights)
        if weights and weights == canonical:
            return None
        hint = f"; write {canonical!r}" if canonical and set(weights) <= set(WEIGHT_TYPES) else ""
        return (
            f"weights is {shown(weights)}; allowed: letters of {WEIGHT_TYPES!r}, each once, in "
            f"that order{hint}"
        )
    start, numbered, _ = word.partition("<n>")
    fits = re.fullmatch(f"{start}(0|[1-9][0-9]{{0,3}})", weights) if numbered else weights == word
    if fits:
        return None
    return f"weights is {shown(weights)}; allowed for method {method!r}: {word}"
