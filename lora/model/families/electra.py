"""ELECTRA (Clark et al. 2020). BERT's layers; the embeddings may be narrower; the head has GELU."""

from lora.model.families import bert
from lora.model.families.family import Family, Head

FAMILY = Family(
    name="electra",
    title="ELECTRA",
    prefix="electra",
    model_class="ElectraModel",
    classifier_class="ElectraForSequenceClassification",
    defaults={
        **bert.DEFAULTS,
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
    head=Head(activation="gelu"),
    surplus=bert.BUFFERS + r"|(discriminator_predictions\.(dense|dense_prediction)"
    r"|generator_predictions\.(dense|LayerNorm)|generator_lm_head"
    r"|classifier\.(dense|out_proj)|classifier|qa_outputs)\.(weight|bias)",
    embedding_projection="embeddings_project",
)
