"""Files of local data sets and their hash."""

from lora.data import fetch
from lora.experiment import local_data
from lora.experiment.source import Source


def test_the_hash_is_that_of_what_is_fetched(tmp_path):
    """A folder and a single file; `fetch` refuses content with another hash."""
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.csv").write_text("x\n")
    (folder / "inner/b.csv").write_text("y\n")
    assert list(local_data.select(folder)) == ["a.csv", "inner/b.csv"]
    assert list(local_data.select(folder / "a.csv")) == ["a.csv"]
    for name, path in (("folder", folder), ("file", folder / "a.csv")):
        pin = local_data.content_sha256(path)
        source = Source(name, "data", "file", str(path), "", pin, "")
        assert fetch.fetch(source, tmp_path / name)["tree_sha256"] == pin
        assert fetch.fetch(source, tmp_path / name)["sha256"] == pin  # kept
    assert (tmp_path / "file/a.csv").read_text() == "x\n"
