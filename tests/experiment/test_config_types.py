"""Types of config values: valid and invalid values."""

from typing import get_args

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from lora.columns import CELL_COLUMNS
from lora.experiment import config_types
from lora.experiment.cell import METHODS


def accepts(kind: object, value: object) -> bool:
    try:
        TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("Names", [["q"], [], ("q", "v")], [["q", "q"], [1], "q", {"q"}]),
        ("Numbers", [[1, 2]], [[0], [1.0], [True], ["1"]]),
        ("Seeds", [[0, 2**32 - 1]], [[2**32], [-1], [1, 1]]),
        ("Setting", [1, 0.5, "2r"], [None, True, [1], {}]),
    ],
)
def test_values_of_a_type(name, right, wrong):
    kind = getattr(config_types, name)
    assert [value for value in right if not accepts(kind, value)] == []
    assert [value for value in wrong if accepts(kind, value)] == []


def test_a_setting_keeps_its_type():
    """Notes under a table show an override as it was written."""
    adapter = TypeAdapter(config_types.Setting)
    assert [type(adapter.validate_python(value)) for value in (1, 1.0, "1")] == [int, float, str]


def test_methods_and_axes_are_those_of_cells():
    assert get_args(config_types.MethodName) == tuple(METHODS)
    assert set(get_args(config_types.Axis)) < {*CELL_COLUMNS, "seed"}
