"""Names that follow from the description of a family."""

from lora.model.families import distilbert, electra


def test_modules_of_pairs():
    assert distilbert.FAMILY.module_of("3.o") == "transformer.layer.3.attention.out_lin"
    assert electra.FAMILY.module_of("0.q") == "encoder.layer.0.attention.self.query"


def test_tensor_names_have_the_projection_only_where_the_model_has_it():
    with_it, without = (electra.FAMILY.tensor_names(2, projects) for projects in (True, False))
    assert with_it - without == {"embeddings_project.weight", "embeddings_project.bias"}
    assert "encoder.layer.1.output.LayerNorm.bias" in without
    assert not any("layer.2." in name for name in without)
