"""Tokenizer of a model folder: the one that transformers' AutoTokenizer makes of its files.

AutoTokenizer does not take tokenizer.json as it is. config.json and tokenizer_config.json choose a
class, which may build the tokenizer anew: without tokenizer_config.json, it lower-cases the text of
a cased BERT. special_tokens_map.json and added_tokens.json add tokens. If tokenizer.json alone
gives other ids, the files of the folder contradict each other: one is missing or wrong. Such a
folder is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora.errors import shown

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

FILE = "tokenizer.json"
WRITE_FILE = "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
AS_IT_IS = (  # keys of tokenizer_config.json with which AutoTokenizer takes tokenizer.json as it is
    '"tokenizer_class": "PreTrainedTokenizerFast", '
    '"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]'
)
Text = str | tuple[str, str]  # one text or a pair


@dataclass(frozen=True)
class ModelTokenizer:
    """Tokenizer that cuts at a number of tokens and does not pad.

    Attributes:
        folder: The model folder.
        chosen: The tokenizer of AutoTokenizer, whose ids are used.
        written: The tokenizer of tokenizer.json alone.
        has_segments: Whether a model gets the segment ids; otherwise all are 0.
    """

    folder: Path
    chosen: "Tokenizer"
    written: "Tokenizer"
    has_segments: bool

    def encode(self, texts: Sequence[Text]) -> "list[Encoding]":
        """Return ids, segment ids and what was cut off, of each text or pair.

        Raises:
            ValueError: If the tokenizer fails, such as on an unknown word without an unknown token.
        """
        return self._encode(self.chosen, texts)

    def check(self, texts: Sequence[Text]) -> None:
        """Raise ValueError if tokenizer.json alone gives other ids of these texts."""
        both = zip(self.encode(texts), self._encode(self.written, texts), strict=True)
        for text, (chosen, written) in zip(texts, both, strict=True):
            if chosen.ids != written.ids:
                at = _first_difference(chosen.ids, written.ids)
                raise ValueError(
                    f"{self.folder}: {FILE} does not fit the other files: {shown(text)} has "
                    f"{_tokens(self.written, written, at)} by {FILE} alone, but "
                    f"{_tokens(self.chosen, chosen, at)} by transformers' AutoTokenizer, which "
                    "also reads config.json, tokenizer_config.json, special_tokens_map.json and "
                    "added_tokens.json. Add the model's own files where one is missing. Otherwise, "
                    f"if AutoTokenizer is right, write its files: {WRITE_FILE}; if {FILE} is "
                    f"right, set in tokenizer_config.json {AS_IT_IS}"
                )

    def _encode(self, tokenizer: "Tokenizer", texts: Sequence[Text]) -> "list[Encoding]":
        try:
            return list(tokenizer.encode_batch_fast(texts))
        except Exception as error:  # tokenizers raises nothing more special
            raise ValueError(
                f"{self.folder / FILE} cannot tokenise the data ({shown(str(error))}); fetch the "
                "model again"
            ) from None


def load(folder: Path, max_tokens: int) -> ModelTokenizer:
    """Load the tokenizer of a model folder, from local files, without code of the folder.

    Args:
        folder: Model folder with config.json and tokenizer.json.
        max_tokens: Longest example, special tokens included.

    Raises:
        ValueError: If there is no tokenizer.json, transformers cannot load the tokenizer, or it
            adds no special tokens.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    check_file(folder)
    try:
        written = Tokenizer.from_file(str(folder / FILE))
        auto = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # damaged files can raise anything
        raise ValueError(
            f"{folder / FILE} is not a tokenizer that transformers can load with the files next to "
            f"it ({type(error).__name__}: {shown(str(error))}); fetch the model again"
        ) from None
    if not auto.is_fast:
        raise ValueError(
            f"{folder}: its tokenizer, {type(auto).__name__}, is written in Python; allowed: one "
            f"of the tokenizers library. If {FILE} is right, set in "
            f"tokenizer_config.json {AS_IT_IS}"
        )
    if auto.num_special_tokens_to_add(pair=False) < 2:
        raise ValueError(
            f"{folder / FILE} adds no special tokens around a sentence; allowed: the tokenizer of "
            "an encoder such as BERT, because the head reads the first special token"
        )
    chosen = auto.backend_tokenizer
    for tokenizer in (chosen, written):  # what tokenizer.json does not hold, or transformers sets
        tokenizer.enable_truncation(
            max_tokens, strategy="longest_first", direction=auto.truncation_side
        )
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = auto.split_special_tokens
    return ModelTokenizer(folder, chosen, written, "token_type_ids" in auto.model_input_names)


def check_file(folder: Path) -> None:
    """Raise ValueError if a model folder has no tokenizer.json. The message says how to write it.

    XLM-RoBERTa, CamemBERT and DeBERTa were published with a SentencePiece model. transformers
    converts it with two packages that nothing else here needs.
    """
    if (folder / FILE).is_file():
        return
    message = f"{folder} has no {FILE}; transformers writes one: {WRITE_FILE}"
    if pieces := sorted(path.name for path in folder.glob("*.model")):
        message += f". It has {pieces[0]}: install the packages sentencepiece and protobuf before"
    raise ValueError(message)


def _first_difference(ids: list[int], others: list[int]) -> int:
    both = enumerate(zip(ids, others, strict=False))
    return next((at for at, (one, other) in both if one != other), min(len(ids), len(others)))


def _tokens(tokenizer: "Tokenizer", encoding: "Encoding", start: int) -> str:
    """Return the tokens of an encoding from `start` on, for a message."""
    some = [str(tokenizer.id_to_token(number)) for number in encoding.ids[start : start + 4]]
    return f"the tokens {shown(some)} from token {start}"
