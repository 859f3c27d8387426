"""A local server with the HTTP API of the Hugging Face hub, and faults on demand.

Clients see what the hub sends: commits in every path, listings in pages, small files with their git
hash, large files by a redirect to another host with their SHA-256, ranges, and error codes in
headers (X-Error-Code). Xet storage is absent, as for a repository without it; with `xet=True` it is
announced and fails. All requests are recorded. Unknown paths give 404 and are in `unknown`.

Protocol: huggingface_hub 2.4 (file_download.py, hf_api.py, utils/_http.py) and datasets 5.2
(load.py) as clients.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".bin")  # stored outside git
PAGE = 3  # entries of a listing in one response, so that clients must turn pages; the hub has 1000
REFUSALS = {  # answers of the hub: status, X-Error-Code, message
    "no revision": (404, "RevisionNotFound", "Invalid rev id"),
    "no file": (404, "EntryNotFound", "Entry not found"),
    "no repository": (401, "RepoNotFound", "Invalid username or password."),
    "gated": (
        403,
        "GatedRepo",
        "Access to this repository is restricted and you are not in the authorized list.",
    ),
    "login": (
        401,
        "GatedRepo",
        "Access to this repository is restricted. You must be authenticated to access it.",
    ),
    "too many": (
        429,
        "",
        "We had to rate limit you, you hit the quota of 500 requests per 5 minutes period.",
    ),
    "unavailable": (503, "", "Service Unavailable"),
}
FAULTS = ("cut", "other bytes", "hang", *REFUSALS)


@dataclass(frozen=True)
class Repository:
    """A folder served as one commit of a repository; `kind` is models or datasets."""

    kind: str
    name: str
    commit: str
    folder: Path

    def path_of(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None

    def entries(self) -> dict[str, dict]:
        """Return the entries of a listing by path."""
        entries = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_dir():
                entries[name] = dict(type="directory", oid="0" * 40, size=0, path=name)
                continue
            content = path.read_bytes()
            entries[name] = dict(type="file", oid=git_sha1(content), size=len(content), path=name)
            if name.endswith(LARGE):
                lfs = dict(
                    oid=hashlib.sha256(content).hexdigest(),
                    size=len(content),
                    pointerSize=len(pointer_of(content)),
                )
                entries[name] |= dict(oid=git_sha1(pointer_of(content)), lfs=lfs)
        return entries


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer_of(content: bytes) -> bytes:
    """Return the text that git stores in place of a large file."""
    oid = hashlib.sha256(content).hexdigest()
    version = "version https://git-lfs.github.com/spec/v1"
    return f"{version}\noid sha256:{oid}\nsize {len(content)}\n".encode()


@dataclass(eq=False)
class Hub:
    """The server, used as `with Hub(repositories) as hub:`; set HF_ENDPOINT=hub.address."""

    repositories: list[Repository] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path
    ranges: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    xet: bool = False

    def __enter__(self):
        self.faults, self.stopped = [], threading.Event()
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), dict(hub=self))
        )
        self.server.daemon_threads, self.server.block_on_close = True, False
        threading.Thread(
            target=self.server.serve_forever, kwargs=dict(poll_interval=0.05), daemon=True
        ).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def storage(self) -> str:
        """Address of large files: another host for a client, as on the hub."""
        return f"http://localhost:{self.server.server_port}/storage"

    def fail(self, how: str, where: str = "", times: int | None = None) -> None:
        """Fail requests whose path matches the pattern `where`: all, or the first `times`."""
        if how not in FAULTS:
            raise ValueError(f"fault is {how!r}; allowed: {', '.join(FAULTS)}")
        self.faults.append(dict(how=how, where=where, left=times))

    def heal(self) -> None:
        self.faults.clear()

    def fault_at(self, path: str) -> str | None:
        for fault in self.faults:
            if re.search(fault["where"], path) and fault["left"] != 0:
                fault["left"] = fault["left"] and fault["left"] - 1
                return fault["how"]
        return None

    def log(self) -> str:
        """Return the requests by path and count, in the order of the first of each."""
        return "\n".join(
            f"{count:4} {method:4} {path}"
            for (method, path), count in Counter(self.requests).items()
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self.posted = parse_qs(
            self.rfile.read(int(self.headers["Content-Length"])).decode("latin-1")
        )
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/storage/"):
            self.hub.requests.append((self.command, "/storage/" + path.rpartition("/")[2]))
        else:
            self.hub.requests.append((self.command, path))
        fault = self.hub.fault_at(path)
        if fault == "hang":
            self.hub.stopped.wait()
            self.close_connection = True
        elif fault in REFUSALS:
            self._refuse(fault)
        elif path.startswith("/storage/"):
            self._file(*self._find(*path.removeprefix("/storage/").split("/", 2)), fault)
        elif path == "/api/agent-harnesses":  # names of programs, for the client's user agent
            self._json(dict(standardEnvVars=[], harnesses={}))
        elif match := re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)/(tree|revision|paths-info)/([^/]+)(?:/(.+))?",
            path,
        ):
            self._repository_api(*match.groups())
        elif self.hub.xet and "/xet-read-token/" in path:
            until = int(time.time()) + 600
            token = {"X-Xet-Access-Token": "token", "X-Xet-Token-Expiration": str(until)}
            self._json({}, token | {"X-Xet-Cas-Url": f"{self.hub.address}/xet"})
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            prefix, name, revision, file = match.groups()
            self._resolve("datasets" if prefix else "models", name, revision, file, fault)
        else:
            self.hub.unknown.append(path)
            self._refuse("no file")

    def _repository(self, kind: str, name: str, revision: str) -> Repository | None:
        """Return the commit that a path names; if there is none, refuse it and return None."""
        found = [one for one in self.hub.repositories if (one.kind, one.name) == (kind, name)]
        for one in found:
            if one.commit == revision:
                return one
        self._refuse("no revision" if found else "no repository")
        return None

    def _repository_api(
        self, kind: str, name: str, verb: str, revision: str, below: str | None
    ) -> None:
        if (repository := self._repository(kind, name, revision)) is None:
            return
        entries = repository.entries()
        if verb == "revision":
            files = [
                dict(rfilename=path) for path, entry in entries.items() if entry["type"] == "file"
            ]
            self._json(
                dict(
                    id=name,
                    sha=repository.commit,
                    siblings=files,
                    private=False,
                    tags=[],
                    downloads=0,
                )
            )
        elif verb == "paths-info":
            self._json([entries[path] for path in self.posted["paths"] if path in entries])
        else:
            self._listing(
                [
                    entry
                    for path, entry in entries.items()
                    if below is None or path.startswith(f"{below}/")
                ]
            )

    def _listing(self, entries: list[dict]) -> None:
        url = urlsplit(self.path)
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        address = f"{self.hub.address}{url.path}?recursive=True&cursor={start + PAGE}"
        more = start + PAGE < len(entries)
        self._json(
            entries[start : start + PAGE], {"Link": f'<{address}>; rel="next"'} if more else {}
        )

    def _json(self, value, headers: dict | None = None) -> None:
        self._send(
            200, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {})
        )

    def _resolve(self, kind: str, name: str, revision: str, file: str, fault: str | None) -> None:
        if (repository := self._repository(kind, name, revision)) is None:
            return
        path = repository.path_of(file)
        if path is None:
            self._refuse("no file", {"X-Repo-Commit": repository.commit})
        elif file.endswith(LARGE):
            content = path.read_bytes()
            oid = hashlib.sha256(content).hexdigest()
            below = path.relative_to(repository.folder).as_posix()
            headers = {
                "X-Repo-Commit": repository.commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{oid}"',
                "Location": f"{self.hub.storage}/{kind}/{oid}/{below}",
            }
            if self.hub.xet:
                refresh = f"{self.hub.address}/api/{kind}/{name}/xet-read-token/{revision}"
                headers |= {"X-Xet-Hash": oid, "X-Xet-Refresh-Route": refresh}
            self._send(302, b"", headers)
        else:
            content = path.read_bytes()
            self._file(
                content,
                {"X-Repo-Commit": repository.commit, "ETag": f'"{git_sha1(content)}"'},
                fault,
            )

    def _find(self, kind: str, oid: str, file: str) -> tuple[bytes, dict]:
        for repository in self.hub.repositories:
            if repository.kind == kind and (path := repository.path_of(file)) is not None:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() == oid:
                    return content, {"ETag": f'"{oid}"'}
        raise AssertionError(f"no repository has {file} with sha256 {oid}")

    def _file(self, content: bytes, headers: dict, fault: str | None) -> None:
        """Send a file, or its rest from the start of a range. A cut is in its middle."""
        total, start, status = len(content), 0, 200
        if wanted := self.headers.get("Range"):
            self.hub.ranges.append(wanted)
            start, status = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1)), 206
            headers = headers | {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        if fault == "other bytes":
            middle = total // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        until = total // 2 if fault == "cut" and self.command == "GET" else total
        self._send(
            status, content[start:], headers | {"Accept-Ranges": "bytes"}, content[start:until]
        )

    def _refuse(self, why: str, headers: dict | None = None) -> None:
        status, code, message = REFUSALS[why]
        sent = {"Content-Type": "application/json", "X-Error-Message": message} | (headers or {})
        if code:
            sent["X-Error-Code"] = code
        self._send(status, json.dumps({"error": message}).encode(), sent)

    def _send(self, status: int, body: bytes, headers: dict, sent: bytes | None = None) -> None:
        """Send the headers of `body`, and `sent`, or `body` if that is None."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if sent is None else sent)
            if sent is not None and len(sent) < len(body):
                self.close_connection = True
