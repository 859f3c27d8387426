"""A cell is compared with published values only if its model and data are the registered ones.

The kind: a value is shown for a thing that only has the same name. Members tested here: a model or
data set that the config replaces (hub revision, hub data set, PyPI archive, folder with and without
checksum), a source under a new name, a name that only published.csv has, runs that record another
source than the config, runs that record none (older ones, local folders, the course's), a claim in
the config (`same_as`), a claim that the runs contradict, and a claim of another data set. The same
content under another hub name or path is the same.
"""

import math

import pytest
from helpers.synthetic import epochs, load, make_runs, make_table, paper_grid, table, write_run

from lora.errors import ConfigError
from lora.experiment.source import content_pin

HUB = dict(kind="hub", locator="FacebookAI/roberta-base")
REVISION = "e2da8e2f811d1448a5b465c236feacd80ffbac7b"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
FOLDER = dict(kind="file", locator="/data/mine")
PYPI = dict(kind="pypi", locator="p==1#x", revision="wheel", sha256="1" * 64)


def compared(tmp_path, config_sources=None, model="roberta-base", **recorded):
    """Return Table 2 of SST-2 with two runs; `recorded` replaces identities in their run.json."""
    asked = load(
        seeds=[0, 1],
        sources=config_sources or {},
        tables=dict(table2=table([model], ["sst2"]), table6=None),
        overrides=dict(start="pretrained", epochs=2, learning_rate=1e-3, alpha=8, max_tokens=128),
    )
    (cell,) = asked.cells
    changes = {}
    for key, part in (("base", "base"), ("data", "data")):
        source = asked.sources[cell.model if key == "base" else "glue-sst2"].identity
        hashes = dict(base_sha256="cd" * 32) if key == "base" else dict(tokens_sha256="ab" * 32)
        changes[part] = dict(source=recorded.get(key, source)) | hashes
    for seed in asked.seeds:
        write_run(asked, cell, seed, tmp_path / "runs", epochs([0.9, 0.94]), **changes)
    return make_table(asked, tmp_path)


def differences(result) -> list[float]:
    return [cell["difference"] for cell in result.cells]


def withheld(result) -> str:
    """The note on why there is no difference; checks that none is shown anywhere."""
    assert all(math.isnan(value) for value in differences(result))
    assert "same" not in {value["relation"] for value in result.published}
    lines = [line for section in result.page.sections for line in section.lines]
    assert "difference" not in {line.kind for line in lines}
    notes = [
        note for note in result.page.footnotes if note.startswith("No difference to published")
    ]
    assert len(notes) == 1
    return notes[0]


def test_the_registered_sources_are_compared(tmp_path):
    result = compared(tmp_path)
    assert differences(result) == [pytest.approx(-1.1)]
    assert result.cells[0]["source_problem"] == ""
    assert not [note for note in result.page.footnotes if "same_as" in note]


@pytest.mark.parametrize(
    "name, source",
    [
        ("roberta-base", FOLDER),
        ("roberta-base", FOLDER | dict(sha256="2" * 64)),
        ("roberta-base", HUB | dict(revision="0" * 40)),
        ("roberta-base", PYPI),
        ("glue-sst2", FOLDER),
        ("glue-sst2", FOLDER | dict(sha256="2" * 64)),
        ("glue-sst2", PYPI),
        ("glue-sst2", dict(kind="hub", locator="nyu-mll/glue:rte", revision=GLUE_REVISION)),
        ("glue-sst2", dict(kind="hub", locator="nyu-mll/glue:sst2", revision="0" * 40)),
    ],
)
def test_a_replaced_source_is_not_compared(tmp_path, name, source):
    note = withheld(compared(tmp_path, {name: source}))
    assert f"{name}: the config replaces the registered source with {source['kind']}" in note
    assert "`same_as:` under `sources:`" in note


def test_the_same_revision_under_another_hub_name_is_the_same(tmp_path):
    mirror = dict(kind="hub", locator="mirror/roberta-base", revision=REVISION)
    assert differences(compared(tmp_path, {"roberta-base": mirror})) == [pytest.approx(-1.1)]


@pytest.mark.parametrize("name", ["roberta-base", "glue-sst2"])
def test_a_claim_is_believed_and_repeated(tmp_path, name):
    result = compared(tmp_path, {name: FOLDER | dict(same_as=name)})
    assert differences(result) == [pytest.approx(-1.1)]
    (note,) = [note for note in result.page.footnotes if "same_as" in note]
    assert f"The config says that {name} (file /data/mine) is the same as {name} of" in note


