"""Several runs over one frozen base model.

LoRA never changes the base model: its pairs are kept beside it and `encoder` adds their output to
that of the frozen layers. Bottleneck adapters are kept likewise. Full fine-tuning and BitFit train
the parameters of the base model, which then belongs to one run. Only merging writes into the base
model, and unmerging restores the saved weights bit for bit.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lora.experiment.cell import BASE_METHODS, WEIGHT_TYPES
from lora.model import collate, methods, modules
from lora.model.encoder import Encoder
from lora.model.initial_values import generator, initial_a
from lora.model.layers import BOTTLENECK_STD, Bottleneck, Heads
from lora.model.lora_layer import LoRA
from lora.model.methods import AdapterSpec
from lora.model.pretrained import BaseModel
from lora.model.run_biases import RunBiases


class PackedModel(nn.Module):
    """S runs over one frozen base model; a forward pass returns the logits of each run.

    The tensors of a run have names that do not depend on the pack: "<layer>.<letter>.a" [r, I],
    "<layer>.<letter>.b" [O, r], "<layer>.<sublayer>.down.weight", ..., "head.dense.weight",
    "head.dense.bias", "head.out.weight", "head.out.bias", and "base.<name>" for parameters of the
    base model that the run trains, or has in place of the base model's.

    Args:
        base: An encoder of transformers, moved to `device`.
        specs: The runs, all of the same method; one run if the method trains the base model.
        device: Device of the model.

    Attributes:
        specs: The runs.
        lora_layers: LoRA pairs of all runs by "<layer>.<letter>".
        bottlenecks: Bottleneck adapters of all runs by "<layer>.<sublayer>".
        heads: Classification heads of all runs.
        biases: Frozen biases that runs have in place of the base model's.
    """

    def __init__(
        self,
        base: BaseModel,
        specs: list[AdapterSpec],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.specs = list(specs)
        self.method = specs[0].method
        same = all(spec.method == self.method for spec in specs)
        if not same or (self.method in BASE_METHODS and len(specs) > 1):
            raise AssertionError(
                "All runs of a pack must use the same method; full fine-tuning and BitFit cannot "
                "be packed."
            )
        dtype = torch.promote_types(base.dtype, torch.float32)
        self.lora_layers = self._make_lora(base, dtype) if self.method == "lora" else {}
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(methods.trains(self.method, name))
        architecture = modules.architecture_of(base)
        head = architecture.family.head
        self.bottlenecks = self._make_bottlenecks(architecture.layers, architecture.width, dtype)
        self.biases = RunBiases(base, [methods.own_biases(base, spec) for spec in specs], dtype)
        # Not a module, so that the frozen base is not a submodule.
        self.encoder = Encoder(
            base,
            self.lora_layers,
            self.bottlenecks,
            [spec.hparams.lora_dropout for spec in specs],
            self.biases,
        )
        # Registers the layers as submodules; names of modules must not contain dots.
        self._lora_modules = nn.ModuleDict(_without_dots(self.lora_layers))
        self._bottleneck_modules = nn.ModuleDict(_without_dots(self.bottlenecks))
        self.heads = Heads(
            architecture.width,
            [spec.num_labels for spec in specs],
            architecture.head_dropout,
            input_dropout=head.input_dropout,
            activation=head.activation,
            dtype=dtype,
        )
        for run in range(len(specs)):
            self._initialize(run, base)
        self.to(device)
        nn.Module.to(base, device)
        for parameter in (*self.parameters(), *self.base.parameters()):
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        self._check_counts()

    def _make_lora(self, base: BaseModel, dtype: torch.dtype) -> dict[str, LoRA]:
        found = {}
        scales = [spec.hparams.alpha / spec.rank for spec in self.specs]
        for layer in range(modules.architecture_of(base).layers):
            for letter in WEIGHT_TYPES:
                ranks = [spec.rank if letter in spec.weights else 0 for spec in self.specs]
                if any(ranks):
                    linear = modules.linear_of(base, layer, letter)
                    found[f"{layer}.{letter}"] = LoRA(
                        linear.in_features, linear.out_features, ranks, scales, dtype
                    )
        return found

    def _make_bottlenecks(
        self, depth: int, width: int, dtype: torch.dtype
    ) -> dict[str, Bottleneck]:
        names = [methods.bottleneck_names(spec, depth) for spec in self.specs]
        found = {}
        for name in dict.fromkeys(name for own in names for name in own):
            sizes = [
                spec.rank if name in own else 0 for spec, own in zip(self.specs, names, strict=True)
            ]
            found[name] = Bottleneck(width, sizes, self.method, dtype)
        return found

    @property
    def base(self) -> BaseModel:
        return self.encoder.base

    @property
    def device(self) -> torch.device:
        return next(self.base.parameters()).device

    @torch.no_grad()
    def _initialize(self, run: int, base: BaseModel) -> None:
        """Set the initial values of a run.

        A as the protocol says, B and biases zero, the head normal(0, initializer_range) as in
        transformers. With a pooler, BERT's, the head's dense layer starts from it.
        """
        spec = self.specs[run]
        for name, parameter in self._added(run, LoRA.pair, Tensor.detach).items():
            shape = tuple(parameter.shape)
            if name.endswith(".a"):
                pair = name.removesuffix(".a")
                parameter.copy_(initial_a(spec.seed, pair, shape, spec.hparams))
            elif name.endswith("weight"):
                head = name.startswith("head.")
                std = self.encoder.architecture.initializer_range if head else BOTTLENECK_STD
                source = generator(spec.seed, name, shape)
                parameter.copy_(torch.empty(shape).normal_(0, std, generator=source))
            else:
                parameter.zero_()
        head_parameters = self.heads.parameters_of(run)
        pooler = getattr(base, "pooler", None)
        if pooler is not None:
            head_parameters["dense.weight"].copy_(pooler.dense.weight)
            head_parameters["dense.bias"].copy_(pooler.dense.bias)
        if spec.hparams.head == "frozen":
            for value in head_parameters.values():
                value.requires_grad_(False)

    def parameters_of(self, run: int) -> dict[str, Tensor]:
        """Return a run's tensors by name, as detached views: writing to them changes the model."""
        return self._of_base(run, Tensor.detach) | self._added(run, LoRA.pair, Tensor.detach)

    def gradients_of(self, run: int) -> dict[str, Tensor]:
        """Return the gradients of a run's trained tensors by name, as views."""
        return self._of_base(run, _gradient) | self._added(run, LoRA.pair_gradients, _gradient)

    def _of_base(
        self, run: int, view: Callable[[nn.Parameter], Tensor | None]
    ) -> dict[str, Tensor]:
        """Return views of the base model's parameters that train, and of a run's own biases."""
        named = self.biases.parameters_of(run)
        if self.method in BASE_METHODS:
            named = {name: one for name, one in self.base.named_parameters() if one.requires_grad}
        return _present((f"base.{name}", view(value)) for name, value in named.items())

    def _added(
        self,
        run: int,
        pair_view: Callable[[LoRA, int], tuple[Tensor, Tensor]],
        view: Callable[[nn.Parameter], Tensor | None],
    ) -> dict[str, Tensor]:
        """Return views of what a run adds to the base model, without those that give None."""
        found = {}
        for name, lora in self.lora_layers.items():
            if lora.ranks[run]:
                found[f"{name}.a"], found[f"{name}.b"] = pair_view(lora, run)
        for name, bottleneck in self.bottlenecks.items():
            values = bottleneck.parameters_of(run).items()
            found |= _present((f"{name}.{key}", view(value)) for key, value in values)
        head = self.heads.parameters_of(run).items()
        return found | _present((f"head.{name}", view(value)) for name, value in head)

    def _check_counts(self) -> None:
        for run, spec in enumerate(self.specs):
            count = self.counts(run)["trainable"]
            expected = methods.trainable_parameters(self.base, spec, head=False)
            if count != expected:
                raise AssertionError(f"{count} parameters train for {spec}; expected {expected}")

    def counts(self, run: int) -> dict[str, int]:
        """Count the parameters of a run.

        Returns:
            `trainable`: without the head, as the paper counts (microsoft/LoRA issue #16).
            `head`: trained parameters of the head. `frozen`: those of the base model.
        """
        trained = self.gradients_of(run)
        head = [value for value in self.heads.parameters_of(run).values() if value.requires_grad]
        frozen = [value for value in self.base.parameters() if not value.requires_grad]
        return {
            "trainable": sum(
                value.numel() for name, value in trained.items() if not name.startswith("head.")
            ),
            "head": sum(value.numel() for value in head),
            "frozen": sum(value.numel() for value in frozen),
        }

    def batch(self, parts: list[collate.RunSequences]) -> collate.Batch:
        """Collate the sequences of several runs on the model's device."""
        return collate.collate(parts, self.encoder.architecture, self.base.dtype, self.device)

    def forward(self, batch: collate.Batch) -> list[Tensor]:
        """Return the logits [N_s, C_s] of each run in the batch, in the order of its parts."""
        hidden_ND = self.encoder.encode(batch)
        keys = batch.dropout_keys
        keys_2N = None if keys is None else keys[-2:, batch.first_N]
        hidden_ND = hidden_ND.to(torch.promote_types(hidden_ND.dtype, torch.float32))
        return self.heads(hidden_ND, keys_2N, batch.example_segments)

    @contextlib.contextmanager
    @torch.no_grad()
    def merged(self, run: int) -> Iterator[BaseModel]:
        """Yield the base model with W0 + (alpha/r) B A of one run in place of W0, and its biases.

        The saved weights are restored on exit, bit for bit.
        """
        saved: dict[Tensor, Tensor] = {}
        for name, lora in self.lora_layers.items():
            layer, letter = name.split(".")
            weight = modules.linear_of(self.base, int(layer), letter).weight
            if lora.ranks[run]:
                saved[weight] = weight.clone()
                weight += lora.weight_delta(run).to(weight.dtype)
        for name, value in self.biases.parameters_of(run).items():
            bias = self.base.get_parameter(name)
            saved[bias] = bias.clone()
            bias.copy_(value)
        try:
            yield self.base
        finally:
            for parameter, before in saved.items():
                parameter.copy_(before)


def _gradient(parameter: nn.Parameter) -> Tensor | None:
    return parameter.grad


def _present(tensors: Iterator[tuple[str, Tensor | None]]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors if tensor is not None}


def _without_dots(layers: dict[str, LoRA] | dict[str, Bottleneck]) -> dict[str, nn.Module]:
    return {name.replace(".", "_"): layer for name, layer in layers.items()}
