"""Configs with names missing from the tables of config/, or with cyclic warm starts."""

import pytest
from helpers.configs import changed

from lora.errors import ConfigError
from lora.experiment import grid


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(tables__table2__tasks=["sst-9"]), "got 'sst-9'; allowed: .*did you mean 'sst2'"),
        (
            dict(tables__table2__models=["roberta"]),
            "tables.table2.models: got 'roberta'; allowed: bert-base-uncased",
        ),
        (dict(tables__table2__models=["glue-sst2"]), "models: got 'glue-sst2'"),
        (dict(tables__table6__weights=["vq"]), "weights is 'vq'; .*write 'qv'"),
        (dict(tables__table6__weights=["qx"]), "weights is 'qx'; allowed: letters of 'qkvo'"),
        (dict(protocol="papre"), "protocol: got 'papre'; allowed: .*did you mean 'paper'"),
        (dict(overrides={"learning_rte": 1}), "did you mean 'learning_rate'"),
        (
            dict(overrides={"learning_rate": "fast"}),
            "learning_rate is 'fast'; allowed: a number above 0",
        ),
        (dict(overrides={"epochs": 2.5}), "epochs is 2.5; allowed: a whole number of at least 1"),
        (dict(overrides={"head": "melted"}), "head is 'melted'; allowed: trained or frozen"),
        (dict(tables={"table2": None, "table6": None}), "tables: all are null; give at least one"),
        (
            dict(pack=["epoch"]),
            r"pack\[0\]: got \"epoch\"; allowed: 'protocol', 'task', 'weights', 'rank' or 'seed'",
        ),
        (dict(pack=["seed", "seed"]), "pack: got .*; allowed: each only once"),
        (dict(precision="fp16"), "precision: got \"fp16\"; allowed: 'auto', 'bf16' or 'fp32'"),
        (
            dict(sources={"mine": {"kind": "file", "locator": "x"}}),
            "role is ''; allowed: model, data",
        ),
        (
            dict(sources={"mine": {"role": "model", "kind": "hub", "locator": "a/b"}}),
            "pinned by a 40-digit commit",
        ),
        (
            dict(protocol="paper", tables__table2__tasks=["movie-polarity"], tables__table6=None),
            "no row for protocol 'paper'",
        ),
    ],
)
def test_a_wrong_config_is_refused_with_what_is_allowed(changes, message):
    with pytest.raises(ConfigError, match=message):
        grid.load(changed(**changes))


def test_weights_and_ranks_must_fit_the_method():
    for wrong, message in (
        (dict(method="adapter_drop", ranks=[4]), "needs it: ffn<n>"),
        (dict(method="adapter_houlsby"), "ranks: method 'adapter_houlsby' needs it"),
        (dict(method="ft", ranks=[8]), "rank is 8; allowed for method 'ft': 0"),
        (
            dict(method="adapter_pfeiffer", weights=["qv"], ranks=[8]),
            "weights is 'qv'; allowed for method 'adapter_pfeiffer': ffn",
        ),
        (
            dict(method="lora", weights=["qv"], ranks=[8], protocols=["papre"]),
            "protocols: got 'papre'.*did you mean 'paper'",
        ),
    ):
        with pytest.raises(ConfigError, match=rf"baselines\[0\]\..*{message}"):
            grid.load(changed(tables__table2__baselines=[wrong]))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(results="a{b}"), "results: got 'a{b}'; allowed: a folder's path"),
        (dict(container="an image"), "container: got 'an image'; allowed: a path or address"),
        (dict(protocols={"course": {"base": "demo"}}), "'course' is already a protocol"),
        (dict(protocols={"mine": {"base": "cuorse"}}), "mine.base: got 'cuorse'.*mean 'course'"),
        (
            dict(overrides={"start": "sst-9"}),
            "start of sst2 is 'sst-9'; allowed: pretrained, a task",
        ),
    ],
)
def test_paths_protocols_and_starts_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        grid.load(changed(**changes))


def test_every_problem_of_one_stage_is_in_one_message():
    config = changed(protocol="papre", tables__table2__tasks=["sst-9"], plan_device="H10")
    with pytest.raises(ConfigError) as caught:
        grid.load(config)
    assert len(caught.value.problems) == 3
