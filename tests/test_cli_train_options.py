"""Options of `lora train`: each hyperparameter has one, and the defaults are the config's."""

from lora import cli
from lora.cli_train_checks import option
from lora.experiment import config_files, registry
from lora.experiment.hparams import HPARAM_NAMES

REQUIRED = ["train", "--task", "sst2", "--weights", "q", "--rank", "1", "--output-dir", "out"]


def test_every_hyperparameter_has_an_option():
    arguments = cli.parse(
        [*REQUIRED, *(word for name in HPARAM_NAMES for word in (option(name), "1"))]
    )
    assert {name: getattr(arguments, name) for name in HPARAM_NAMES} == dict.fromkeys(
        HPARAM_NAMES, "1"
    )


def test_defaults_are_those_of_the_config():
    arguments, defaults = cli.parse(REQUIRED), config_files.read_defaults()
    for name in ("device", "precision", "micro_batch", "checkpoint_every_s"):
        assert getattr(arguments, name) == defaults[name]
    assert arguments.one_cell["protocol"] == defaults["protocol"]
    assert arguments.one_cell["model"] in registry.model_names()
