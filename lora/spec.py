"""The nouns of the project: what a task, a source, a cell and a run's hyperparameters are, each checked once.

Everything else passes these frozen records around, so a value that exists is a value that was checked. They hold facts
only: where the facts come from is `grid`, what is done with them is everybody else. This module imports nothing of lora.
"""

import dataclasses
import math
import operator
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

WEIGHT_TYPES = "qkvo"  # in the paper's order (Sec. 4.2: Wq, Wk, Wv, Wo)
# method -> what a cell's `weights` may be: None for letters of WEIGHT_TYPES, otherwise one word, where <n> is a number.
METHODS = {
    "lora": None,
    "ft": "all",
    "bitfit": "bias",
    "adapter_houlsby": "both",  # after both sublayers of a layer: self-attention and feed-forward
    "adapter_pfeiffer": "ffn",  # after the feed-forward of every layer
    "adapter_drop": "ffn<n>",  # after the feed-forward of the layers from n on, counted from 0
}
# They train parameters of the base model itself, so that runs cannot share it, and have no rank.
BASE_METHODS = ("ft", "bitfit")
PRETRAINED = "pretrained"
MODEL_FAMILIES = ("bert", "roberta")
METRICS = ("accuracy", "f1", "precision", "recall", "matthews", "pearson", "spearman")
SOURCE_KINDS = ("hub", "file", "pypi")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of what becomes a folder: models, tasks, protocols, sources
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
TOLD = 30  # problems that a message lists
MOST = 2**31 - 1  # of whole numbers, so that no product of them or array of that size overflows in silence


def shown(value, longest: int = 120) -> str:
    """A value as a message shows it: as Python writes it, in its first `longest` characters."""
    try:
        written = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; lists in lists without end
        return f"a {type(value).__name__} too large to show"
    return written if len(written) <= longest else f"{written[:longest]}... ({len(written)} characters)"


