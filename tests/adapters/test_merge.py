"""A merged checkpoint gives the logits of peft on the same adapter, rounded once."""

import json
import logging
import shutil

import peft
import pytest
import torch
import transformers
from helpers.encoders import member, packed, padded, peft_model, trained_copy
from helpers.models import VOCABULARY, make_model, make_tokenizer, sentences
from safetensors.torch import load_file, save_file

from lora import files
from lora.adapters import merge, peft_folder
from lora.errors import ConfigError
from lora.model import methods, pretrained

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5}


def logits_of(model, family) -> torch.Tensor:
    batch = padded(*sentences(6, 4, types=family == "bert"), model.config.pad_token_id)
    with torch.no_grad():
        return model.eval()(**batch).logits


def merged(folder, model_dir, output, dtype):
    """Load a checkpoint with transformers; no key is missing or unexpected."""
    merge.merge(folder, model_dir, output, dtype)
    model, facts = transformers.AutoModelForSequenceClassification.from_pretrained(
        output, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    assert not any(facts.values()), facts
    assert {path.name for path in output.iterdir()} >= {"config.json", "model.safetensors"}
    return model


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("weights, num_labels", [("qv", 3), ("qkvo", 1)])
def test_a_merged_adapter_of_peft_gives_peft_s_logits(
    model_dir, family, tmp_path, dtype, weights, num_labels
):
    theirs = peft_model(model_dir, weights, num_labels, dtype)
    theirs.save_pretrained(tmp_path / "adapter")
    model = merged(tmp_path / "adapter", model_dir, tmp_path / "out", dtype)
    wanted = logits_of(theirs, family)
    assert (logits_of(model, family) - wanted).abs().max() < CLOSE[dtype] * wanted.abs().max()
    facts = json.loads((tmp_path / "out/config.json").read_text())
    assert model.config.num_labels == num_labels and facts["dtype"] == str(dtype).removeprefix(
        "torch."
    )
    assert facts["problem_type"] == (
        "regression" if num_labels == 1 else "single_label_classification"
    )


VARIANTS = [  # what adapter_config.json can describe
    dict(use_rslora=True),
    dict(rank_pattern={"query": 2, r"layer\.1\..*value": 5}),
    dict(rank_pattern={"query": 5}, alpha_pattern={"query": 1, "layer.0.attention.self.value": 3}),
    dict(rank_pattern={"query": 5}, alpha_pattern={"value": 1}, use_rslora=True),
    dict(layers_to_transform=[1]),
    dict(layers_to_transform=0, layers_pattern="layer"),
    dict(exclude_modules=r".*layer\.0.*value"),
    dict(target_modules=["query", "attention.output.dense"], exclude_modules=["layer.1.output"]),
    dict(target_modules=r".*layer\.\d\.attention.*(key|query|output\.dense)"),
    dict(target_modules="all-linear", exclude_modules=r".*(intermediate|layer\.\d\.output).*"),
    dict(target_modules=None),
    dict(bias="lora_only"),
    dict(bias="all"),
    dict(bias="lora_only", use_rslora=True, layers_to_transform=[0]),
    dict(init_lora_weights=False),
    dict(init_lora_weights="gaussian"),
    dict(init_lora_weights="orthogonal", r=4),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_kind_of_adapter_gives_the_logits_that_peft_gives(
    model_dir, family, tmp_path, options
):
    """The same folder, loaded by peft, and merged by peft."""
    trained = peft_model(model_dir, **options)
    trained.save_pretrained(tmp_path / "adapter")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=3, dtype=torch.float64, attn_implementation="eager"
    )
    plain = logits_of(base, family)
    wanted = logits_of(
        peft.PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload(), family
    )
    assert (wanted - logits_of(trained, family)).abs().max() < 1e-12
    found = logits_of(
        merged(tmp_path / "adapter", model_dir, tmp_path / "out", torch.float64), family
    )
    assert (found - wanted).abs().max() < 1e-12 < 1e-3 < (plain - wanted).abs().max()


def test_layers_that_an_adapter_leaves_out_are_in_the_log(bert_dir, tmp_path, caplog):
    peft_model(bert_dir, layers_to_transform=[1]).save_pretrained(tmp_path / "adapter")
    with caplog.at_level(logging.INFO):
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out")
    assert "the adapter has no pairs on 0.q, 0.v, in layers counted from 0" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_sum_is_rounded_once(model_dir, family, tmp_path, dtype, stored):
    """Every weight is W0 + s B A in float64, rounded to the written type."""
    base = shutil.copytree(model_dir, tmp_path / "base")
    path = base / "model.safetensors"
    save_file({key: one.to(stored) for key, one in load_file(path).items()}, path, {"format": "pt"})
    peft_model(base, "qvo", dtype=torch.float32).save_pretrained(tmp_path / "adapter")
    adapter = load_file(tmp_path / "adapter" / peft_folder.TENSORS)
    merge.merge(tmp_path / "adapter", base, tmp_path / "out", dtype)
    written, before = load_file(tmp_path / "out/model.safetensors"), load_file(path)
    differing = 0
    for key, value in before.items():
        if "pooler" in key:
            continue
        sum_OI = value.double()
        pair = f"base_model.model.{family}.{key.removesuffix('.weight')}"
        if f"{pair}.lora_A.weight" in adapter:
            a, b = (adapter[f"{pair}.lora_{side}.weight"].double() for side in "AB")
            sum_OI = sum_OI + 7 / 3 * (b @ a)
            twice = value.to(dtype) + (7 / 3 * (b @ a)).to(dtype)
            differing += not torch.equal(twice, sum_OI.to(dtype))
        assert torch.equal(written[f"{family}.{key}"], sum_OI.to(dtype)), key
    assert differing == 6
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["dtype"] == str(dtype).removeprefix("torch.")


LARGE = {  # key of a tensor of an adapter -> a tensor of the checkpoint
    "base_model.model.bert.encoder.layer.1.attention.self.query.lora_B.weight": "query.weight",
    "base_model.model.bert.encoder.layer.0.attention.self.value.base_layer.bias": "value.bias",
    "base_model.model.classifier.bias": "classifier.bias",
}


@pytest.mark.parametrize("key", LARGE)
@pytest.mark.parametrize(
    "dtype, number", [(torch.float32, 1e39), (torch.bfloat16, 1e39), (torch.float16, 1e5)]
)
def test_numbers_too_large_for_the_written_type_are_refused(bert_dir, tmp_path, key, dtype, number):
    """They would be infinite; in float64 they are written."""
    peft_model(bert_dir, bias="lora_only").save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / peft_folder.TENSORS
    tensors = load_file(path)
    save_file(tensors | {key: torch.full_like(tensors[key], number)}, path)
    with pytest.raises(ConfigError, match=f"{LARGE[key]}: got numbers too large for {dtype}"):
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out", dtype)
    assert not (tmp_path / "out").exists()
    merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out", torch.float64)
    written = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.isfinite(value).all() for value in written.values())


