"""CamemBERT against transformers and peft."""

from helpers.families import FamilyChecks


class TestCamemBERT(FamilyChecks):
    family = "camembert"
