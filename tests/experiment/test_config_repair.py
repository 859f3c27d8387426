"""Every problem of a config is in one message: of the schema, of ranges, of names and of cells.

Of the kind are all pairs of a problem that pydantic finds with one that needs the tables of
config/. A dropped or replaced value must cause no problem that is not the user's.
"""

import itertools
import re
import shutil

import pytest
from helpers.configs import DEFAULT, changed
from helpers.models import ROOT

from lora.errors import ConfigError
from lora.experiment import config, config_repair, grid

SCHEMA = {  # changes -> the key that the message must name
    "device: got": dict(device="gpu"),
    "seeds[0]: got -1": dict(seeds=[-1]),
    "seeds: got": dict(seeds=[1, 1]),
    "threads: got": dict(threads=0),
    "pack[0]: got": dict(pack=["epoch"]),
    "unknown key 'sedes' (did you mean 'seeds'?)": dict(sedes=[1]),
    "subspace: missing key": dict(subspace={"model": "minilm"}),
    "tables.table6.ranks[0]: got": dict(tables__table6__ranks=[0]),
    "tables.table6.method: got": dict(tables__table6__method="loar"),
    "tables.table6.weights: got": dict(tables__table6__weights=3),
    "protocols.mine: missing key 'base'": dict(protocols={"mine": {"alpha": 3}}),
    "sources.mine.kind: got": dict(sources={"mine": {"kind": 3, "locator": "x"}}),
    "overrides.alpha: got": dict(overrides={"alpha": [1]}),
}
NAMES = {
    "tables.table2.tasks: got 'sst-9'": dict(tables__table2__tasks=["sst-9"]),
    "tables.table2.models: got 'robert'": dict(tables__table2__models=["robert"]),
    "tables.table2.weights: weights is 'vq'": dict(tables__table2__weights=["vq"]),
    "plan_device: got 'H1'": dict(plan_device="H1"),
    "protocol: got 'papre'": dict(protocol="papre"),
    "results: got": dict(results="a{b}"),
}
CELLS = {
    "no row for protocol 'paper'": dict(tables__table2__tasks=["movie-polarity"], protocol="paper"),
}
CELLS_NEED = ("overrides", "protocols")  # wrong ones leave hyperparameters open


def problems(**changes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        grid.load(changed(**changes))
    return caught.value.problems


@pytest.mark.parametrize("schema, other", [*itertools.product(SCHEMA, NAMES | CELLS)])
def test_problems_of_two_kinds_are_in_one_message(schema, other):
    found = problems(**(NAMES | CELLS)[other], **SCHEMA[schema])
    expected = [schema] + ([] if other in CELLS and schema.startswith(CELLS_NEED) else [other])
    for part in expected:
        assert any(part in problem for problem in found), found
    allowed = [*expected, *({other: "no row for protocol"}.get(one, one) for one in expected)]
    extra = [problem for problem in found if not any(part in problem for part in allowed)]
    assert extra == []


def test_names_of_sources_and_protocols_that_are_wrong_are_known():
    found = problems(
        sources={
            "own": {"kind": "hub", "locator": "a/b", "role": "model", "revision": "1"},
            "mine": {"kind": "file"},
        },
        protocols={"a": {"alpha": 3}, "b": 5},
        protocol="a",
        tables__table2__models=["own", "mine"],
        tables__table6__protocols=["b"],
    )
    assert len(found) == 4 and not any("tables" in problem for problem in found), found


def test_one_message_names_a_wrong_list_once_for_each_wrong_item_and_the_repeats():
    found = problems(seeds=[1, 1, "x", -1])
    assert [problem.split("; ")[0] for problem in found] == [
        'seeds[2]: got "x"',
        "seeds[3]: got -1",
        "seeds: got [1, 1]",
    ]


@pytest.mark.parametrize("written", [None, [], "x", {}, {"tables": 5}, {"tables": {"table2": 3}}])
def test_what_is_no_config_is_refused_without_a_stack_trace(written):
    with pytest.raises(ConfigError):
        grid.load(written)


def test_wrong_files_and_a_wrong_config_are_in_one_message(tmp_path):
    folder = shutil.copytree(ROOT / "config", tmp_path / "config")
    for name in ("tasks.csv", "published.csv"):
        (folder / name).write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError) as caught:
        grid.load(changed(device="gpu"), folder)
    parts = ("device: got", "config/tasks.csv: the header", "config/published.csv: the header")
    assert [re.escape(part) for part in parts if part not in str(caught.value)] == []


def test_a_valid_config_is_returned_whole():
    part = config_repair.valid_part(DEFAULT)
    assert part.config == config.parse(DEFAULT)
    assert (part.problems, part.wrong, part.sources) == ([], frozenset(), frozenset())
