"""Repositories for the local hub server: a small synthetic GLUE, and a tiny RoBERTa.

Names, configurations, splits, columns and label names are those of nyu-mll/glue, file names those
of FacebookAI/roberta-base. Some rows are difficult to read. They are written with pyarrow alone, so
the rows that `datasets` reads can be compared with them.
"""

from pathlib import Path
from random import Random

import pyarrow
import pyarrow.parquet
import yaml

from helpers.hub_server import Repository
from lora.experiment import registry

MNLI = ("validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
GLUE = {  # configuration: text columns, label names, splits
    "ax": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), ("test",)),
    "mnli": (
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("train", *MNLI),
    ),
    "mrpc": (
        ("sentence1", "sentence2"),
        ("not_equivalent", "equivalent"),
        ("train", "validation", "test"),
    ),
    "qqp": (
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("train", "validation", "test"),
    ),
    "sst2": (("sentence",), ("negative", "positive"), ("train", "validation", "test")),
}
ODD = ['"quoted\tand cut', "", " two\r\nlines ", "line\u2028separator", "naïve – café", "nul\0byte"]
WORDS = (
    "the a film plot actor is was not very good bad dull bright long short and but with without it "
    "they"
).split()
SOURCES = registry.read_sources()
MODEL, DATA = SOURCES["roberta-base"], SOURCES["glue-sst2"]


def make_repositories(folder: Path) -> list[Repository]:
    """Make both repositories, at the commits that config/sources.csv pins."""
    glue, roberta = folder / "glue", folder / "roberta"
    texts = make_glue(glue)
    make_roberta(roberta, texts)
    return [
        Repository("datasets", DATA.locator.partition(":")[0], DATA.revision, glue),
        Repository("models", MODEL.locator, MODEL.revision, roberta),
    ]


def make_glue(folder: Path, train: int = 40, others: int = 24) -> list[str]:
    """Write a parquet file for each split of each configuration, and a card; return all texts."""
    random, configs, infos, texts = Random(5), [], [], []
    for name, (columns, labels, splits) in GLUE.items():
        files, sizes = [], []
        for split in splits:
            count = train if split == "train" else others
            numbers = [
                -1 if split.startswith("test") else row % len(labels) for row in range(count)
            ]
            table = {
                column: [make_sentence(random, WORDS[number]) for number in numbers]
                for column in columns
            }
            table[columns[0]][: len(ODD)] = ODD
            texts += [text for column in columns for text in table[column]]
            path = folder / name / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            kinds = [(column, pyarrow.string()) for column in columns]
            schema = pyarrow.schema([*kinds, ("label", pyarrow.int64()), ("idx", pyarrow.int32())])
            table |= dict(label=numbers, idx=list(range(count)))
            pyarrow.parquet.write_table(pyarrow.table(table, schema), path)
            files.append(dict(split=split, path=f"{name}/{split}-*"))
            sizes.append(dict(name=split, num_bytes=1, num_examples=count))
        configs.append(dict(config_name=name, data_files=files))
        kinds = dict(
            class_label=dict(names={str(number): label for number, label in enumerate(labels)})
        )
        features = [
            *(dict(name=column, dtype="string") for column in columns),
            dict(name="label", dtype=kinds),
            dict(name="idx", dtype="int32"),
        ]
        infos.append(
            dict(config_name=name, features=features, splits=sizes, download_size=1, dataset_size=1)
        )
    card = yaml.safe_dump(
        dict(license="other", dataset_info=infos, configs=configs), sort_keys=False
    )
    (folder / "README.md").write_text(
        f"---\n{card}---\n# Dataset Card for GLUE\n", encoding="utf-8"
    )
    return texts


def make_sentence(random: Random, first: str) -> str:
    return " ".join([first, *random.choices(WORDS, k=random.randint(3, 9))])


def make_roberta(folder: Path, texts: list[str]) -> None:
    """Write a masked language model of two layers and its tokenizer, with the real file names."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    torch.manual_seed(3)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    config = transformers.RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=42,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.15,
        **sizes,
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)
    for name in ("pytorch_model.bin", "README.md", ".gitattributes"):
        (folder / name).write_text(f"never downloaded: {name}\n")


def table_of(repository: Repository, configuration: str, split: str) -> dict[str, list]:
    """Return the served rows of a split, column by column."""
    (path,) = (repository.folder / configuration).glob(f"{split}-*.parquet")
    return pyarrow.parquet.read_table(path).to_pydict()
