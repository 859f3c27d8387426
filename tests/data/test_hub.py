"""Downloads by the hub's client libraries from a local server, and the cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import served
from helpers.hub_clients import (
    assert_no_output_at,
    downloaded,
    environment,
    fetched,
    run_fetch,
)
from helpers.hub_server import git_sha1

from lora import errors
from lora.data import hub
from lora.data.formats import read
from lora.experiment import registry

OTHER = "1" * 40


def test_a_model_is_downloaded_without_pickles(server, repositories, tmp_path):
    manifest = fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out")
    wanted = {"config.json", "merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"}
    assert set(manifest["files"]) == wanted == downloaded(server) and server.unknown == []
    for name in wanted:
        assert (tmp_path / "out" / name).read_bytes() == (
            repositories[1].folder / name
        ).read_bytes()
    assert manifest["revision"] == repositories[1].commit and manifest["identity"].endswith(
        repositories[1].commit
    )


def test_a_data_set_has_the_served_rows_from_any_cache(server, repositories, tmp_path):
    """Only the files of the configuration are downloaded.

    A cache filled by `hf download` gives the same bytes without network.
    """
    first = fetched(server, tmp_path / "home", "glue-mnli", tmp_path / "first")
    columns, labels, splits = served.GLUE["mnli"]
    assert downloaded(server) == {
        "README.md",
        *(f"{split}-00000-of-00001.parquet" for split in splits),
    }
    resolved = [
        path for _, path in server.requests if path.endswith(".parquet") and "/resolve/" in path
    ]
    assert {path.split("/")[-2] for path in resolved} == {"mnli"} and server.unknown == []
    for split, examples in read(registry.read_tasks()["mnli"], tmp_path / "first").items():
        rows = served.table_of(repositories[0], "mnli", split)
        assert (examples.first, examples.second) == (rows[columns[0]], rows[columns[1]])
        assert examples.labels == rows["label"] and set(examples.labels) == set(range(len(labels)))
    name, revision = served.DATA.locator.partition(":")[0], served.DATA.revision
    command = [
        Path(sys.executable).parent / "hf",
        "download",
        name,
        "--repo-type",
        "dataset",
        "--revision",
        revision,
    ]
    filled = environment(server, tmp_path / "other home")
    subprocess.run(command, env=filled, check=True, capture_output=True, timeout=60)
    count = len(server.requests)
    second = fetched(
        server, tmp_path / "other home", "glue-mnli", tmp_path / "second", HF_HUB_OFFLINE="1"
    )
    assert first["files"] == second["files"] and len(server.requests) == count


def test_another_commit_in_the_cache_is_not_used(server, tmp_path):
    """The fallback of `datasets` uses what it prepared last, whatever its commit."""
    command = "import datasets, sys; datasets.load_dataset(*sys.argv[1:3], revision=sys.argv[3])"
    name, _, configuration = served.DATA.locator.partition(":")
    filled = environment(server, tmp_path / "home")
    arguments = [sys.executable, "-c", command, name, configuration, served.DATA.revision]
    subprocess.run(arguments, env=filled, check=True, capture_output=True, timeout=60)
    server.fail("unavailable")
    for offline, why in (
        ("0", "the hub failed with status 503"),
        ("1", "HF_HUB_OFFLINE is set, and the cache"),
    ):
        options = ("--revision", OTHER)
        folders = (tmp_path / "home", "glue-sst2", tmp_path / "out")
        status, message = run_fetch(server, *folders, *options, HF_HUB_OFFLINE=offline)
        assert status == 2 and OTHER in message and why in message
        assert_no_output_at(tmp_path / "out")
    assert f"hf download {name} --repo-type dataset --revision {OTHER}" in message
    status, message = run_fetch(
        server, tmp_path / "home", "glue-mrpc", tmp_path / "out", HF_HUB_OFFLINE="1"
    )
    assert (
        status == 2
        and "there is no mrpc/train-*, mrpc/validation-*, mrpc/test-*, which its card names"
        in message
    )
    fetched(server, tmp_path / "home", "glue-sst2", tmp_path / "out", HF_HUB_OFFLINE="1")


def test_an_incomplete_model_in_the_cache_is_refused_offline(server, tmp_path):
    """Another program may have downloaded the weights without the tokenizer."""
    command = (
        "import huggingface_hub as hub, sys\n"
        "for name in ('config.json', 'model.safetensors'):\n"
        "    hub.hf_hub_download(sys.argv[1], name, revision=sys.argv[2])\n"
    )
    filled = environment(server, tmp_path / "home")
    arguments = [sys.executable, "-c", command, served.MODEL.locator, served.MODEL.revision]
    subprocess.run(arguments, env=filled, check=True, capture_output=True, timeout=60)
    status, message = run_fetch(
        server, tmp_path / "home", "roberta-base", tmp_path / "out", HF_HUB_OFFLINE="1"
    )
    assert (
        status == 2 and "not a complete model folder: it has no tokenizer.json; expected" in message
    )
    assert_no_output_at(tmp_path / "out")


def linked(folder: Path, name: str, content: bytes) -> Path:
    """A file as the hub's cache keeps it: a link to a file that is named by its hash."""
    (folder / "blobs").mkdir(exist_ok=True)
    (folder / "blobs" / name).write_bytes(content)
    (folder / "file").unlink(missing_ok=True)
    (folder / "file").symlink_to(folder / "blobs" / name)
    return folder / "file"


