"""How large a training is before anything is fetched: shapes of models, tokens of tasks, rates of devices.

The rows come from config/models.csv, lengths.csv and devices.csv. What lies in the results folder already is better known
and is taken instead: the config.json of a fetched model, the tokens.json of prepared data. What neither knows is assumed,
never refused, since a forecast decides no result: a model is taken to be as roberta-base, a task as MNLI, and the assumption
is said in words. Read by Snakemake in every job, so it imports neither numpy nor torch.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from lora import facts, model_config
from lora.facts import ROOT
from lora.spec import MODEL_FAMILIES

USUAL_MODEL, USUAL_TASK = "roberta-base", "mnli"
FOLDERS = ("fetched.json", "tokens.json")  # which of the results stand for a whole folder: they are written last


@dataclass(frozen=True)
class Shape:
    """Sizes of a BERT or RoBERTa encoder; `width` is D, `inner` the feed-forward's."""

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    positions: int
    types: int

    @property
    def parameters(self) -> int:
        """Of the encoder without pooler or head: embeddings and their norm, then projections, feed-forward and norms."""
        attention, norms = 4 * self.width * (self.width + 1), 4 * self.width
        feed_forward = 2 * self.width * self.inner + self.inner + self.width
        embeddings = (self.vocabulary + self.positions + self.types + 2) * self.width
        return embeddings + self.layers * (attention + feed_forward + norms)


@dataclass(frozen=True)
class Split:
    """Examples of a split and their tokens: the mean, and `attended`, the mean over tokens of the length of the sentence
    that they stand in, E[L^2] / E[L]."""

    examples: int
    mean: float
    attended: float

    @property
    def tokens(self) -> float:
        return self.examples * self.mean

    def cut(self, max_tokens: int) -> "Split":
        """The split with no mean beyond what examples are cut at."""
        return Split(self.examples, min(self.mean, max_tokens), min(self.attended, max_tokens))


@dataclass(frozen=True)
class Device:
    """What trains: sustained GFLOP/s by precision (of a CPU, a thread's), 0 where it has none of bf16; milliseconds that a
    step takes a layer, and a layer and run, however few tokens it has; memory in GiB, 0 where it is the machine's."""

    name: str
    kind: str
    bf16_gflops: float
    fp32_gflops: float
    layer_ms: float
    run_layer_ms: float
    startup_s: float
    memory_gib: float
    measured: bool

    @property
    def note(self) -> str:
        return "measured" if self.measured else "estimate, not measured"

    def precision(self, wanted: str) -> str:
        """What the frozen base is trained in: what is asked for, or with `auto` bf16 where the device has it."""
        return wanted if wanted != "auto" else "bf16" if self.bf16_gflops else "fp32"

    def flops_per_s(self, precision: str, threads: int) -> float:
        """Sustained rate; bf16 on a device without it is emulated, at no more than the rate of fp32."""
        rate = self.bf16_gflops if precision == "bf16" and self.bf16_gflops else self.fp32_gflops
        return rate * 1e9 * (threads if self.kind == "cpu" else 1)


@functools.cache
def devices(folder: Path = ROOT / "config") -> dict[str, Device]:
    """The rows of config/devices.csv by name."""
    return {
        row["device"]: Device(
            row["device"],
            row["kind"],
            *(float(row[key] or 0) for key in
              ("bf16_gflops", "fp32_gflops", "layer_ms", "run_layer_ms", "startup_s", "memory_gib")),
            row["known"] == "measured",
        )
        for row in facts.read_facts("devices.csv", folder)
    }  # fmt: skip


@functools.cache
def _shapes(folder: Path = ROOT / "config") -> dict[str, Shape]:
    return {row["model"]: Shape(*(int(row[key]) for key in facts.FACTS["models.csv"][1:-1]))
            for row in facts.read_facts("models.csv", folder)}  # fmt: skip


@functools.cache
def _splits(folder: Path = ROOT / "config") -> dict[tuple[str, str], tuple[Split, bool]]:
    """(task, split) -> its sizes, and whether they were measured."""
    return {
        (row["task"], row["split"]): (
            Split(int(row["examples"]), float(row["mean_tokens"]), float(row["attended_tokens"])),
            row["known"] == "measured",
        )
        for row in facts.read_facts("lengths.csv", folder)
    }


def read() -> None:
    """Read all three files; raises Problems for what is wrong in one of them."""
    devices(), _shapes(), _splits()


def shape_of(results: Path, model: str) -> tuple[Shape, str]:
    """The sizes of a model, and in words what was assumed about them, nothing where they are known."""
    folder = Path(results) / "sources" / model
    if (folder / FOLDERS[0]).is_file():
        try:
            return _read_shape(folder), ""
        except ValueError:
            pass  # training says what is wrong with it
    found = _shapes().get(model)
    return found or _shapes()[USUAL_MODEL], "" if found else f"model {model} is not fetched: taken to be as {USUAL_MODEL}"


def _read_shape(folder: Path) -> Shape:
    config, usual = model_config.read(folder), _shapes()["bert-base-uncased"]  # transformers' defaults are BERT's
    bert = config.get("model_type", MODEL_FAMILIES[0]) == MODEL_FAMILIES[0]
    return Shape(
        config.get("num_hidden_layers", usual.layers),
        config.get("hidden_size", usual.width),
        config.get("intermediate_size", usual.inner),
        config.get("num_attention_heads", usual.heads),
        config.get("vocab_size", usual.vocabulary if bert else 50265),
        config.get("max_position_embeddings", usual.positions),
        config.get("type_vocab_size", usual.types),
    )


def splits_of(results: Path, model: str, task, max_tokens: int) -> tuple[dict[str, Split], list[str]]:
    """A task's training and evaluation splits, cut at `max_tokens`, and in words what was assumed about them."""
    names, said, found = ("train", *task.eval_splits), [], {}
    prepared = _prepared(Path(results) / "tokens" / model / task.name / f"t{max_tokens}" / FOLDERS[1])
    for name in names:
        known = _splits().get((task.name, name))
        if name in prepared:
            examples, tokens = prepared[name]
            mean = tokens / examples
            attended = mean * (known[0].attended / known[0].mean if known else 1.25)
            found[name] = Split(examples, mean, attended).cut(max_tokens)
            continue
        if known is None:
            said.append(f"{task.name} {name} is in no row of config/lengths.csv: taken to be as {USUAL_TASK}")
            known = _splits()[USUAL_TASK, "train" if name == "train" else "validation_matched"]
        elif not known[1]:
            said.append(f"{task.name} {name}: tokens are an estimate (config/lengths.csv)")
        found[name] = known[0].cut(max_tokens)
    return found, said


def _prepared(path: Path) -> dict[str, tuple[int, int]]:
    """Examples and tokens of each split of prepared data; nothing where there is none, or none that can be read."""
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        counts = {name: (int(one["examples"]), int(one["tokens"])) for name, one in splits.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: count for name, count in counts.items() if min(count) > 0}
