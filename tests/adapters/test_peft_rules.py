"""The rules of adapter_config.json: the modules, ranks and scales that peft itself chooses."""

import pytest
from helpers.encoders import MODULES, peft_model
from helpers.models import make_model
from peft.tuners.lora import LoraLayer

from lora.adapters import peft_header, peft_rules
from lora.errors import ConfigError
from lora.model import modules

DEPTH = 4
EVERY = list(MODULES.values())
CONFIGS = [  # every rule, alone and with the others
    dict(target_modules=["query", "value"]),
    dict(target_modules=["self.query"]),
    dict(target_modules=["attention.output.dense", "key"]),
    dict(target_modules=None),
    dict(target_modules=r".*\.attention\.self\.(query|key)"),
    dict(target_modules=r"\w+\.encoder\.layer\.[13]\..*(query|value)"),
    dict(target_modules="all-linear"),
    dict(target_modules="all-linear", exclude_modules=r".*(intermediate|layer\.\d\.output).*"),
    dict(target_modules=EVERY, exclude_modules=["key", "layer.2.attention.self.query"]),
    dict(target_modules=EVERY, exclude_modules=r".*layer\.0.*"),
    dict(target_modules=["query"], layers_to_transform=2),
    dict(target_modules=["query"], layers_to_transform=[0, 3]),
    dict(target_modules=["query"], layers_to_transform=[]),
    dict(target_modules=["query"], layers_to_transform=[0, 1, 2, 3]),
    dict(target_modules=["query"], layers_to_transform=[1], layers_pattern="layer"),
    dict(target_modules=["query"], layers_to_transform=[1], layers_pattern=["blocks", "layer"]),
    dict(target_modules=["query"], layers_to_transform=[1, 9], exclude_modules=[]),
    dict(target_modules=EVERY, use_rslora=True),
    dict(target_modules=EVERY, rank_pattern={"query": 5, r"layer\.1\..*": 2}),
    dict(target_modules=EVERY, rank_pattern={r"layer\.1\..*": 2, "query": 5}),
    dict(target_modules=EVERY, rank_pattern={"^{family}.encoder.layer.0.attention.self.key": 1}),
    dict(target_modules=EVERY, alpha_pattern={"value": 1, r"output\.dense": 0.5, "self.key": 7}),
    dict(target_modules=EVERY, rank_pattern={"key": 1}, alpha_pattern={"key": 8}, use_rslora=True),
]


@pytest.fixture(scope="module")
def deep_dir(tmp_path_factory):
    return {
        family: make_model(
            family, tmp_path_factory.mktemp("deep") / family, num_hidden_layers=DEPTH
        )
        for family in ("bert", "roberta")
    }


def of_family(options, family):
    patterns = options.get("rank_pattern")
    if not patterns:
        return options
    named = {key.replace("{family}", family): value for key, value in patterns.items()}
    return options | dict(rank_pattern=named)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_peft_adapts_the_same_modules_with_the_same_rank_and_scale(deep_dir, family, options):
    options = of_family(options, family)
    theirs = peft_model(deep_dir[family], **options)
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in theirs.named_modules()
        if isinstance(module, LoraLayer)
    }
    written = theirs.peft_config["default"].to_dict()
    config = dict(r=3, lora_alpha=7) | options | dict(task_type="SEQ_CLS")
    config["modules_to_save"] = written["modules_to_save"]
    assert set(peft_rules.adapted_modules(config, family, DEPTH)) == set(layers)
    for name, module in layers.items():
        rank = module.r["default"]
        assert peft_rules.ranks_of(config, name)[0] == rank
        (alpha,) = peft_rules.alphas_of(config, name)
        assert peft_rules.scale(config, alpha, rank) == module.scaling["default"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_a_folder_that_peft_wrote_is_described_as_peft_adapts_it(
    deep_dir, family, options, tmp_path
):
    """Or it is refused, if peft adapts other layers than attention's."""
    theirs = peft_model(deep_dir[family], **of_family(options, family))
    theirs.save_pretrained(tmp_path)
    model_config = dict(model_type=family, num_hidden_layers=DEPTH, hidden_size=32)
    adapted = [name for name, module in theirs.named_modules() if isinstance(module, LoraLayer)]
    if any("intermediate" in name or "pooler" in name for name in adapted):
        with pytest.raises(ConfigError, match="allowed: LoRA pairs of"):
            peft_header.describe_folder(tmp_path, model_config)
        return
    for known in (model_config, dict(model_type=family), None):
        found = peft_header.describe_folder(tmp_path, known)
        assert len(found.pairs) == len(adapted)
        for pair, (rank, scale) in found.pairs.items():
            encoder = getattr(theirs.base_model.model, family)
            layer, letter = pair.split(".")
            module = modules.linear_of(encoder, int(layer), letter)
            assert (rank, scale) == (module.r["default"], module.scaling["default"])


def test_the_alpha_of_two_patterns_is_refused(deep_dir, tmp_path):
    """peft trains with the first pattern, sorts them when it saves, and loads another scale."""
    patterns = {"value": 1, "self.value": 3}
    theirs = peft_model(deep_dir["bert"], alpha_pattern=patterns)
    theirs.save_pretrained(tmp_path)
    assert list(peft_header.read_config(tmp_path)["alpha_pattern"]) == ["self.value", "value"]
    with pytest.raises(
        ConfigError, match="several patterns of alpha_pattern .* fit it, with alpha 3 and 1"
    ):
        peft_header.describe_folder(tmp_path)
    peft_model(deep_dir["bert"], alpha_pattern={"value": 3, "self.value": 3}).save_pretrained(
        tmp_path
    )
    assert peft_header.describe_folder(tmp_path).pairs["0.v"].scale == 1
