"""ELECTRA against transformers and peft."""

from helpers.families import FamilyChecks


class TestELECTRA(FamilyChecks):
    family = "electra"


class TestELECTRAWithEqualWidths(FamilyChecks):
    """Embeddings as wide as the model, as in ELECTRA-base and -large."""

    family = "electra"
    changes = {"embedding_size": 32}
