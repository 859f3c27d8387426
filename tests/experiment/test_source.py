"""Sources: every one is pinned."""

import pytest

from lora.errors import ConfigError
from lora.experiment.source import Source, same_identity

HUB = dict(
    name="m", role="model", kind="hub", locator="a/b", revision="0" * 40, sha256="", licence=""
)
PYPI = HUB | dict(kind="pypi", locator="p==1#x", revision="wheel", sha256="0" * 64)


def test_the_identity_names_the_pins():
    assert Source(**HUB).identity == f"hub a/b {'0' * 40}"
    assert Source(**PYPI).identity == f"pypi p==1#x wheel {'0' * 64}"


@pytest.mark.parametrize(
    "row, message",
    [
        (HUB | dict(revision="main"), "pinned by a 40-digit commit"),
        (HUB | dict(role="weights"), "role is 'weights'; allowed: model, data"),
        (HUB | dict(kind="ftp"), "kind is 'ftp'; allowed: hub, file, pypi"),
        (HUB | dict(locator=""), "locator is empty"),
        (PYPI | dict(sha256=""), "a pypi source is pinned by its archive's 64-digit sha256"),
        (PYPI | dict(revision="1"), "a pypi source says wheel or sdist"),
        (HUB | dict(kind="file", sha256="12"), "allowed: none, or a 64-digit sha256"),
    ],
)
def test_a_source_without_its_pin_is_refused(row, message):
    with pytest.raises(ConfigError, match=message):
        Source(**row)


def test_a_folder_in_two_spellings_is_the_same_source(tmp_path, monkeypatch):
    """Slashes, `.`, `..`, absolute or relative, a link; a checksum at the end still counts."""
    (tmp_path / "my data/a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "my data")
    monkeypatch.chdir(tmp_path)
    for path in ("./my data", "my data/", "my data//a/..", f"{tmp_path}/my data", "link"):
        for sha256 in ("", " " + "0" * 64):
            assert same_identity(f"file {path}{sha256}", f"file my data{sha256}"), path
    assert not same_identity("file my data", "file my data/a")
    assert not same_identity("file my data", "file my data " + "0" * 64)
    assert not same_identity("hub ./a", "hub a") and same_identity("hub a/b 0", "hub a/b 0")
