"""Run `lora fetch` in its own process against the local hub server, and check its files.

The client libraries read the environment when they are imported. Requests to other hosts go to a
proxy that does not answer. The clients do not wait between retries.
"""

import os
import subprocess
import sys
from pathlib import Path

from helpers.hub_server import Hub
from helpers.models import ROOT
from lora.data import fetch

CLOSED = "http://127.0.0.1:9"  # no server listens here
NO_WAITS = (
    "import sys, time; time.sleep = lambda seconds: None; from lora.__main__ import main; "
    "sys.exit(main(sys.argv[1:]))"
)


def environment(server: Hub, home: Path, **changes: str) -> dict[str, str]:
    """Return an environment with the local server as the hub and no other hosts."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("HF_") and "proxy" not in key.lower()
    }
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), CLOSED) | dict(
        NO_PROXY="127.0.0.1,localhost"
    )
    hub = dict(
        HF_ENDPOINT=server.address, HF_HOME=str(home), HF_HUB_OFFLINE="0", PYTHONPATH=str(ROOT)
    )
    return kept | proxies | hub | changes


def run_fetch(
    server: Hub, home: Path, name: str, out: Path, *options: str, **changes: str
) -> tuple[int, str]:
    """Fetch a source of config/sources.csv by the command line; return its status and log."""
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
    status, log_text = run_fetch(server, home, name, out, **changes)
    assert status == 0, log_text
    return fetch.verify(out)


def downloaded(server: Hub) -> set[str]:
    """Names of the downloaded files."""
    return {
        path.rpartition("/")[2]
        for method, path in server.requests
        if method == "GET" and "/api/" not in path
    }


def assert_no_output_at(out: Path) -> None:
    """Assert that there is no destination and no temporary folder, only the log."""
    assert sorted(
        path.name for path in out.parent.iterdir() if path.name.startswith((out.name, "."))
    ) == [f"{out.name}.log"]
