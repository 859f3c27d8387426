"""Shared by tests."""

import re


def words(svg: bytes) -> str:
    """The text of a figure: glyphs are paths, but matplotlib keeps each text as a comment."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.decode(), re.S))
