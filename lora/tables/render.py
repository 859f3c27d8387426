"""Render a table as Markdown, LaTeX and HTML, from the jinja2 templates beside this file.

Every value that a template prints is escaped for its format, unless it is Markup already. The HTML
is one file without outside resources. The LaTeX needs booktabs. Notes about cells have letters, see
`anchors`; in HTML they are links.
"""

import functools
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from lora.tables.anchors import Anchors, of_cell
from lora.tables.labels import Line, Listing, Page, Section, Subjects

WEIGHT = re.compile(r"W_([qkvo])")
ADAPTER = re.compile(r"Adpt\^([DPH])")
VALUE = re.compile(r"(?P<value>–|[+−]?\d+\.\d+)(?P<spread>±\d*\.\d+| \[[^]]*\])?(?P<rest> \(.*\))?")
MARKDOWN_SPECIAL = re.compile(r"([\\`*_|<>\[\]~])")
MARKDOWN_WEIGHT = re.compile(r"W\\_([qkvo])")
MARKDOWN_BLOCK = re.compile(r"^( *)(?:([-+#])|(\d+)([.)]))(?=\s)")  # would begin a list or heading
MARKDOWN_WIDTH = 80  # characters of a line of text
FLOAT_LINES = 44  # lines of a LaTeX float, section titles included, that fit on a landscape A4
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
    "π": r"$\pi$",
    "²": r"$^{2}$",
    "Δ": r"$\Delta$",
    "φ": r"$\varphi$",
    "†": r"$\dagger$",
    "*": r"$^{*}$",
}
# LaTeX is full of braces, so its template marks tags with angle brackets.
LATEX_TAGS = {
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}


def to_markdown(page: Page) -> str:
    """Return a table in GitHub-flavored Markdown."""
    return _render("md", page)


def to_latex(page: Page) -> str:
    """Return a table as LaTeX floats of at most FLOAT_LINES lines, and the notes after them."""
    return _render("tex", page)


def to_html(page: Page) -> str:
    """Return a self-contained HTML page: the table, and its notes."""
    return _render("html", page)


def _render(suffix: str, page: Page) -> str:
    template = _environment(suffix).get_template(f"page.{suffix}.j2")
    return template.render(page=page, title=_title(page), anchors=Anchors(page))


def listing_to_html(listing: Listing) -> str:
    """Return a self-contained HTML page of one plain table."""
    template = _environment("html").get_template("listing.html.j2")
    return template.render(listing=listing, title=listing.title)


def text_to_html(title: str, text: str) -> str:
    """Return a self-contained HTML page of preformatted text."""
    return _environment("html").get_template("text.html.j2").render(text=text, title=title)


def latex(text: str) -> str:
    """Escape plain text for LaTeX and write its sub- and superscripts."""
    marked = WEIGHT.sub("\0\\1\1", ADAPTER.sub("Adpt\2\\1\1", text))
    escaped = "".join(LATEX_SPECIAL.get(letter, letter) for letter in marked)
    escaped = re.sub("\0(.)\1", r"$W_\1$", escaped)
    return re.sub("\2(.)\1", r"$^{\\mathrm{\1}}$", escaped)


def markup(text: str) -> str:
    """Escape plain text for HTML and write its sub- and superscripts."""
    escaped = str(escape(text))
    return WEIGHT.sub(r"W<sub>\1</sub>", ADAPTER.sub(r"Adpt<sup>\1</sup>", escaped))


def markdown(text: str) -> str:
    """Escape plain text for Markdown and write its sub- and superscripts."""
    escaped = MARKDOWN_SPECIAL.sub(r"\\\1", text.replace("&", "&amp;"))
    escaped = ADAPTER.sub(r"Adpt<sup>\1</sup>", escaped)
    return MARKDOWN_WEIGHT.sub(r"W<sub>\1</sub>", escaped)


@functools.cache
def _environment(suffix: str) -> jinja2.Environment:
    """Return the templates of one format, which escape every value they print."""
    escapes = {"html": markup, "md": markdown, "tex": latex}

    def finalize(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return Markup(escapes[suffix](value)) if plain else value

    tags: dict[str, Any] = LATEX_TAGS if suffix == "tex" else {}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lora.tables"),
        autoescape=suffix == "html",
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **tags,
    )
    filters: dict[str, Callable[..., Any]] = {
        "filled": _filled,
        "floats": _floats,
        "latex_marks": _latex_marks,
        "of_cell": of_cell,
        "value": _value,
        "spread_widths": _spread_widths,
        "rows": _markdown_rows,
        "wrapped": _wrapped,
    }
    environment.filters.update(filters)
    return environment


def _title(page: Page) -> str:
    return f"PARTIAL: {page.title}" if page.partial else page.title