def test_a_source_under_a_new_name_is_compared_by_claim_only(tmp_path):
    """Without a claim no published value has its name, so nothing is shown or withheld."""
    new = dict(role="model") | FOLDER
    alone = compared(tmp_path / "alone", {"mine": new}, model="mine")
    assert [value["relation"] for value in alone.published if value["ours_model"]] == []
    claimed = compared(tmp_path / "claimed", {"mine": new | dict(same_as="roberta-base")}, "mine")
    assert differences(claimed) == [pytest.approx(-1.1)]
    assert {v["ours_model"] for v in claimed.published if v["relation"] == "same"} == {"mine"}
    titles = [section.title for section in claimed.page.sections]
    assert titles[0] == "mine" and "published only" not in titles[0]
    (note,) = [note for note in claimed.page.footnotes if "same_as" in note]
    assert "mine (file /data/mine) is the same as roberta-base" in note


def test_a_registered_source_without_a_checksum_is_compared_by_claim_only(tmp_path):
    folder = dict(kind="file", locator="deberta-v2-xxlarge")
    for number, sources in enumerate(({}, {"deberta-xxl": folder})):
        note = withheld(compared(tmp_path / str(number), sources, model="deberta-xxl"))
        assert "config/sources.csv has no revision or checksum of it" in note
    claim = {"deberta-xxl": folder | dict(same_as="deberta-xxl")}
    claimed = compared(tmp_path / "claimed", claim, model="deberta-xxl")
    assert differences(claimed) == [pytest.approx(94.0 - 96.9)]


def test_a_name_that_only_the_published_values_have_is_not_compared(tmp_path):
    new = {"gpt3-175b": dict(role="model") | FOLDER}
    asked = load(
        seeds=[0],
        sources=new,
        tables=dict(table2=None, table6=table(["gpt3-175b"], ["mnli"], ranks=[8])),
        overrides=dict(start="pretrained", epochs=1, learning_rate=1e-3, alpha=8, max_tokens=128),
    )
    write_run(asked, asked.cells[0], 0, tmp_path / "runs", epochs([0.9]))
    problem = make_table(asked, tmp_path, "table6").cells[0]["source_problem"]
    assert "config/sources.csv does not have it" in problem


@pytest.mark.parametrize("key", ["base", "data"])
@pytest.mark.parametrize(
    "identity, why",
    [
        ("file /data/mine", "do not record which revision or checksum"),
        (f"file /data/mine {'3' * 64}", "not the registered source"),
        (f"pypi p==1#x wheel {'1' * 64}", "not the registered source"),
        ("local folder", "do not record which revision or checksum"),
        ("imported from sst2/sst2_r8_a8_s42/training_results.csv", "do not record which"),
        ("roberta-base, revision unknown", "do not record which"),
        ("", "do not record which"),
    ],
)
def test_runs_that_record_another_source_or_none_are_not_compared(tmp_path, key, identity, why):
    assert why in withheld(compared(tmp_path, **{key: identity}))


@pytest.mark.parametrize("recorded", ["local folder", "roberta-base, revision unknown", ""])
def test_a_claim_covers_runs_that_record_nothing(tmp_path, recorded):
    claim = HUB | dict(revision=REVISION, same_as="roberta-base")
    assert differences(compared(tmp_path, {"roberta-base": claim}, base=recorded)) == [
        pytest.approx(-1.1)
    ]


def test_a_claim_does_not_cover_runs_of_another_source(tmp_path):
    claim = FOLDER | dict(sha256="2" * 64, same_as="roberta-base")
    result = compared(tmp_path, {"roberta-base": claim}, base=f"file /other {'3' * 64}")
    assert "not the source that the config says is roberta-base" in withheld(result)


def test_a_claim_of_another_data_set_is_not_believed(tmp_path):
    claim = FOLDER | dict(same_as="glue-rte")
    assert "which is another data set" in withheld(compared(tmp_path, {"glue-sst2": claim}))


def test_an_average_is_compared_only_if_all_of_its_tasks_are(tmp_path):
    """One replaced data set of the eight, and neither it nor Avg has a difference."""
    asked = paper_grid(seeds=(0,), sources={"glue-cola": FOLDER})
    make_runs(asked, tmp_path / "runs")
    result = make_table(asked, tmp_path)
    without = {cell["column"] for cell in result.cells if cell["source_problem"]}
    assert without == {"cola", "average"}
    assert {c["column"] for c in result.cells if math.isnan(c["published"])} >= without


@pytest.mark.parametrize("same_as", ["roberta", "glue-sst2"])
def test_a_claim_names_a_registered_source_of_its_role(same_as):
    with pytest.raises(ConfigError, match=rf"same_as is '{same_as}'; allowed: roberta-base, "):
        load(sources={"roberta-base": FOLDER | dict(same_as=same_as)})


@pytest.mark.parametrize(
    "identity, pin",
    [
        (f"hub a/b {REVISION}", ("hub", "", REVISION)),
        (f"hub a/b:c {REVISION}", ("hub", "c", REVISION)),
        (f"pypi p==1#in/side wheel {'1' * 64}", ("pypi", "in/side", "1" * 64)),
        (f"file /with space {'1' * 64}", ("file", "1" * 64)),
        ("file /a b", ()),
        ("hub a/b main", ()),
        ("local folder", ()),
        ("", ()),
    ],
)
def test_what_pins_content(identity, pin):
    assert content_pin(identity) == pin
