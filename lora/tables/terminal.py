"""Render a table as plain text for a terminal: aligned columns, no markup, no control characters.

Long names of lines and columns are wrapped. A table that is still wider than the terminal is cut
into blocks of columns, and the first column begins each block. With the notes, cells have the
letters of those about them, see `anchors`; they are right of the values, so that columns align.
"""

import functools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from lora.tables.anchors import LETTERS, Anchors, of_cell
from lora.tables.labels import Line, Page, Subjects

WIDTH = 80  # characters of a line
LABEL_WIDTH = 30  # of the first column
MOST_COLUMNS = 7
MARKS = re.compile(r"W_([qkvo])|Adpt\^([DPH])")
GAP = INDENT = "  "
SUPERSCRIPTS = str.maketrans(LETTERS, "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
wrap = functools.partial(textwrap.wrap, break_on_hyphens=False)


def to_text(page: Page, width: int = WIDTH, notes: bool = False) -> str:
    """Return a table as text.

    Args:
        page: The table.
        width: Characters of a line. A block has at least two columns, even if they need more.
        notes: Whether the notes follow the table.
    """
    title = plain(f"PARTIAL: {page.title}" if page.partial else page.title)
    anchors = Anchors(page)
    text = _Text(page, width, anchors if notes else None)
    parts = [f"{title}\n{'=' * min(len(title), width)}", *text.blocks()]
    if page.partial:
        parts.append(f"Partial: {page.partial}.")
    if notes:
        texts = [f"-  {note.text}" for note in anchors.general]
        texts += [f"{letter:2} {note.text}" for letter, note in anchors.lettered]
        parts.append("\n".join(filled(text, width) for text in texts))
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Return a text without the marks of sub- and superscripts: `Wq` for `W_q`."""
    return MARKS.sub(lambda found: f"W{found[1]}" if found[1] else f"Adpt{found[2]}", text)


def _heading(name: str) -> str:
    """Return the name of a column; the sign # stays with its word."""
    return plain(name).replace("# ", "#\N{NO-BREAK SPACE}")


def _heading_width(name: str, height: int) -> int:
    """Return the least width at which a heading has at most `height` lines."""
    longest = max([1, *map(len, name.split(" "))])
    widths = range(longest, len(name) + 1)
    return next((width for width in widths if len(wrap(name, width)) <= height), 0)


def filled(text: str, width: int) -> str:
    """Return a paragraph in lines of at most `width` characters, indented from the second on.

    A longer word, such as a path, has a line to itself.
    """
    return "\n".join(wrap(plain(text), width, subsequent_indent="   ", break_long_words=False))


@dataclass(frozen=True)
class _Text:
    """A page with plain texts and the widths of its columns."""

    page: Page
    width: int
    anchors: Anchors | None  # None: without letters

    def _marks(self, about: Subjects) -> str:
        """Return the letters of a cell, such as `ᵇ,ᶜ`."""
        letters = self.anchors.at(about) if self.anchors else ()
        return ",".join(letters).translate(SUPERSCRIPTS)

    @functools.cached_property
    def _headings(self) -> list[str]:
        """The names of the columns."""
        about = self.page.columns_about
        return [
            _heading(name) + self._marks(of_cell(about, index))
            for index, name in enumerate(self.page.columns)
        ]

    @functools.cached_property
    def _rows(self) -> list[tuple[str, list[list[str]]]]:
        """The title of each section with its lines, filled up to the number of columns."""
        columns = range(len(self.page.columns))
        every = [line for section in self.page.sections for line in section.lines]
        marks = {id(line): [self._marks(of_cell(line.about, i)) for i in columns] for line in every}
        # Letters are right of the values. Names of lines have no second column to align with.
        lengths = [[len(row[i]) for row in marks.values()] for i in columns]
        room = [0, *(max(of_column, default=0) for of_column in lengths[1:])]

        def texts(line: Line) -> list[str]:
            filled = [*map(plain, line.cells), *[""] * len(columns)]
            return [filled[i] + marks[id(line)][i].ljust(room[i]) for i in columns]

        return [
            (plain(section.title) + self._marks(section.about), [*map(texts, section.lines)])
            for section in self.page.sections
        ]

    def _widths(self) -> list[int]:
        """Return the width of each column: that of its values, or of its heading in two lines.

        If all columns fit side by side with headings of more lines or a narrower first column, they
        are that narrow.
        """
        rows = [row for _, of_section in self._rows for row in of_section]
        names = self._headings

        def widths(height: int) -> list[int]:
            return [
                max([_heading_width(name, height), *(len(row[index]) for row in rows)])
                for index, name in enumerate(names)
            ]

        wide, narrow = widths(2), widths(max(len(name) for name in names))
        first = min(wide[0], LABEL_WIDTH)
        words = [word for row in [[names[0]], *rows] for word in row[0].split()]
        # The second line of a name is indented.
        narrowest = min(first, max(len(INDENT) + len(word) for word in words))
        for others in (wide[1:], narrow[1:]):
            room = self.width - sum(len(GAP) + width for width in others)
            if room >= narrowest and len(others) < MOST_COLUMNS:
                return [min(first, room), *others]
        return [first, *wide[1:]]

    def blocks(self) -> list[str]:
        """Return the text of each block of columns."""
        first, *others = self._widths()
        blocks: list[list[int]] = [[]]
        room = self.width - first
        for index, needed in enumerate(others, start=1):
            if blocks[-1] and (len(GAP) + needed > room or len(blocks[-1]) == MOST_COLUMNS - 1):
                blocks.append([])
                room = self.width - first
            blocks[-1].append(index)
            room -= len(GAP) + needed
        return ["\n".join(self._lines(block)) for block in blocks]

    def _lines(self, block: Sequence[int]) -> list[str]:
        """Return the lines of one block; a section without values in it is left out."""
        widths = self._widths()

        def line(cells: Sequence[str]) -> str:
            values = (GAP + cells[index].rjust(widths[index]) for index in block)
            text = (cells[0].ljust(widths[0]) + "".join(values)).rstrip()
            return text.replace("\N{NO-BREAK SPACE}", " ")

        def lines(cells: Sequence[str]) -> list[str]:
            over = len(cells[0]) - widths[0]
            values = line(["", *cells[1:]])[widths[0] :]
            if over > 0 and values[: over + len(GAP)].isspace():  # room before the first value
                return [cells[0] + values[over:]]
            label = wrap(cells[0], widths[0], subsequent_indent=INDENT) or [""]
            blank = [""] * (len(cells) - 1)
            return [line([part, *blank]) for part in label[:-1]] + [line([label[-1], *cells[1:]])]

        names = [wrap(heading, widths[index]) for index, heading in enumerate(self._headings)]
        height = max(len(names[index]) for index in (0, *block))
        padded = [[""] * (height - len(parts)) + parts for parts in names]
        heading = [
            line(cells) for cells in zip(*(parts[-height:] for parts in padded), strict=True)
        ]
        rule = "-" * (widths[0] + sum(len(GAP) + widths[index] for index in block))
        found = [*heading, rule]
        for title, rows in self._rows:
            shown = [row for row in rows if any(row[index].strip() for index in block)]
            if shown:
                found += wrap(title, self.width, subsequent_indent="  ")
                found += [text for row in shown for text in lines(row)]
        return found