@pytest.mark.parametrize("method", ["ft", "bitfit"])
def test_trained_parameters_too_large_for_the_written_type_are_refused(bert_dir, tmp_path, method):
    tensors = trained_copy(bert_dir, "bert", method, tmp_path / "adapter")[1]
    name = "base.encoder.layer.1.output.dense.bias"
    tensors[name] = torch.full((32,), 1e39, dtype=torch.float64)
    save_file(tensors, tmp_path / "adapter" / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match="output.dense.bias: got numbers too large for torch.flo"):
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out")


@pytest.mark.parametrize("dtype", CLOSE)
def test_a_merged_adapter_of_ours_gives_peft_s_logits(model_dir, family, tmp_path, dtype):
    """alpha / r is 6 / 4, not 1."""
    tensors = packed(model_dir, member(0, "qko", 4, num_labels=2)).parameters_of(0)
    peft_folder.write_adapter(tmp_path / "adapter", tensors, family, "tiny", "qko", 4, 6.0, 0.1)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=2, dtype=dtype, attn_implementation="eager"
    )
    plain = logits_of(base, family)
    wanted = logits_of(peft.PeftModel.from_pretrained(base, tmp_path / "adapter"), family)
    found = logits_of(merged(tmp_path / "adapter", model_dir, tmp_path / "out", dtype), family)
    assert (
        (found - wanted).abs().max()
        < CLOSE[dtype] * wanted.abs().max()
        < 1e-3
        < (plain - wanted).abs().max()
    )


def test_a_bert_adapter_without_a_pooler_takes_the_base_s(bert_dir, tmp_path):
    theirs = peft_model(bert_dir, modules_to_save=None)
    theirs.save_pretrained(tmp_path / "adapter")
    found = logits_of(
        merged(tmp_path / "adapter", bert_dir, tmp_path / "out", torch.float64), "bert"
    )
    assert (found - logits_of(theirs, "bert")).abs().max() < 1e-12
    stored = load_file(bert_dir / "model.safetensors")
    save_file(
        {key: value for key, value in stored.items() if "pooler" not in key},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text((bert_dir / "config.json").read_text())
    path = tmp_path / "adapter" / peft_folder.CONFIG
    files.write_json(path, json.loads(path.read_text()) | dict(base_model_name_or_path=None))
    with pytest.raises(ValueError, match="has a pooler; give an adapter that was saved with it"):
        merge.merge(tmp_path / "adapter", tmp_path, tmp_path / "again")


@pytest.mark.filterwarnings("ignore:.*newly initialized.*")
@pytest.mark.parametrize("method", ["ft", "bitfit"])
def test_trained_parameters_replace_those_of_the_base(model_dir, family, tmp_path, method):
    theirs, tensors = trained_copy(model_dir, family, method, tmp_path / "adapter")
    model = merged(tmp_path / "adapter", model_dir, tmp_path / "out", torch.float64)
    wanted = logits_of(theirs, family)
    assert (logits_of(model, family) - wanted).abs().max() < 1e-12
    for name, value in model.named_parameters():
        assert torch.equal(value, dict(theirs.named_parameters())[name]), name
    base = pretrained.load_base(model_dir)
    trained = {
        f"base.{name}" for name, _ in base.named_parameters() if methods.trains(method, name)
    }
    assert trained == {name for name in tensors if name.startswith("base.")}


def test_the_tokenizer_is_copied(tmp_path):
    model_dir = make_model("bert", tmp_path / "model")
    make_tokenizer(model_dir)
    peft_model(model_dir).save_pretrained(tmp_path / "adapter")
    merge.merge(tmp_path / "adapter", model_dir, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("word0 word3")["input_ids"] == [2, 5, 8, 3] and len(tokenizer) == VOCABULARY
