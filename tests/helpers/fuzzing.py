"""Damaged inputs for fuzz tests: each is valid, or refused with one message.

By default the tests try few examples, the same in every run. LORA_FUZZ=thorough tries twenty times
as many, new ones each time; hypothesis prints how to repeat one that fails.
"""

import contextlib
import copy
import os
import re

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

THOROUGH = os.environ.get("LORA_FUZZ") == "thorough"
ADVICE = re.compile(
    r"allowed|expected|missing|must|needs it|asked for|asks for|there are|at most|pinned by|takes|"
    r"source says|writes one|now called|"
    r"\b([Gg]ive|[Ff]etch|[Dd]ownload|prepare|retrain|train|use|save|keep|make|add|write|delete)\b"
)
LONGEST = 6000  # characters of a message


def fuzz(examples: int) -> settings:
    """Return hypothesis' settings for a test with this many examples by default."""
    return settings(
        max_examples=examples * (20 if THOROUGH else 1),
        derandomize=not THOROUGH,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )


def check_message(message: str, *names) -> None:
    """Check that a message names its subject, gives what is allowed or what to do, and is short."""
    assert [name for name in map(str, names) if name not in message] == [], message[:2000]
    assert ADVICE.search(message), message[:2000]
    assert len(message) <= LONGEST, f"{len(message)} characters: {message[:500]}"


@contextlib.contextmanager
def valid_or_refused(*names):
    """Allow a damaged input to be used, or to raise an error with a good message.

    Any other exception fails the test.
    """
    from lora.errors import FetchError

    try:
        yield
    except (ValueError, FetchError) as error:
        check_message(str(error), *names)


NUMBERS = st.one_of(
    st.integers(-3, 600),
    st.sampled_from(
        [2**31, 2**32, 2**63, 2**70, 10**30, 10**400, -(10**400), 1e300, 1e-300, 0.5, 8.0, -0.0]
    ),
    st.floats(),
)
NAMES = (
    "qv vq qkvo q all bias ffn0 ffn99 both sst2 mnli same-article roberta-base minilm lora ft"
    " course paper demo table2 seed rank ../x a/b .. . * 1r 2r -1r nanr"
    " 1e400 1_0 １６ 5e-4 inf nan pretrained 0"
).split()
ODD_TEXTS = ["", " ", "\0", "a\0b", "\n", "\ufeff", "\ud800", "é", "\u202e", "x" * 3000]
WORDS = st.one_of(st.sampled_from(NAMES + ODD_TEXTS), st.text(max_size=12))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
KEYS = WORDS | st.integers(0, 3)
ANY_VALUE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def paths_in(tree, at=()) -> list[tuple]:
    """Return the path of every value in a tree of dicts and lists."""
    inside = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [path for key, value in inside for path in [(*at, key), *paths_in(value, (*at, key))]]


@st.composite
def damaged_tree(draw, tree, changes: int = 3):
    """A copy of a tree with one to `changes` changes.

    A value is replaced, or a key or item is removed, added, renamed or doubled.
    """
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, changes))):
        paths = paths_in(tree)
        if not paths:
            return draw(ANY_VALUE)
        *parents, key = draw(st.sampled_from(paths))
        container = tree
        for parent in parents:
            container = container[parent]
        _change(draw, container, key)
    return tree


def _change(draw, container, key) -> None:
    how = draw(
        st.sampled_from(["replace", "replace", "replace", "remove", "double", "add", "rename"])
    )
    if how == "replace":
        container[key] = draw(ANY_VALUE)
    elif how == "remove":
        del container[key]
    elif isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]) if how == "double" else draw(ANY_VALUE))
    elif how == "rename":
        container[draw(WORDS)] = container.pop(key)
    else:
        container[draw(WORDS | st.integers(0, 3))] = (
            copy.deepcopy(container[key]) if how == "double" else draw(ANY_VALUE)
        )


class Content(bytes):
    """Bytes whose repr shows only their beginning, so that a failing example can be read."""

    def __repr__(self):
        shown = bytes(self[:300])
        return repr(shown) if len(shown) == len(self) else f"<{len(self)} bytes: {shown!r}...>"


MARKS = [
    b"\0",
    b"\xff",
    b"\xc3",
    b'"',
    b"'",
    b"\r",
    b"\t",
    b",",
    b"\n",
    b"\n\n",
    b"\xef\xbb\xbf",
    b"\\",
    b"{",
    b"]",
]
ODD_CELLS = [b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b" ", b"\xe2\x80\xa8", b"x" * 140_000]
PIECES = st.one_of(st.sampled_from(MARKS), st.sampled_from(ODD_CELLS), st.binary(max_size=6))
WAYS = ["cut", "insert", "insert", "take", "flip", "line", "line", "crlf", "bom", "cells", "empty"]


@st.composite
def damaged_bytes(draw, content: bytes, changes: int = 2):
    """Bytes with one to `changes` changes.

    They are cut, pieces are inserted or removed, bits are flipped, lines are moved or doubled, or
    line ends and byte-order marks of other systems are added.
    """
    for _ in range(draw(st.integers(1, changes))):
        how = draw(st.sampled_from(WAYS))
        at = draw(st.integers(0, max(0, len(content) - 1)))
        if how == "cut":
            content = content[:at]
        elif how == "insert":
            content = content[:at] + draw(PIECES) + content[at:]
        elif how == "take":
            content = content[:at] + content[at + draw(st.integers(1, 20)) :]
        elif how == "flip" and content:
            content = (
                content[:at]
                + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))])
                + content[at + 1 :]
            )
        elif how == "line":
            content = _other_lines(draw, content)
        elif how == "crlf":
            content = content.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r", b"\n\r"])))
        elif how == "bom":
            content = b"\xef\xbb\xbf" + content
        elif how == "cells":
            content = content.replace(
                *draw(st.sampled_from([(b",", b";"), (b",", b"\t"), (b"\t", b","), (b"\t", b"  ")]))
            )
        elif how == "empty":
            content = b""
    return Content(content)


def _other_lines(draw, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(["double", "remove", "last", "long", "only"]))
    if how == "double":
        lines.insert(at, lines[at])
    elif how == "remove":
        del lines[at]
    elif how == "last":
        lines.append(lines.pop(at))
    elif how == "long":
        lines[at] += b"x" * 10_000
    else:
        lines = lines[:1]
    return b"\n".join(lines)


def tensors_of(rank: int = 2, width: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    pairs = {f"{layer}.{letter}": None for layer in range(2) for letter in "qv"}
    sizes = {f"{pair}.a": (rank, width) for pair in pairs} | {
        f"{pair}.b": (width, rank) for pair in pairs
    }
    sizes |= {"head.dense.weight": (width, width), "head.dense.bias": (width,)}
    sizes |= {"head.out.weight": (2, width), "head.out.bias": (2,)}
    return {name: torch.randn(size) for name, size in sizes.items()}
