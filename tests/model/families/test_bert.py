"""BERT against transformers and peft."""

from helpers.families import FamilyChecks


class TestBERT(FamilyChecks):
    family = "bert"
