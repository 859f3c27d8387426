"""`lora data`: tables and JSON of a task of a config; mistakes."""

import json

import pytest
import yaml
from helpers.own_tasks import write_csv

from lora.__main__ import main


@pytest.fixture
def config(tmp_path):
    path = write_csv(tmp_path / "mine.csv")
    own = dict(results=str(tmp_path / "out"), tasks={"mine": dict(path=str(path), text="text")})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    return str(tmp_path / "mine.yaml")


def test_a_task_of_a_config_needs_no_fetching(config, capsys, logging_as_before, tmp_path):
    assert main(["data", "MINE", "--config", config]) == 0
    text = capsys.readouterr().out
    assert "good      16  66.7%           4  66.7%" in text
    assert "For token lengths, --model roberta-base fetches that model" in text
    assert main(["data", "mine", "--config", config, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"]["train"]["labels"] == {"bad": 8, "good": 16}
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_refused(config, refused, logging_as_before):
    assert "'yours'; allowed: " in refused("data", "yours", "--config", config)
    text = refused("data", "mine", "--config", config, "--model", "bart")
    assert "no model 'bart'; allowed: roberta-base" in text