def _filled(line: Line, page: Page) -> tuple[str, ...]:
    """Return the cells of a line, with empty ones up to the number of columns."""
    return line.cells + ("",) * (len(page.columns) - len(line.cells))


def _spread_widths(page: Page) -> list[float]:
    """Return the width of the widest spread in each column, in digits; 0 without spreads."""
    rows = [_filled(line, page) for section in page.sections for line in section.lines]
    columns = (map(VALUE.fullmatch, column) for column in zip(page.columns, *rows, strict=True))
    return [max(_width(found["spread"] or "") if found else 0 for found in one) for one in columns]


def _width(text: str) -> float:
    """Return the width of a text in digits: in most fonts a sign is wider, a point narrower."""
    return sum(1 if sign.isdigit() else 1.4 if sign in "±−" else 0.6 for sign in text)


def _value(text: str, spread_width: float, marks: Markup) -> Markup:
    """Return a value in HTML with the letters of its notes.

    In a column with spreads they are in a box of one width, which aligns the decimals.
    """
    found = VALUE.fullmatch(text)
    if found is None:
        return Markup(markup(text)) + marks
    spread = Markup((found["spread"] or "").replace(" ", "\u00a0")) + marks
    if spread_width:
        spread = Markup(f'<span class="pm" style="width:{spread_width:.1f}ch">{spread}</span>')
    rest = f'<span class="rest">{markup(found["rest"])}</span>' if found["rest"] else ""
    return Markup(f"{found['value']}{spread}{rest}")


def _latex_marks(about: Subjects, anchors: Anchors) -> Markup:
    """Return the letters of a cell in LaTeX. They take no room, so that columns align."""
    letters = ",".join(anchors.at(about))
    return Markup(rf"\rlap{{\textsuperscript{{{letters}}}}}" if letters else "")


def _floats(sections: Sequence[Section]) -> list[list[Section]]:
    """Divide sections into floats that fit on a page; a long section continues in the next one."""
    floats: list[list[Section]] = [[]]
    room = FLOAT_LINES
    for section in sections:
        title, rest = section.title, section.lines
        if len(rest) + 1 > room and floats[-1]:
            floats.append([])
            room = FLOAT_LINES
        while rest:
            part, rest = rest[: room - 1], rest[room - 1 :]
            floats[-1].append(Section(title, part, section.about))
            title, room = f"{section.title}, continued", room - 1 - len(part)
            if rest:
                floats.append([])
                room = FLOAT_LINES
    return floats


def _markdown_rows(page: Page, anchors: Anchors) -> Iterator[Markup]:
    """Yield the lines of the table in Markdown, with columns padded to one width."""

    def marked(text: str, about: Subjects) -> str:
        letters = ",".join(anchors.at(about))
        return markdown(text) + (f"<sup>{letters}</sup>" if letters else "")

    def row(texts: Sequence[str]) -> Markup:
        first, *rest = zip(texts, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
        return Markup(f"| {' | '.join(cells)} |")

    heading = [marked(name, of_cell(page.columns_about, i)) for i, name in enumerate(page.columns)]
    sections = [
        [
            [marked(text, of_cell(line.about, i)) for i, text in enumerate(_filled(line, page))]
            for line in section.lines
        ]
        for section in page.sections
    ]
    rows = [texts for section in sections for texts in section]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    rule = [":" + "-" * max(widths[0] - 1, 2), *("-" * max(n - 1, 2) + ":" for n in widths[1:])]
    yield row(heading)
    yield Markup(f"| {' | '.join(rule)} |")
    for section, lines in zip(page.sections, sections, strict=True):
        title = f"**{markdown(section.title)}**{marked('', section.about)}"
        yield Markup(f"| {title} |{' |' * (len(page.columns) - 1)}")
        yield from map(row, lines)


def _wrapped(text: str, prefix: str = "", indent: str = "") -> Markup:
    """Return a paragraph of Markdown in lines of at most MARKDOWN_WIDTH.

    Args:
        text: The paragraph.
        prefix: Markdown that begins the first line.
        indent: Spaces that begin the other lines.
    """
    lines = textwrap.wrap(
        markdown(text),
        MARKDOWN_WIDTH - len(prefix),
        break_long_words=False,
        break_on_hyphens=False,
    )
    lines = [MARKDOWN_BLOCK.sub(_escape_block, line) for line in lines]
    return Markup(prefix + f"\n{indent}".join(lines))


def _escape_block(found: re.Match[str]) -> str:
    """Escape the first characters of a line that would begin a list or a heading."""
    space, mark, number, point = found.groups()
    return f"{space}\\{mark}" if mark else f"{space}{number}\\{point}"
