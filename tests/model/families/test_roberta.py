"""RoBERTa against transformers and peft."""

from helpers.families import FamilyChecks


class TestRoBERTa(FamilyChecks):
    family = "roberta"
