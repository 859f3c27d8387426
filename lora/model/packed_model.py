"""Put runs into a frozen model: place LoRA pairs by weight letter, add heads, list what trains.

LoRA never changes the base model: pairs live in a dictionary beside it, keyed "<layer>.<letter>", and `encoder` adds their
output to the frozen layer's. Bottleneck adapters are inserted likewise. Full fine-tuning and BitFit train the base's own
parameters, of a copy that no other run shares. Every initial value comes from a generator of its own, seeded by (run's
seed, parameter, shape), so it depends neither on the pack nor on the order of creation. Merging is the exception that
writes into the base, and unmerging puts the saved weight back, bit for bit.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora.experiment.cell import BASE_METHODS, WEIGHT_TYPES
from lora.experiment.hparams import Hparams
from lora.model import encoder, layers
from lora.model.pretrained import load_base

__all__ = [
    "AdapterSpec",
    "PackedModel",
    "generator",
    "linear_of",
    "load_base",
    "trainable_parameters",
    "trains",
]

BOTTLENECKS = {  # method -> the sublayers that get an adapter
    "adapter_houlsby": ("attention", "ffn"),
    "adapter_pfeiffer": ("ffn",),
    "adapter_drop": ("ffn",),
}


@dataclass(frozen=True)
class AdapterSpec:
    """What the model must know of one run of a pack."""

    seed: int
    weights: str
    rank: int
    num_labels: int
    hparams: Hparams
    method: str = "lora"
    first_layer: int = 0  # the lowest with a bottleneck adapter


def generator(seed: int, *purpose) -> torch.Generator:
    """A CPU generator for one purpose of one run; another purpose or shape gives an unrelated stream."""
    key = json.dumps([seed, *map(str, purpose)]).encode()
    return torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1
    )


def linear_of(base: nn.Module, layer: int, letter: str) -> nn.Linear:
    """The frozen layer behind a weight letter: q, k, v of self-attention, and o, its output projection."""
    attention = base.encoder.layer[layer].attention
    return dict(
        q=attention.self.query, k=attention.self.key, v=attention.self.value, o=attention.output.dense
    )[letter]  # fmt: skip


def trains(method: str, name: str) -> bool:
    """Whether a method trains the base model's own parameter `name`; the pooler's place is the head's."""
    if name.startswith("pooler."):
        return False
    return method == "ft" or (method == "bitfit" and name.endswith(".bias"))


def bottleneck_places(member: AdapterSpec, depth: int) -> list[str]:
    """Where a run has bottleneck adapters: "<layer>.<sublayer>"."""
    sublayers = BOTTLENECKS.get(member.method, ())
    return [
        f"{layer}.{sublayer}"
        for layer in range(member.first_layer, depth)
        for sublayer in sublayers
    ]


def trainable_parameters(base: nn.Module, member: AdapterSpec, head: bool = True) -> int:
    """How many parameters a run trains, with or without its head, before anything is made."""
    config = base.config
    width, depth = config.hidden_size, config.num_hidden_layers
    if member.method == "lora":
        count = depth * len(member.weights) * member.rank * 2 * width
    elif member.method in BASE_METHODS:
        count = sum(
            value.numel() for name, value in base.named_parameters() if trains(member.method, name)
        )
    else:
        count = len(bottleneck_places(member, depth)) * (
            2 * width * member.rank + member.rank + width
        )
    return count + (width * (width + 1) + member.num_labels * (width + 1) if head else 0)


def start_of_a(seed: int, name: str, shape: tuple[int, int], hparams: Hparams) -> Tensor:
    """A [r, I] of the pair `name` ("<layer>.<letter>") as training starts it, on the CPU."""
    source, a_RI = generator(seed, f"{name}.a", tuple(shape)), torch.empty(shape)
    if hparams.init_a == "kaiming":
        bound = 1 / math.sqrt(
            shape[1]
        )  # loralib: kaiming_uniform(a=sqrt 5) is U(-1/sqrt I, 1/sqrt I)
        return a_RI.uniform_(-bound, bound, generator=source)
    return a_RI.normal_(0, hparams.init_a_std, generator=source)


