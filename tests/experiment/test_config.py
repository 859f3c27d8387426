"""The keys of a config: the models, the default config and the schema for editors agree."""

import json

import jsonschema
import pytest
from helpers.models import ROOT
from pydantic import BaseModel

from lora.errors import ConfigError
from lora.experiment import config, config_files

SHIPPED = sorted(path.name for path in (ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_json_schema_accepts_what_the_models_accept(name):
    """An independent validator, jsonschema, reads the schema that editors get."""
    written = config_files.read(str(ROOT / "config" / name))
    validator = jsonschema.Draft202012Validator(config.json_schema())
    validator.validate(written)
    assert config.parse(written).as_dict() == json.loads(json.dumps(written))
    for wrong in ({"seeds": []}, {"seeds": [1, 1]}, {"mode": "no"}, {"new": 1}, {"threads": 0}):
        assert not validator.is_valid(written | wrong)
        with pytest.raises(ConfigError):
            config.parse(written | wrong)


def test_keys_are_in_the_order_of_the_default_config_and_have_no_default():
    assert list(config.Config.model_fields) == list(config_files.read_yaml(config_files.DEFAULTS))
    assert all(field.is_required() for field in config.Config.model_fields.values())


def sections(model: type[BaseModel] = config.Section) -> list[type[BaseModel]]:
    return [inner for one in model.__subclasses__() for inner in (one, *sections(one))]


def test_every_key_has_a_description():
    undescribed = [
        (section.__name__, name)
        for section in sections()
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert undescribed == []


def test_a_config_that_was_parsed_loads_again():
    parsed = config.parse(config_files.read(str(ROOT / "config/paper.yaml")))
    assert config.parse(parsed.as_dict()) == parsed
