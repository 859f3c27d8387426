"""The real client libraries against a stand-in for the hub on the loopback: fetching, its failures, and the default grid.

Every client runs in a process of its own, as the libraries read their environment when they load, with a proxy that does not
answer for whatever is not on the loopback. Waits between retries are skipped where a test waits for a failure.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from helpers import served
from helpers.hub_server import Hub, Repository, git_sha1
from helpers.models import ROOT

from lora import errors
from lora.data import fetch, hub
from lora.data.examples import read
from lora.experiment import registry

CLOSED = "http://127.0.0.1:9"  # a port that nothing listens at
NO_WAITS = "import sys, time; time.sleep = lambda seconds: None; from lora.__main__ import main; sys.exit(main(sys.argv[1:]))"
OTHER = "1" * 40


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> list[Repository]:
    return served.make_repositories(tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(repositories):
    with Hub(repositories) as running:
        yield running


def environment(server: Hub, home: Path, **changes: str) -> dict[str, str]:
    """A user's environment whose hub is the stand-in and whose every other address is a proxy that is not there."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("HF_") and "proxy" not in key.lower()
    }
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), CLOSED) | dict(
        NO_PROXY="127.0.0.1,localhost"
    )
    asked = dict(
        HF_ENDPOINT=server.address, HF_HOME=str(home), HF_HUB_OFFLINE="0", PYTHONPATH=str(ROOT)
    )
    return kept | proxies | asked | changes


