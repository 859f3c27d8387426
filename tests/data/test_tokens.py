"""Tokens against transformers' own tokenizers, and gathers against plain loops."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lora.data.tokens import Tokens, arrays_sha256, epoch_order, load, prepare, steps_per_epoch
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
    """A model folder with a small trained tokenizer; its file asks for padding and another length, as MiniLM's does."""
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
    encode = lambda **options: tokenizer(
        *texts[: 1 if task == "sst2" else 2], return_token_type_ids=True, **options
    )  # noqa: E731
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
    assert facts["splits"]["train"]["truncated"] == cut
    assert max_tokens == 60 or cut > 0
    assert (
        facts["splits"]["train"]["tokens"]
        == sum(map(len, expected["input_ids"]))
        == len(tokens.ids)
    )


def test_facts_say_what_was_prepared_and_the_hash_does_not_depend_on_the_file(
    model_folder, source, tmp_path
):
    from safetensors.numpy import load_file, save_file

    facts = prepare(TASKS["stsb"], source, model_folder, 20, tmp_path)
    assert facts == json.loads((tmp_path / "tokens.json").read_text())
    assert (facts["task"], facts["num_labels"], facts["max_tokens"], facts["source"]) == (
        "stsb",
        1,
        20,
        "local folder",
    )
    assert facts["splits"]["validation"]["label_mean"] == pytest.approx(np.mean(np.arange(7) / 2))
    classes = prepare(TASKS["rte"], source, model_folder, 20, tmp_path / "rte")
    assert classes["splits"]["validation"]["label_counts"] == {"0": 3, "1": 4}
    arrays = load_file(tmp_path / "tokens.safetensors")
    assert {str(array.dtype) for name, array in arrays.items() if name.startswith("train")} == {
        "int32", "int64", "uint8", "float32"}  # fmt: skip
    save_file(dict(reversed(arrays.items())), tmp_path / "tokens.safetensors", metadata={"a": "b"})
    assert arrays_sha256(arrays) == facts["sha256"]
    changed = arrays | {"train.labels": arrays["train.labels"] + 1}
    assert arrays_sha256(changed) != facts["sha256"]


def test_prepared_again_is_the_same_to_the_byte(model_folder, source, tmp_path):
    for name in ("a", "b"):
        prepare(TASKS["rte"], source, model_folder, 20, tmp_path / name)
    for file in ("tokens.safetensors", "tokens.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "tokens.json",
        "tokens.safetensors",
    ]


def test_source_is_what_was_fetched(model_folder, source, tmp_path):
    import shutil

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
    assert facts["source"] == "hub nyu-mll/glue:rte abc"


def test_gather_is_the_loop_it_replaces():
    random = np.random.default_rng(3)
    lengths = random.integers(1, 9, 50)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids, types = (
        random.integers(0, 99, offsets[-1]).astype(np.int32),
        random.integers(0, 2, offsets[-1]).astype(np.uint8),
    )
    tokens = Tokens(ids, offsets, types, random.normal(size=50).astype(np.float32))
    assert len(tokens) == 50 and (tokens.lengths == lengths).all()
    for indices in ([3, 49, 3, 0], [7], random.permutation(50), []):
        got = tokens.gather(indices)
        assert got[0].tolist() == [
            token for i in indices for token in ids[offsets[i] : offsets[i + 1]]
        ]
        assert got[1].tolist() == [
            kind for i in indices for kind in types[offsets[i] : offsets[i + 1]]
        ]
        assert got[2].tolist() == [lengths[i] for i in indices]
        assert got[3].tolist() == [tokens.labels[i] for i in indices]
        assert (got[0].dtype, got[1].dtype, got[2].dtype, got[3].dtype) == (
            np.int32,
            np.uint8,
            np.int64,
            np.float32,
        )


def test_epoch_order_is_each_example_once_and_depends_on_seed_and_epoch_alone():
    orders = {
        (seed, epoch): epoch_order(seed, epoch, 101) for seed in (0, 1, 2) for epoch in (1, 2, 3)
    }
    assert all(sorted(order) == list(range(101)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 9
    np.random.seed(5)  # the global generator must not matter
    assert (epoch_order(1, 2, 101) == orders[1, 2]).all()
    # pinned: another numpy that shuffled otherwise would change every run's numbers
    assert epoch_order(0, 1, 8).tolist() == [1, 3, 7, 6, 0, 4, 2, 5]


def test_the_last_short_step_counts():
    assert [steps_per_epoch(examples, 16) for examples in (1, 16, 17, 67349)] == [1, 1, 2, 4210]


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


def test_a_folder_that_is_not_whole_is_refused(model_folder, source, tmp_path):
    from safetensors.numpy import load_file, save_file

    prepare(TASKS["rte"], source, model_folder, 20, tmp_path)
    arrays = {
        name: array.copy() for name, array in load_file(tmp_path / "tokens.safetensors").items()
    }
    ids, offsets = arrays["train.ids"], arrays["train.offsets"]
    for wrong, message in [
        ({"train.ids": ids[:-1]}, "split train: offsets, ids, types and labels do not fit"),
        ({"train.labels": arrays["train.labels"][:-1]}, "do not fit"),
        ({"train.offsets": np.where(offsets == offsets[3], offsets[4], offsets)}, "do not fit"),
        ({"train.ids": ids[::-1].copy()}, "not those tokens.json was written for"),
    ]:
        save_file(arrays | wrong, tmp_path / "tokens.safetensors")
        with pytest.raises(ValueError, match=message):
            load(tmp_path)
    save_file(
        {name: array for name, array in arrays.items() if name != "train.types"},
        tmp_path / "tokens.safetensors",
    )
    with pytest.raises(ValueError, match=r"cannot be read \('train.types'\)"):
        load(tmp_path)
    save_file(arrays, tmp_path / "tokens.safetensors")
    assert len(load(tmp_path)["train"]) == 60
    whole = (tmp_path / "tokens.safetensors").read_bytes()
    for cut in (0, 5, 100, len(whole) - 4):
        (tmp_path / "tokens.safetensors").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cannot be read"):
            load(tmp_path)
    (tmp_path / "tokens.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "tokens.json").unlink()
    with pytest.raises(ValueError, match="not prepared there, or not to the end"):
        load(tmp_path)


def test_preparing_and_loading_import_neither_torch_nor_pandas(model_folder, source, tmp_path):
    program = (
        "import sys; from pathlib import Path; from lora.data import tokens; from lora.experiment import registry\n"
        "assert not {'tokenizers', 'safetensors'} & set(sys.modules)\n"
        "tokens.prepare(registry.read_tasks()['rte'], *map(Path, sys.argv[1:3]), 20, Path(sys.argv[3]))\n"
        "tokens.load(Path(sys.argv[3]))\n"
        "assert not {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, source, model_folder, tmp_path]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
