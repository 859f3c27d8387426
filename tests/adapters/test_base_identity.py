"""Whether two base models are the same: by checksum, or by name and commit on the hub.

Kinds of names: the hub's, the old one without owner, a folder of the hub's cache, a local folder, a
name of config/sources.csv, nothing.
"""

import json
import shutil
from pathlib import Path

import pytest
from helpers.models import make_model

from lora import files
from lora.adapters import base_identity
from lora.adapters.adapter_folder import CONFIG, TENSORS, AdapterFolder
from lora.data import fetch
from lora.experiment import registry
from lora.experiment.source import Source

SOURCES = registry.read_sources()
HUB = "FacebookAI/roberta-base"
COMMIT, OTHER_COMMIT = SOURCES["roberta-base"].revision, "a" * 40
CACHE = "/home/ann/.cache/huggingface/hub/models--{}/snapshots/{}"


def adapter_of(name: object, **changes: object) -> AdapterFolder:
    return AdapterFolder(Path("nowhere"), dict(base_model_name_or_path=name) | changes)


@pytest.mark.parametrize(
    "name, changes, same",
    [
        (HUB, {}, True),
        (HUB.lower(), {}, True),
        ("roberta-base", {}, True),
        (HUB, dict(revision=COMMIT), True),
        (HUB, dict(revision="main"), True),
        (HUB, dict(revision=None), True),
        (HUB, dict(revision=OTHER_COMMIT), None),
        (CACHE.format("FacebookAI--roberta-base", COMMIT), {}, True),
        (CACHE.format("FacebookAI--roberta-base", COMMIT) + "/", {}, True),
        (CACHE.format("FacebookAI--roberta-base", OTHER_COMMIT), {}, None),
        (CACHE.format("FacebookAI--roberta-large", OTHER_COMMIT), {}, False),
        ("roberta-large", {}, False),
        ("FacebookAI/roberta-large", {}, False),
        ("google-bert/bert-base-uncased", {}, False),
        ("bert-base-uncased", {}, False),
        ("someone/roberta-base", {}, False),
        ("minilm", {}, None),
        ("/nowhere/roberta-base", {}, None),
        ("unknown", {}, None),
        ("", {}, None),
        (None, {}, None),
        (7, {}, None),
    ],
)
def test_names_are_compared_as_the_models_that_they_mean(name, changes, same, tmp_path):
    """Before and after the base model was fetched."""
    trained_on = base_identity.of_adapter(adapter_of(name, **changes), SOURCES)
    base = base_identity.of_run("roberta-base", None, SOURCES)
    assert base_identity.same(trained_on, base) is same
    folder = make_model("roberta", tmp_path / "roberta-base")
    manifest = dict(name="roberta-base", identity=f"hub {HUB} {COMMIT}", files={})
    files.write_json(folder / fetch.MANIFEST, files.with_checksum(manifest))
    fetched = base_identity.of_run("mine", folder, SOURCES, "checksum")
    assert base_identity.same(trained_on, fetched) is same


def test_a_base_in_the_hub_s_cache_is_known(tmp_path):
    snapshot = make_model(
        "roberta", tmp_path / f"models--FacebookAI--roberta-base/snapshots/{COMMIT}"
    )
    link = tmp_path / "link"
    link.symlink_to(snapshot)
    for folder in (snapshot, link):
        base = base_identity.of_run("mine", folder, SOURCES)
        for name, same in ((HUB, True), ("bert-base-uncased", False), (str(snapshot), True)):
            trained_on = base_identity.of_adapter(adapter_of(name), SOURCES)
            assert base_identity.same(trained_on, base) is same, name


def test_local_folders_are_compared_by_their_files(tmp_path):
    first = make_model("bert", tmp_path / "first")
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    other = make_model("bert", tmp_path / "other", initializer_range=0.1)
    base = base_identity.of_run("tiny", first, {})
    for folder, same in ((first, True), (copy, True), (other, False), (tmp_path / "no", None)):
        trained_on = base_identity.of_adapter(adapter_of(str(folder)), {})
        assert base_identity.same(trained_on, base) is same
    (other / "model.safetensors").unlink()
    trained_on = base_identity.of_adapter(adapter_of(str(other)), {})
    assert base_identity.same(trained_on, base) is None


def test_a_source_of_the_config_counts(tmp_path):
    """`same_as` is the user's word that a local folder has a registered model's content."""
    mine = Source("mine", "model", "file", str(tmp_path), "", "", "MIT", same_as="roberta-base")
    base = base_identity.of_run("mine", None, SOURCES | {"mine": mine})
    trained_on = base_identity.of_adapter(adapter_of("roberta-base"), SOURCES)
    assert base_identity.same(trained_on, base) is True


@pytest.mark.parametrize("change", [None, "tensors", "run.json", "no run.json"])
def test_run_json_beside_an_adapter_has_the_checksum(tmp_path, change):
    """It counts only for the tensors that the run wrote, and not if it was edited."""
    folder = tmp_path / "run/adapter"
    folder.mkdir(parents=True)
    (folder / TENSORS).write_bytes(b"tensors")
    (folder / CONFIG).write_text("{}")
    record = dict(
        base=dict(base_sha256="abc", source="local folder"),
        settings=dict(model="tiny"),
        files={f"adapter/{TENSORS}": files.file_sha256(folder / TENSORS)},
    )
    path = tmp_path / "run/run.json"
    files.write_json(path, files.with_checksum(record))
    if change == "tensors":
        (folder / TENSORS).write_bytes(b"others")
    elif change == "run.json":
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(status="ok")))
    elif change:
        path.unlink()
    found = base_identity.of_adapter(AdapterFolder(folder, {}), SOURCES)
    assert found.sha256 == ("" if change else "abc")
