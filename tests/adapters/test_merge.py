"""A merged checkpoint gives the logits of peft on the same adapter, and is written atomically."""

import json
import logging

import peft
import pytest
import torch
import transformers
from helpers.encoders import member, packed, padded, peft_model
from helpers.models import VOCABULARY, make_model, make_tokenizer, sentences
from safetensors.torch import load_file, save_file

from lora import files
from lora.__main__ import main
from lora.adapters import merge, peft_folder
from lora.errors import ConfigError
from lora.model import methods, pretrained
from lora.model.families.registry import FAMILIES

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


def trained_copy(model_dir, family, method, folder):
    """A run of full fine-tuning or BitFit, and transformers' model with the same parameters."""
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=3, dtype=torch.float64, attn_implementation="eager"
    )
    heads = {inside: ours for ours, inside in FAMILIES[family].head_modules.items()}
    torch.manual_seed(3)
    tensors = {}
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            module, _, kind = name.rpartition(".")
            if module in heads:
                tensors[f"{heads[module]}.{kind}"] = value.normal_(0, 0.3)
            elif method == "ft" or kind == "bias":
                tensors[f"base.{name.removeprefix(family + '.')}"] = value.add_(
                    torch.randn_like(value) * 0.1
                )
    folder.mkdir()
    save_file(tensors, folder / peft_folder.TENSORS)
    files.write_json(
        folder / peft_folder.CONFIG,
        dict(method=method, weights="all", rank=0, model="tiny", family=family),
    )
    return theirs, tensors


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


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda tensors: tensors.pop("base.encoder.layer.1.output.dense.bias"),
            "base.encoder.layer.1.output.dense.bias is",
        ),
        (lambda tensors: tensors.pop("head.out.bias"), "head.out.bias is missing"),
        (
            lambda tensors: tensors.update(
                {"base.encoder.layer.1.output.dense.weight": torch.ones(2, 2)}
            ),
            "base.encoder.layer.1.output.dense.weight is not trained by bitfit",
        ),
        (
            lambda tensors: tensors.update(
                {"base.encoder.layer.1.output.dense.bias": torch.ones(2)}
            ),
            r"base.encoder.layer.1.output.dense.bias has shape \[2\], the base model has \[32\]",
        ),
    ],
)
def test_parameters_of_another_model_are_refused(bert_dir, tmp_path, change, message):
    tensors = trained_copy(bert_dir, "bert", "bitfit", tmp_path / "adapter")[1]
    change(tensors)
    save_file(tensors, tmp_path / "adapter" / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match=message):
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(num_hidden_layers=3),
            "it has pairs of 2 layers and by adapter_config.json it adapts every layer, but the "
            "base model has 3; give",
        ),
        (
            dict(num_hidden_layers=1),
            "it has pairs of layer 2, counted from 1, the base model has 1 layers; give",
        ),
        (dict(hidden_size=48), "it is for a model of width 32, the base model has 48; give"),
    ],
)
def test_an_adapter_of_a_model_of_another_size_is_refused(bert_dir, tmp_path, changes, message):
    peft_model(bert_dir).save_pretrained(tmp_path / "adapter")
    other = make_model("bert", tmp_path / "other", **changes)
    with pytest.raises(ConfigError, match=message):
        merge.merge(tmp_path / "adapter", other, tmp_path / "out")


def test_bottleneck_adapters_cannot_be_merged(bert_dir, tmp_path):
    files.write_json(
        tmp_path / peft_folder.CONFIG, dict(method="adapter_houlsby", weights="both", rank=8)
    )
    save_file({"0.ffn.down.weight": torch.ones(8, 32)}, tmp_path / peft_folder.TENSORS)
    with pytest.raises(
        ValueError,
        match="method 'adapter_houlsby', which adds layers that cannot be merged; "
        "allowed: lora, ft",
    ):
        merge.merge(tmp_path, bert_dir, tmp_path / "out")