class PackedModel(nn.Module):
    """S runs over one frozen base: a pass gives each run's logits.

    `parameters_of(run)` are that run's own tensors under names that do not mention the pack: "<layer>.<letter>.a" [r, I],
    "<layer>.<letter>.b" [O, r], "head.dense.weight", "head.dense.bias", "head.out.weight", "head.out.bias".
    """

    def __init__(self, base: nn.Module, members: list[AdapterSpec], device="cpu"):
        super().__init__()
        self.members = list(members)
        config = base.config
        kind = dict(dtype=torch.promote_types(base.dtype, torch.float32))
        self.method = members[0].method
        if any(member.method != self.method for member in members) or (
            self.method in BASE_METHODS and len(members) > 1
        ):
            raise AssertionError(
                "a pack is of one method, and of one run where the method trains the base model itself"
            )
        self.adapters, self.bottlenecks = nn.ModuleDict(), nn.ModuleDict()
        if self.method == "lora":
            self._place_lora(base, kind)
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(trains(self.method, name))
        for place in dict.fromkeys(
            at for member in members for at in bottleneck_places(member, config.num_hidden_layers)
        ):
            sizes = [
                member.rank if place in bottleneck_places(member, config.num_hidden_layers) else 0
                for member in members
            ]
            self.bottlenecks[place.replace(".", "_")] = layers.Bottleneck(
                config.hidden_size, sizes, self.method, **kind
            )
        width, dropout = config.hidden_size, getattr(config, "classifier_dropout", None)
        dropout = config.hidden_dropout_prob if dropout is None else dropout
        classes = [member.num_labels for member in members]
        self.heads = layers.Heads(width, classes, dropout, config.model_type == "roberta", **kind)
        for run in range(len(members)):
            self._start(run, base)
        self.to(device)
        self._base = [
            base.to(device)
        ]  # in a list: the frozen base is not a part of this module's state
        for parameter in (*self.parameters(), *self.base.parameters()):
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        self._check_counts()

    def _place_lora(self, base: nn.Module, kind: dict) -> None:
        for layer in range(base.config.num_hidden_layers):
            for letter in WEIGHT_TYPES:
                ranks = [member.rank if letter in member.weights else 0 for member in self.members]
                if any(ranks):
                    linear = linear_of(base, layer, letter)
                    scales = [member.hparams.alpha / member.rank for member in self.members]
                    pair = layers.LoRA(
                        linear.in_features, linear.out_features, ranks, scales, **kind
                    )
                    self.adapters[f"{layer}_{letter}"] = pair

    @property
    def base(self) -> nn.Module:
        return self._base[0]

    @property
    def device(self):
        return next(self.base.parameters()).device

    @torch.no_grad()
    def _start(self, run: int, base: nn.Module) -> None:
        """Initial values: A as its protocol names it, B zero, head normal(0, initializer_range) as transformers does, and
        BERT's pre-trained pooler as the head's dense layer."""
        member = self.members[run]
        for name, parameter in self._inserted(run).items():
            source = generator(member.seed, name, tuple(parameter.shape))
            if name.endswith(".a"):
                pair = name.removesuffix(".a")
                parameter.copy_(
                    start_of_a(member.seed, pair, tuple(parameter.shape), member.hparams)
                )
            elif name.endswith("weight"):
                spread = (
                    base.config.initializer_range
                    if name.startswith("head.")
                    else layers.BOTTLENECK_STD
                )
                parameter.copy_(torch.empty(parameter.shape).normal_(0, spread, generator=source))
            else:
                parameter.zero_()
        if getattr(base, "pooler", None) is not None:
            self.heads.dense[run].weight.copy_(base.pooler.dense.weight)
            self.heads.dense[run].bias.copy_(base.pooler.dense.bias)
        if member.hparams.head == "frozen":
            for value in self.heads.of(run).values():
                value.requires_grad_(False)

    def parameters_of(self, run: int) -> dict[str, Tensor]:
        """A run's own tensors, without their history: what is written into one is written into the model."""
        return self._of(run, Tensor.detach)

    def gradients_of(self, run: int) -> dict[str, Tensor]:
        """Where the gradients of those that train add up, under the same names and in the same shapes."""
        return {
            name: value
            for name, value in self._of(run, lambda parameter: parameter.grad).items()
            if value is not None
        }

    def _of(
        self, run: int, part: Callable[[nn.Parameter], Tensor | None]
    ) -> dict[str, Tensor | None]:
        trained = self.base.named_parameters() if self.method in BASE_METHODS else ()
        base = {f"base.{name}": part(value) for name, value in trained if value.requires_grad}
        return base | self._inserted(run, part)

    def _inserted(
        self, run: int, part: Callable[[nn.Parameter], Tensor | None] = Tensor.detach
    ) -> dict[str, Tensor | None]:
        found = {}
        for name, pair in self.adapters.items():
            if pair.ranks[run]:
                place = name.replace("_", ".")
                found[f"{place}.a"], found[f"{place}.b"] = pair.pair(run, part)
        for name, pair in self.bottlenecks.items():
            found |= {
                f"{name.replace('_', '.')}.{key}": part(value)
                for key, value in pair.of(run).items()
            }
        return found | {f"head.{name}": part(value) for name, value in self.heads.of(run).items()}

    def _check_counts(self) -> None:
        for run, member in enumerate(self.members):
            placed, expected = (
                self.counts(run)["trainable"],
                trainable_parameters(self.base, member, head=False),
            )
            if placed != expected:
                raise AssertionError(f"{placed} parameters train for {member}; expected {expected}")

    def counts(self, run: int) -> dict[str, int]:
        """Parameters: `trainable` without the head, as the paper counts (microsoft/LoRA #16), `head`, and `frozen`."""
        own = self.parameters_of(run)
        head = sum(value.numel() for value in self.heads.of(run).values() if value.requires_grad)
        others = sum(value.numel() for name, value in own.items() if not name.startswith("head."))
        frozen = sum(value.numel() for value in self.base.parameters() if not value.requires_grad)
        return dict(trainable=others, head=head, frozen=frozen)

    def batch(self, parts: list[encoder.Part]) -> encoder.Batch:
        return encoder.batch(parts, self.base.config, self.base.dtype, self.device)

    def forward(self, step: encoder.Batch) -> list[Tensor]:
        """Logits [N_s, C_s] of each run that has a part in `step`, in the order of its parts."""
        adapters, bottlenecks = (
            {name.replace("_", "."): pair for name, pair in placed.items()}
            for placed in (self.adapters, self.bottlenecks)
        )
        lora_dropout = [member.hparams.lora_dropout for member in self.members]
        hidden_ND = encoder.encode(self.base, adapters, bottlenecks, lora_dropout, step)
        keys_2N = None if step.keys is None else step.keys[-2:, step.first_N]
        hidden_ND = hidden_ND.to(torch.promote_types(hidden_ND.dtype, torch.float32))
        return self.heads(hidden_ND, keys_2N, step.example_segments)

    @contextlib.contextmanager
    @torch.no_grad()
    def merged(self, run: int) -> Iterator[nn.Module]:
        """The base with one run's deltas added into its weights, W0 + (alpha/r) B A; unmerged on leaving, bit for bit."""
        saved = {}
        for name, pair in self.adapters.items():
            layer, letter = name.split("_")
            weight = linear_of(self.base, int(layer), letter).weight
            if pair.ranks[run]:
                saved[weight] = weight.clone()
                weight += pair.weight_delta(run).to(weight.dtype)
        try:
            yield self.base
        finally:
            for weight, before in saved.items():
                weight.copy_(before)
