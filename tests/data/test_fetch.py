"""Fetching against sha256sum's answer, archives made here, and a hub and an index that cannot be reached."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
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


def left_over(folder: Path) -> list[str]:
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
    assert left_over(tmp_path / "out") == ["thing"]
    assert not os.path.samefile(texts / "note.txt", tmp_path / "out" / "thing" / "note.txt")


def test_a_whole_destination_is_kept_and_any_other_replaced(texts, tmp_path):
    given, out = source(locator=str(texts)), tmp_path / "out"
    first = fetch.fetch(given, out)
    (before,) = [path.stat().st_ino for path in [out / "note.txt"]]
    assert fetch.fetch(given, out) == first
    assert (out / "note.txt").stat().st_ino == before
    (out / "note.txt").write_bytes(b"changed")  # spoiled, then mended
    with pytest.raises(
        FetchError, match="source thing: 1 of its files .* note.txt first; delete the folder"
    ):
        fetch.verify(out)
    assert fetch.fetch(given, out) == first and (out / "note.txt").read_bytes() == b"hello\n"
    (texts / "note.txt").write_bytes(b"new\n")  # the folder it came from has moved on
    assert fetch.fetch(given, out)["files"]["note.txt"]["sha256"] == sha256(b"new\n")
    assert fetch.fetch(source(locator=str(texts), name="other"), out)["name"] == "other"
    (out / "fetched.json").write_text("{")
    (out / "stray").write_text("")
    assert fetch.fetch(given, out)["name"] == "thing" and not (out / "stray").exists()
    (out / "fetched.json").unlink()
    with pytest.raises(FetchError, match="has no fetched.json"):
        fetch.verify(out)


def test_a_tree_hash_is_checked_and_a_wrong_one_leaves_what_was_there(texts, tmp_path):
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
    assert left_over(tmp_path) == ["out", "texts"]


def test_a_model_folder_gives_no_pickles_and_its_weights_hash(model, tmp_path):
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
        match=r"is no whole model folder: it lacks \*.safetensors; expected config.json, ",
    ):
        fetch.fetch(source(role="model", locator=str(model)), tmp_path / "out2")
    with pytest.raises(FetchError, match="source thing: there is no folder"):
        fetch.fetch(source(locator=str(tmp_path / "absent")), tmp_path / "out2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match="holds no file that is wanted"):
        fetch.fetch(source(locator=str(tmp_path / "empty")), tmp_path / "out2")


def test_a_failure_is_told_without_credentials(tmp_path, monkeypatch):
    """What a hub answers is in tests/test_hub.py; here a client that fails in words that nobody should see."""
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
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("name", ["roberta-base", "glue-rte"])
@pytest.mark.parametrize(
    "network",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}],
)
def test_without_the_hub_one_message_names_the_ways_out(tmp_path, name, network):
    program = (
        "import sys, time; from lora.data import fetch; from lora.errors import FetchError; from lora.experiment import registry; time.sleep = lambda seconds: None  # the library's retries\n"
        "try: fetch.fetch(registry.read_sources()[sys.argv[1]], sys.argv[2])\n"
        "except FetchError as error: print(error)\n"
    )
    environment = (
        os.environ | network | {"HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    )
    command = [sys.executable, "-c", program, name, tmp_path / "out"]
    told = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert told.startswith(
        f"source {name}: {SOURCES[name].locator} at {SOURCES[name].revision} could not be had"
    )
    offline = network["HF_HUB_OFFLINE"] == "1"
    way_out = "unset HF_HUB_OFFLINE, or fill the cache" if offline else "set HF_HUB_OFFLINE=1"
    for way in (way_out, "machine with network", f"sources: {name}: to a local folder (kind: file"):
        assert told.count(way) == 1
    assert len(told.splitlines()) == (6 if offline else 7)
    assert not (tmp_path / "out").exists() and left_over(tmp_path) in ([], ["cache"])


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
    folder.mkdir(exist_ok=True)
    path = folder / "thing-1.0-py3-none-any.whl"
    always = {
        "thing-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n",
        "thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
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
    """A folder that is all of pip's index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return tmp_path / "index"


def pypi(kind: str, digest: str, inside: str, **changes) -> Source:
    return source(
        kind="pypi", locator=f"thing==1.0#{inside}", revision=kind, sha256=digest, **changes
    )


