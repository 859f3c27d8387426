"""RoBERTa (Liu et al. 2019). BERT's layers; positions are counted from the padding token's id."""

from lora.model.families import bert
from lora.model.families.family import Family, Head

FAMILY = Family(
    name="roberta",
    title="RoBERTa",
    prefix="roberta",
    model_class="RobertaModel",
    classifier_class="RobertaForSequenceClassification",
    defaults={**bert.DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
    head=Head(),
    surplus=bert.BUFFERS + r"|pooler\.dense\.(weight|bias)"
    r"|lm_head\.(bias|(dense|layer_norm|decoder)\.(weight|bias))"
    r"|classifier\.((dense|out_proj)\.)?(weight|bias)|qa_outputs\.(weight|bias)",
    model_options={"add_pooling_layer": False},
    counts_from_padding=True,
)
