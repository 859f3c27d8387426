"""Only the runs whose numbers a version changes have that version."""

import pytest

import lora
from lora.experiment import versions


@pytest.mark.parametrize(
    "family, precision, expected",
    [
        ("bert", "bf16", lora.RESULTS_VERSION),
        ("bert", "fp32", 3),
        ("roberta", "bf16", 3),
        ("roberta", "fp32", 3),
        ("", "bf16", 3),
    ],
)
def test_version_of_a_run(family, precision, expected):
    assert versions.results_version(family, precision) == expected
