"""Letters that anchor the notes of a table at the cells, rows and columns that they are about.

A cell or heading has the letter of a note if they have a subject in common. Letters follow the
reading order of the table. Notes that are about the whole table have no letter.
"""

from collections.abc import Iterator

from lora.tables.labels import Note, Page, Subjects

LETTERS = "abcdefghijklmnoprstuvwxyz"  # Unicode has no superscript q


class Anchors:
    """The letters of a page.

    Attributes:
        general: Notes about the whole table, in their order.
        lettered: The other notes with their letters, in the order of the letters.
    """

    general: tuple[Note, ...]
    lettered: tuple[tuple[str, Note], ...]

    def __init__(self, page: Page) -> None:
        places = list(_in_reading_order(page))
        first = {}
        for note in page.notes:
            subjects = set(note.about)
            first[note] = next((i for i, about in enumerate(places) if subjects & set(about)), None)
        self.general = tuple(note for note in page.notes if first[note] is None)
        anchored = [note for note in page.notes if first[note] is not None]
        anchored.sort(key=lambda note: first[note] or 0)
        self.lettered = tuple((letter(index), note) for index, note in enumerate(anchored))

    def at(self, about: Subjects) -> tuple[str, ...]:
        """Return the letters of a cell or heading with these subjects."""
        subjects = set(about)
        return tuple(name for name, note in self.lettered if subjects & set(note.about))


def letter(index: int) -> str:
    """Return a, b, ..., z without q, then aa, ab, and so on."""
    before = letter(index // len(LETTERS) - 1) if index >= len(LETTERS) else ""
    return before + LETTERS[index % len(LETTERS)]


def of_cell(about: tuple[Subjects, ...], index: int) -> Subjects:
    """Return the subjects of a cell or of a column's heading; none if they end before it."""
    return about[index] if index < len(about) else ()


def _in_reading_order(page: Page) -> Iterator[Subjects]:
    """Yield the subjects of the headings, section titles and cells."""
    yield from page.columns_about
    for section in page.sections:
        yield section.about
        for line in section.lines:
            yield from line.about
