"""Small trained tokenizers of each model family, in the classes of transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = (
    "Der Hund läuft im Park . Ünïcode Straße the Cat sat on a Mat 你好 don't HELLO e-mail".split()
)
PAIRS = [
    (
        " ".join(WORDS[(i * 7 + j) % len(WORDS)] for j in range(3 + i % 9)),
        " ".join(WORDS[(i * 5 + j) % len(WORDS)].swapcase() for j in range(2 + i % 7)),
    )
    for i in range(60)
]
PAIRS += [
    ("A [SEP] b </s>", "<mask> [MASK]  two  spaces "),
    ("ＦＵＬＬ width", "e\u0301 \u200b zero"),
]
PAIRS += [("", "empty first"), ("<extra> x", "empty second of <pad> [PAD] [UNK]")]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CAMEMBERT = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"]
DEBERTA = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
Vocabulary = list[tuple[str, float]]


def wordpiece(folder: Path, lowercase: bool, name: str = "BertTokenizer"):
    import transformers
    from tokenizers import BertWordPieceTokenizer

    trained = BertWordPieceTokenizer(lowercase=lowercase)
    trained.train_from_iterator(sum(PAIRS, ()), vocab_size=150, show_progress=False)
    trained.save_model(str(folder))
    return getattr(transformers, name).from_pretrained(folder, do_lower_case=lowercase)


def byte_level(folder: Path):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        sum(PAIRS, ()), vocab_size=330, special_tokens=ROBERTA, show_progress=False
    )
    trained.save_model(str(folder))
    return RobertaTokenizer.from_pretrained(folder)


def unigram_vocabulary(special: list[str], unknown: str) -> Vocabulary:
    """Return the pieces and scores of a trained SentencePiece Unigram model."""
    from tokenizers import SentencePieceUnigramTokenizer

    trained = SentencePieceUnigramTokenizer()
    trained.train_from_iterator(
        sum(PAIRS, ()),
        vocab_size=120,
        special_tokens=special,
        unk_token=unknown,
        show_progress=False,
    )
    return [tuple(entry) for entry in json.loads(trained.to_str())["model"]["vocab"]]


def xlm_roberta(folder: Path):
    from transformers import XLMRobertaTokenizer

    return XLMRobertaTokenizer(vocab=unigram_vocabulary(ROBERTA, "<unk>"))


def camembert(folder: Path):
    from transformers import CamembertTokenizer

    return CamembertTokenizer(vocab=[*unigram_vocabulary(CAMEMBERT, "<unk>"), ("<mask>", 0.0)])


def deberta_v2(folder: Path):
    from transformers import DebertaV2Tokenizer

    return DebertaV2Tokenizer(vocab=[*unigram_vocabulary(DEBERTA, "[UNK]"), ("[MASK]", 0.0)])


MakeTokenizer = Callable[[Path], "PreTrainedTokenizerFast"]
FAMILIES: dict[str, MakeTokenizer] = {  # model_type of config.json -> tokenizer
    "bert": lambda folder: wordpiece(folder, lowercase=False),
    "roberta": byte_level,
    "xlm-roberta": xlm_roberta,
    "camembert": camembert,
    "distilbert": lambda folder: wordpiece(folder, lowercase=True, name="DistilBertTokenizer"),
    "electra": lambda folder: wordpiece(folder, lowercase=True, name="ElectraTokenizer"),
    "deberta-v2": deberta_v2,
}


SETTINGS: dict[str, dict[str, object]] = {  # further keys of config.json
    "deberta-v2": dict(
        type_vocab_size=0, relative_attention=True, position_biased_input=False, pos_att_type="c2p"
    ),
}


def save_folder(family: str, folder: Path, make: MakeTokenizer | None = None) -> Path:
    """Write a tokenizer as save_pretrained does, and a config.json that fits it."""
    folder.mkdir(parents=True)
    tokenizer = (make or FAMILIES[family])(folder)
    tokenizer.save_pretrained(folder)
    config = dict(model_type=family, vocab_size=len(tokenizer) + 8, type_vocab_size=2)
    config |= dict(max_position_embeddings=66) | SETTINGS.get(family, {})
    (folder / "config.json").write_text(json.dumps(config))
    return folder
