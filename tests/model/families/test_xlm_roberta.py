"""XLM-RoBERTa against transformers and peft."""

from helpers.families import FamilyChecks


class TestXLMRoBERTa(FamilyChecks):
    family = "xlm-roberta"
