"""A file is whole or not there, a failed write leaves nothing behind, and a changed bit breaks the seal."""

import hashlib
import json
import os

import pytest

from lora import files

VALUE = dict(epoch=3, rows=[0.1, None], name="é")


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, VALUE)
    monkeypatch.setattr(
        files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(
        OSError, match=r"a.json cannot be written \(No space left on device\); what was saved"
    ):
        files.write_json(path, {})
    assert json.loads(path.read_text()) == VALUE and os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    for name in (".a.json.12.tmp", "a.json", "b.tmp"):
        (tmp_path / name).touch()
    files.remove_temporary_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.tmp"]
    files.remove_temporary_files(tmp_path / "not there")


def test_every_changed_bit_breaks_the_seal(tmp_path):
    """Each bit of the file in turn: what can still be read is not what was sealed, and is found out."""
    sealed = files.with_checksum(VALUE)
    rest = json.dumps(VALUE, sort_keys=True).encode()
    assert sealed == VALUE | dict(seal=hashlib.sha256(rest).hexdigest())
    content, missed = json.dumps(sealed, sort_keys=True).encode(), []
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        try:
            value = json.loads(changed)
        except ValueError:
            continue
        if not files.checksum_fails(value) and {key: value.get(key) for key in VALUE} != VALUE:
            missed.append(value)
    assert missed == []
    with pytest.raises(
        ValueError, match="x.json is not as it was written: its seal does not fit; mend it"
    ):
        files.verify_checksum(sealed | dict(epoch=4), "x.json", "mend it")
    assert files.verify_checksum(VALUE, "x.json", "mend it") == VALUE


def test_a_file_that_was_changed_is_told(tmp_path):
    (tmp_path / "a").write_text("1")
    noted = hashlib.sha256(b"1").hexdigest()
    assert not files.differs_from(tmp_path / "a", noted) and not files.differs_from(
        tmp_path / "b", noted
    )
    (tmp_path / "a").write_text("2")
    assert files.differs_from(tmp_path / "a", noted) and not files.differs_from(
        tmp_path / "a", None
    )
