"""Cards of data sets: which files a configuration has."""

import pytest

from lora.data import card
from lora.errors import HubError


@pytest.mark.parametrize(
    "files, patterns",
    [
        (
            [dict(split="train", path="a/train-*"), dict(split="test", path=["b/*", "c.csv"])],
            ["a/train-*", "b/*", "c.csv"],
        ),
        ("data.csv", ["data.csv"]),
        (["one/*", "two/*"], ["one/*", "two/*"]),
        (None, ["*"]),
        ("**/train.csv", ["*"]),
        ("https://elsewhere/data.csv", ["*"]),
        ("../data.csv", ["*"]),
    ],
)
def test_the_card_names_the_files_of_a_configuration(files, patterns):
    metadata = dict(
        configs=[
            dict(config_name="other", data_files="x"),
            dict(config_name="mine", data_files=files),
        ]
    )
    assert card.patterns(metadata, "mine") == patterns
    metadata["configs"][1]["data_dir"] = "below"
    assert card.patterns(metadata, "mine") == ["*"]
    with pytest.raises(HubError, match="no configuration 'my'; it has: other, mine"):
        card.patterns(metadata, "my")


def test_a_written_card_holds_one_configuration(tmp_path):
    configs = [dict(config_name=name, data_files=f"{name}.csv") for name in ("other", "mine")]
    info = dict(config_name="mine", splits=[])
    card.write(
        tmp_path / "README.md", dict(configs=configs, dataset_info=info, license="x"), "mine"
    )
    expected = dict(configs=configs[1:], dataset_info=[info])
    assert card.read(tmp_path / "README.md") == expected


@pytest.mark.parametrize("text", ["# No metadata\n", "---\n- a list\n---\n", ""])
def test_a_card_without_metadata(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert card.read(tmp_path / "README.md") == {}


def test_metadata_that_are_not_yaml_are_refused(tmp_path):
    (tmp_path / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(HubError, match="the metadata of its card, README.md, is not YAML"):
        card.read(tmp_path / "README.md")
