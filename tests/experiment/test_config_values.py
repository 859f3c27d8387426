"""Values of a config as a user writes them.

The kind is "a value that is right, in another form than the config's model has": what
`snakemake --config` makes of numbers, lists, nulls and mappings, at the top and nested; numbers in
quotes; 1e3, which YAML 1.1 reads as text; and paths with ~, variables and other spellings.
"""

import os

import pytest
import yaml
from helpers.configs import DEFAULT, changed
from snakemake.cli import parse_config
from snakemake.utils import update_config

from lora.errors import ConfigError
from lora.experiment import config, grid

TABLE = "{models: [minilm], tasks: [same-article], method: lora, weights: [qv], ranks: [4, 8]}"
SUBSPACE = "{model: m, task: t, weights: qv, ranks: [4, 8], seeds: [0, 1], layers: [1, 12]}"
BASELINES = "{table2: {baselines: [{method: ft}, {method: lora, weights: [q], ranks: [4]}]}}"


def merged(*entries: str) -> dict:
    """The config that the rules get for these arguments of --config."""
    value = changed()
    update_config(value, parse_config(entries))
    return value


@pytest.mark.parametrize(
    "entry",
    [
        "seeds=[0,1]",
        "seeds=[0]",
        "seeds=[4294967295]",
        "pack=[seed]",
        "pack=[]",
        "pack=[rank, seed]",
        "subspace=null",
        "subspace=~",
        "container=null",
        f"subspace={SUBSPACE}",
        "tables={table2: null}",
        "tables={table2: , table6: ~}",
        f"tables={{table2: {TABLE}}}",
        f"tables={BASELINES}",
        "sources={mine: {role: null, kind: file, locator: '12'}}",
        "threads=3",
        "micro_batch=0",
        "checkpoint_every_s=2.5",
        "results=./2024",
        "mode=partial",
    ],
)
def test_an_argument_of_config_means_what_it_means_in_a_yaml_file(entry):
    """PyYAML's safe loader, which reads a config file, gives the expected values."""
    key, _, text = entry.partition("=")
    expected = changed()
    update_config(expected, {key: yaml.safe_load(text)})
    assert config.parse(merged(entry)) == config.parse(expected)


def test_overrides_given_as_text_are_numbers():
    cells = [
        grid.load(merged(f"overrides={{{text}}}")) for text in ("epochs: 2, alpha: 16", "epochs: 2")
    ]
    first = [loaded.hparams(loaded.cells[0]) for loaded in cells]
    assert [one.epochs for one in first] == [2, 2] and type(first[0].epochs) is int
    assert first[0].alpha == 16.0


@pytest.mark.parametrize(
    "entry, message",
    [
        ("seeds=0", "seeds: got 0; allowed: a list; write [0] "),
        ("seeds=0,1", 'seeds: got "0,1"; allowed: a list; write [0, 1] '),
        ("seeds=[0,1", 'seeds: got "[0,1"; allowed: a list; write [0, 1] '),
        ("seeds=null", 'seeds: got "null"; allowed: a list ('),
        ("seeds=[0,x]", 'seeds[1]: got "x"; allowed: a whole number'),
        ("seeds=[1.5]", 'seeds[0]: got "1.5"; allowed: a whole number'),
        ("seeds=[-1]", "seeds[0]: got -1; allowed: at least 0"),
        ("seeds=[010]", 'seeds[0]: got "010"; allowed: a whole number'),  # 8 in YAML 1.1
        ("seeds=[0, 00]", 'seeds[1]: got "00"; allowed: a whole number'),
        ("seeds=[" + "9" * 5000 + "]", "(5002 characters); allowed: a whole number"),
        ("pack=seed", 'pack: got "seed"; allowed: a list; write [seed] '),
        (
            "results=2024",
            'results: got 2024; allowed: text; write "2024" in quotes in a config file, or ./2024',
        ),
        ("checkpoint_every_s=nan", "checkpoint_every_s: got NaN; allowed: a finite number"),
        ("checkpoint_every_s=inf", "checkpoint_every_s: got Infinity; allowed: a finite number"),
        ("threads=1e400", "threads: got Infinity; allowed: a whole number"),
        ("micro_batch=99999999999", "micro_batch: got 99999999999; allowed: at most 2147483647"),
        ("tables={table2: {ranks: 8}}", 'tables.table2.ranks: got "8"; allowed: a list; write [8]'),
        ("tables=table2", 'tables: got "table2"; allowed: keys with values'),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_write(entry, message):
    with pytest.raises(ConfigError) as caught:
        grid.load(merged(entry))
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


def test_numbers_in_quotes_and_with_an_exponent_are_numbers():
    read = config.parse(changed(threads="3", checkpoint_every_s="1e3", seeds=["0", "7"]))
    assert (read.threads, read.checkpoint_every_s, read.seeds) == (3, 1000.0, (0, 7))


def test_reading_keeps_the_given_config_and_is_done_once():
    given = merged("seeds=[0]", "results=./a/")
    before = str(given)
    read = config.resolved(given)
    assert str(given) == before and config.resolved(read) == read
    assert config.resolved(DEFAULT) == DEFAULT  # the text of the default config stays the same
    assert [config.resolved(odd) for odd in (None, [1], "x", {"sources": [1]})] == [
        None,
        [1],
        "x",
        {"sources": [1]},
    ]


def test_every_path_of_a_config_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    read = config.resolved(
        changed(
            results="$SCRATCH/./a/../mine/",
            container="~/lora.sif",
            overrides=dict(start="~/out/adapter"),
            protocols=dict(mine=dict(base="course", start="${SCRATCH}/adapter")),
            sources={
                "glue-sst2": dict(kind="file", locator="~/glue"),
                "roberta-base": dict(kind="hub", locator="~/x$y", revision="0" * 40),
            },
        )
    )
    assert read["results"] == "/scratch/me/mine" and read["container"] == f"{tmp_path}/lora.sif"
    assert read["overrides"]["start"] == f"{tmp_path}/out/adapter"
    assert read["protocols"]["mine"]["start"] == "/scratch/me/adapter"
    locators = [source["locator"] for source in read["sources"].values()]
    assert locators == [f"{tmp_path}/glue", "~/x$y"]  # a hub name is no path


def test_variables_that_are_not_set_are_all_named(monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(ConfigError) as caught:
        grid.load(
            changed(
                results="$NOT_SET/x",
                container="${EMPTY}/y.sif",
                overrides=dict(start="~no-such-user/adapter"),
                sources={"glue-sst2": dict(kind="file", locator="~/$NOT_SET")},
                device="gpu",
            )
        )
    text = str(caught.value)
    for part in (
        "results: got '$NOT_SET/x'; environment variable NOT_SET is not set or empty; run `export",
        "container: got '${EMPTY}/y.sif'; environment variable EMPTY is not set or empty",
        "overrides.start: got '~no-such-user/adapter'; there is no home folder of ~no-such-user",
        "sources.glue-sst2.locator: got '~/$NOT_SET'; environment variable NOT_SET",
        "device: got",
    ):
        assert part in text, text
    assert "NOT_SET" not in os.environ