def test_merge_never_overwrites_and_writes_atomically(bert_dir, tmp_path, monkeypatch):
    peft_model(bert_dir).save_pretrained(tmp_path / "adapter")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="full exists and is not an empty folder"):
        merge.merge(tmp_path / "adapter", bert_dir, full)
    assert [path.name for path in full.iterdir()] == ["notes.txt"]

    def breaks(model, folder, **_):
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise OSError("no space left")

    kind = transformers.BertForSequenceClassification
    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
        patched.setattr(kind, "save_pretrained", breaks)
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "models/out")
    assert list((tmp_path / "models").iterdir()) == []
    (tmp_path / "models/out").mkdir()
    merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "models/out")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["out"]


def predicted(output, texts):
    classify = transformers.pipeline("text-classification", model=str(output), device="cpu")
    return [answer["label"] for answer in classify(texts)]


def test_a_merged_run_predicts_the_names_of_its_classes(trained, tmp_path):
    """The base model has names of three other classes; they are in no merged checkpoint."""
    merge.merge(trained / "sst2/adapter", trained / "model", tmp_path / "out")
    lines = (trained / "glue/SST-2/dev.tsv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.split("\t") for line in lines), strict=True)
    names = predicted(tmp_path / "out", list(texts))
    truth = [("negative", "positive")[int(label)] for label in labels]
    right = sum(map(str.__eq__, names, truth)) / len(truth)
    record = json.loads((trained / "sst2/run.json").read_text())
    assert right == pytest.approx(record["best"]["value"], abs=1e-9) and right > 0.6
    assert set(names) == {"negative", "positive"}
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.label2id == {"negative": 0, "positive": 1} and config.num_labels == 2


@pytest.mark.parametrize(
    "task, given, expected, warned",
    [
        ("sst2", [], ["negative", "positive"], False),
        ("sst2", ["bad", "very good"], ["bad", "very good"], False),
        ("foreign", [], ["LABEL_0", "LABEL_1"], True),
        ("foreign", ["no", "yes"], ["no", "yes"], False),
        ("stsb", [], ["LABEL_0"], False),
    ],
)
def test_names_are_given_or_of_the_run_or_generic(
    trained, tmp_path, capsys, task, given, expected, warned
):
    folder = trained / task / "adapter"
    if task == "foreign":  # what peft writes: no labels.json, no run.json
        folder = tmp_path / "foreign"
        folder.mkdir()
        for name in (peft_folder.CONFIG, peft_folder.TENSORS):
            (folder / name).write_bytes((trained / "sst2/adapter" / name).read_bytes())
    arguments = ["merge", "--adapter-dir", folder, "--model-dir", trained / "model"]
    arguments += ["--output-dir", tmp_path / "out", *(["--label-names", *given] if given else [])]
    assert main([str(part) for part in arguments]) == 0
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == dict(enumerate(expected))
    assert config.label2id == {name: index for index, name in enumerate(expected)}
    assert ("has no names of its classes" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    "task, names, message",
    [
        ("sst2", ["a", "b", "c"], "label_names has 3 names; allowed: 2"),
        ("sst2", ["a"], "label_names has 1 names; allowed: 2"),
        ("sst2", ["a", "a"], "label_names is 'a a'; allowed: each only once"),
        ("sst2", ["a", " "], "label_names has ' '; allowed: printable text"),
        ("stsb", ["a"], "label_names is 'a'; allowed: nothing, for regression"),
    ],
)
def test_names_that_do_not_fit_are_refused(trained, tmp_path, task, names, message):
    with pytest.raises(ConfigError, match=f"(?s)--label-names do not fit .*{message}"):
        merge.merge(trained / task / "adapter", trained / "model", tmp_path / "out", names=names)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task, names", [("sst2", ["a", "b", "c"]), ("stsb", ["a", "b"])])
def test_a_folder_whose_names_do_not_fit_its_classes_is_refused(trained, tmp_path, task, names):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for path in (trained / task / "adapter").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    files.write_json(folder / "labels.json", dict(label_names=names))
    with pytest.raises(ConfigError, match="give --label-names with one name for each class"):
        merge.merge(folder, trained / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_is_copied(tmp_path):
    model_dir = make_model("bert", tmp_path / "model")
    make_tokenizer(model_dir)
    peft_model(model_dir).save_pretrained(tmp_path / "adapter")
    merge.merge(tmp_path / "adapter", model_dir, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("word0 word3")["input_ids"] == [2, 5, 8, 3] and len(tokenizer) == VOCABULARY