def test_a_wheel_gives_the_folder_inside_it(index, tmp_path):
    members = {
        "thing/model/config.json": b"{}",
        "thing/model/a.safetensors": b"w",
        "thing/model/a.bin": b"p",
        "thing/b": b"",
    }
    digest = make_wheel(index, members)
    manifest = fetch.fetch(pypi("wheel", digest, "thing/model", role="model"), tmp_path / "out")
    assert sorted(manifest["files"]) == ["a.safetensors", "config.json"]
    assert fetch.verify(tmp_path / "out") == manifest
    with pytest.raises(FetchError, match="has no 'thing/absent' in it"):
        fetch.fetch(pypi("wheel", digest, "thing/absent"), tmp_path / "out2")
    with pytest.raises(FetchError, match="is a file; expected a folder"):
        fetch.fetch(pypi("wheel", digest, "thing/b"), tmp_path / "out2")
    with pytest.raises(FetchError, match="allowed: package==version#path/inside"):
        fetch.fetch(
            source(kind="pypi", locator="thing==1.0", revision="wheel", sha256=digest),
            tmp_path / "out2",
        )
    assert left_over(tmp_path) == ["index", "out"]


def test_an_sdist_gives_the_folder_in_an_archive_in_it(index, tmp_path):
    inner = tar_bytes({"texts/a.txt": b"a", "texts/deep/b.txt": b"b", "other/c.txt": b"c"})
    digest = make_sdist(index, {"data/texts.tar.gz": inner})
    manifest = fetch.fetch(pypi("sdist", digest, "data/texts.tar.gz#texts"), tmp_path / "out")
    assert sorted(manifest["files"]) == ["a.txt", "deep/b.txt"]


def test_an_archive_of_another_hash_is_never_opened_nor_run(index, tmp_path):
    ran = tmp_path / "ran"
    got = make_sdist(
        index, {"data/a": b""}, backend=f"open({str(ran)!r}, 'w')\n".encode() + BACKEND
    )
    with pytest.raises(
        FetchError,
        match=rf"source thing: the archive of thing==1.0.*\n  expected {'0' * 64}\n  got      {got}",
    ):
        fetch.fetch(pypi("sdist", "0" * 64, "data"), tmp_path / "out")
    assert left_over(tmp_path) == ["index"]
    fetch.fetch(pypi("sdist", got, "data"), tmp_path / "out")
    assert ran.exists()  # so the check above could have failed


def test_a_package_that_no_index_has_says_so(index, tmp_path):
    make_wheel(index, {"thing/b": b""})
    with pytest.raises(
        FetchError, match="(?s)pip could not download thing==1.0 .sdist..*ERROR: .*PIP_INDEX_URL"
    ) as caught:
        fetch.fetch(pypi("sdist", "0" * 64, "thing"), tmp_path / "out")
    assert "Traceback" not in str(caught.value)
    assert left_over(tmp_path) == ["index"]


@pytest.mark.parametrize(
    "inner",
    [
        {"texts/../../../out.txt": b"x"},
        {"texts/a": "/etc/hostname"},
        {"texts/a": "../../../index"},
    ],
)
def test_tar_members_that_lead_outside_are_refused(index, tmp_path, inner):
    digest = make_sdist(index, {"data.tar.gz": tar_bytes({"texts/ok": b"x"} | inner)})
    with pytest.raises(FetchError, match="source thing: data.tar.gz was not unpacked"):
        fetch.fetch(pypi("sdist", digest, "data.tar.gz#texts"), tmp_path / "out")
    assert left_over(tmp_path) == ["index"]


@pytest.mark.parametrize(
    "members, links", [({"thing/../../x": b"x"}, {}), ({}, {"thing/a": "/etc/hostname"})]
)
def test_zip_members_that_lead_outside_are_refused(index, tmp_path, members, links):
    digest = make_wheel(index, {"thing/ok": b"x"} | members, links)
    with pytest.raises(FetchError, match="is a link or lies outside the archive"):
        fetch.fetch(pypi("wheel", digest, "thing"), tmp_path / "out")
    assert left_over(tmp_path) == ["index"]


def test_the_demos_data_are_what_the_index_gives(tmp_path):
    from lora.data import examples

    try:
        manifest = fetch.fetch(SOURCES["vader"], tmp_path / "vader")
    except FetchError as error:
        if "another sha256" in str(error):
            raise
        pytest.skip(f"no package index: {str(error).splitlines()[0]}")
    assert manifest["files"]["tweets_GroundTruth.txt"]["bytes"] == 389886
    tasks = registry.read_tasks()
    for name, demo in examples.DEMO_TASKS.items():
        splits = examples.read(tasks[name], tmp_path / "vader")
        assert (len(splits["train"]), len(splits["validation"])) == (demo.train, demo.evaluation)


def test_importing_it_loads_no_library():
    heavy = "{'torch', 'datasets', 'huggingface_hub', 'pandas', 'numpy'}"
    program = (
        f"import sys; from lora.data import fetch, examples; assert not {heavy} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
