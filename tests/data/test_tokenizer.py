"""Ids of every accepted model folder are AutoTokenizer's; folders with contradictions are refused.

Four tokenizers (cased and uncased WordPiece, byte-level BPE, SentencePiece Unigram) as transformers
saves them, each with files changed, removed or added. To the kind belong:

- tokenizer_config.json: lower-casing, accents, Chinese characters, prefix space, special tokens,
  added tokens, class, sides of truncation and padding, lengths, model inputs, remote code, damage;
- tokenizer.json: normalizer, pre-tokenizer, template, added tokens, truncation, padding, dropout,
  the file of another model, damage;
- special_tokens_map.json, added_tokens.json, vocab.txt, vocab.json, merges.txt: other content, or
  missing; files of several transformers versions;
- config.json: other family, tokenizer_class, vocabulary, segments.

A change must give AutoTokenizer's ids and segments, or one message, and nothing is written then.
"""

import json
import shutil
import socket
from pathlib import Path

import pytest
from helpers.fuzzing import check_message
from helpers.tokenizer_folders import PAIRS, byte_level, save_folder, wordpiece, xlm_roberta

from lora.data.prepare import prepare
from lora.data.tokenizer import AS_IT_IS
from lora.data.tokens import load
from lora.experiment import registry

TASK = registry.read_tasks()["rte"]
KINDS = {
    "cased": ("bert", lambda folder: wordpiece(folder, False)),
    "uncased": ("bert", lambda folder: wordpiece(folder, True)),
    "byte level": ("roberta", byte_level),
    "SentencePiece": ("roberta", xlm_roberta),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    """A folder of each kind, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("model")
    return {
        kind: save_folder(family, folder / kind.replace(" ", "-"), make)
        for kind, (family, make) in KINDS.items()
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    rows = [f"{pair[0]}\t{pair[1]}\t{'not_' * (n % 2)}entailment" for n, pair in enumerate(PAIRS)]
    for name in ("train", "dev"):
        text = "\n".join(["sentence1\tsentence2\tlabel", *rows])
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def changed(name, **values):
    """Return a function that sets keys of a JSON file; a function of the old value may be given."""

    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        for key, value in values.items():
            content[key] = value(content.get(key)) if callable(value) else value
        path.write_text(json.dumps(content))

    return change


def removed(*names):
    return lambda folder: [(folder / name).unlink(missing_ok=True) for name in names]


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def added(content, number, **values):
    flags = dict(special=False, single_word=False, lstrip=False, rstrip=False, normalized=True)
    return dict(content=content, **flags | values) | ({} if number is None else dict(id=number))


def reversed_vocabulary(folder: Path) -> None:
    for name in ("vocab.txt", "merges.txt"):
        if (folder / name).is_file():
            lines = (folder / name).read_text().splitlines()
            (folder / name).write_text("\n".join(reversed(lines)))


CONFIG, TOKENIZER, MAP = "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"
PADDING = dict(strategy={"Fixed": 50}, direction="Left", pad_to_multiple_of=8, pad_id=0)
CUT = dict(direction="Left", max_length=7, strategy="OnlyFirst", stride=2)
TEMPLATE = dict(
    type="BertProcessing", sep=["[SEP]", 4], cls=["[CLS]", 1]
)  # ids that are other tokens'
CHANGES = {
    "as saved": lambda folder: None,
    "no tokenizer_config.json": removed(CONFIG),
    "tokenizer.json alone": removed(CONFIG, MAP, "vocab.txt", "vocab.json", "merges.txt"),
    "another vocab.txt": reversed_vocabulary,
    "vocab.txt of nothing": written("vocab.txt", ""),
    "lower-casing": changed(CONFIG, do_lower_case=True),
    "no lower-casing": changed(CONFIG, do_lower_case=False),
    "accents": changed(CONFIG, strip_accents=True),
    "no accents": changed(CONFIG, strip_accents=False),
    "Chinese": changed(CONFIG, tokenize_chinese_chars=False),
    "prefix space": changed(CONFIG, add_prefix_space=True),
    "another cls": changed(CONFIG, cls_token="[MASK]", sep_token="[UNK]"),
    "another bos": changed(CONFIG, bos_token="<mask>", cls_token="<mask>", eos_token="<unk>"),
    "another unk": changed(CONFIG, unk_token="[PAD]"),
    "a new mask": changed(CONFIG, mask_token="<extra>"),
    "extra tokens": changed(CONFIG, extra_special_tokens=["Hund", "<extra>"]),
    "additional tokens": changed(CONFIG, additional_special_tokens=["Hund"]),
    "added tokens": changed(CONFIG, added_tokens_decoder={"7": added("Cat", None)}),
    "short": changed(CONFIG, model_max_length=6),
    "long": changed(CONFIG, model_max_length=10**30),
    "cut on the left": changed(CONFIG, truncation_side="left"),
    "padded on the left": changed(CONFIG, padding_side="left", pad_token="[UNK]"),
    "no segments": changed(CONFIG, model_input_names=["input_ids", "attention_mask"]),
    "segments": changed(CONFIG, model_input_names=["input_ids", "token_type_ids"]),
    "split special": changed(CONFIG, split_special_tokens=True),
    "as it is written": changed(CONFIG, tokenizer_class="PreTrainedTokenizerFast"),
    "BERT's class": changed(CONFIG, tokenizer_class="BertTokenizer"),
    "BERT's fast class": changed(CONFIG, tokenizer_class="BertTokenizerFast"),
    "RoBERTa's class": changed(CONFIG, tokenizer_class="RobertaTokenizer"),
    "XLM's class": changed(CONFIG, tokenizer_class="XLMRobertaTokenizer"),
    "T5's class": changed(CONFIG, tokenizer_class="T5Tokenizer"),
    "a Python class": changed(CONFIG, tokenizer_class="BertJapaneseTokenizer"),
    "no such class": changed(CONFIG, tokenizer_class="NoSuchTokenizer"),
    "a number as class": changed(CONFIG, tokenizer_class=3),
    "remote code": changed(CONFIG, auto_map={"AutoTokenizer": ["x.Slow", "x.Fast"]}),
    "remote code alone": changed(CONFIG, auto_map={"AutoTokenizer": ["x.Slow"]}),
    "config of nothing": written(CONFIG, ""),
    "config as a list": written(CONFIG, "[]"),
    "other versions": changed(CONFIG, fast_tokenizer_files=["tokenizer.4.0.0.json"]),
    "normalizer": changed(TOKENIZER, normalizer=dict(type="Lowercase")),
    "no normalizer": changed(TOKENIZER, normalizer=None),
    "pre-tokenizer": changed(TOKENIZER, pre_tokenizer=dict(type="Whitespace")),
    "post-processor": changed(TOKENIZER, post_processor=TEMPLATE),
    "no post-processor": changed(TOKENIZER, post_processor=None),
    "padding": changed(
        TOKENIZER, padding=PADDING | dict(pad_type_id=1, pad_token="[PAD]"), truncation=CUT
    ),
    "one token more": changed(TOKENIZER, added_tokens=lambda old: [*old, added("Hund", 9)]),
    "no added tokens": changed(TOKENIZER, added_tokens=[]),
    "dropout": changed(TOKENIZER, model=lambda old: old | dict(dropout=0.7)),
    "no vocabulary": changed(TOKENIZER, model=lambda old: old | dict(vocab={})),
    "tokenizer of nothing": written(TOKENIZER, "{}"),
    "map": changed(MAP, cls_token="[MASK]", sep_token="[MASK]", bos_token="</s>"),
    "map without config": lambda folder: (
        removed(CONFIG)(folder),
        changed(MAP, cls_token="[MASK]", mask_token="Hund")(folder),
    ),
    "map of nothing": written(MAP, "{"),
    "added_tokens.json": lambda folder: (
        changed(CONFIG, added_tokens_decoder=None)(folder),
        changed("added_tokens.json", Hund=9)(folder),
    ),
    "added_tokens.json alone": lambda folder: (
        removed(CONFIG)(folder),
        changed("added_tokens.json", Park=8)(folder),
    ),
    "class in config.json": changed("config.json", tokenizer_class="XLMRobertaTokenizer"),
    "BERT's weights": changed("config.json", model_type="bert"),
    "RoBERTa's weights": changed("config.json", model_type="roberta"),
    "RoBERTa's weights alone": lambda folder: (
        changed("config.json", model_type="roberta")(folder),
        removed(CONFIG)(folder),
    ),
    "one segment": changed("config.json", type_vocab_size=1),
    "a smaller vocabulary": changed("config.json", vocab_size=50),
}


def prepared_or_refused(folder: Path, source: Path, tmp_path: Path, max_tokens: int) -> str:
    """Prepare; compare ids and segments with AutoTokenizer's, or return the message."""
    from transformers import AutoTokenizer

    try:
        prepare(TASK, source, folder, max_tokens, tmp_path / "tokens")
    except ValueError as error:
        check_message(str(error), folder)
        assert not (tmp_path / "tokens").exists()
        return str(error)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    wanted = tokenizer(
        [first for first, _ in PAIRS],
        [second for _, second in PAIRS],
        truncation=True,
        max_length=max_tokens,
    )
    zeros = [[0] * len(ids) for ids in wanted["input_ids"]]
    types = wanted.get("token_type_ids", zeros)
    config = json.loads((folder / "config.json").read_text())
    assert max(map(max, wanted["input_ids"])) < config["vocab_size"]
    assert max(map(max, types)) < config["type_vocab_size"]
    for split in load(tmp_path / "tokens").values():
        for i in range(len(PAIRS)):
            ids, segments, _, _ = split.gather([i])
            assert ids.tolist() == wanted["input_ids"][i]
            assert segments.tolist() == types[i]
    return ""


ACCEPTED = ("as saved", "short", "long", "cut on the left", "padding", "as it is written")
CONTRADICTION = "tokenizer.json does not fit the other files"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def connect(self, address):
        raise AssertionError(f"{address} was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # transformers warns of some of these folders
def test_ids_are_those_of_autotokenizer_or_refused(originals, source, tmp_path, kind, change):
    """The first advice of a message about a contradiction is followed, and helps."""
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(originals[kind], tmp_path / "model"))
    CHANGES[change](folder)
    message = prepared_or_refused(folder, source, tmp_path, 12)
    if change in ACCEPTED:
        assert message == ""
    if CONTRADICTION in message and change != "dropout":
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        assert CONTRADICTION not in prepared_or_refused(folder, source, tmp_path, 12)


@pytest.mark.parametrize("change", ["tokenizer.json alone", "lower-casing", "another cls", "map"])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_autotokenizer_where_nothing_was_compared(
    originals, source, tmp_path, monkeypatch, kind, change
):
    """A contradiction that the sample does not show changes no id."""
    monkeypatch.setattr("lora.data.prepare.SAMPLE", 0)
    folder = Path(shutil.copytree(originals[kind], tmp_path / "model"))
    CHANGES[change](folder)
    assert prepared_or_refused(folder, source, tmp_path, 20) == ""


def test_a_cased_tokenizer_without_its_config_is_not_lower_cased(originals, source, tmp_path):
    """The message shows the difference; its second advice keeps tokenizer.json as it is."""
    wanted = prepare(TASK, source, originals["cased"], 20, tmp_path / "wanted")
    folder = Path(shutil.copytree(originals["cased"], tmp_path / "model"))
    removed(CONFIG)(folder)
    message = prepared_or_refused(folder, source, tmp_path, 20)
    assert CONTRADICTION in message and "['Der', 'Hund'" in message and "['d', '##er'" in message
    written(CONFIG, "{" + AS_IT_IS + "}")(folder)
    assert AS_IT_IS in message
    assert prepare(TASK, source, folder, 20, tmp_path / "got").sha256 == wanted.sha256


@pytest.mark.parametrize("kind", ["cased", "SentencePiece"])
def test_segments_of_a_pair_are_those_of_transformers(originals, source, tmp_path, kind, caplog):
    """One segment: transformers' models fail on segment 1, and get none where inputs name none."""
    folder = Path(shutil.copytree(originals[kind], tmp_path / "model"))
    changed("config.json", type_vocab_size=1)(folder)
    message = prepared_or_refused(folder, source, tmp_path, 20)
    if kind == "cased":
        assert "segment id 1; allowed by config.json: below 1 (type_vocab_size)" in message
        changed(CONFIG, model_input_names=["input_ids", "attention_mask"])(folder)
        message = prepared_or_refused(folder, source, tmp_path, 20)
    assert message == ""
    warned = "AutoTokenizer gives this model no segment ids, so all are 0" in caplog.text
    assert warned == (kind == "cased")
    assert {int(split.types.max()) for split in load(tmp_path / "tokens").values()} == {0}


def test_a_segment_number_that_no_model_has_is_refused(originals, source, tmp_path):
    folder = Path(shutil.copytree(originals["cased"], tmp_path / "model"))
    special = {"[CLS]": dict(id="[CLS]", ids=[2], tokens=["[CLS]"])}
    sequence = [dict(Sequence=dict(id=name, type_id=300)) for name in "AB"]
    single = [dict(SpecialToken=dict(id="[CLS]", type_id=0)), sequence[0]]
    single.append(dict(SpecialToken=dict(id="[CLS]", type_id=0)))
    template = dict(type="TemplateProcessing", single=single, special_tokens=special)
    changed(TOKENIZER, post_processor=template | dict(pair=[*single, sequence[1]]))(folder)
    changed(CONFIG, tokenizer_class="PreTrainedTokenizerFast")(folder)
    changed("config.json", type_vocab_size=1000)(folder)
    with pytest.raises(ValueError, match="the tokenizer gives types up to 300"):
        prepare(TASK, source, folder, 20, tmp_path / "tokens")
