"""Scores of relative positions against the definition, one query and one key at a time."""

import itertools

import pytest
import torch

from lora.model import attention, relative_positions
from lora.model.families.family import RelativePositions

HEADS, E, WIDTH = 2, 3, 16
CPU = torch.device("cpu")


def relative(kinds=("c2p", "p2c"), buckets=4, max_distance=12) -> RelativePositions:
    return RelativePositions(kinds, buckets, max_distance, "table", "", {})


def test_rows_of_distances():
    """Without buckets a row for each distance, cut at both ends. With four: 0 and 1 have own rows.

    Worked by hand for half of the buckets, 2, and up to 12 tokens: distance d above 2 is in bucket
    2 + ceil(log(d / 2) / log(5.5)), so 3 to 11 are in 3, and d from 12 on in 4.
    """
    plain = relative_positions.table_rows(relative(buckets=0, max_distance=3), 5, 5, CPU)
    assert plain.tolist() == [5, 5, 5, 4, 3, 2, 1, 0, 0]  # distances 4 to -4
    rows = relative_positions.table_rows(relative(), 1, 16, CPU)
    assert rows.tolist() == [4, 3, 2, *[1] * 9, *[0] * 4]  # distances 0 to -15


@pytest.mark.parametrize("kinds", [("c2p",), ("p2c",), ("c2p", "p2c")])
@pytest.mark.parametrize("queries", [1, WIDTH])
def test_scores_are_those_of_the_definition(kinds, queries):
    """Values and gradients."""
    torch.manual_seed(0)
    form = relative(kinds)
    query, key = (
        torch.randn(2, HEADS, length, E, dtype=torch.float64, requires_grad=True)
        for length in (queries, WIDTH)
    )
    tables = {
        kind: torch.randn(form.rows, HEADS * E, dtype=torch.float64, requires_grad=True)
        for kind in kinds
    }
    got = relative_positions.scores(query, key, tables, form)
    wanted = torch.zeros(2, HEADS, queries, WIDTH, dtype=torch.float64)
    rows = relative_positions.table_rows(form, WIDTH, WIDTH, CPU)
    for n, h, i, j in itertools.product(range(2), range(HEADS), range(queries), range(WIDTH)):
        row = rows[WIDTH - 1 - (i - j)]
        for kind, content in (("c2p", query[n, h, i]), ("p2c", key[n, h, j])):
            if kind in kinds:
                wanted[n, h, i, j] += content @ tables[kind][row].view(HEADS, E)[h]
    assert (got - wanted).abs().max() < 1e-13
    weight = torch.randn_like(wanted)
    inputs = [
        *tables.values(),
        *([query] if "c2p" in kinds else []),
        *([key] if "p2c" in kinds else []),
    ]
    ours, plain = (torch.autograd.grad((one * weight).sum(), inputs) for one in (got, wanted))
    for one, other in zip(ours, plain, strict=True):
        assert (one - other).abs().max() < 1e-12


def test_a_part_has_its_own_table():
    """Two runs in one group: each has the bytes of the run alone."""
    torch.manual_seed(0)
    form, counts = relative(), (2, 3)
    rows = sum(counts) * HEADS * WIDTH
    query, key, value = torch.randn(3, rows, E)
    tables = {kind: torch.randn(2 * form.rows, HEADS * E) for kind in form.kinds}
    bias = torch.zeros(sum(counts) * HEADS, 1, WIDTH)
    split = counts[0] * HEADS
    parts = ((0, slice(0, split)), (1, slice(split, len(bias))))
    together = [attention.Group(len(bias), WIDTH, bias, parts)]
    got = relative_positions.attend(
        query, key, value, tables, form, HEADS, together, None, 0.0
    ).split([split * WIDTH, rows - split * WIDTH])
    for part, (_, chosen) in enumerate(parts):
        own = slice(chosen.start * WIDTH, chosen.stop * WIDTH)
        count = chosen.stop - chosen.start
        alone = attention.Group(count, WIDTH, bias[chosen], ((0, slice(0, count)),))
        mine = {
            kind: table[part * form.rows : (part + 1) * form.rows] for kind, table in tables.items()
        }
        wanted = relative_positions.attend(
            query[own], key[own], value[own], mine, form, HEADS, [alone], None, 0.0
        )
        assert torch.equal(got[part], wanted)
