"""Version of the method that a run's numbers depend on, by what the run is.

A change that moves the numbers of some runs only raises the version of those runs only, so that the
others do not train again.
"""

import lora

# (family, precision) of the runs that version 4 changed.
AFFECTED = {("bert", "bf16"): lora.RESULTS_VERSION}


def results_version(family: str, precision: str) -> int:
    """Return the version of the method for runs of a model family and precision of the base.

    Version 4 reads BERT's pooler, from which the head starts, in the precision of its file. Before,
    with a bf16 base, the head started from values rounded to bf16. Other runs are as in version 3.

    Args:
        family: Family of the base model, `model_type` of its config.json.
        precision: Of the frozen base: `bf16` or `fp32`.
    """
    return AFFECTED.get((family, precision), 3)
