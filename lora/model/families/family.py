"""Description of a model family: names of modules and tensors, head, and keys of config.json.

A family maps a model of transformers to what the engine needs. The defaults are those of BERT,
which most families share. This module imports no torch: planning and the checks of adapters use it
too, so modules, classes and activations are names here.
"""

from collections.abc import Mapping
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

    def tensor_names(self, depth: int, projects: bool) -> set[str]:
        """Return the names of the encoder's tensors, without the pooler.

        Args:
            depth: Number of layers.
            projects: Whether embeddings and model differ in width.
        """
        modules = ["embeddings.LayerNorm"] + [
            f"{self.layers}.{layer}.{module}"
            for layer in range(depth)
            for module in (*self.linears, *self.norms)
        ]
        modules += [self.embedding_projection] if projects else []
        names = {f"embeddings.{name}_embeddings.weight" for name in self.embeddings}
        return names | {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
