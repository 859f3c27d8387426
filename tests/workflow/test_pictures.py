"""Pictures of the documents are there and small, and show what a terminal shows."""

import importlib.util
import re

import pytest
from helpers.models import ROOT
from PIL import Image

PICTURES = ROOT / "results/reference/pictures"
MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def pictures():
    """The script `workflow/scripts/pictures.py` as a module."""
    path = ROOT / "workflow/scripts/pictures.py"
    spec = importlib.util.spec_from_file_location("pictures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_picture_is_there_and_small(pictures):
    """Those of the commands, the report, two tables, figures, and each kept text."""
    names = {*pictures.COMMANDS, "report", "table2", "table6", "demo_start"}
    names |= {f"figure_{name}" for name in pictures.FIGURES}
    names |= {path.stem for path in PICTURES.glob("*.txt")}
    assert {path.stem for path in PICTURES.glob("*.png")} == names
    for path in PICTURES.glob("*.png"):
        assert path.stat().st_size < MOST_BYTES, path
        with Image.open(path) as picture:
            assert picture.format == "PNG" and 300 <= picture.width <= pictures.MOST_WIDTH


def test_kept_screens_fit_the_terminal(pictures):
    for path in PICTURES.glob("*.txt"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0] == f"$ {pictures.DEMO}"
        assert all(len(line) <= pictures.COLUMNS for line in lines), path


def test_pictures_of_the_readme_exist_and_have_a_text():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r'<img[^>]*src="([^"]+)"[^>]*alt="([^"]*)"', text)
    found += [(path, words) for words, path in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", text)]
    local = [(path, words) for path, words in found if "://" not in path]
    assert len(local) >= 2 and {path for path, _ in local} <= {
        path.relative_to(ROOT).as_posix() for path in PICTURES.glob("*.png")
    }
    assert all(len(words) > 20 for _, words in local)


@pytest.mark.parametrize(
    "written, shown",
    [
        ("one\ntwo\r\n", "one\ntwo"),
        ("\rTraining 10%\rTraining 9%", "Training 9%%"),
        ("\rTraining\r        \rdone\r\n", "done"),
        ("\x1b[32mgreen\x1b[0m\x1b[K", "green"),
    ],
)
def test_a_screen_shows_what_a_terminal_shows(pictures, written, shown):
    """A carriage return replaces characters from the start of the line."""
    screen = pictures.Screen()
    for character in written if "\x1b" not in written else [written]:
        screen.feed(character)
    assert screen.text == shown


def test_moments_of_a_training(pictures):
    """The first live line, the first one after half of the cells, and the end."""
    kept = {}
    live = "\rTraining  2 jobs  {}%  1 s left"
    pieces = ["Trains\r\n", live.format(1), "\r[1/3] a\r\n", live.format(2)]
    pieces += ["\r[2/3] b\r\n", live.format(3), "\r[3/3] c\r\n", "Table\r\n"]
    pictures.moments(iter(pieces), kept.__setitem__)
    assert list(kept) == ["demo_start", "demo_middle", "demo_end"]
    assert kept["demo_start"].splitlines()[-1].startswith("Training  2 jobs  1%")
    assert kept["demo_middle"].splitlines()[-1].startswith("Training  2 jobs  3%")
    assert kept["demo_end"].splitlines()[-1] == "Table"


def test_a_terminal_has_80_columns(pictures, tmp_path):
    text = pictures.screen_of("stty size", tmp_path)
    assert text == f"$ stty size\n{pictures.ROWS} {pictures.COLUMNS}\n"
    with pytest.raises(RuntimeError, match="exit 3 failed"):
        list(pictures.run("exit 3", tmp_path))
