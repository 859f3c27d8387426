"""Cells: their paths, and invalid values."""

import pytest
from helpers.configs import DEFAULT

from lora.errors import ConfigError
from lora.experiment import grid
from lora.experiment.cell import Cell


def test_a_path_gives_back_its_cell():
    for cell in grid.load(DEFAULT).cells:
        assert Cell.parse(cell.path) == cell
    for wrong in ("a/b/lora/qv", "a/b/lora/qv/8", "a/b/lora/vq/r8", "a/b/lora/qv/r0"):
        with pytest.raises(ValueError):
            Cell.parse(wrong)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(method="lorra"), "method is 'lorra'; allowed: lora, ft"),
        (dict(weights="vq"), "weights is 'vq'; .*write 'qv'"),
        (dict(weights=""), "weights is ''; allowed: letters"),
        (dict(rank=0), "rank is 0; allowed: an integer of at least 1"),
        (dict(rank=True), "rank is True; allowed: an integer"),
        (dict(method="ft", weights="all"), "rank is 8; allowed for method 'ft': 0"),
        (dict(method="adapter_drop", weights="ffn01"), "weights is 'ffn01'; allowed .*ffn<n>"),
        (dict(model="../x"), "model is '../x'; allowed: letters, digits"),
    ],
)
def test_a_cell_that_cannot_be_trained_is_refused(changes, message):
    valid = dict(model="m", task="t", method="lora", weights="qv", rank=8, protocol="p")
    with pytest.raises(ConfigError, match=message):
        Cell(**valid | changes)


def test_first_layer_of_adapter_drop():
    assert Cell("m", "t", "adapter_drop", "ffn8", 48, "p").first_layer == 8
    assert Cell("m", "t", "adapter_pfeiffer", "ffn", 48, "p").first_layer == 0