def test_cached_files_are_compared_with_their_names(tmp_path):
    content = b"some bytes"
    git = subprocess.run(
        ["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True
    ).stdout
    names = [
        hashlib.sha256(content).hexdigest(),
        hashlib.sha1(content).hexdigest(),
        git.decode().strip(),
    ]
    assert git_sha1(content) == names[2]
    for name in names:
        hub._check_hash(linked(tmp_path, name, content), "file")
        with pytest.raises(
            errors.HubError, match=f"file does not have the hub's hash: expected {name}, got "
        ):
            hub._check_hash(linked(tmp_path, name, content + b"!"), "file")
        assert not (tmp_path / "file").is_symlink() and not (tmp_path / "blobs" / name).exists()
    hub._check_hash(
        linked(tmp_path, "some-mirrors-tag", content), "file"
    )  # nothing to check against
    (tmp_path / "plain").write_bytes(content)
    hub._check_hash(tmp_path / "plain", "plain")


def cached(folder: Path, card: str, rows: dict[str, str]) -> Path:
    """A data set as a snapshot holds it: a card and CSV files."""
    (folder / "README.md").write_text(card)
    for name, text in rows.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "card, rows, message",
    [
        ("---\nconfigs: [\n---\n", "a\n1\n", "the metadata of its card, README.md, is not YAML"),
        ("# no metadata\n", "a\n1\n", "it has no configuration 'mine'; it has: no names"),
        (
            "---\nconfigs: [{config_name: mine, data_files: gone.csv}]\n---\n",
            "a\n1\n",
            "there is no gone.csv, which its card",
        ),
        (
            "---\nconfigs: [{config_name: mine, data_files: rows.csv}]\n"
            "dataset_info: {config_name: mine, features: [{name: a, dtype: int64}], "
            "splits: [{name: train, num_bytes: 1, num_examples: 3}]}\n---\n",
            "a\n1\n2\n",
            "datasets cannot read its files: .*num_examples=3",
        ),
    ],
)
def test_a_data_set_that_does_not_fit_its_card_is_refused(
    tmp_path, monkeypatch, card, rows, message
):
    (tmp_path / "snapshot").mkdir()
    folder = cached(tmp_path / "snapshot", card, {"rows.csv": rows})
    monkeypatch.setattr(hub, "snapshot", lambda *arguments: folder)
    (tmp_path / "work").mkdir()
    with pytest.raises(errors.HubError, match=message):
        hub.save_data_set("own/data", "mine", OTHER, tmp_path / "out", tmp_path / "work")


def test_a_data_set_without_configurations_is_saved_whole(tmp_path, monkeypatch):
    (tmp_path / "snapshot").mkdir()
    folder = cached(
        tmp_path / "snapshot",
        "# rows\n",
        {"train.csv": "a,label\nx,1\n", "validation.csv": "a,label\ny,0\n"},
    )
    monkeypatch.setattr(hub, "snapshot", lambda *arguments: folder)
    (tmp_path / "work").mkdir()
    hub.save_data_set("own/data", "", OTHER, tmp_path / "out", tmp_path / "work")
    assert {path.parent.name for path in (tmp_path / "out").glob("*/*.arrow")} == {
        "train",
        "validation",
    }
