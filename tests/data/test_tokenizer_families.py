"""Tokenizers of all model families: ids and segments of AutoTokenizer, also on odd texts."""

import itertools

import pytest
from helpers.tokenizer_folders import FAMILIES, PAIRS, save_folder

from lora.data import tokenizer, tokens
from lora.data.prepare import prepare
from lora.experiment import registry

# To the kind belong: nothing, white space, emoji (with joiners and skin tones), right-to-left
# text with marks of direction, combining marks, control characters, special tokens of the families
# as text, and long texts (1 MB): many words, one word, one emoji many times.
ODD = (
    "",
    " ",
    "\t\n\r\u2028",
    "😀 👩‍👩‍👧 👍🏽",
    "שלום the Cat",
    "\u202eمرحبا بالعالم\u202c",
    "e\u0301\u0301\u0301 Å",
    "\x00\x07\ufeff\ufffd",
    "</s> [SEP] <s> [CLS] <pad> [PAD] <mask> [MASK] <unk> [UNK]",
    "ＦＵＬＬ ﬁ ²",
)
LONG = ("the Cat " * 2**17, "x" * 2**17, "😀" * 2**15)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_folder(request.param, tmp_path_factory.mktemp("model") / request.param)


def check(folder, texts, max_tokens):
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = tokenizer.load(folder, max_tokens)
    ours.check(texts)
    columns = [list(texts)] if isinstance(texts[0], str) else map(list, zip(*texts, strict=True))
    wanted = auto(*columns, truncation=True, max_length=max_tokens)
    got = ours.encode(texts)
    assert [encoding.ids for encoding in got] == wanted["input_ids"]
    if ours.has_segments:
        assert [encoding.type_ids for encoding in got] == wanted["token_type_ids"]


@pytest.mark.parametrize("max_tokens", [4, 12, 64])
def test_ids_and_segments_are_those_of_transformers(folder, max_tokens):
    for texts in (ODD, [*itertools.product(ODD, ODD)], [first for first, _ in PAIRS], PAIRS):
        check(folder, texts, max_tokens)


def test_prepared_tokens_are_those_of_transformers(folder, tmp_path):
    """Also for a model without segments, whose tokenizer gives segment ids: it ignores them."""
    from transformers import AutoTokenizer

    pairs = [*PAIRS, ("😀 the Cat", "שלום"), ("the Cat " * 40, "a b")]
    rows = [f"{first}\t{second}\t{n % 2}" for n, (first, second) in enumerate(pairs)]
    for split in ("train", "dev"):
        text = "\n".join(["sentence1\tsentence2\tlabel", *rows])
        (tmp_path / f"{split}.tsv").write_text(text, encoding="utf-8")
    prepare(registry.read_tasks()["rte"], tmp_path, folder, 24, tmp_path / "tokens")
    auto = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    wanted = auto(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=24)
    prepared = tokens.load(tmp_path / "tokens")["train"]
    got = [prepared.gather([index])[:2] for index in range(len(pairs))]
    assert [ids.tolist() for ids, _ in got] == wanted["input_ids"]
    zeros = [[0] * len(ids) for ids, _ in got]
    assert [types.tolist() for _, types in got] == wanted.get("token_type_ids", zeros)


def test_long_texts(folder):
    check(folder, LONG, 12)


def test_an_empty_text_has_the_special_tokens_alone(folder):
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer.load(folder, 12).encode([""])[0].ids == [auto.cls_token_id, auto.sep_token_id]


def test_families_with_segments(folder):
    """BERT, ELECTRA and DeBERTa get the segments of a pair; the others get none."""
    assert tokenizer.load(folder, 12).has_segments == (
        folder.name in ("bert", "electra", "deberta-v2")
    )


@pytest.mark.parametrize(
    "name, needed",
    [
        ("spm.model", "sentencepiece and protobuf"),
        ("sentencepiece.bpe.model", "sentencepiece and protobuf"),
        ("spiece.model", "sentencepiece and protobuf"),
        ("vocab.txt", ""),
        ("merges.txt", ""),
        ("", ""),
    ],
)
def test_a_folder_without_tokenizer_json(tmp_path, name, needed):
    """The message says how to write one, and which packages that needs."""
    if name:
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError) as error:
        tokenizer.load(tmp_path, 12)
    assert f"{tmp_path} has no tokenizer.json" in str(error.value)
    assert "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)" in str(error.value)
    assert ("sentencepiece and protobuf" in str(error.value)) == bool(needed)
    if needed:
        assert f"It has {name}" in str(error.value)
