"""Messages about a config: key, value and what is allowed, all problems at once."""

import pytest
from helpers.configs import changed

from lora.errors import ConfigError
from lora.experiment import config, config_errors, grid


def test_all_problems_are_in_one_message():
    config = changed(
        seeds=[1, 1],
        device="gpu",
        tables__table6__ranks=[0, 4],
        tables__table2__task=["sst2"],
        overrides={"alpha": [1]},
    )
    del config["pack"]
    with pytest.raises(ConfigError) as caught:
        grid.load(config)
    text = str(caught.value)
    for part in (
        "missing key 'pack'",
        "seeds: got [1, 1]; allowed: each only once",
        "device: got \"gpu\"; allowed: 'auto', 'cpu', 'cuda', 'mps' or 'xpu'",
        "tables.table6.ranks[0]: got 0; allowed: at least 1",
        "tables.table2: unknown key 'task' (did you mean 'tasks'?); allowed: models, tasks, method",
        "overrides.alpha: got [1]",
    ):
        assert part in text, text


def problems(**changes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(changed(**changes))
    return caught.value.problems


@pytest.mark.parametrize("value", ["train", "existing", "partial"])
def test_the_old_key_runs_names_the_new_one(value):
    assert problems(runs=value) == [f"runs: this key is now called mode; write mode: {value}"]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(threads=1.0), "threads: got 1.0; allowed: a whole number"),
        (dict(threads=True), "threads: got true; allowed: a whole number"),
        (dict(threads="two"), 'threads: got "two"; allowed: a whole number'),
        (dict(micro_batch=-1), "micro_batch: got -1; allowed: at least 0"),
        (dict(results=""), 'results: got ""; allowed: at least 1 character'),
        (dict(seeds=3), "seeds: got 3; allowed: a list"),
        (dict(seeds=[]), "seeds: got []; allowed: at least 1 of them"),
        (dict(tables=None), "tables: got null; allowed: keys with values"),
        (dict(tables__table2__weights=None), "tables.table2.weights: got null; allowed: a list"),
        (dict(overrides={"alpha": None}), "overrides.alpha: got null; allowed: a number or text"),
        (dict(overrides={3: 4}), "overrides: key 3; allowed: text, so write it in quotes"),
        (dict(protocols={"a/b": {"base": "demo"}}), "protocols: key 'a/b'; allowed: letters, dig"),
        (dict(protocols={"mine": {"alpha": 3}}), "protocols.mine: missing key 'base'"),
        (dict(sedes=[1]), "unknown key 'sedes' (did you mean 'seeds'?); allowed: mode, results"),
    ],
)
def test_a_message_has_the_key_the_value_and_what_is_allowed(changes, message):
    (problem,) = problems(**changes)
    assert problem.startswith(message)


def test_a_message_explains_the_key():
    (problem,) = problems(threads=0)
    assert problem == "threads: got 0; allowed: at least 1 (CPU threads per training job)"


def test_long_values_are_cut():
    (problem,) = problems(device="x" * 3000)
    assert (
        "(3002 characters); allowed: 'auto', 'cpu', 'cuda', 'mps' or 'xpu'" in problem
        and len(problem) < 400
    )


def test_a_list_with_wrong_items_is_reported_by_its_items():
    assert [problem.split(":")[0] for problem in problems(seeds=[1.5, "a"])] == [
        "seeds[0]",
        "seeds[1]",
    ]


def test_a_choice_names_the_nearest_one():
    assert config_errors.check_choice("task", "sst2", ["sst2"]) == []
    (problem,) = config_errors.check_choice("task", "sst-2", ["sst2", "mrpc"])
    assert problem == "task: got 'sst-2'; allowed: mrpc, sst2 (did you mean 'sst2'?)"


def test_a_number_where_text_is_wanted_says_what_to_write():
    """--config drops quotes, so a folder that is a number needs ./ there."""
    (problem,) = problems(results=2024)
    assert 'write "2024" in quotes in a config file, or ./2024 after --config' in problem
    (problem,) = problems(tables__table2__tasks=[3])
    assert 'got 3; allowed: text; write "3" in quotes in a config file' in problem
