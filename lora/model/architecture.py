"""Sizes and rates of an encoder, by the same names for every family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora.model import config as model_config
from lora.model.families import registry
from lora.model.families.family import Convolution, Family, RelativePositions


@dataclass(frozen=True)
class Architecture:
    """Sizes and rates of an encoder, from its config.json.

    Attributes:
        family: Its family.
        layers: Number of layers.
        width: Model width D.
        inner: Inner width of the feed-forward block.
        heads: Number of attention heads.
        vocabulary: Rows of the word embeddings.
        positions: Rows of the position embeddings; 0 if it has none.
        types: Rows of the segment embeddings; 0 if it has none.
        embedding_width: Width of the embeddings.
        hidden_dropout: Dropout of embeddings and sublayers.
        attention_dropout: Dropout of attention weights.
        head_dropout: Dropout in the classification head.
        initializer_range: Standard deviation of the head's initial weights.
        pad_token_id: Id of the padding token; None if it has none.
        relative: How attention scores relative positions; None if it does not.
        convolution: Convolution over the embeddings; None if it has none.
    """

    family: Family
    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    positions: int
    types: int
    embedding_width: int
    hidden_dropout: float
    attention_dropout: float
    head_dropout: float
    initializer_range: float
    pad_token_id: int | None
    relative: RelativePositions | None
    convolution: Convolution | None

    @property
    def projects_embeddings(self) -> bool:
        """Whether a linear layer brings the embeddings to the model's width."""
        return self.embedding_width != self.width

    @property
    def other_parameters(self) -> tuple[int, int]:
        """Parameters of relative positions and the convolution, and how many of them are biases."""
        width, linears, norms, weights = self.width, 0, 0, 0
        if self.relative is not None:
            linears = self.layers * len(self.relative.projections)
            norms += bool(self.relative.norm)
            weights += self.relative.rows * width
        if self.convolution is not None:
            norms, weights = norms + 1, weights + self.convolution.kernel * width**2 + width
        biases = (linears + norms + (self.convolution is not None)) * width
        return weights + linears * width * (width + 1) + 2 * norms * width, biases

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """Return the architecture of a config.json.

        Raises:
            ValueError: If the family is not supported.
        """
        settings = model_config.with_defaults(config)
        family, width = registry.family_of(settings), settings["hidden_size"]
        head_dropout = settings["classifier_dropout"]
        return cls(
            family=family,
            layers=settings["num_hidden_layers"],
            width=width,
            inner=settings["intermediate_size"],
            heads=settings["num_attention_heads"],
            vocabulary=settings["vocab_size"],
            positions=settings["max_position_embeddings"] if "position" in family.embeddings else 0,
            types=settings["type_vocab_size"] if "token_type" in family.embeddings else 0,
            embedding_width=settings["embedding_size"] if family.embedding_projection else width,
            hidden_dropout=settings["hidden_dropout_prob"],
            attention_dropout=settings["attention_probs_dropout_prob"],
            head_dropout=settings["hidden_dropout_prob"] if head_dropout is None else head_dropout,
            initializer_range=settings["initializer_range"],
            pad_token_id=settings["pad_token_id"],
            relative=family.relative_positions(settings),
            convolution=family.convolution(settings),
        )