def _check_name(what: str, name) -> list[str]:
    """What is wrong with a name that is also a folder's: nothing, or one line."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    return [f"{what} is {shown(name)}; allowed: letters, digits and . _ - after a letter or digit, as it names a folder"]


class Problems(ValueError):
    """Several things wrong with what the user gave, told together: each says what was got, what is allowed, what to do.

    The message lists the first TOLD of them and how many more there are: a file of another program is wrong in every line.
    """

    def __init__(self, title: str, problems: list[str]):
        self.problems = list(problems)
        more = [f"and {len(self.problems) - TOLD} more"] if len(self.problems) > TOLD else []
        super().__init__("\n".join([title, *(f"  - {problem}" for problem in [*self.problems[:TOLD], *more])]))


@dataclass(frozen=True)
class Task:
    """A data set with a question: `num_labels` 1 is regression, otherwise classification with that many classes.

    `metric` is the one the table shows and the best epoch is chosen by. The first of `eval_splits` is the one reported;
    a second one (MNLI mismatched) is recorded beside it. `mirrors` names the GLUE task of the same kind, for demo tasks.
    """

    name: str
    title: str
    dataset: str
    format: str
    text_columns: tuple[str, ...]
    num_labels: int
    metric: str
    eval_splits: tuple[str, ...]
    mirrors: str

    def __post_init__(self):
        problems = _check_name("task", self.name) + _check_name("dataset", self.dataset)
        if not 1 <= self.num_labels <= MOST:
            problems.append(f"num_labels is {shown(self.num_labels)}; allowed: 1 (regression) or the number of classes")
        if self.metric not in METRICS:
            problems.append(f"metric is {self.metric!r}; allowed: {', '.join(METRICS)}")
        if (self.num_labels == 1) != (self.metric in ("pearson", "spearman")):
            problems.append(f"metric {self.metric!r} does not fit num_labels {self.num_labels}")
        if len(self.text_columns) not in (1, 2):
            problems.append(f"text_columns has {len(self.text_columns)} names; allowed: 1 (sentence) or 2 (sentence pair)")
        if len(self.eval_splits) not in (1, 2):
            problems.append(f"eval_splits has {len(self.eval_splits)} names; allowed: 1, or 2 as MNLI has")
        for key, names in (("text_columns", self.text_columns), ("eval_splits", self.eval_splits)):
            if len(set(names)) < len(names):
                problems.append(f"{key} is {' '.join(names)!r}; allowed: each only once")
        if "train" in self.eval_splits:
            problems.append("eval_splits has 'train'; allowed: splits that the run does not train on")
        if problems:
            raise Problems(f"config/tasks.csv, task {self.name!r}:", problems)

    @property
    def is_regression(self) -> bool:
        return self.num_labels == 1


@dataclass(frozen=True)
class Source:
    """Where a data set or a model comes from. `kind` says how `locator` is read.

    hub: `owner/name` (a model) or `owner/name:config` (a data set), at `revision`. file: a folder. pypi:
    `package==version#path/inside`, where `revision` is `wheel` or `sdist` and `sha256` is the archive's.
    """

    name: str
    role: str
    kind: str
    locator: str
    revision: str
    sha256: str
    licence: str

    def __post_init__(self):
        problems = _check_name("name", self.name)
        if self.role not in ("model", "data"):
            problems.append(f"role is {shown(self.role)}; allowed: model, data")
        if self.kind not in SOURCE_KINDS:
            problems.append(f"kind is {shown(self.kind)}; allowed: {', '.join(SOURCE_KINDS)}")
        if not self.locator:
            problems.append("locator is empty; give a hub name, a folder or package==version#path")
        elif not self.locator.isprintable():
            problems.append(f"locator is {shown(self.locator)}; allowed: one line of printable text")
        if self.kind == "hub" and not re.fullmatch("[0-9a-f]{40}", self.revision):
            problems.append(f"revision is {shown(self.revision)}; a hub source is pinned by a 40-digit commit")
        if self.kind == "pypi" and self.revision not in ("wheel", "sdist"):
            problems.append(f"revision is {shown(self.revision)}; a pypi source says wheel or sdist")
        if (self.kind == "pypi" or self.sha256) and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            pinned = "a pypi source is pinned by its archive's" if self.kind == "pypi" else "allowed: none, or a"
            problems.append(f"sha256 is {shown(self.sha256)}; {pinned} 64-digit sha256")
        if problems:
            raise Problems(f"source {self.name!r}:", problems)

    @property
    def identity(self) -> str:
        """What pins the content, in one line: a parameter of the rules that depend on it."""
        return " ".join(part for part in (self.kind, self.locator, self.revision, self.sha256) if part)


@dataclass(frozen=True, order=True)
class Cell:
    """A run without its seed. Its path is its identity, so a cell that two tables need is trained once.

    `weights` says what is adapted: letters of weight types for LoRA, a word of METHODS for the others. `rank` is LoRA's r,
    an adapter's bottleneck, or 0 for methods that train the base model's own parameters.
    """

    model: str
    task: str
    method: str
    weights: str
    rank: int
    protocol: str

    def __post_init__(self):
        problems = [problem for axis in ("protocol", "model", "task") for problem in _check_name(axis, getattr(self, axis))]
        if self.method not in METHODS:
            problems.append(f"method is {shown(self.method)}; allowed: {', '.join(METHODS)}")
        elif problem := _check_weights(self.method, self.weights):
            problems.append(problem)
        is_whole = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if self.method in BASE_METHODS and not (is_whole and self.rank == 0):
            problems.append(f"rank is {shown(self.rank)}; allowed for method {self.method!r}: 0, it has none")
        elif self.method not in BASE_METHODS and not (is_whole and 1 <= self.rank <= MOST):
            problems.append(f"rank is {shown(self.rank)}; allowed: an integer of at least 1, at most {MOST}")
        if problems:
            raise Problems(f"cell {shown(self.model)}/{shown(self.task)}:", problems)

    @property
    def path(self) -> str:
        return f"{self.protocol}/{self.model}/{self.task}/{self.method}/{self.weights}/r{self.rank}"

    @property
    def first_layer(self) -> int:
        """The lowest layer with an adapter, from 0."""
        return int(self.weights.removeprefix("ffn") or 0) if self.method == "adapter_drop" else 0

    @classmethod
    def parse(cls, path: str) -> "Cell":
        """The cell whose `path` this is; raises ValueError for anything else."""
        parts = PurePosixPath(path).parts
        if len(parts) != 6 or not parts[5].startswith("r") or not parts[5][1:].isdecimal():
            raise ValueError(f"not a cell's path: {path!r}; allowed: protocol/model/task/method/weights/r<rank>")
        return cls(*parts[1:5], rank=int(parts[5][1:]), protocol=parts[0])


CELL_AXES = tuple(field.name for field in dataclasses.fields(Cell))


def _check_weights(method: str, weights: str) -> str | None:
    """What is wrong with `weights` of a cell of this method, or None."""
    word = METHODS[method]
    if word is None:
        canonical = "".join(letter for letter in WEIGHT_TYPES if letter in weights)
        if weights and weights == canonical:
            return None
        hint = f"; write {canonical!r}" if canonical and set(weights) <= set(WEIGHT_TYPES) else ""
        return f"weights is {shown(weights)}; allowed: letters of {WEIGHT_TYPES!r}, each once, in that order{hint}"
    start, numbered, _ = word.partition("<n>")
    if weights == word and not numbered or numbered and re.fullmatch(f"{start}(0|[1-9][0-9]{{0,3}})", weights):
        return None
    return f"weights is {shown(weights)}; allowed for method {method!r}: {word}"


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

    epochs: int = _setting("passes over the training set", minimum=1, maximum=MOST)
    learning_rate: float = _setting("peak, after warm-up", above=0)
    examples_per_step: int = _setting("examples of one run that one optimiser step sees", minimum=1, maximum=MOST)
    max_tokens: int = _setting("tokens, with the special ones; longer examples are cut", minimum=4, maximum=512)
    alpha: float = _setting("LoRA scale is alpha/r; a number, or <c>r for c times the rank", above=0)
    lora_dropout: float = _setting("probability, on the input of A", minimum=0, maximum=0.9)
    init_a: str = _setting("how A starts (B is zero)", choices=("kaiming", "gaussian"))
    init_a_std: float = _setting("standard deviation of a gaussian A", above=0)
    head: str = _setting("whether the classification head trains", choices=("trained", "frozen"))
    start: str = _setting("what it starts from: pretrained, a task (the best run of its protocol), or a PEFT folder")
    weight_decay: float = _setting("decoupled, off biases and LayerNorm", minimum=0)
    warmup_frac: float = _setting("share of all steps", minimum=0, maximum=1)
    max_grad_norm: float = _setting("per run; 0 is off", minimum=0)
    adam_beta1: float = _setting("", minimum=0, below=1)
    adam_beta2: float = _setting("", minimum=0, below=1)
    adam_epsilon: float = _setting("", above=0)

    def __post_init__(self):
        problems = [problem for name in HPARAM_NAMES if (problem := check_setting(name, getattr(self, name)))]
        if problems:
            raise Problems("hyperparameters:", problems)

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
        raise ValueError(f"seed is {shown(seed)}; allowed: a whole number of at least 0, below 2^32")
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
    for limit, word in (("minimum", " of at least"), ("above", " above"), ("maximum", ", at most"), ("below", ", below")):
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
        fits = isinstance(value, (int, spec.type)) and not isinstance(value, bool) and _within(value, limits)
    return None if fits else f"{name} is {shown(value)}; allowed: {allowed_values(name)}"


def _within(value: int | float, limits) -> bool:
    """Whether a number is finite, also as a float, and within a hyperparameter's limits."""
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False
    tests = dict(minimum=operator.ge, above=operator.gt, maximum=operator.le, below=operator.lt)
    return finite and all(limits[name] is None or test(value, limits[name]) for name, test in tests.items())


def parse_setting(name: str, text, rank: int):
    """A hyperparameter from its written form in CSV, config or command line; raises ValueError saying what is allowed."""
    if name not in HPARAM_FIELDS:
        raise ValueError(f"no hyperparameter {shown(name)}; there are: {', '.join(HPARAM_NAMES)}")
    kind = HPARAM_FIELDS[name].type
    value = text.strip() if isinstance(text, str) else text
    if kind is not str and isinstance(value, str):
        value = _number(name, value, rank)
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) <= MOST:
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
    return float(digits) * (max(1, rank) if is_factor else 1)  # a method without a rank has no use for it
