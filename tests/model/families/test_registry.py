"""The table of families: its keys, its messages, and that no other file knows a family."""

import ast

import pytest
import transformers
from helpers.models import ROOT
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

from lora.model.families import registry

# Files that name a family because their data are of one: the published course results, and the
# versions of earlier results.
ALLOWED = {"lora/tables/import_course.py", "lora/experiment/versions.py"}


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_classes_and_prefix_are_those_of_transformers(name):
    family = registry.FAMILIES[name]
    assert family.name == name
    config = transformers.AutoConfig.for_model(name)
    model = transformers.AutoModel._model_mapping[type(config)]
    classifier = transformers.AutoModelForSequenceClassification._model_mapping[type(config)]
    assert (family.model_class, family.classifier_class) == (model.__name__, classifier.__name__)
    assert family.prefix == classifier.base_model_prefix


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_default_targets_are_those_of_peft(name):
    theirs = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(name, [])
    assert list(registry.FAMILIES[name].default_targets) == theirs


@pytest.mark.parametrize("name", ["gpt2", "", None, 3, ["bert"]])
def test_another_family_gets_the_names_of_those_that_are_there(name):
    with pytest.raises(ValueError, match="allowed: bert, roberta, xlm-roberta, camembert, distil"):
        registry.family_of({"model_type": name})
    assert registry.family_of({}).name == "bert"


def test_no_other_file_names_a_family():
    """What a family needs is in its file: no string elsewhere is a family's name or prefix."""
    names = {name for one in registry.FAMILIES.values() for name in (one.name, one.prefix)}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "lora").rglob("*.py")
        if "families" not in path.parts and str(path.relative_to(ROOT)) not in ALLOWED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []
