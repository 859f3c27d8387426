"""CamemBERT (Martin et al. 2020). RoBERTa, trained on French text."""

import dataclasses

from lora.model.families import bert, roberta

FAMILY = dataclasses.replace(
    roberta.FAMILY,
    name="camembert",
    title="CamemBERT",
    model_class="CamembertModel",
    classifier_class="CamembertForSequenceClassification",
    defaults={**bert.DEFAULTS, "pad_token_id": 1},
    default_targets=(),
)
