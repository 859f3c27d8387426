"""The names of classes in a merged checkpoint: those given, those of the run, or generic ones."""

import json

import pytest
import transformers

from lora import files
from lora.__main__ import main
from lora.adapters import merge, peft_folder
from lora.errors import ConfigError


def predicted(output, texts):
    classify = transformers.pipeline("text-classification", model=str(output), device="cpu")
    return [answer["label"] for answer in classify(texts)]


def test_a_merged_run_predicts_the_names_of_its_classes(trained, tmp_path):
    """The base model has names of three other classes; they are in no merged checkpoint."""
    merge.merge(trained / "sst2/adapter", trained / "model", tmp_path / "out")
    lines = (trained / "glue/SST-2/dev.tsv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.split("\t") for line in lines), strict=True)
    names = predicted(tmp_path / "out", list(texts))
    truth = [("negative", "positive")[int(label)] for label in labels]
    right = sum(map(str.__eq__, names, truth)) / len(truth)
    record = json.loads((trained / "sst2/run.json").read_text())
    assert right == pytest.approx(record["best"]["value"], abs=1e-9) and right > 0.6
    assert set(names) == {"negative", "positive"}
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.label2id == {"negative": 0, "positive": 1} and config.num_labels == 2


@pytest.mark.parametrize(
    "task, given, expected, warned",
    [
        ("sst2", [], ["negative", "positive"], False),
        ("sst2", ["bad", "very good"], ["bad", "very good"], False),
        ("foreign", [], ["LABEL_0", "LABEL_1"], True),
        ("foreign", ["no", "yes"], ["no", "yes"], False),
        ("stsb", [], ["LABEL_0"], False),
    ],
)
def test_names_are_given_or_of_the_run_or_generic(
    trained, tmp_path, capsys, task, given, expected, warned
):
    folder = trained / task / "adapter"
    if task == "foreign":  # what peft writes: no labels.json, no run.json
        folder = tmp_path / "foreign"
        folder.mkdir()
        for name in (peft_folder.CONFIG, peft_folder.TENSORS):
            (folder / name).write_bytes((trained / "sst2/adapter" / name).read_bytes())
    arguments = ["merge", "--adapter-dir", folder, "--model-dir", trained / "model"]
    arguments += ["--output-dir", tmp_path / "out", *(["--label-names", *given] if given else [])]
    assert main([str(part) for part in arguments]) == 0
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == dict(enumerate(expected))
    assert config.label2id == {name: index for index, name in enumerate(expected)}
    assert ("has no names of its classes" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    "task, names, message",
    [
        ("sst2", ["a", "b", "c"], "label_names has 3 names; allowed: 2"),
        ("sst2", ["a"], "label_names has 1 names; allowed: 2"),
        ("sst2", ["a", "a"], "label_names is 'a a'; allowed: each only once"),
        ("sst2", ["a", " "], "label_names has ' '; allowed: printable text"),
        ("stsb", ["a"], "label_names is 'a'; allowed: nothing, for regression"),
    ],
)
def test_names_that_do_not_fit_are_refused(trained, tmp_path, task, names, message):
    with pytest.raises(ConfigError, match=f"(?s)--label-names do not fit .*{message}"):
        merge.merge(trained / task / "adapter", trained / "model", tmp_path / "out", names=names)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task, names", [("sst2", ["a", "b", "c"]), ("stsb", ["a", "b"])])
def test_a_folder_whose_names_do_not_fit_its_classes_is_refused(trained, tmp_path, task, names):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for path in (trained / task / "adapter").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    files.write_json(folder / "labels.json", dict(label_names=names))
    with pytest.raises(ConfigError, match="give --label-names with one name for each class"):
        merge.merge(folder, trained / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()
