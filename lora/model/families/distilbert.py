"""DistilBERT (Sanh et al. 2019). No segments, no pooler, no dropout after attention's output."""

from lora.model.families import bert
from lora.model.families.family import Family, Head

FAMILY = Family(
    name="distilbert",
    title="DistilBERT",
    prefix="distilbert",
    model_class="DistilBertModel",
    classifier_class="DistilBertForSequenceClassification",
    defaults={
        **bert.DEFAULTS,
        "num_hidden_layers": 6,
        "type_vocab_size": 1,
        "classifier_dropout": 0.2,
    },
    head=Head(
        dense="pre_classifier",
        out="classifier",
        modules_to_save=("pre_classifier", "classifier"),
        activation="relu",
        input_dropout=False,
    ),
    surplus=bert.BUFFERS + r"|vocab_(transform|layer_norm|projector)\.(weight|bias)"
    r"|(pre_classifier|classifier|qa_outputs)\.(weight|bias)",
    keys={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    },
    layers="transformer.layer",
    projections={
        "q": "attention.q_lin",
        "k": "attention.k_lin",
        "v": "attention.v_lin",
        "o": "attention.out_lin",
    },
    inner="ffn.lin1",
    outer="ffn.lin2",
    activation="ffn.activation",
    attention_norm="sa_layer_norm",
    ffn_norm="output_layer_norm",
    embeddings=("word", "position"),
    drops_attention_output=False,
    default_targets=(),
)
