"""Memory estimates against counts by hand."""

from lora.model import memory


def test_activation_bytes_by_hand():
    """One layer of width 2, inner width 3 and one head; one sequence of 1 token, padded to 4."""
    tokens = 1 * (4 * 2 + 3)
    attention = 4 * 3 * 2 + 3 * 4**2
    working = 4 * 3
    assert memory.activation_bytes(2, 3, 1, 1, 1, 4, 16, 0, 4) == 4 * (tokens + attention + working)


def test_relative_positions_need_a_table_for_each_run_and_room_for_scores():
    """Two runs with tables of 5 rows; the rest as above."""
    sizes = (2, 3, 1, 1, 1, 4, 16, 0, 4)
    more = memory.activation_bytes(*sizes, table_rows=10) - memory.activation_bytes(*sizes)
    assert more == 4 * ((10 + 4) * 2 + 6 * 16)


def test_lora_inputs():
    """q, k and v share an input; with dropout each weight type keeps an input and a mask."""
    assert [memory.lora_inputs("lora", weights, 0.0) for weights in ("q", "qkv", "qo")] == [1, 1, 2]
    assert memory.lora_inputs("lora", "qv", 0.1) == 4
    assert memory.lora_inputs("bitfit", "bias", 0.0) == 0
