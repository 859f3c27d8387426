"""Table of the supported model families, by the `model_type` of config.json."""

from collections.abc import Mapping
from typing import Any

from lora.errors import shown
from lora.model.families import (
    bert,
    camembert,
    deberta_v2,
    distilbert,
    electra,
    roberta,
    xlm_roberta,
)
from lora.model.families.family import Family

# Of families whose tensors have the same prefix, the first is assumed where only tensors are known.
FAMILIES: Mapping[str, Family] = {
    one.FAMILY.name: one.FAMILY
    for one in (bert, roberta, xlm_roberta, camembert, distilbert, electra, deberta_v2)
}
DEFAULT = bert.FAMILY.name  # of a config.json without model_type
ALLOWED = ", ".join(FAMILIES)


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family of a config.json.

    Raises:
        ValueError: If it is not supported. The message names those that are.
    """
    name = config.get("model_type", DEFAULT)
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(f"model family is {shown(name)}; allowed: {ALLOWED}")
    return FAMILIES[name]
