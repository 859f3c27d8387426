"""Tokens compared with transformers' own tokenizers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.own_tasks import own_task, write_csv

from lora.data.prepare import prepare
from lora.data.tokens import arrays_sha256, load, read_facts
from lora.experiment import registry
from lora.files import file_sha256
from lora.paths import ROOT

TASKS = registry.read_tasks()


WORDS = [" ".join(f"{a}{b}" for b in ("le", "la", "n't", "7", "é")) for a in "abcdefgh"]


PAIRS = [
    (f"{WORDS[i % 8]} . {'x ' * (i % 9)}", f" {WORDS[i % 5]}{'y ' * (i % 13)}\u2028[SEP] </s>")
    for i in range(60)
]


def bert_tokenizer(folder: Path):
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(
        [text for pair in PAIRS for text in pair], vocab_size=120, show_progress=False
    )
    trained.save_model(str(folder))
    return BertTokenizer.from_pretrained(folder)


def roberta_tokenizer(folder: Path):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    trained, special = ByteLevelBPETokenizer(), ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(
        [a for a, _ in PAIRS], vocab_size=320, special_tokens=special, show_progress=False
    )
    trained.save_model(str(folder))
    return RobertaTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model_folder(request, tmp_path_factory) -> Path:
    """A model folder with a small trained tokenizer; MiniLM's sets padding and a length too."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = dict(bert=bert_tokenizer, roberta=roberta_tokenizer)[request.param](folder)
    tokenizer.save_pretrained(folder)
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    written["truncation"] = dict(direction="Right", max_length=5, strategy="LongestFirst", stride=0)
    padding = dict(strategy={"Fixed": 50}, direction="Right", pad_to_multiple_of=None)
    written["padding"] = padding | dict(pad_id=0, pad_type_id=0, pad_token="[PAD]")
    (folder / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
    config = dict(model_type=request.param, max_position_embeddings=66, vocab_size=len(tokenizer))
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The same sentences as SST-2 (first column), RTE (both) and STS-B (both, scored)."""
    folder = tmp_path_factory.mktemp("source")
    pairs = list(enumerate(PAIRS))
    for name, header, rows in [
        ("SST-2", "sentence\tlabel", [f"{a}\t{i % 2}" for i, (a, _) in pairs]),
        (
            "RTE",
            "sentence1\tsentence2\tlabel",
            [f"{a}\t{b}\t{'not_' * (i % 3 > 0)}entailment" for i, (a, b) in pairs],
        ),
        (
            "STS-B",
            "sentence1\tsentence2\tscore",
            [f"{a}\t{b}\t{i % 11 / 2}" for i, (a, b) in pairs],
        ),
    ]:
        (folder / name).mkdir()
        (folder / name / "train.tsv").write_text("\n".join([header, *rows]), encoding="utf-8")
        (folder / name / "dev.tsv").write_text("\n".join([header, *rows[:7]]), encoding="utf-8")
    return folder


@pytest.mark.parametrize("task", ["sst2", "rte"])
@pytest.mark.parametrize("max_tokens", [12, 60])
def test_tokens_are_those_of_transformers(model_folder, source, tmp_path, task, max_tokens):
    from transformers import AutoTokenizer

    facts = prepare(TASKS[task], source, model_folder, max_tokens, tmp_path)
    tokens = load(tmp_path)["train"]
    texts = [list(side) for side in zip(*PAIRS, strict=True)]
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)

    def encode(**options):
        columns = texts[: 1 if task == "sst2" else 2]
        return tokenizer(*columns, return_token_type_ids=True, **options)

    expected = encode(truncation=True, max_length=max_tokens, padding=False)
    for i in range(len(PAIRS)):
        ids, types, lengths, labels = tokens.gather([i])
        assert ids.tolist() == expected["input_ids"][i]
        assert types.tolist() == expected["token_type_ids"][i]
        assert lengths.tolist() == [len(ids)] and labels.tolist() == [
            i % 2 if task == "sst2" else float(i % 3 > 0)
        ]
    uncut = encode(truncation=False, padding=False)
    cut = sum(len(ids) > max_tokens for ids in uncut["input_ids"])
    assert facts.splits["train"].truncated == cut
    assert max_tokens == 60 or cut > 0
    assert facts.splits["train"].tokens == sum(map(len, expected["input_ids"])) == len(tokens.ids)


def test_facts_and_a_hash_that_does_not_depend_on_the_file(model_folder, source, tmp_path):
    from safetensors.numpy import load_file, save_file

    facts = prepare(TASKS["stsb"], source, model_folder, 20, tmp_path)
    assert facts == read_facts(tmp_path)
    assert (facts.task, facts.num_labels, facts.max_tokens, facts.source) == (
        "stsb",
        1,
        20,
        "local folder",
    )
    assert facts.splits["validation"].label_mean == pytest.approx(np.mean(np.arange(7) / 2))
    classes = prepare(TASKS["rte"], source, model_folder, 20, tmp_path / "rte")
    assert classes.splits["validation"].label_counts == {"0": 3, "1": 4}
    arrays = load_file(tmp_path / "tokens.safetensors")
    assert {str(array.dtype) for name, array in arrays.items() if name.startswith("train")} == {
        "int32",
        "int64",
        "uint8",
        "float32",
    }
    save_file(dict(reversed(arrays.items())), tmp_path / "tokens.safetensors", metadata={"a": "b"})
    assert arrays_sha256(arrays) == facts.sha256
    changed = arrays | {"train.labels": arrays["train.labels"] + 1}
    assert arrays_sha256(changed) != facts.sha256


def test_preparing_again_gives_the_same_bytes(model_folder, source, tmp_path):
    for name in ("a", "b"):
        prepare(TASKS["rte"], source, model_folder, 20, tmp_path / name)
    for file in ("tokens.safetensors", "tokens.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "tokens.json",
        "tokens.safetensors",
    ]


def test_the_source_is_that_of_the_manifest(model_folder, source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    files = {
        path.relative_to(source).as_posix(): dict(
            sha256=file_sha256(path), bytes=path.stat().st_size
        )
        for path in source.rglob("*.tsv")
    }
    manifest = dict(name="rte", identity="hub nyu-mll/glue:rte abc", files=files)
    (tmp_path / "source" / "fetched.json").write_text(json.dumps(manifest))
    facts = prepare(TASKS["rte"], tmp_path / "source", model_folder, 20, tmp_path / "tokens")
    assert facts.source == "hub nyu-mll/glue:rte abc"


def test_unusable_model_folders_are_refused(model_folder, source, tmp_path):
    longest = (
        64
        if json.loads((model_folder / "config.json").read_text())["model_type"] == "roberta"
        else 66
    )
    prepare(TASKS["rte"], source, model_folder, longest, tmp_path / "fits")
    with pytest.raises(ValueError, match=f"max_tokens is {longest + 1}; allowed: 4 to {longest}"):
        prepare(TASKS["rte"], source, model_folder, longest + 1, tmp_path / "long")
    with pytest.raises(ValueError, match="max_tokens is 3"):
        prepare(TASKS["rte"], source, model_folder, 3, tmp_path / "long")
    with pytest.raises(ValueError, match="no tokenizer.json; transformers writes one"):
        prepare(TASKS["rte"], source, tmp_path, 20, tmp_path / "long")
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_bytes((model_folder / "tokenizer.json").read_bytes())
    (other / "config.json").write_text('{"vocab_size": 9}')
    with pytest.raises(ValueError, match="allowed by config.json: below 9"):
        prepare(TASKS["rte"], source, other, 20, tmp_path / "long")
    assert not (tmp_path / "long").exists()


def test_loading_imports_neither_torch_nor_transformers(model_folder, source, tmp_path):
    """Only preparing needs transformers, for its AutoTokenizer."""
    prepare(TASKS["rte"], source, model_folder, 20, tmp_path)
    program = (
        "import sys; from pathlib import Path; from lora.data import prepare, tokens\n"
        "tokens.load(Path(sys.argv[1]))\n"
        "assert not {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, tmp_path]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_tokens_of_another_task_or_length_are_never_replaced(refused, logging_as_before, tmp_path):
    """The folder is checked first, so the folders of model and data need not be there."""
    facts = '{"task": "mrpc", "max_tokens": 16}'
    (tmp_path / "tokens.json").write_text(facts)
    command = ("prepare", "--data-dir", "d", "--model-dir", "m", "--output-dir", tmp_path)
    text = refused(*command, "--task", "sst2", "--max-tokens", 16)
    assert "has tokens with task 'mrpc', not sst2; give another folder" in text
    text = refused(*command, "--task", "mrpc", "--max-tokens", 32)
    assert "has tokens with max_tokens 16, not 32; give another folder" in text
    assert (tmp_path / "tokens.json").read_text() == facts


def test_what_was_counted_is_in_tokens_json_and_in_the_log(model_folder, tmp_path, caplog):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [f"{a}\t{i % 2}" for i, (a, _) in enumerate(PAIRS)]
    train = ["sentence\tlabel", *lines, "\t1", *lines * 20, "cut"]
    (folder / "train.tsv").write_text("\n".join(train), encoding="utf-8")
    dev = ["sentence\tlabel", *lines[:5], lines[0], "new\t1"]
    (folder / "dev.tsv").write_text("\n".join(dev), encoding="utf-8")
    facts = prepare(TASKS["sst2"], folder, model_folder, 12, tmp_path / "tokens")
    assert facts.splits["train"].read_counts == dict(
        skipped_lines=1, long_lines=0, empty_texts=1, repeated=0, in_train=0
    )
    assert facts.splits["validation"].read_counts == dict(
        skipped_lines=0, long_lines=0, empty_texts=0, repeated=1, in_train=6
    )
    assert read_facts(tmp_path / "tokens") == facts
    for part in (
        "1 lines lack a column",
        "have an empty text; the first is line 62",
        f"split train: {facts.splits['train'].truncated} of 1261 examples are cut at 12 tokens",
    ):
        assert part in caplog.text


def test_tokens_of_earlier_versions_have_no_counts(model_folder, source, tmp_path):
    prepare(TASKS["sst2"], source, model_folder, 12, tmp_path)
    path = tmp_path / "tokens.json"
    written = json.loads(path.read_text())
    for counts in written["splits"].values():
        del counts["read_counts"]
    del written["checksum"]
    path.write_text(json.dumps(written))
    assert read_facts(tmp_path).splits["train"].read_counts is None
    written["splits"]["train"]["read_counts"] = dict(repeated="1")
    path.write_text(json.dumps(written))
    with pytest.raises(ValueError, match="split train: repeated is '1'; allowed: a whole number"):
        read_facts(tmp_path)


def test_a_task_of_the_config_records_its_classes_and_its_made_split(model_folder, tmp_path):
    """Every example of the file is in one of the splits, with the tokens of AutoTokenizer."""
    from transformers import AutoTokenizer

    rows = [(first, f"class {at % 3}") for at, (first, _) in enumerate(PAIRS)]
    path = write_csv(
        tmp_path / "mine.jsonl", [json.dumps(dict(text=a, label=b)) for a, b in rows], ""
    )
    facts = prepare(own_task(path), path, model_folder, 60, tmp_path / "tokens")
    assert facts == read_facts(tmp_path / "tokens")
    assert facts.label_names == ("class 0", "class 1", "class 2") and facts.num_labels == 3
    assert facts.splits["validation"].made == "0.2 of the rows of train, seed 0"
    assert facts.splits["train"].made is None
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    expected = sorted(
        (tokenizer(text, truncation=True, max_length=60)["input_ids"], float(label[-1]))
        for text, label in rows
    )
    found = []
    for tokens in load(tmp_path / "tokens").values():
        for at in range(len(tokens)):
            ids, _, _, labels = tokens.gather([at])
            found.append((ids.tolist(), labels.item()))
    assert sorted(found) == expected
    assert not (tmp_path / "tokens/tokens.json").read_text().count(str(tmp_path))


def test_the_file_has_the_bytes_that_safetensors_writes(model_folder, source, tmp_path):
    from safetensors.numpy import load_file, save

    prepare(TASKS["rte"], source, model_folder, 20, tmp_path)
    path = tmp_path / "tokens.safetensors"
    assert path.read_bytes() == save(load_file(path))
    names = json.loads((tmp_path / "tokens.json").read_text())["label_names"]
    assert tuple(names) == TASKS["rte"].label_names