def run(
    server: Hub, home: Path, name: str, out: Path, *options: str, **changes: str
) -> tuple[int, str]:
    """Fetch a source of config/sources.csv by the command line; returns its status and what it logged."""
    log = out.with_name(f"{out.name}.log")
    command = [
        sys.executable,
        "-c",
        NO_WAITS,
        "fetch",
        name,
        "--output-dir",
        out,
        "--log",
        log,
        *options,
    ]
    try:
        done = subprocess.run(
            command, env=environment(server, home, **changes), capture_output=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return 124, "it did not end"
    return done.returncode, log.read_text()


def fetched(server: Hub, home: Path, name: str, out: Path, **changes: str) -> dict:
    status, said = run(server, home, name, out, **changes)
    assert status == 0, said
    return fetch.verify(out)


def asked_for(server: Hub) -> set[str]:
    """The files that were downloaded."""
    return {
        path.rpartition("/")[2]
        for method, path in server.requests
        if method == "GET" and "/api/" not in path
    }


def assert_nothing_at(out: Path) -> None:
    """Nothing under its final name, and nothing beside it but the log."""
    assert sorted(
        path.name for path in out.parent.iterdir() if path.name.startswith((out.name, "."))
    ) == [f"{out.name}.log"]


def test_a_model_comes_as_it_is_served_and_without_pickles(server, repositories, tmp_path):
    manifest = fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out")
    wanted = {"config.json", "merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"}
    assert set(manifest["files"]) == wanted == asked_for(server) and server.unknown == []
    for name in wanted:
        assert (tmp_path / "out" / name).read_bytes() == (
            repositories[1].folder / name
        ).read_bytes()
    assert manifest["revision"] == repositories[1].commit and manifest["identity"].endswith(
        repositories[1].commit
    )


def test_a_data_set_comes_row_by_row_and_the_same_from_any_cache(server, repositories, tmp_path):
    """Only its own configuration's files are asked for. A cache filled by the hub's own program, as config/README.md says,
    gives the same bytes without network."""
    first = fetched(server, tmp_path / "home", "glue-mnli", tmp_path / "first")
    columns, labels, splits = served.GLUE["mnli"]
    assert asked_for(server) == {
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
FAILURES = {  # source, fault, where, why, what to do
    "no revision": ("roberta-base", "no revision", "", "the hub has no such revision", "correct it"),
    "no revision of a data set": ("glue-sst2", "no revision", "", "the hub has no such revision", "correct it"),
    "no repository": ("roberta-base", "no repository", "", "no such repository, or does not give it", "check its name"),
    "consent": ("roberta-base", "gated", "", "no such repository, or does not give it", "hf auth login"),
    "login for a data set": ("glue-sst2", "login", "", "no such repository, or does not give it", "hf auth login"),
    "login for a file": ("roberta-base", "login", "resolve/.*safetensors", "does not give it", "hf auth login"),
    "too many": ("glue-sst2", "too many", "", "too many requests", "in some minutes"),
    "too many, for a file": ("roberta-base", "too many", "/storage/", "too many requests", "in some minutes"),
    "unavailable": ("roberta-base", "unavailable", "/tree/", "a failure of its own", "fetch again"),
    "unavailable, a file": ("glue-sst2", "unavailable", "resolve/.*train", "a failure of its own", "fetch again"),
    "cut": ("roberta-base", "cut", "/storage/", "the download broke off", "fetch again"),
    "cut data": ("glue-sst2", "cut", "validation", "the download broke off", "fetch again"),
    "other bytes": ("roberta-base", "other bytes", "/storage/", "model.safetensors has other bytes", "fetch again"),
    "other small file": ("roberta-base", "other bytes", "merges.txt", "merges.txt has other bytes", "fetch again"),
    "other rows": ("glue-sst2", "other bytes", "/storage/.*train", "sst2/train-00000-of-00001.parquet has other bytes",
                   "fetch again"),
    "hang": ("roberta-base", "hang", "/storage/", "did not answer within 1 s", "HF_HUB_DOWNLOAD_TIMEOUT"),
    "hang at the listing": ("glue-sst2", "hang", "/tree/", "did not answer within 1 s", "HF_HUB_DOWNLOAD_TIMEOUT"),
}  # fmt: skip
RETRIED = ("login for a file", "cut", "other bytes", "other small file", "other rows", "hang")


@pytest.fixture(scope="module")
def failed(repositories, tmp_path_factory) -> dict[str, dict]:
    """Each failure against a server of its own, and where it left something in the cache a second try once it is over."""

    def try_one(case: str) -> dict:
        name, how, where, *_ = FAILURES[case]
        folder = tmp_path_factory.mktemp("failure")
        with Hub(repositories) as server:
            server.fail(how, where)
            limits = SLOW if how == "hang" else {}
            status, said = run(server, folder / "home", name, folder / "out", **limits)
            left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
            server.heal()
            again = run(server, folder / "home", name, folder / "out") if case in RETRIED else None
        return dict(
            status=status, said=said, left=left, again=again, folder=folder, unknown=server.unknown
        )

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(FAILURES, pool.map(try_one, FAILURES), strict=True))


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_message_and_leaves_nothing_half_written(failed, repositories, case):
    name, *_, why, way_out = FAILURES[case]
    got = failed[case]
    assert got["status"] == 2 and got["unknown"] == []
    assert "Traceback" not in got["said"] and got["said"].count("lora fetch:") == 1
    first, reason, heading, way, *others = got["said"].splitlines()
    assert (
        f"source {name}: {served.SOURCES[name].locator} at {served.SOURCES[name].revision} could not be had"
        in first
    )
    assert why in reason and heading == "Ways out:" and way_out in way and len(others) == 3
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


def test_a_connection_cut_once_goes_on_where_it_was_cut(tmp_path):
    """Of a file of more than the 10 MiB that the client takes at a time, what came before the cut is kept."""
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


def test_storage_that_fails_is_one_message_and_can_be_gone_around(server, tmp_path):
    server.xet = True
    status, said = run(server, tmp_path / "home", "roberta-base", tmp_path / "out")
    assert (
        status == 2
        and "Traceback" not in said
        and "the hub's storage of large files failed" in said
    )
    assert any(path.startswith("/xet/") for path in server.unknown)
    assert_nothing_at(tmp_path / "out")
    assert "set HF_HUB_DISABLE_XET=1" in said
    fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out", HF_HUB_DISABLE_XET="1")


def test_another_commit_in_the_cache_is_never_taken_for_the_pinned_one(server, tmp_path):
    """datasets' own fall-back would: it takes what it prepared last, whatever its commit."""
    command = "import datasets, sys; datasets.load_dataset(*sys.argv[1:3], revision=sys.argv[3])"
    name, _, configuration = served.DATA.locator.partition(":")
    filled = environment(server, tmp_path / "home")
    subprocess.run([sys.executable, "-c", command, name, configuration, served.DATA.revision], env=filled, check=True,
                   capture_output=True, timeout=60)  # fmt: skip
    server.fail("unavailable")
    for offline, why in (
        ("0", "a failure of its own"),
        ("1", "HF_HUB_OFFLINE is set, and the cache"),
    ):
        status, said = run(
            server, tmp_path / "home", "glue-sst2", tmp_path / "out", "--revision", OTHER, HF_HUB_OFFLINE=offline
        )  # fmt: skip
        assert status == 2 and OTHER in said and why in said
        assert_nothing_at(tmp_path / "out")
    assert f"hf download {name} --repo-type dataset --revision {OTHER}" in said
    status, said = run(server, tmp_path / "home", "glue-mrpc", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert (
        status == 2
        and "there is no mrpc/train-*, mrpc/validation-*, mrpc/test-*, which its card names" in said
    )
    fetched(
        server, tmp_path / "home", "glue-sst2", tmp_path / "out", HF_HUB_OFFLINE="1"
    )  # and the pinned one is taken


def test_a_model_of_which_the_cache_holds_part_is_refused_offline(server, tmp_path):
    """What another program asked for (here the weights alone) is no model that can be prepared."""
    command = "import huggingface_hub as hub, sys; [hub.hf_hub_download(sys.argv[1], name, revision=sys.argv[2]) for name in "
    command += "('config.json', 'model.safetensors')]"
    filled = environment(server, tmp_path / "home")
    subprocess.run([sys.executable, "-c", command, served.MODEL.locator, served.MODEL.revision], env=filled, check=True,
                   capture_output=True, timeout=60)  # fmt: skip
    status, said = run(
        server, tmp_path / "home", "roberta-base", tmp_path / "out", HF_HUB_OFFLINE="1"
    )
    assert status == 2 and "no whole model folder: it lacks tokenizer.json; expected" in said
    assert_nothing_at(tmp_path / "out")


def test_killed_in_the_middle_it_leaves_nothing_under_the_final_name(server, tmp_path):
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


def test_nothing_but_the_loopback_is_asked(server, tmp_path):
    """The proxy that is not there stops what goes elsewhere, as it stops everything once the loopback is not excepted."""
    status, said = run(server, tmp_path / "home", "roberta-base", tmp_path / "out", NO_PROXY="")
    assert (
        status == 2
        and "there is no connection to the hub" in said
        and "check the network, HTTPS_PROXY" in said
    )
    assert server.requests == []
    assert_nothing_at(tmp_path / "out")


def linked(folder: Path, name: str, content: bytes) -> Path:
    """A file as the hub's cache keeps it: a link to what is named by its hash."""
    (folder / "blobs").mkdir(exist_ok=True)
    (folder / "blobs" / name).write_bytes(content)
    (folder / "file").unlink(missing_ok=True)
    (folder / "file").symlink_to(folder / "blobs" / name)
    return folder / "file"


def test_cached_files_are_held_against_their_names(tmp_path):
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
        hub._check(linked(tmp_path, name, content), "file")
        with pytest.raises(
            errors.HubError, match=f"file has other bytes than the hub says: expected {name}, got "
        ):
            hub._check(linked(tmp_path, name, content + b"!"), "file")
        assert not (tmp_path / "file").is_symlink() and not (tmp_path / "blobs" / name).exists()
    hub._check(linked(tmp_path, "some-mirrors-tag", content), "file")  # nothing to check against
    (tmp_path / "plain").write_bytes(content)
    hub._check(tmp_path / "plain", "plain")


@pytest.mark.parametrize(
    "files, patterns",
    [
        (
            [dict(split="train", path="a/train-*"), dict(split="test", path=["b/*", "c.csv"])],
            ["a/train-*", "b/*", "c.csv"],
        ),
        ("data.csv", ["data.csv"]),
        (["one/*", "two/*"], ["one/*", "two/*"]),
        (None, ["*"]),
        ("**/train.csv", ["*"]),
        ("https://elsewhere/data.csv", ["*"]),
        ("../data.csv", ["*"]),
    ],
)
def test_the_card_says_which_files_a_configuration_has(files, patterns):
    card = dict(
        configs=[
            dict(config_name="other", data_files="x"),
            dict(config_name="mine", data_files=files),
        ]
    )
    assert hub._patterns(card, "mine") == patterns
    card["configs"][1]["data_dir"] = "below"
    assert hub._patterns(card, "mine") == ["*"]
    with pytest.raises(errors.HubError, match="no configuration 'my'; it has: other, mine"):
        hub._patterns(card, "my")


def cached(folder: Path, card: str, rows: dict[str, str]) -> Path:
    """A data set as a snapshot holds it: a card and CSV files."""
    (folder / "README.md").write_text(card)
    for name, text in rows.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "card, rows, message",
    [
        ("---\nconfigs: [\n---\n", "a\n1\n", "the metadata of its card, README.md, is no YAML"),
        ("# no metadata\n", "a\n1\n", "it has no configuration 'mine'; it has: none by name"),
        (
            "---\nconfigs: [{config_name: mine, data_files: gone.csv}]\n---\n",
            "a\n1\n",
            "there is no gone.csv, which its card",
        ),
        (
            "---\nconfigs: [{config_name: mine, data_files: rows.csv}]\ndataset_info: {config_name: mine, features: "
            "[{name: a, dtype: int64}], splits: [{name: train, num_bytes: 1, num_examples: 3}]}\n---\n",
            "a\n1\n2\n",
            "no data set that datasets can read: .*num_examples=3",
        ),
    ],
)
def test_a_data_set_unlike_its_card_is_refused(tmp_path, monkeypatch, card, rows, message):
    (tmp_path / "snapshot").mkdir()
    folder = cached(tmp_path / "snapshot", card, {"rows.csv": rows})
    monkeypatch.setattr(hub, "snapshot", lambda *arguments: folder)
    (tmp_path / "work").mkdir()
    with pytest.raises(errors.HubError, match=message):
        hub.save_data_set("own/data", "mine", OTHER, tmp_path / "out", tmp_path / "work")


def test_a_data_set_without_configurations_is_taken_whole(tmp_path, monkeypatch):
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


def grid(server: Hub, home: Path, folder: Path, **changes: str) -> tuple[str, dict[str, bytes]]:
    """The default grid, smaller, by Snakemake in a folder of its own: what it said, and its tables and rows by path."""
    small = dict(
        seeds=[42],
        device="cpu",
        threads=1,
        precision="fp32",
        overrides=dict(epochs=1, max_tokens=24, learning_rate=3e-3),
        tables=dict(table6=dict(weights=["qv"], ranks=[1, 8])),
    )
    folder.mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        ROOT / "Snakefile",
        "--cores",
        "2",
        "--configfile",
        "small.yaml",
    ]
    command += [
        "--directory",
        folder,
        *(f"results/tables/{name}.html" for name in ("table2", "table6")),
    ]
    limits = dict(OMP_NUM_THREADS="1") | changes
    done = subprocess.run(
        command, cwd=folder, env=environment(server, home, **limits), capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    found = [
        *(folder / "results/tables").glob("table*.csv"),
        *(folder / "results/runs").rglob("metrics.csv"),
    ]
    return done.stdout + done.stderr, {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)
    }


