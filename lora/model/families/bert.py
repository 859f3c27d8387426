"""BERT (Devlin et al. 2019). The head's dense layer is the pre-trained pooler."""

from lora.model.families.family import Family, Head

# Sizes and rates that transformers gives a config.json without them, except those that families
# differ in.
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "initializer_range": 0.02,
    "pad_token_id": 0,
}
BUFFERS = r"embeddings\.(position_ids|token_type_ids)"

FAMILY = Family(
    name="bert",
    title="BERT",
    prefix="bert",
    model_class="BertModel",
    classifier_class="BertForSequenceClassification",
    defaults=DEFAULTS,
    head=Head(
        dense="bert.pooler.dense",
        out="classifier",
        modules_to_save=("classifier", "pooler"),
        input_dropout=False,
    ),
    surplus=BUFFERS + r"|pooler\.dense\.(weight|bias)"
    r"|cls\.predictions\.(bias|(transform\.dense|decoder)\.(weight|bias)"
    r"|transform\.LayerNorm\.(weight|bias|gamma|beta))"
    r"|cls\.seq_relationship\.(weight|bias)|(classifier|qa_outputs)\.(weight|bias)",
    has_pooler=True,
)
