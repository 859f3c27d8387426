"""README.md of adapter folders: its code loads the adapter from any folder, without a network."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
import transformers
from helpers.methods import WEIGHTS
from helpers.training import make_spec, train

from lora import run_record
from lora.adapters import card, merge
from lora.adapters.base_reference import BaseReference
from lora.experiment import registry
from lora.run_record import Best, RunRecord, Settings

TEXT = "word0 word3 word9"
CODE = re.compile(r"```python\n(.*?)```", re.S)
AFTER = """
import json, torch, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained({tokenizer!r})
with torch.no_grad():
    logits = model.eval()(**tokenizer({text!r}, return_tensors="pt")).logits
print(json.dumps([logits.tolist(), model.config.id2label, model.config.label2id]))
"""


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_the_code_of_the_card_loads_the_adapter_from_another_folder_offline(
    trained, tmp_path, task
):
    """peft in a new process gives the logits of the merged checkpoint, and names of the classes."""
    text = (trained / task / "adapter/README.md").read_text()
    (code,) = CODE.findall(text)
    code = code.replace("path/to/adapter", str(trained / task / "adapter"))
    code += AFTER.format(tokenizer=str(trained / "model"), text=TEXT)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | dict(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    logits, id2label, _ = json.loads(done.stdout.splitlines()[-1])
    if task == "sst2":
        assert id2label == {"0": "negative", "1": "positive"}
    merge.merge(trained / task / "adapter", trained / "model", tmp_path / "merged")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained / "model")
    with torch.no_grad():
        wanted = theirs.eval()(**tokenizer(TEXT, return_tensors="pt")).logits
    assert (torch.tensor(logits) - wanted).abs().max() < 1e-5 < 1e-2 < wanted.abs().max()


def test_a_card_says_what_the_adapter_is(trained):
    text = (trained / "sst2/adapter/README.md").read_text()
    record = run_record.read(trained / "sst2/run.json", "")
    for part in (
        "LoRA, weights `qv`, rank 2, alpha 16",
        f"`{trained}/model`",
        "classes 0 `negative`, 1 `positive`",
        f"accuracy {record.best.value:.4f} on validation, after epoch {record.best.epoch};",
        "Licence of the base model: unknown",
    ):
        assert part in text, part


@pytest.mark.parametrize("method", ["ft", "bitfit", *(m for m in WEIGHTS if "adapter" in m)])
def test_methods_that_peft_lacks_have_a_card_that_promises_nothing(
    bert_dir, tokens_dir, tmp_path, method
):
    rank = 0 if method in ("ft", "bitfit") else 4
    spec = make_spec(tmp_path, 0, WEIGHTS[method], rank, method, epochs=1)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    text = (spec.output_dir / "adapter/README.md").read_text()
    assert "peft has no such method and cannot load this folder" in text
    assert "AutoPeft" not in text and "library_name" not in text
    assert ("lora merge --adapter-dir" in text) == (method in ("ft", "bitfit"))


def test_a_hub_model_is_named_with_its_commit_and_licence():
    settings = Settings(model="roberta-base", task="mnli", method="lora", weights="qv", rank=8)
    record = RunRecord(settings=settings, best=Best(epoch=3, metric="accuracy", value=0.875))
    base = BaseReference("FacebookAI/roberta-base", "e2" * 20, "MIT")
    text = card.text(record, registry.task("mnli"), base)
    assert text.startswith("---\nbase_model: FacebookAI/roberta-base\nlibrary_name: peft\n---\n")
    assert f"`FacebookAI/roberta-base@{'e2' * 20}`" in text and "base model: MIT" in text
    assert "id2label={0: 'entailment', 1: 'neutral', 2: 'contradiction'}" in text


@pytest.mark.parametrize(
    "best, part",
    [
        (Best(epoch=0, metric="accuracy"), "before its first epoch ended, so there is no adapter"),
        (Best(epoch=2, metric="accuracy"), "Result: none, the metric is never defined"),
    ],
)
def test_a_run_without_a_result_says_so(best, part):
    record = RunRecord(settings=Settings(method="lora", task="sst2"), best=best)
    assert part in card.text(record, registry.task("sst2"), BaseReference("/models/tiny"))
