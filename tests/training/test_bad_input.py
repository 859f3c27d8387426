"""Bad input at the command line: exit status 2 and one message that names the file, what was got
and what is allowed.
"""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
from helpers.models import make_glue, make_model, make_tokenizer
from safetensors.torch import load_file, save_file

from lora.__main__ import main
from lora.files import CHECKSUM_KEYS

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """model/, glue/ (SST-2 and STS-B) and tokens/ (SST-2), all as they should be."""
    folder = tmp_path_factory.mktemp("whole")
    make_tokenizer(make_model("bert", folder / "model"))
    make_glue(folder / "glue")
    assert main(list(map(str, PREPARE(folder, folder / "tokens")))) == 0
    return folder


def PREPARE(folder, output, task="sst2", max_tokens=20):
    return [
        "prepare",
        "--task",
        task,
        "--data-dir",
        folder / "glue",
        "--model-dir",
        folder / "model",
        "--max-tokens",
        max_tokens,
        "--output-dir",
        output,
    ]


def TRAIN(folder, output, *more, task="sst2", rank=2):
    return [
        "train",
        "--task",
        task,
        "--weights",
        "qv",
        "--rank",
        rank,
        "--model-dir",
        folder / "model",
        "--tokens-dir",
        folder / "tokens",
        "--output-dir",
        output,
        "--device",
        "cpu",
        "--max-tokens",
        20,
        "--epochs",
        1,
        *more,
    ]


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    """A copy of what is whole, to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "spoilt"))


def test_output_that_cannot_be_written_is_told(refused, folder, capsys):
    (folder / "file").write_text("")
    assert "is a file; give a folder" in refused(
        *PREPARE(folder, folder / "file"), names=[folder / "file"]
    )
    assert main([*map(str, PREPARE(folder, folder / "new")), "--log", str(folder)]) == 2
    assert "--log cannot be written" in capsys.readouterr().err


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(path: Path, **changes) -> None:
    """Other values in a JSON file, which then has no seal, as where somebody meant to change it."""
    told = {
        key: value
        for key, value in json.loads(path.read_text()).items()
        if key not in CHECKSUM_KEYS
    }
    path.write_text(json.dumps(told | changes))


def manifest(folder: Path, **changes) -> str:
    """fetched.json of a folder, as fetching it would write it, but for the hashes that nobody
    compares with.
    """
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {
        path.relative_to(folder).as_posix(): dict(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), bytes=path.stat().st_size
        )
        for path in paths
    }
    return json.dumps(dict(name="glue", identity="file glue", files=files) | changes)


TSV = "glue/SST-2/dev.tsv"
PREPARING = {  # how the folder is spoilt -> what is said
    "no label column": (
        lambda at: write(at / TSV, "sentence\tlable\na\t1\n"),
        "no column ['label']; its header is",
    ),
    "a column twice": (
        lambda at: write(at / TSV, "sentence\tlabel\tlabel\na\t1\t0\n"),
        "label is in its header more than",
    ),
    "header alone": (lambda at: write(at / TSV, "sentence\tlabel\n"), "holds no example"),
    "a line of 1 MB without a label": (
        lambda at: write(at / TSV, "sentence\tlabel\n" + "x" * 10**6 + "\n"),
        "line 2: 1 ",
    ),
    "a label of 1 MB": (
        lambda at: write(at / TSV, "sentence\tlabel\na\t" + "1" * 10**6 + "\n"),
        "line 2: label '111",
    ),
    "a header of 1 MB": (
        lambda at: write(at / TSV, "x" * 10**6),
        "no column ['sentence', 'label']",
    ),
    "line ends of old": (
        lambda at: write(at / TSV, "sentence\tlabel\ra\t1\r"),
        "line 1: a carriage return (\\r) that is no line end here; save",
    ),
    "another script's digit": (
        lambda at: write(at / TSV, "sentence\tlabel\na\t１\n"),
        "label '１'; allowed: the whole",
    ),
    "an underscore": (
        lambda at: write(at / TSV, "sentence\tlabel\na\t0_1\n"),
        "label '0_1'; allowed: the whole numbers",
    ),
    "a folder": (lambda at: (at / TSV).unlink() or (at / TSV).mkdir(), "is a folder"),
    "no tokenizer": (lambda at: (at / "model/tokenizer.json").unlink(), "has no tokenizer.json"),
    "half a tokenizer": (
        lambda at: write(at / "model/tokenizer.json", '{"version": "1.0", "mo'),
        "is not a tokenizer",
    ),
    "a tokenizer of nothing": (
        lambda at: write(at / "model/tokenizer.json", "{}"),
        "is not a tokenizer",
    ),
    "no special tokens": (
        lambda at: changed(at / "model/tokenizer.json", post_processor=None),
        "adds no special tokens around a sentence",
    ),
    "no config": (lambda at: (at / "model/config.json").unlink(), "no config.json"),
    "config of no JSON": (
        lambda at: write(at / "model/config.json", "<html>"),
        "config.json is not JSON",
    ),
    "config as a list": (
        lambda at: write(at / "model/config.json", "[]"),
        "config.json is not a JSON object",
    ),
    "another family": (
        lambda at: changed(at / "model/config.json", model_type="gpt2"),
        "model family 'gpt2'; allowed: bert",
    ),
    "positions as text": (
        lambda at: changed(at / "model/config.json", max_position_embeddings="many"),
        "max_position_embeddings is 'many'; allowed: a whole number",
    ),
    "no words": (
        lambda at: changed(at / "model/config.json", vocab_size=None),
        "vocab_size is None; allowed: a whole number",
    ),
    "a manifest of no JSON": (
        lambda at: write(at / "glue/fetched.json", "{"),
        "fetched.json is not JSON",
    ),
    "a manifest as a list": (
        lambda at: write(at / "glue/fetched.json", "[]"),
        "fetched.json is not a JSON object",
    ),
    "a manifest of nothing": (
        lambda at: write(at / "glue/fetched.json", "{}"),
        "does not have name, files",
    ),
    "a manifest without what it pins": (
        lambda at: write(at / "glue/fetched.json", manifest(at / "glue", identity=None)),
        "does not have identity",
    ),
    "data changed since they were fetched": (
        lambda at: (
            write(at / "glue/fetched.json", manifest(at / "glue"))
            or write(at / TSV, "sentence\tlabel\na b\t1\n")
        ),
        "1 of its files in",
    ),
}


@pytest.mark.parametrize("name", PREPARING)
def test_data_and_tokenizers_that_are_not_whole_are_told(refused, folder, name):
    spoil, message = PREPARING[name]
    spoil(folder)
    assert message in refused(*PREPARE(folder, folder / "out"), names=[folder])
    assert not (folder / "out").exists()


def tensors(change):
    def spoil(at):
        path = at / "model/model.safetensors"
        save_file({name: value for name, value in change(load_file(path)).items()}, path)

    return spoil


QUERY = "encoder.layer.1.attention.self.query.weight"
TRAINING = {
    "tokens.json of no JSON": (
        lambda at: write(at / "tokens/tokens.json", "{"),
        "tokens.json is not JSON",
    ),
    "tokens.json as a list": (
        lambda at: write(at / "tokens/tokens.json", "[]"),
        "tokens.json is not a JSON object",
    ),
    "tokens.json of something else": (
        lambda at: write(at / "tokens/tokens.json", "{}"),
        "sha256 is None; allowed",
    ),
    "tokens.json in latin": (
        lambda at: write(at / "tokens/tokens.json", b"\xff"),
        "byte 0xff is not UTF-8",
    ),
    "tokens of another task": (
        lambda at: changed(at / "tokens/tokens.json", task="mrpc"),
        "are of mrpc",
    ),
    "tokens without a split": (
        lambda at: changed(at / "tokens/tokens.json", splits={"train": {}}),
        "does not name the split 'validation'; delete it and prepare it again",
    ),
    "tokens cut off": (
        lambda at: write(
            at / "tokens/tokens.safetensors", (at / "tokens/tokens.safetensors").read_bytes()[:-9]
        ),
        "is cut off",
    ),
    "no tokens": (lambda at: shutil.rmtree(at / "tokens"), "has no tokens.json"),
    "half the weights": (
        lambda at: write(
            at / "model/model.safetensors", (at / "model/model.safetensors").read_bytes()[:9000]
        ),
        "model.safetensors is not a whole safetensors file",
    ),
    "a pointer of git-lfs": (
        lambda at: write(
            at / "model/model.safetensors", "version https://git-lfs.github.com/spec/v1\n"
        ),
        "model.safetensors is not a whole safetensors file",
    ),
    "a pickle in their place": (
        lambda at: write(at / "model/model.safetensors", pickle.dumps({"a": 1})),
        "model.safetensors is not a whole safetensors file",
    ),
    "a pickle alone": (
        lambda at: (at / "model/model.safetensors").rename(at / "model/pytorch_model.bin"),
        "no config.json with *.safetensors",
    ),
    "another model's weights": (
        tensors(lambda found: {f"gpt2.{name}": value for name, value in found.items()}),
        "missing in *.safetensors: embeddings.LayerNorm.bias",
    ),
    "a tensor less": (
        tensors(lambda found: {name: value for name, value in found.items() if name != QUERY}),
        f"missing in *.safetensors: {QUERY}",
    ),
    "a tensor of another shape": (
        tensors(lambda found: found | {QUERY: found[QUERY][:3].contiguous()}),
        f"other shape than in config.json: {QUERY}",
    ),
    "not finite": (
        tensors(lambda found: found | {QUERY: found[QUERY] / 0}),
        f"not finite: {QUERY}",
    ),
    "a config of fewer layers": (
        lambda at: changed(at / "model/config.json", num_hidden_layers=1),
        "not part of a model with this config.json: encoder.layer.1.attention",
    ),
    "a config of more layers": (
        lambda at: changed(at / "model/config.json", num_hidden_layers=3),
        "missing in *.safetensors: encoder.layer.2.attention",
    ),
    "heads that do not divide": (
        lambda at: changed(at / "model/config.json", num_attention_heads=3),
        "hidden_size is 32; allowed: a multiple of num_attention_heads, 3",
    ),
    "a decoder": (
        lambda at: changed(at / "model/config.json", is_decoder=True),
        "is_decoder is True; allowed: False",
    ),
    "an activation of no name": (
        lambda at: changed(at / "model/config.json", hidden_act="nope"),
        "transformers cannot load this model (KeyError",
    ),
    "a manifest of another folder": (
        lambda at: write(at / "model/fetched.json", "{}"),
        "does not have name, files",
    ),
    "a manifest with a list": (
        lambda at: write(at / "model/fetched.json", '{"name": "x", "files": []}'),
        "does not have files",
    ),
}


@pytest.mark.parametrize("name", TRAINING)
def test_models_and_tokens_that_are_not_whole_are_told(refused, folder, name):
    spoil, message = TRAINING[name]
    spoil(folder)
    assert message in refused(*TRAIN(folder, folder / "out", "--seed", 0), names=[folder])
    assert not (folder / "out/metrics.csv").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (("--seed", -1), "seed is -1; allowed: a whole number of at least 0, below 2^32"),
        (("--seed", 2**32), "seed is 4294967296; allowed"),
        (("--seeds", 3, 1, 3), "--seeds is 3 1 3; allowed: each seed only once"),
        (("--seed", 0, "--micro-batch", -1), "--micro-batch is -1; allowed: at least 0"),
        (
            ("--seed", 0, "--checkpoint-every-s", "nan"),
            "--checkpoint-every-s is nan; allowed: a number above 0",
        ),
        (("--seed", 0, "--checkpoint-every-s", -5), "--checkpoint-every-s is -5.0; allowed"),
        (("--seed", 0, "--alpha", "0r"), "alpha is 0.0; allowed: a number above 0"),
        (("--seed", 0, "--model", "../x"), "model is '../x'; allowed: letters, digits"),
        (
            ("--seed", 0, "--start", "no/such/folder"),
            "start is 'no/such/folder', but there is no adapter_model.safetensors",
        ),
        (("--cells", "[" * 100_000, "--seeds", 0), "nested too deeply"),
    ],
)
def test_options_that_no_run_can_have_are_told(refused, whole, tmp_path, more, message):
    arguments = TRAIN(whole, tmp_path / "out", *more)
    if "--cells" in more:
        arguments = [
            "train",
            *more,
            "--model-dir",
            whole / "model",
            "--output-dir",
            tmp_path / "out",
        ]
    assert message in refused(*arguments)
    assert not (tmp_path / "out/metrics.csv").exists()


def test_a_rank_beyond_the_models_width_is_told(refused, whole, tmp_path):
    message = refused(*TRAIN(whole, tmp_path / "out", "--seed", 0, rank=33))
    assert "rank is 33; at most the model's width, 32" in message


def test_sources_that_nobody_knows_are_told(refused, tmp_path):
    assert "no source 'rte' in config/sources.csv; allowed: roberta-base" in refused(
        "fetch", "rte", "--output-dir", tmp_path
    )
    own = (
        "--role",
        "data",
        "--kind",
        "file",
        "--locator",
        tmp_path / "no",
        "--output-dir",
        tmp_path / "out",
    )
    assert "there is no folder" in refused("fetch", "own", *own, names=[tmp_path / "no"])
    assert "name is '../own'; allowed" in refused("fetch", "../own", *own)


def test_a_sentence_of_1_mb_is_an_example_that_is_cut(folder, tmp_path):
    write(folder / TSV, "sentence\tlabel\n" + "word1 " * 170_000 + "\t1\n")
    assert main(list(map(str, PREPARE(folder, tmp_path / "out")))) == 0
    told = json.loads((tmp_path / "out/tokens.json").read_text())
    assert told["splits"]["validation"] | dict(label_counts=None) == dict(
        examples=1, tokens=20, truncated=1, label_counts=None
    )


def test_data_as_they_were_fetched_are_prepared(folder, tmp_path):
    write(folder / "glue/fetched.json", manifest(folder / "glue"))
    assert main(list(map(str, PREPARE(folder, tmp_path / "out")))) == 0
    assert json.loads((tmp_path / "out/tokens.json").read_text())["source"] == "file glue"


def test_what_cannot_be_merged_is_told(refused, folder, tmp_path):
    arguments = [
        "merge",
        "--adapter-dir",
        folder,
        "--model-dir",
        folder / "model",
        "--output-dir",
        tmp_path / "out",
    ]
    assert "no adapter_config.json" in refused(*arguments, names=[folder])
    write(folder / "adapter_config.json", "{}")
    assert "peft_type is None; allowed: peft_type 'LORA'" in refused(*arguments, names=[folder])
    write(
        folder / "adapter_config.json",
        json.dumps(
            dict(peft_type="LORA", task_type="SEQ_CLS", r=2, lora_alpha=10**400, lora_dropout=0)
        ),
    )
    assert "lora_alpha is 1000" in refused(*arguments, names=[folder])
    changed(folder / "adapter_config.json", lora_alpha=4)
    write(folder / "adapter_model.bin", pickle.dumps({"a": 1}))
    assert "pickled files are not loaded" in refused(*arguments, names=[folder])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the header is ''; expected 'model,"),
        (b"model,task\n", "the header is 'model,task'; expected"),
        (b"\xff", "line 1: byte 0xff is not UTF-8"),
        (b'"', "line 1 is not CSV"),
        (b"x" * 10**6, "line 1 is not CSV (field larger"),
        (b"a," * 10**5, "the header is 'a,a"),
    ],
)
def test_a_table_of_something_else_is_told(refused, tmp_path, content, message):
    (tmp_path / "mine.yaml").write_text("seeds: [1]\n")
    write(tmp_path / "runs.csv", content)
    arguments = (
        "--config",
        tmp_path / "mine.yaml",
        "--runs",
        tmp_path / "runs.csv",
        "--output-dir",
        tmp_path,
    )
    assert message in refused("table", "table2", *arguments, names=[tmp_path / "runs.csv"])


def test_what_is_spoilt_here_is_whole(whole, tmp_path):
    """Otherwise these tests would pass on anything."""
    assert main(list(map(str, TRAIN(whole, tmp_path / "out", "--seed", 0)))) == 0
    assert (tmp_path / "out/metrics.csv").is_file()


@pytest.mark.parametrize("place", ["output", "state"])
def test_what_the_system_refuses_says_what_to_do(whole, tmp_path, capfd, place):
    """A file stands where a folder must be: the system's own words with the path, and what to do
    about it.
    """
    (tmp_path / "file").write_text("")
    folders = dict(output=tmp_path / "output", state=tmp_path / "state") | {
        place: tmp_path / "file/folder"
    }
    arguments = (
        "train --task sst2 --weights q --rank 2 --seed 0 --epochs 1 --alpha 2 --max-tokens 20 "
        "--device cpu"
    ).split()
    arguments += [
        "--precision",
        "fp32",
        "--model-dir",
        whole / "model",
        "--tokens-dir",
        whole / "tokens",
    ]
    arguments += ["--output-dir", folders["output"], "--state-dir", folders["state"]]
    assert main(list(map(str, arguments))) == 2
    said = capfd.readouterr().err
    assert (
        str(tmp_path / "file") in said
        and "Not a directory" in said
        and "Nothing was lost. " in said
        and "run the same command again" in said
    )
    assert "Errno" not in said and "Traceback" not in said
