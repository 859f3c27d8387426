"""Reading a config: wrong files and values stop with exit status 2 and one message."""

import pytest

from lora.experiment import config_files

pytestmark = pytest.mark.usefixtures("logging_as_before")

YAMLS = {
    "a mark is open": ("seeds: [1\ntables: }", "line 2"),
    "a list": ("[1, 2]", "holds [1, 2]; allowed: keys"),
    "a text": ("hello", "holds 'hello'; allowed: keys"),
    "latin": (b"results: caf\xe9", "line 1: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    "NUL": (b"seeds: [1]\nresults: \0", "line 2: a NUL byte"),
    "a tab": ("seeds:\n\t- 1", "line 2"),
    "a key twice": ("seeds: [1]\nresults: x\nseeds: [2]", "key 'seeds' is there more than once"),
    "a key twice inside": (
        "overrides: {alpha: 1, alpha: 2}",
        "key 'alpha' is there more than once",
    ),
    "two documents": ("seeds: [1]\n---\nseeds: [2]", "another document"),
    "an object": ("seeds: !!python/object:os.system [1]", "could not determine a constructor"),
    "itself": ("seeds: &a [*a]", "recursive"),
    "nested": ("seeds: " + "[" * 3000, "recursion"),
    "many digits": ("seeds: [" + "9" * 5000 + "]", "4300 digits"),
    "a date": ("results: 2020-13-45", "month"),
    "a number as a key": ("overrides: {3: 4}", "overrides: key 3; allowed: text"),
    "a whole number with a point": ("seeds: [1.0]", "seeds[0]: got 1.0; allowed: a whole number"),
    "not a number": (
        "checkpoint_every_s: .nan",
        "checkpoint_every_s: got NaN; allowed: a finite number",
    ),
    "zero": ("checkpoint_every_s: 0", "checkpoint_every_s: got 0; allowed: above 0"),
    "too large": ("seeds: [4294967296]", "seeds[0]: got 4294967296; allowed: at most 4294967295"),
    "a path out of the results": (
        "sources: {../../x: {role: model, kind: file, locator: x}}",
        "name is '../../x'; allowed: letters, digits",
    ),
    "a revision that is none": (
        f"sources: {{roberta-base: {{kind: hub, locator: a/b, revision: {'z' * 40}}}}}",
        "pinned by a 40-digit commit",
    ),
    "a data set that is a model": (
        "sources: {glue-sst2: {role: model, kind: file, locator: x}}",
        "data set of task sst2: got 'glue-sst2'; allowed: glue-cola",
    ),
    "a line end in a path": (
        'sources: {vader: {kind: file, locator: "a\\nb"}}',
        "locator is 'a\\nb'; allowed: one line",
    ),
    "NUL in a path": ('results: "a\\0b"', "results: got 'a\\x00b'; allowed: a folder's path"),
    "no epochs": (
        "overrides: {epochs: 0}",
        "overrides.epochs: epochs is 0; allowed: a whole number of at least 1",
    ),
    "alpha 0": (
        "overrides: {alpha: 0r}",
        "overrides.alpha: alpha is 0.0; allowed: a number above 0",
    ),
    "beta 1": (
        "overrides: {adam_beta2: 1}",
        "adam_beta2 is 1; allowed: a number of at least 0, below 1",
    ),
    "more tokens than positions": (
        "overrides: {max_tokens: 513}",
        "max_tokens is 513; allowed: a whole number of at least 4",
    ),
    "digits of another script": (
        "overrides: {alpha: １６}",
        "alpha is '１６'; allowed: a number above 0",
    ),
}


@pytest.mark.parametrize("name", YAMLS)
def test_a_wrong_file_or_value_is_refused(refused, tmp_path, name):
    content, message = YAMLS[name]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(
        "collect", "--config", path, "--runs-dir", tmp_path, "--output-dir", tmp_path
    )


def test_a_missing_file_or_wrong_json_is_refused(refused, tmp_path):
    rest = ("--runs-dir", tmp_path, "--output-dir", tmp_path)
    assert "there is no file" in refused(
        "collect", "--config", tmp_path / "no.yaml", *rest, names=[tmp_path / "no.yaml"]
    )
    assert "is a folder; give a file" in refused(
        "collect", "--config", tmp_path, *rest, names=[tmp_path]
    )
    assert "is not JSON" in refused("collect", "--config", '{"seeds": ', *rest)
    assert "nested too deeply" in refused("collect", "--config", '{"a":' + "[" * 100_000, *rest)


def test_later_files_are_laid_over_earlier_ones_key_by_key(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("seeds: [1]\ntables: {table2: null}")
    second.write_text("seeds: [2]\noverrides: {epochs: 1}")
    merged = config_files.read(str(first), str(second))
    assert merged["seeds"] == [2] and merged["overrides"] == {"epochs": 1}
    assert merged["tables"]["table2"] is None and merged["tables"]["table6"]["ranks"]
