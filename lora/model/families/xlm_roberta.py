"""XLM-RoBERTa (Conneau et al. 2020). RoBERTa, with another vocabulary."""

import dataclasses

from lora.model.families import bert, roberta

FAMILY = dataclasses.replace(
    roberta.FAMILY,
    name="xlm-roberta",
    title="XLM-RoBERTa",
    model_class="XLMRobertaModel",
    classifier_class="XLMRobertaForSequenceClassification",
    defaults={**bert.DEFAULTS, "pad_token_id": 1},
)
