"""Fetched folders: manifest, hashes, replacement, and a hub that cannot be reached."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora.data import fetch
from lora.errors import FetchError
from lora.experiment import registry
from lora.experiment.source import Source
from lora.paths import ROOT

COMMIT = "0123456789" * 4
SOURCES = registry.read_sources()


def source(**changes) -> Source:
    facts = dict(
        name="thing", role="data", kind="file", locator="", revision="", sha256="", licence="MIT"
    )
    return Source(**facts | changes)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def texts(tmp_path) -> Path:
    folder = tmp_path / "texts"
    (folder / "SST-2").mkdir(parents=True)
    (folder / "SST-2" / "train.tsv").write_bytes(b"sentence\tlabel\n")
    (folder / "note.txt").write_bytes(b"hello\n")
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
        "pytorch_model.bin",
        "README.md",
    ):
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_is_copied_with_a_manifest_of_its_files(texts, tmp_path):
    given = source(locator=str(texts))
    manifest = fetch.fetch(given, tmp_path / "out" / "thing")
    assert manifest == json.loads((tmp_path / "out" / "thing" / "fetched.json").read_text())
    assert manifest["files"] == {
        "SST-2/train.tsv": {"sha256": sha256(b"sentence\tlabel\n"), "bytes": 15},
        "note.txt": {"sha256": sha256(b"hello\n"), "bytes": 6},
    }
    listed = subprocess.run(
        ["sha256sum", "SST-2/train.tsv", "note.txt"], cwd=texts, capture_output=True, text=True
    )
    lines = "".join(f"{line[66:]} {line[:64]}\n" for line in listed.stdout.splitlines())
    assert manifest["tree_sha256"] == sha256(lines.encode())
    assert manifest["identity"] == given.identity
    assert (
        fetch.read_manifest(tmp_path / "out" / "thing")
        == fetch.verify(tmp_path / "out" / "thing")
        == manifest
    )
    assert names_in(tmp_path / "out") == ["thing"]
    assert not os.path.samefile(texts / "note.txt", tmp_path / "out" / "thing" / "note.txt")


def test_a_complete_destination_is_kept_and_any_other_replaced(texts, tmp_path):
    given, out = source(locator=str(texts)), tmp_path / "out"
    first = fetch.fetch(given, out)
    (before,) = [path.stat().st_ino for path in [out / "note.txt"]]
    assert fetch.fetch(given, out) == first
    assert (out / "note.txt").stat().st_ino == before
    (out / "note.txt").write_bytes(b"changed")  # damaged, then fetched again
    with pytest.raises(
        FetchError, match="source thing: 1 of its files .* note.txt first; delete the folder"
    ):
        fetch.verify(out)
    assert fetch.fetch(given, out) == first and (out / "note.txt").read_bytes() == b"hello\n"
    (texts / "note.txt").write_bytes(b"new\n")  # the source folder changed
    assert fetch.fetch(given, out)["files"]["note.txt"]["sha256"] == sha256(b"new\n")
    assert fetch.fetch(source(locator=str(texts), name="other"), out)["name"] == "other"
    (out / "fetched.json").write_text("{")
    (out / "stray").write_text("")
    assert fetch.fetch(given, out)["name"] == "thing" and not (out / "stray").exists()
    (out / "fetched.json").unlink()
    with pytest.raises(FetchError, match="has no fetched.json"):
        fetch.verify(out)


def test_a_wrong_tree_hash_leaves_the_destination_unchanged(texts, tmp_path):
    out = tmp_path / "out"
    first = fetch.fetch(source(locator=str(texts)), out)
    assert (
        fetch.fetch(source(locator=str(texts), sha256=first["tree_sha256"]), out)["files"]
        == first["files"]
    )
    wrong = source(locator=str(texts), sha256="0" * 64)
    with pytest.raises(
        FetchError,
        match=rf"source thing: .*\n  expected {'0' * 64}\n  got      {first['tree_sha256']}",
    ):
        fetch.fetch(wrong, out)
    assert fetch.verify(out)["sha256"] == first["tree_sha256"]
    with pytest.raises(FetchError):
        fetch.fetch(wrong, tmp_path / "new")
    assert names_in(tmp_path) == ["out", "texts"]


def test_a_model_folder_is_copied_without_pickles_and_hashed(model, tmp_path):
    manifest = fetch.fetch(source(role="model", locator=str(model)), tmp_path / "out")
    assert sorted(manifest["files"]) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    ]
    config = sha256((model / "config.json").read_bytes())
    lines = f"config.json {config}\nmodel.safetensors {sha256(b'model.safetensors')}\n"
    assert fetch.base_sha256(tmp_path / "out") == fetch.base_sha256(model) == sha256(lines.encode())
    (model / "second.safetensors").write_bytes(b"2")
    lines += f"second.safetensors {sha256(b'2')}\n"
    assert fetch.base_sha256(model) == sha256(lines.encode())
    (tmp_path / "out" / "config.json").write_text("{ }")
    with pytest.raises(FetchError, match="changed since they were fetched, config.json first"):
        fetch.base_sha256(tmp_path / "out")
    for name in ("model.safetensors", "second.safetensors"):
        (model / name).unlink()
    with pytest.raises(FetchError, match="has no config.json with .*safetensors"):
        fetch.base_sha256(model)
    with pytest.raises(
        FetchError,
        match=r"is not a complete model folder: it has no \*.safetensors; expected config.json, ",
    ):
        fetch.fetch(source(role="model", locator=str(model)), tmp_path / "out2")
    with pytest.raises(FetchError, match="source thing: there is no folder"):
        fetch.fetch(source(locator=str(tmp_path / "absent")), tmp_path / "out2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match="has none of the expected files"):
        fetch.fetch(source(locator=str(tmp_path / "empty")), tmp_path / "out2")


def test_a_failure_is_reported_without_credentials(tmp_path, monkeypatch):
    """The client's error holds a password and a token."""
    import huggingface_hub

    def snapshot_download(*args, **options):
        raise OSError("https://someone:secret@mirror/x?token=secret broke off\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(FetchError, match="source thing") as caught:
        fetch.fetch(source(kind="hub", locator="a/b:c", revision=COMMIT), tmp_path / "out")
    assert "OSError: https://mirror/x?... broke off more" in str(
        caught.value
    ) and "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["roberta-base", "glue-rte"])
@pytest.mark.parametrize(
    "network",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}],
)
def test_without_the_hub_the_message_says_what_to_do(tmp_path, name, network):
    program = (
        "import sys, time\n"
        "from lora.data import fetch\n"
        "from lora.errors import FetchError\n"
        "from lora.experiment import registry\n"
        "time.sleep = lambda seconds: None  # between the library's retries\n"
        "try: fetch.fetch(registry.read_sources()[sys.argv[1]], sys.argv[2])\n"
        "except FetchError as error: print(error)\n"
    )
    environment = (
        os.environ | network | {"HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    )
    command = [sys.executable, "-c", program, name, tmp_path / "out"]
    message = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    pinned = f"{SOURCES[name].locator} at {SOURCES[name].revision}"
    assert message.startswith(f"source {name}: {pinned} could not be downloaded")
    offline = network["HF_HUB_OFFLINE"] == "1"
    way_out = "unset HF_HUB_OFFLINE, or fill the cache" if offline else "set HF_HUB_OFFLINE=1"
    for way in (way_out, "machine with network", f"sources: {name}: to a local folder (kind: file"):
        assert message.count(way) == 1
    assert len(message.splitlines()) == (6 if offline else 7)
    assert not (tmp_path / "out").exists() and names_in(tmp_path) in ([], ["cache"])


def test_importing_it_loads_no_heavy_library():
    heavy = "{'torch', 'datasets', 'huggingface_hub', 'pandas', 'numpy'}"
    program = (
        f"import sys; from lora.data import fetch, formats; assert not {heavy} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def test_files_that_were_not_fetched_are_never_replaced(tmp_path):
    """A folder of the user's; a source's own folder in a results folder has lost its manifest."""
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue/train.tsv").write_text("x")
    source = Source("glue-sst2", "data", "file", str(tmp_path / "glue"), "", "", "")
    mine = tmp_path / "mine"
    mine.mkdir()
    fetch.fetch(source, mine)  # an empty folder
    (mine / "fetched.json").unlink()
    with pytest.raises(FetchError, match="has files that were not fetched, which would be lost"):
        fetch.fetch(source, mine)
    with pytest.raises(FetchError, match="is a file; give a folder"):
        fetch.fetch(source, mine / "train.tsv")
    assert (mine / "train.tsv").read_text() == "x"
    again = tmp_path / "results/sources/glue-sst2"
    for _ in range(2):
        fetch.fetch(source, again)
        (again / "fetched.json").unlink()
