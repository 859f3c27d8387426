"""Modules of a transformers encoder, by the same names for every family.

Shape suffixes: T tokens, D width.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lora.model.architecture import Architecture
from lora.model.families import registry
from lora.model.families.family import RelativePositions
from lora.model.layers import ACTIVATIONS
from lora.model.pretrained import BaseModel


@dataclass(frozen=True)
class LayerModules:
    """Modules of one layer.

    Attributes:
        projections: Linear layers of attention by weight type, `q`, `k`, `v` and `o`.
        inner: First linear layer of the feed-forward block.
        activation: Activation after it.
        outer: Second linear layer of the feed-forward block.
        attention_norm: LayerNorm after attention.
        ffn_norm: LayerNorm after the feed-forward block.
        positions: Linear layers of relative positions by kind of score, where they have their own.
    """

    projections: dict[str, nn.Linear]
    inner: nn.Linear
    activation: Callable[[Tensor], Tensor]
    outer: nn.Linear
    attention_norm: nn.LayerNorm
    ffn_norm: nn.LayerNorm
    positions: dict[str, nn.Linear]


def architecture_of(base: BaseModel) -> Architecture:
    """Return sizes and rates of a transformers encoder."""
    return Architecture.of(base.config.to_dict())


def linear_of(base: BaseModel, layer: int, letter: str) -> nn.Linear:
    """Return the frozen layer of a weight type.

    Args:
        base: An encoder of transformers.
        layer: Index of the layer, from 0.
        letter: `q`, `k` or `v` of self-attention, or `o`, its output projection.
    """
    family = registry.FAMILIES[base.config.model_type]
    return cast(nn.Linear, base.get_submodule(family.module_of(f"{layer}.{letter}")))


def layers_of(base: BaseModel) -> list[LayerModules]:
    """Return the modules of all layers of a transformers encoder."""
    architecture = architecture_of(base)
    family, relative = architecture.family, architecture.relative
    own = {} if relative is None else relative.projections
    layers = cast(nn.ModuleList, base.get_submodule(family.layers))
    return [
        LayerModules(
            projections={
                letter: cast(nn.Linear, layer.get_submodule(name))
                for letter, name in family.projections.items()
            },
            inner=cast(nn.Linear, layer.get_submodule(family.inner)),
            activation=layer.get_submodule(family.activation),
            outer=cast(nn.Linear, layer.get_submodule(family.outer)),
            attention_norm=cast(nn.LayerNorm, layer.get_submodule(family.attention_norm)),
            ffn_norm=cast(nn.LayerNorm, layer.get_submodule(family.ffn_norm)),
            positions={
                kind: cast(nn.Linear, layer.get_submodule(name)) for kind, name in own.items()
            },
        )
        for layer in layers
    ]


def embed(base: BaseModel, ids_T: Tensor, types_T: Tensor, positions_T: Tensor) -> Tensor:
    """Return LayerNorm of the sum of the embeddings, [T, width of the embeddings].

    The tables are added in the order of transformers, which decides the rounding.

    Args:
        base: An encoder of transformers.
        ids_T: Token ids.
        types_T: Segment ids, for families that have segments.
        positions_T: Position ids.
    """
    family = registry.FAMILIES[base.config.model_type]
    indices = {"word": ids_T, "token_type": types_T, "position": positions_T}
    rows = (
        base.get_submodule(f"embeddings.{name}_embeddings")(index)
        for name, index in indices.items()
        if name in family.embeddings
    )
    return cast(Tensor, embedding_norm_of(base)(functools.reduce(torch.add, rows)))


def embedding_norm_of(base: BaseModel) -> nn.LayerNorm:
    """Return the LayerNorm of the embeddings."""
    return cast(nn.LayerNorm, base.get_submodule("embeddings.LayerNorm"))


def embedding_projection_of(base: BaseModel, architecture: Architecture) -> nn.Linear | None:
    """Return the linear layer from the embeddings' width to the model's; None if they are equal."""
    if not architecture.projects_embeddings:
        return None
    return cast(nn.Linear, base.get_submodule(architecture.family.embedding_projection))


def position_table(base: BaseModel, relative: RelativePositions) -> Tensor:
    """Return the embeddings of relative positions after their LayerNorm, if any, [rows, D]."""
    table = cast(nn.Embedding, base.get_submodule(relative.table)).weight[: relative.rows]
    norm = position_norm_of(base, relative)
    return table if norm is None else cast(Tensor, norm(table))


def position_norm_of(base: BaseModel, relative: RelativePositions) -> nn.LayerNorm | None:
    """Return the LayerNorm of the embeddings of relative positions; None if there is none."""
    return cast(nn.LayerNorm, base.get_submodule(relative.norm)) if relative.norm else None


@dataclass(frozen=True)
class ConvolutionModules:
    """A convolution over tokens and the LayerNorm after it."""

    convolution: nn.Conv1d
    activation: Callable[[Tensor], Tensor]
    norm: nn.LayerNorm


def convolution_of(base: BaseModel, architecture: Architecture) -> ConvolutionModules | None:
    """Return the modules of the convolution; None if the model has none."""
    names = architecture.convolution
    if names is None:
        return None
    return ConvolutionModules(
        convolution=cast(nn.Conv1d, base.get_submodule(names.module)),
        activation=ACTIVATIONS[names.activation],
        norm=cast(nn.LayerNorm, base.get_submodule(names.norm)),
    )
