"""The hub's client libraries against its stand-in: downloads, failures, and the cache."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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
from helpers.hub_server import Hub, Repository, git_sha1

from lora import errors
from lora.data import fetch, hub
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


SLOW = dict(HF_HUB_DOWNLOAD_TIMEOUT="1", HF_HUB_ETAG_TIMEOUT="1")
MODEL, SST2 = "roberta-base", "glue-sst2"
TRAIN = "sst2/train-00000-of-00001.parquet"
FAILURES = {  # source, fault, pattern of the paths that fail, reason, advice
    "no revision": (MODEL, "no revision", "", "no such revision", "correct it"),
    "no revision of a data set": (SST2, "no revision", "", "no such revision", "correct it"),
    "no repository": (MODEL, "no repository", "", "or you have no access", "check its name"),
    "consent": (MODEL, "gated", "", "or you have no access", "hf auth login"),
    "login for a data set": (SST2, "login", "", "or you have no access", "hf auth login"),
    "login for a file": (MODEL, "login", "resolve/.*safetensors", "no access", "hf auth login"),
    "too many": (SST2, "too many", "", "too many requests", "in some minutes"),
    "too many, for a file": (MODEL, "too many", "/storage/", "too many req", "in some minutes"),
    "unavailable": (MODEL, "unavailable", "/tree/", "failed with status 503", "fetch again"),
    "unavailable, a file": (SST2, "unavailable", "resolve/.*train", "status 503", "fetch again"),
    "cut": (MODEL, "cut", "/storage/", "the download was interrupted", "fetch again"),
    "cut data": (SST2, "cut", "validation", "the download was interrupted", "fetch again"),
    "other bytes": (MODEL, "other bytes", "/storage/", "model.safetensors does", "fetch again"),
    "other small file": (MODEL, "other bytes", "merges.txt", "merges.txt does", "fetch again"),
    "other rows": (SST2, "other bytes", "/storage/.*train", f"{TRAIN} does not", "fetch again"),
    "hang": (MODEL, "hang", "/storage/", "not answer within 1 s", "HF_HUB_DOWNLOAD_TIMEOUT"),
    "hang at the listing": (SST2, "hang", "/tree/", "within 1 s", "HF_HUB_DOWNLOAD_TIMEOUT"),
}
RETRIED = ("login for a file", "cut", "other bytes", "other small file", "other rows", "hang")


@pytest.fixture(scope="module")
def failed(repositories, tmp_path_factory) -> dict[str, dict]:
    """Each failure on its own server; where a file may be in the cache, also a second try."""

    def try_one(case: str) -> dict:
        name, how, where, *_ = FAILURES[case]
        folder = tmp_path_factory.mktemp("failure")
        with Hub(repositories) as server:
            server.fail(how, where)
            limits = SLOW if how == "hang" else {}
            status, said = run_fetch(server, folder / "home", name, folder / "out", **limits)
            left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
            server.heal()
            again = (
                run_fetch(server, folder / "home", name, folder / "out")
                if case in RETRIED
                else None
            )
        return dict(
            status=status, said=said, left=left, again=again, folder=folder, unknown=server.unknown
        )

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(FAILURES, pool.map(try_one, FAILURES), strict=True))


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_message_and_leaves_no_partial_files(failed, repositories, case):
    name, *_, why, way_out = FAILURES[case]
    got = failed[case]
    assert got["status"] == 2 and got["unknown"] == []
    assert "Traceback" not in got["said"] and got["said"].count("lora fetch:") == 1
    first, reason, heading, way, *others = got["said"].splitlines()
    source = served.SOURCES[name]
    failed_source = f"source {name}: {source.locator} at {source.revision}"
    assert f"{failed_source} could not be downloaded" in first
    assert why in reason and heading == "What you can do:" and way_out in way and len(others) == 3
    cache = "home/hub/"
    assert {path for path in got["left"] if not path.startswith("home")} == {"out.log"}
    assert not [
        path for path in got["left"] if path.startswith(cache) and path.endswith(".incomplete")
    ]
    if got["again"] is not None:
        assert got["again"][0] == 0, got["again"][1]
        fetch.verify(got["folder"] / "out")
    if got["again"] and name == "roberta-base":
        for path in (
            repositories[1].folder / "model.safetensors",
            repositories[1].folder / "merges.txt",
        ):
            assert (got["folder"] / "out" / path.name).read_bytes() == path.read_bytes()


def test_an_interrupted_download_continues(tmp_path):
    """The client downloads 10 MiB at a time and keeps the parts before the interruption."""
    folder = tmp_path / "large"
    folder.mkdir()
    for name, content in {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors": os.urandom(25 << 20),
    }.items():
        (folder / name).write_bytes(content)
    with Hub([Repository("models", served.MODEL.locator, served.MODEL.revision, folder)]) as server:
        server.fail("cut", "/storage/", times=1)
        fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out")
    assert server.ranges == [f"bytes={10 << 20}-"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


def test_a_failure_of_the_large_file_storage_can_be_avoided(server, tmp_path):
    server.xet = True
    status, said = run_fetch(server, tmp_path / "home", "roberta-base", tmp_path / "out")
    assert (
        status == 2
        and "Traceback" not in said
        and "the hub's storage of large files failed" in said
    )
    assert any(path.startswith("/xet/") for path in server.unknown)
    assert_no_output_at(tmp_path / "out")
    assert "set HF_HUB_DISABLE_XET=1" in said
    fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out", HF_HUB_DISABLE_XET="1")


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
        status, said = run_fetch(server, *folders, *options, HF_HUB_OFFLINE=offline)
        assert status == 2 and OTHER in said and why in said
        assert_no_output_at(tmp_path / "out")
    assert f"hf download {name} --repo-type dataset --revision {OTHER}" in said
    status, said = run_fetch(
        server, tmp_path / "home", "glue-mrpc", tmp_path / "out", HF_HUB_OFFLINE="1"
    )
    assert (
        status == 2
        and "there is no mrpc/train-*, mrpc/validation-*, mrpc/test-*, which its card names" in said
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
    status, said = run_fetch(
        server, tmp_path / "home", "roberta-base", tmp_path / "out", HF_HUB_OFFLINE="1"
    )
    assert status == 2 and "not a complete model folder: it has no tokenizer.json; expected" in said
    assert_no_output_at(tmp_path / "out")


def test_a_killed_download_leaves_no_destination(server, tmp_path):
    server.fail("hang", "/storage/")
    command = [
        sys.executable,
        "-m",
        "lora",
        "fetch",
        "roberta-base",
        "--output-dir",
        tmp_path / "out",
    ]
    running = subprocess.Popen(
        command, env=environment(server, tmp_path / "home"), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while (
        not any(path.startswith("/storage/") for _, path in server.requests)
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    assert running.wait(10) == -signal.SIGKILL and not (tmp_path / "out").exists()
    server.heal()
    fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out")


def test_only_the_stand_in_is_contacted(server, tmp_path):
    """The dead proxy stops all requests once the loopback is not excepted from it."""
    status, said = run_fetch(
        server, tmp_path / "home", "roberta-base", tmp_path / "out", NO_PROXY=""
    )
    assert (
        status == 2
        and "no connection to the hub" in said
        and "check the network, HTTPS_PROXY" in said
    )
    assert server.requests == []
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
