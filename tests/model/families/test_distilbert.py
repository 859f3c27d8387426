"""DistilBERT against transformers and peft."""

from helpers.families import FamilyChecks


class TestDistilBERT(FamilyChecks):
    family = "distilbert"


class TestDistilBERTWithSinusoids(FamilyChecks):
    """Positions that start as sinusoids; transformers 5 trains them like others."""

    family = "distilbert"
    changes = {"sinusoidal_pos_embds": True}
