"""Damaged configs and tables: either the grid loads, or one message lists what is wrong."""

import copy
import json
import shutil
from pathlib import Path, PurePosixPath

import pytest
import yaml
from helpers import fuzzing
from helpers.fuzzing import fuzz, valid_or_refused
from helpers.models import ROOT
from hypothesis import given
from hypothesis import strategies as st

from lora.errors import ConfigError
from lora.experiment import csv_tables, grid, jobs, registry
from lora.experiment.cell import Cell
from lora.experiment.config_files import read, read_yaml
from lora.experiment.hparams import HPARAM_FIELDS, HPARAM_NAMES, parse_setting

pytestmark = pytest.mark.slow

DEFAULT = read_yaml(ROOT / "config/config.yaml")
DEMO = read(str(ROOT / "config/demo.yaml"))
EVERY_KEY = DEMO | dict(  # keys that the shipped configs leave empty
    protocols=dict(mine=dict(base="demo", learning_rate=1e-3)),
    overrides=dict(alpha="2r", epochs=2, start="pretrained"),
    sources=dict(
        vader=dict(kind="file", locator="/data/vader"),
        own=dict(role="model", kind="hub", locator="a/b", revision="0" * 40),
    ),
    subspace=dict(
        model="minilm",
        task="same-article",
        protocol="mine",
        weights="qv",
        ranks=[4, 8],
        seeds=[0, 1],
        letters="q",
        layers=[1],
    ),
    tables=dict(
        table2=dict(
            models=["minilm", "own"],
            tasks=["same-article"],
            method="lora",
            weights=["qv"],
            ranks=[4, 8],
            protocols=["demo", "mine"],
            baselines=[dict(method="lora", weights=["qkvo"], ranks=[4])],
        ),
        table5=dict(
            models=["minilm"],
            tasks=["tweet-intensity"],
            method="lora",
            weights=["q", "qv"],
            ranks=[8],
        ),
    ),
)


def check_usable(config: dict, loaded: grid.Grid) -> None:
    """Cells of an accepted config are folders in the results, and its JSON gives the same grid."""
    again = grid.load(json.loads(json.dumps(config)))
    assert (again.cells, again.seeds) == (loaded.cells, loaded.seeds)
    for cell in loaded.cells:
        assert Cell.parse(cell.path) == cell and ".." not in PurePosixPath(cell.path).parts
        job = jobs.to_json([jobs.cell_entry(cell, loaded.hparams(cell), "tokens")])
        (spec,) = jobs.parse_json(job, [0], Path("runs"), loaded.tasks)
        assert (spec.cell, spec.hparams, spec.tokens_dir) == (
            cell,
            loaded.hparams(cell),
            Path("tokens"),
        )
    for seed in loaded.seeds:
        assert type(loaded.settings(loaded.cells[0], seed)["seed"]) is int
    assert Path(config["results"], "runs").parent == Path(config["results"])


@fuzz(250)
@given(st.sampled_from([DEFAULT, DEMO, EVERY_KEY]).flatmap(fuzzing.damaged_tree))
def test_a_damaged_config_loads_or_is_refused(config):
    try:
        loaded = grid.load(copy.deepcopy(config))
    except ConfigError as error:
        fuzzing.check_message(str(error))
        for problem in error.problems:
            fuzzing.check_message(problem)
        return
    check_usable(config, loaded)


@fuzz(150)
@given(st.sampled_from(fuzzing.paths_in(EVERY_KEY)), fuzzing.ANY_VALUE)
def test_a_wrong_value_is_reported_with_its_key(path, value):
    """The message may instead name the removed names that other keys refer to."""
    config = copy.deepcopy(EVERY_KEY)
    container = config
    for key in path[:-1]:
        container = container[key]
    before, container[path[-1]] = container[path[-1]], value
    try:
        check_usable(config, grid.load(copy.deepcopy(config)))
    except ConfigError as error:
        key = [key for key in path if isinstance(key, str)][-1]
        named = [
            key.rstrip("s"),
            *(str(key) for inside in fuzzing.paths_in(before) for key in inside),
        ]
        assert any(name in str(error) for name in named), (path, value, str(error))


def test_the_config_to_damage_is_valid():
    assert len(grid.load(EVERY_KEY).cells) == 12


FILES = {name: (ROOT / "config" / name).read_bytes() for name in csv_tables.COLUMNS}


@fuzz(200)
@given(
    st.sampled_from(sorted(FILES)).flatmap(
        lambda name: st.tuples(st.just(name), fuzzing.damaged_bytes(FILES[name]))
    )
)
def test_damaged_csv_tables_are_read_or_refused(tmp_path_factory, damaged):
    folder = tmp_path_factory.getbasetemp() / "config"
    folder.mkdir(exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    name, content = damaged
    (folder / name).write_bytes(content)
    with valid_or_refused("config"):
        loaded = grid.load(DEFAULT, folder)
        for row in loaded.published:
            float(row["value"])
        for cell in loaded.cells:
            assert loaded.hparams(cell).epochs >= 1


@fuzz(150)
@given(fuzzing.damaged_bytes(EVERY := yaml.safe_dump(EVERY_KEY).encode()))
def test_a_damaged_yaml_file_is_a_mapping_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(content)
    with valid_or_refused(path):
        assert isinstance(read(str(path)), dict)


TASKS = registry.read_tasks()
JOB = [
    jobs.cell_entry(cell, grid.load(DEMO).hparams(cell), "tokens", ("run",))
    for cell in grid.load(DEMO).cells[:2]
]


@fuzz(150)
@given(
    st.one_of(
        fuzzing.damaged_tree(json.loads(jobs.to_json(JOB))).map(json.dumps),
        fuzzing.damaged_bytes(jobs.to_json(JOB).encode()).map(
            lambda content: content.decode("utf-8", "replace")
        ),
        st.sampled_from(["[" * 100_000, '{"a":' * 5000, "9" * 5000, "NaN"]),
    )
)
def test_damaged_job_cells_are_parsed_or_refused(text):
    with valid_or_refused("The cells of a job"):
        specs = jobs.parse_json(text, [0], Path(), TASKS)
        again = [
            jobs.cell_entry(
                spec.cell, spec.hparams, str(spec.tokens_dir), map(str, spec.start_dirs)
            )
            for spec in specs
        ]
        assert jobs.parse_json(jobs.to_json(again), [0], Path(), TASKS) == specs


@fuzz(400)
@given(st.sampled_from(HPARAM_NAMES), fuzzing.ANY_VALUE, st.sampled_from([1, 8, 1024]))
def test_a_hyperparameter_is_parsed_or_refused(name, written, rank):
    with valid_or_refused(name, "allowed"):
        value = parse_setting(name, written, rank)
        assert type(value) is HPARAM_FIELDS[name].type
        assert parse_setting(name, str(value), rank) == value
        assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize("name", sorted(FILES))
def test_csv_tables_with_bom_and_crlf_are_read(tmp_path, name):
    """With a byte-order mark and \\r\\n, as spreadsheets save it."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    content = b"\xef\xbb\xbf" + FILES[name].replace(b"\n", b"\r\n")
    (tmp_path / "config" / name).write_bytes(content)
    assert csv_tables.read_rows(name, tmp_path / "config") == csv_tables.read_rows(name)
