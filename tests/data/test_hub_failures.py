"""Failed and interrupted downloads from a local server in the hub's place."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import served
from helpers.hub_clients import (
    assert_no_output_at,
    environment,
    fetched,
    run_fetch,
)
from helpers.hub_server import Hub, Repository

from lora.data import fetch

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
            status, message = run_fetch(server, folder / "home", name, folder / "out", **limits)
            left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
            server.heal()
            again = (
                run_fetch(server, folder / "home", name, folder / "out")
                if case in RETRIED
                else None
            )
        return dict(
            status=status,
            message=message,
            left=left,
            again=again,
            folder=folder,
            unknown=server.unknown,
        )

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(FAILURES, pool.map(try_one, FAILURES), strict=True))


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_download_is_one_message_and_leaves_no_partial_files(failed, repositories, case):
    name, *_, why, way_out = FAILURES[case]
    got = failed[case]
    assert got["status"] == 2 and got["unknown"] == []
    assert "Traceback" not in got["message"] and got["message"].count("lora fetch:") == 1
    message = got["message"][got["message"].index("lora fetch: error") :]
    first, reason, heading, way, *others = message.splitlines()
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


def test_xet_can_be_disabled_after_its_failure(server, tmp_path):
    server.xet = True
    status, message = run_fetch(server, tmp_path / "home", "roberta-base", tmp_path / "out")
    assert (
        status == 2
        and "Traceback" not in message
        and "the hub's storage of large files failed" in message
    )
    assert any(path.startswith("/xet/") for path in server.unknown)
    assert_no_output_at(tmp_path / "out")
    assert "set HF_HUB_DISABLE_XET=1" in message
    fetched(server, tmp_path / "home", "roberta-base", tmp_path / "out", HF_HUB_DISABLE_XET="1")


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


def test_only_the_local_server_is_contacted(server, tmp_path):
    """The dead proxy stops all requests once the loopback is not excepted from it."""
    status, message = run_fetch(
        server, tmp_path / "home", "roberta-base", tmp_path / "out", NO_PROXY=""
    )
    assert (
        status == 2
        and "no connection to the hub" in message
        and "check the network, HTTPS_PROXY" in message
    )
    assert server.requests == []
    assert_no_output_at(tmp_path / "out")
