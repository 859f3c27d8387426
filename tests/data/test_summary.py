"""The summary of a task's data, compared with counts and with what `prepare` cuts."""

import pytest
from helpers.own_tasks import own_task

from lora.data import formats, summary, tokenizer
from lora.data.examples import Examples
from lora.data.prepare import prepare
from lora.experiment import registry


def write(path, labels):
    lines = [f"{'word ' * (at % 9 + 1)},{label}" for at, label in enumerate(labels)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("model")
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(["word words"], vocab_size=60, show_progress=False)
    trained.save_model(str(folder))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    config = '{"model_type": "bert", "max_position_embeddings": 64, "vocab_size": 60}'
    (folder / "config.json").write_text(config)
    return folder


def test_what_is_cut_is_what_prepare_cuts(model_folder, tmp_path):
    path = write(tmp_path / "mine.csv", ["a", "b", "c"] * 20)
    task, splits = formats.read_with_task(own_task(path), path)
    facts = prepare(own_task(path), path, model_folder, 6, tmp_path / "tokens")
    uncut = tokenizer.load(model_folder, 2**31 - 1)
    for name, examples in splits.items():
        found = summary.lengths(examples, uncut, 6)
        words = [len(text.split()) + 2 for text in examples.first]
        assert found["cut"] == facts.splits[name].truncated == sum(n > 6 for n in words) > 0
        assert found["longest"] == max(words)
        assert found["mean"] == pytest.approx(sum(words) / len(words), abs=0.005)
        assert sorted(words)[len(words) // 2 - 1] <= found["50%"] <= sorted(words)[len(words) // 2]


def test_labels_and_scores_are_counted(tmp_path):
    path = write(tmp_path / "mine.csv", ["a", "b", "b"] * 10)
    found = summary.of_task(*formats.read_with_task(own_task(path), path))
    assert list(found["splits"]) == ["train", "validation"]
    counts = [one["labels"] for one in found["splits"].values()]
    assert {name: sum(one[name] for one in counts) for name in "ab"} == {"a": 10, "b": 20}
    assert sum(counts[0].values()) == found["splits"]["train"]["examples"]
    assert found["splits"]["validation"]["made"].startswith("0.2 of the rows")
    scores = summary.of_task(
        registry.read_tasks()["stsb"],
        dict.fromkeys(["train", "validation"], Examples(["x", "y"], ["x", "y"], [1.0, 4.0])),
    )
    assert scores["splits"]["train"]["scores"] == {"lowest": 1.0, "mean": 2.5, "highest": 4.0}
    assert "train            1   2.5        4" in summary.text(scores)


@pytest.mark.parametrize("classes", [2, 300])
def test_the_text_fits_a_terminal_of_80_columns(tmp_path, classes):
    names = [f"class {at} with a very long name that fills lines" for at in range(classes)]
    path = write(tmp_path / "mine.csv", names * 3)
    found = summary.of_task(*formats.read_with_task(own_task(path), path))
    found |= {"model": "a-model-with-a-name-of-more-than-thirty-characters", "max_tokens": 512}
    for one in found["splits"].values():
        one["tokens"] = {"mean": 1234.56, "50%": 9999, "90%": 9999, "longest": 99999, "cut": 99999}
    lines = summary.text(found).split("\n")
    assert max(map(len, lines)) <= 80 and len(lines) < 50
    assert ("and 280 more labels; --json has them" in lines) == (classes == 300)