def test_the_default_grid_from_the_hub_and_again_from_its_cache_alone(repositories, tmp_path):
    """With the server gone, another one is listened at, so that a request would be seen."""
    with Hub(repositories) as server:
        output, made = grid(server, tmp_path / "home", tmp_path / "online")
    print(server.log())
    assert output.count("rule fetch:") == 5 and output.count("rule train:") == 5
    assert server.unknown == [] and not [
        path for path in asked_for(server) if path.endswith(".bin")
    ]
    downloads = [
        path for method, path in server.requests if method == "GET" and "/storage/" in path
    ]
    assert (
        len(downloads) == 1 + 3 * 3 + 5
    )  # the weights; three configurations of three splits; MNLI's five
    tables = {name for name in made if name.startswith("results/tables/")}
    assert {"results/tables/table2.csv", "results/tables/table6.csv"} <= tables and len(made) - len(
        tables
    ) == 5
    for name, tasks in (
        ("table2", ("SST-2", "MRPC", "QQP")),
        ("table6", ("MNLI", "r = 1", "r = 8")),
    ):
        page = (tmp_path / f"online/results/tables/{name}.md").read_text()
        assert all(word in page for word in tasks)
    records = [
        json.loads(path.read_text())
        for path in (tmp_path / "online/results/runs").rglob("run.json")
    ]
    assert {record["base"]["source"] for record in records} == {served.MODEL.identity}
    assert {record["status"] for record in records} == {"ok"}
    with Hub() as nothing:
        output, again = grid(nothing, tmp_path / "home", tmp_path / "offline", HF_HUB_OFFLINE="1")
    assert output.count("rule fetch:") == 5 and output.count("rule train:") == 5
    assert again == made and nothing.requests == []
