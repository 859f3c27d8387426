"""Description of a model family: names of modules and tensors, head, and keys of config.json.

A family maps a model of transformers to what the engine needs. The defaults are those of BERT,
which most families share. This module imports no torch: planning and the checks of adapters use it
too, so modules, classes and activations are names here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Head:
    """Classification head: logits = out(dropout(activation(dense(x)))), x the first token's state.

    Attributes:
        dense: Name of the dense layer in transformers' classifier.
        out: Name of the output layer there.
        modules_to_save: Names under which peft saves the head.
        activation: Name of the activation: `tanh`, `relu` or `gelu`.
        input_dropout: Whether dropout is also applied to x.
    """

    dense: str = "classifier.dense"
    out: str = "classifier.out_proj"
    modules_to_save: tuple[str, ...] = ("classifier",)
    activation: str = "tanh"
    input_dropout: bool = True


@dataclass(frozen=True)
class RelativePositions:
    """Attention scores from relative positions (see `relative_positions`).

    Attributes:
        kinds: Terms of the score beside content to content: `c2p`, `p2c` or both.
        buckets: Buckets on each side; 0 if every distance has its own row.
        max_distance: Distances on each side.
        table: Name of the embeddings in the encoder.
        norm: Name of the LayerNorm after them; empty if there is none.
        projections: Names in a layer of the linear layers of `c2p` and `p2c`, by kind. Empty if
            they are those of the keys and the queries, with their LoRA pairs.
    """

    kinds: tuple[str, ...]
    buckets: int
    max_distance: int
    table: str
    norm: str
    projections: Mapping[str, str] = field(hash=False)

    @property
    def side(self) -> int:
        """Rows of the table for distances below 0; as many follow for distances from 0."""
        return self.buckets or self.max_distance

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return 2 * self.side


@dataclass(frozen=True)
class Convolution:
    """Convolution over the embeddings, added to the output of the first layer.

    Attributes:
        kernel: Width in tokens, an odd number.
        activation: Name of the activation after it.
        module: Name in the encoder of the convolution and, below it, its LayerNorm.
        norm: Name of that LayerNorm.
    """

    kernel: int
    activation: str
    module: str
    norm: str


def _nothing(settings: Mapping[str, Any]) -> None:
    return None


def _no_problems(settings: Mapping[str, Any]) -> list[str]:
    return []


def _projections_of_bert() -> dict[str, str]:
    return {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
    }


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: `model_type` in config.json.
        title: Name for readers.
        prefix: Name of the encoder in transformers' classifier, which starts its tensors' names.
        model_class: Class of the encoder in transformers.
        classifier_class: Class of the sequence classification model there.
        defaults: transformers' values of keys that config.json leaves out, by BERT's names.
        head: The classification head.
        surplus: Regular expression of tensors, without prefix, that a file may have beside the
            encoder: buffers of old checkpoints, and heads of transformers' models of the family.
        model_options: Arguments of `model_class.from_pretrained`.
        keys: Key of config.json for each of BERT's keys that has another name.
        layers: Name of the list of layers in the encoder.
        projections: Name in a layer of the linear layer of each weight type `q`, `k`, `v`, `o`.
        inner: Name in a layer of the first linear layer of the feed-forward block.
        outer: Name of the second one.
        activation: Name of the activation between them.
        attention_norm: Name in a layer of the LayerNorm after attention.
        ffn_norm: Name of the LayerNorm after the feed-forward block.
        embeddings: Tables `embeddings.<name>_embeddings` whose rows are added.
        embedding_projection: Name of the linear layer after embeddings whose width is not the
            model's; empty if the widths are always equal.
        counts_from_padding: Whether positions are counted from pad_token_id + 1 (fairseq), not 0.
        drops_attention_output: Whether dropout is applied after the output projection `o`.
        has_pooler: Whether the head's dense layer starts from the encoder's `pooler.dense`.
        default_targets: Modules that peft adapts if adapter_config.json names none.
        other_modules: Further modules in the encoder that some models of the family have.
        other_layer_modules: Further modules in a layer that some models of the family have.
        relative_positions: Returns how a config.json scores relative positions.
        convolution: Returns the convolution of a config.json.
        problems: Returns what else is not supported in a config.json with defaults, one line each.
    """

    name: str
    title: str
    prefix: str
    model_class: str
    classifier_class: str
    defaults: Mapping[str, Any]
    head: Head
    surplus: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    layers: str = "encoder.layer"
    projections: Mapping[str, str] = field(default_factory=_projections_of_bert)
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    activation: str = "intermediate.intermediate_act_fn"
    attention_norm: str = "attention.output.LayerNorm"
    ffn_norm: str = "output.LayerNorm"
    embeddings: tuple[str, ...] = ("word", "position", "token_type")
    embedding_projection: str = ""
    counts_from_padding: bool = False
    drops_attention_output: bool = True
    has_pooler: bool = False
    default_targets: tuple[str, ...] = ("query", "value")
    other_modules: tuple[str, ...] = ()
    other_layer_modules: tuple[str, ...] = ()
    relative_positions: Callable[[Mapping[str, Any]], RelativePositions | None] = _nothing
    convolution: Callable[[Mapping[str, Any]], Convolution | None] = _nothing
    problems: Callable[[Mapping[str, Any]], list[str]] = _no_problems

    @property
    def linears(self) -> tuple[str, ...]:
        """Names in a layer of all linear layers."""
        return (*self.projections.values(), self.inner, self.outer)

    @property
    def norms(self) -> tuple[str, ...]:
        """Names in a layer of all LayerNorms."""
        return (self.attention_norm, self.ffn_norm)

    @property
    def head_modules(self) -> Mapping[str, str]:
        """Names of the head's layers in transformers' classifier by those of a run."""
        return {"head.dense": self.head.dense, "head.out": self.head.out}

    def module_of(self, pair: str) -> str:
        """Return the name in the encoder of the module of "<layer>.<letter>"."""
        layer, letter = pair.split(".")
        return f"{self.layers}.{layer}.{self.projections[letter]}"

    def tensor_names(
        self,
        depth: int,
        projects: bool,
        relative: RelativePositions | None = None,
        convolution: Convolution | None = None,
    ) -> set[str]:
        """Return the names of the encoder's tensors, without the pooler.

        Args:
            depth: Number of layers.
            projects: Whether embeddings and model differ in width.
            relative: How it scores relative positions.
            convolution: Its convolution.
        """
        of_layer = (*self.linears, *self.norms)
        modules = ["embeddings.LayerNorm"]
        tables = {f"embeddings.{name}_embeddings.weight" for name in self.embeddings}
        if projects:
            modules.append(self.embedding_projection)
        if relative is not None:
            tables.add(f"{relative.table}.weight")
            modules += [relative.norm] if relative.norm else []
            of_layer = (*of_layer, *relative.projections.values())
        if convolution is not None:
            modules += [convolution.module, convolution.norm]
        modules += [
            f"{self.layers}.{layer}.{module}" for layer in range(depth) for module in of_layer
        ]
        return tables | {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
