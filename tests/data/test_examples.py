"""Lines of a file, and the record of examples."""

import dataclasses

import pytest

from lora.data.examples import Examples, read_lines


def test_only_line_feeds_end_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\u2028b\x0c\r\n\r\nc".encode())
    assert read_lines(path) == ["a\u2028b\x0c", "", "c"]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="a.txt is empty; expected at least one line"):
        read_lines(path)


def test_examples_are_frozen_and_compared_by_texts_and_labels():
    pair = Examples(["a"], ["b"], [1.0])
    assert pair == Examples(["a"], ["b"], [1.0]) and pair.texts == [("a", "b")]
    assert Examples(["a"], None, [1.0]).texts == [("a",)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.second = []
