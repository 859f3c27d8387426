"""Tiny models of every family with random weights, and a small made data set."""

import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = 60
# Values of config.json and arguments of the model that a family usually has.
_ROBERTA = (
    dict(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    dict(add_pooling_layer=False),
)
USUAL = {
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": (dict(embedding_size=24), {}),
    "deberta-v2": (
        dict(
            type_vocab_size=0,
            relative_attention=True,
            position_biased_input=False,
            pos_att_type=["p2c", "c2p"],
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            position_buckets=8,
        ),
        {},
    ),
}
NAMES = {
    "distilbert": dict(
        hidden_size="dim",
        num_hidden_layers="n_layers",
        num_attention_heads="n_heads",
        intermediate_size="hidden_dim",
    )
}


def make_model(family: str, folder: Path, **changes) -> Path:
    """Write a two-layer model with `save_pretrained`.

    Its initial weights have a large spread, so that every part changes the outputs.

    Args:
        family: `model_type` of config.json.
        folder: Folder to write.
        changes: Other values of config.json, by BERT's names where the family has them.
    """
    import torch
    import transformers

    torch.manual_seed(7)
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        vocab_size=VOCABULARY,
    )
    common = sizes | dict(max_position_embeddings=40, initializer_range=0.15) | changes
    usual, options = USUAL.get(family, ({}, {}))
    settings = {NAMES.get(family, {}).get(key, key): value for key, value in common.items()}
    config = transformers.AutoConfig.for_model(family, **usual | settings)
    model = transformers.AutoModel.from_config(config, **options)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("bias", "LayerNorm.weight", "layer_norm.weight")):
                value.add_(torch.randn_like(value) * 0.1)
    model.save_pretrained(folder)
    return folder


def sentences(count: int, seed: int, longest: int = 20, types: bool = True):
    """Return random sequences of unequal length: (ids, types, lengths), as `Tokens.gather` does."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest + 1, count)
    ids = random.integers(5, VOCABULARY, lengths.sum()).astype(np.int32)
    halves = np.concatenate([np.arange(length) >= length // 2 for length in lengths])
    return ids, (halves if types else np.zeros_like(halves)).astype(np.uint8), lengths


WORDS = [f"word{number}" for number in range(VOCABULARY - 5)]


def make_tokenizer(folder: Path) -> None:
    """Write a word-level tokenizer.json with BERT's special tokens and VOCABULARY tokens.

    tokenizer_config.json makes AutoTokenizer read it as it is.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {
        word: number
        for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    config = dict(tokenizer_class="PreTrainedTokenizerFast", model_input_names=inputs)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_glue(folder: Path, train: int = 40, dev: int = 24) -> Path:
    """Write SST-2 and STS-B in the official layout.

    The label of SST-2 is whether word0 occurs, that of STS-B how often.
    """
    random = np.random.default_rng(3)
    for name, count in (("train", train), ("dev", dev)):
        single, pair = ["sentence\tlabel"], ["index\tsentence1\tsentence2\tscore"]
        for index in range(count):
            words = list(random.choice(WORDS[1:], 6))
            label = index % 2
            single.append(f"{' '.join((['word0'] if label else []) + words)}\t{label}")
            pair.append(
                f"{index}\t{' '.join(words)}\t"
                f"{' '.join(['word0'] * (index % 6) + words)}\t{index % 6}.0"
            )
        for task, lines in (("SST-2", single), ("STS-B", pair)):
            (folder / task).mkdir(parents=True, exist_ok=True)
            (folder / task / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder
