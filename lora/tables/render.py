"""A page in Markdown, LaTeX and HTML: the same text in each, escaped for it, and nothing else.

The HTML is one self-contained file with a small style sheet inside, readable in light and dark, on paper and by a screen
reader; published lines differ from ours by colour and by slant. The LaTeX needs booktabs and graphicx; it shrinks to the
line width and goes on in further floats when it must. It chooses no digits and no places: `page` and `layout` do.
"""

import html
import re

from lora.tables.labels import Line, Listing, Page, Section

WEIGHT = re.compile(r"W_([qkvo])")
ADAPTER = re.compile(r"Adpt\^([DPH])")
FIGURE = re.compile(r"(?P<value>–|[+−]?\d+\.\d+)(?P<spread>±\d*\.\d+)?(?P<rest> \(.*\))?")
FLOAT_LINES = 40  # of a LaTeX float, with its sections' titles: what a page holds
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": r"$-$", "–": "--", "×": r"$\times$", "†": r"$\dagger$", "*": r"$^{*}$",
}  # fmt: skip

STYLE = """
:root { color-scheme: light dark; --ink: #1b1e23; --paper: #fff; --soft: #5b6470; --rule: #d5d9df; --band: #f3f5f8;
  --ours: #004f8a; --theirs: #8a4b00; --warn: #fff3cd; --warn-ink: #5c4300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171b; --soft: #a2abb6; --rule: #363c44;
  --band: #1e2329; --ours: #7cc0f5; --theirs: #f0b36a; --warn: #4a3a0c; --warn-ink: #ffe7a3; } }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); margin: 0 auto; padding: 1.5rem; max-width: 100rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
.partial { background: var(--warn); color: var(--warn-ink); padding: .5rem .8rem; border-radius: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-block: 2px solid var(--ink); margin: .8rem 0; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; }
th, td { padding: .22rem .4rem; text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
th[scope=row], thead th:first-child, .text { text-align: left; } th[scope=row] { font-weight: normal; }
th[scope=row], thead th:first-child { position: sticky; left: 0; background: var(--paper); }
th.section { text-align: left; background: var(--band); border-top: 1px solid var(--rule); padding-top: .4rem; }
.ours { font-weight: 600; color: var(--ours); } .ours th[scope=row] { font-weight: 600; }
.published, .reference { color: var(--theirs); font-style: italic; } .reference { opacity: .85; }
.difference, .axis { color: var(--soft); }
.pm { display: inline-block; min-width: 2.2em; text-align: left; font-size: .88em; font-weight: normal; }
.rest { display: block; font-size: .8em; font-weight: normal; }
ol { color: var(--soft); font-size: .88rem; padding-left: 2rem; max-width: 64rem; }
.details { font-size: .8rem; } .details td, .details th { padding: .12rem .3rem; }
pre { background: var(--band); padding: .8rem; overflow-x: auto; font-size: .82rem; }
sub, sup { line-height: 0; font-size: .75em; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; } }
"""


def _heading(page: Page) -> str:
    return f"PARTIAL: {page.title}" if page.partial else page.title


def _empty(line: Line, page: Page) -> tuple[str, ...]:
    """The cells of a line, filled to the number of columns."""
    return line.cells + ("",) * (len(page.columns) - len(line.cells))


def to_markdown(page: Page) -> str:
    """GitHub-flavoured Markdown."""

    def cell(text: str) -> str:
        text = re.sub(r"([\\`*_|<>\[\]~])", r"\\\1", text.replace("&", "&amp;"))
        return WEIGHT_MD.sub(r"W<sub>\1</sub>", ADAPTER.sub(r"Adpt<sup>\1</sup>", text))

    def row(texts) -> str:
        return f"| {' | '.join(map(cell, texts))} |"

    def aligned(left: int, count: int) -> str:
        return f"| {' | '.join([':--'] * left + ['--:'] * (count - left))} |"

    lines = [f"### {cell(_heading(page))}", "", cell(page.caption), ""]
    if page.partial:
        lines += [f"**{cell(page.partial)}.**", ""]
    lines += [row(page.columns), aligned(1, len(page.columns))]
    for section in page.sections:
        lines.append(f"| **{cell(section.title)}** |{' |' * (len(page.columns) - 1)}")
        lines += [row(_empty(line, page)) for line in section.lines]
    lines += [
        "",
        *(f"{number}. {cell(note)}" for number, note in enumerate(page.footnotes, start=1)),
    ]
    if page.details:
        lines += [
            "",
            "<details><summary>All statistics, in per cent</summary>",
            "",
            row(page.details_columns),
        ]
        lines += [
            aligned(page.details_texts, len(page.details_columns)),
            *map(row, page.details),
            "",
            "</details>",
        ]
    return "\n".join([*lines, ""])


WEIGHT_MD = re.compile(r"W\\_([qkvo])")


def latex(text: str) -> str:
    """Plain text as LaTeX, with its sub- and superscripts."""
    marked = WEIGHT.sub("\0\\1\1", ADAPTER.sub("Adpt\2\\1\1", text))
    escaped = "".join(LATEX.get(letter, letter) for letter in marked)
    escaped = re.sub("\0(.)\1", r"$W_\1$", escaped)
    return re.sub("\2(.)\1", r"$^{\\mathrm{\1}}$", escaped)


def to_latex(page: Page) -> str:
    """Floats of at most FLOAT_LINES lines, and the notes after them, where they can break over pages; needs
    \\usepackage{booktabs,graphicx}."""
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    for number, sections in enumerate(_floats(page.sections)):
        heading = (
            f"{_heading(page)}. {page.caption}" if number == 0 else f"{_heading(page)}, continued."
        )
        label = [rf"\label{{tab:{page.name}}}"] if number == 0 else []
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(heading)}}}",
            *label,
            *_tabular(page, sections),
        ]
        lines.append(r"\end{table}")
    notes = [f"{number}. {note}" for number, note in enumerate(page.footnotes, start=1)]
    notes = ([f"Partial: {page.partial}."] if page.partial else []) + notes
    return "\n".join([*lines, r"{\scriptsize", *(latex(note) + r"\par" for note in notes), "}", ""])


def _floats(sections: tuple[Section, ...]) -> list[list[Section]]:
    """Sections divided so that a page holds each part; a section too long for one goes on in the next."""
    parts, room = [[]], FLOAT_LINES
    for section in sections:
        title, left = section.title, section.lines
        if len(left) + 1 > room and parts[-1]:
            parts, room = [*parts, []], FLOAT_LINES
        while left:
            parts[-1].append(Section(title, left[: room - 1]))
            title, left, room = (
                f"{section.title}, continued",
                left[room - 1 :],
                room - 1 - len(left[: room - 1]),
            )
            if left:
                parts, room = [*parts, []], FLOAT_LINES
    return parts


def _tabular(page: Page, sections: list[Section]) -> list[str]:
    """One tabular, shrunk to the line width where it is wider."""
    count = len(page.columns)
    lines = [
        r"\setlength{\tabcolsep}{3pt}%",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, page.columns)) + r" \\",
    ]
    for section in sections:
        lines += [
            r"\midrule",
            rf"\multicolumn{{{count}}}{{l}}{{\textbf{{{latex(section.title)}}}}} \\",
        ]
        for line in section.lines:
            slant = r"\itshape " if line.kind in ("published", "reference") else ""
            lines.append(" & ".join(slant + latex(text) for text in _empty(line, page)) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def markup(text: str) -> str:
    """Plain text as HTML, with its sub- and superscripts."""
    return WEIGHT.sub(r"W<sub>\1</sub>", ADAPTER.sub(r"Adpt<sup>\1</sup>", html.escape(text)))


def _figure(text: str) -> str:
    """A figure with its spread in a place of its own, so that decimals stand under each other."""
    found = FIGURE.fullmatch(text)
    if found is None:
        return markup(text)
    rest = f'<span class="rest">{markup(found["rest"])}</span>' if found["rest"] else ""
    return f'{found["value"]}<span class="pm">{found["spread"] or ""}</span>{rest}'


def _document(title: str, body: list[str]) -> str:
    head = ["<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    head += [
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
    ]
    head += [f"<style>{STYLE}</style>", "</head>", "<body>", "<main>"]
    return "\n".join([*head, *body, "</main>", "</body>", "</html>", ""])


def _headings(columns, numeric=()) -> str:
    sides = ["" if number else ' class="text"' for number in numeric or [True] * len(columns)]
    names = "".join(
        f'<th scope="col"{side}>{markup(name)}</th>'
        for name, side in zip(columns, sides, strict=True)
    )
    return f"<thead><tr>{names}</tr></thead>"


def to_html(page: Page) -> str:
    """A self-contained page: the table, its footnotes, and all statistics in a second table."""
    body = [f"<h1>{markup(_heading(page))}</h1>"]
    if page.partial:
        body.append(
            f'<p class="partial" role="note"><strong>Partial.</strong> {markup(page.partial)}.</p>'
        )
    body += [
        '<div class="scroll">',
        "<table>",
        f"<caption>{markup(page.caption)}</caption>",
        _headings(page.columns),
    ]
    for section in page.sections:
        body.append("<tbody>")
        across = f'class="section" scope="rowgroup" colspan="{len(page.columns)}"'
        body.append(f"<tr><th {across}>{markup(section.title)}</th></tr>")
        for line in section.lines:
            first, *rest = _empty(line, page)
            cells = "".join(f"<td>{_figure(text)}</td>" for text in rest)
            body.append(f'<tr class="{line.kind}"><th scope="row">{markup(first)}</th>{cells}</tr>')
        body.append("</tbody>")
    body += [
        "</table>",
        "</div>",
        "<ol>",
        *(f"<li>{markup(note)}</li>" for note in page.footnotes),
        "</ol>",
    ]
    if page.details:
        numeric = [place >= page.details_texts for place in range(len(page.details_columns))]
        body += [
            "<h2>All statistics, in per cent</h2>",
            '<div class="scroll">',
            '<table class="details">',
        ]
        body += [_headings(page.details_columns, numeric), "<tbody>"]
        for row in page.details:
            cells = "".join(map(_plain_cell, row[1:], numeric[1:]))
            body.append(f'<tr><th scope="row">{markup(row[0])}</th>{cells}</tr>')
        body += ["</tbody>", "</table>", "</div>"]
    return _document(_heading(page), body)


def _plain_cell(text: str, numeric: bool) -> str:
    return f"<td>{markup(text)}</td>" if numeric else f'<td class="text">{markup(text)}</td>'


def listing_to_html(listing: Listing) -> str:
    """A self-contained page of one plain table and a text below it."""
    body = [f"<h1>{markup(listing.title)}</h1>", f"<h2>{markup(listing.text_title)}</h2>"]
    body += [
        f"<pre>{html.escape(listing.text)}</pre>",
        "<h2>Runs</h2>",
        '<div class="scroll">',
        '<table class="details">',
    ]
    body += [
        f"<caption>{markup(listing.caption)}</caption>",
        _headings(listing.columns, listing.numeric),
        "<tbody>",
    ]
    for row in listing.rows:
        body.append(f"<tr>{''.join(map(_plain_cell, row, listing.numeric))}</tr>")
    return _document(listing.title, [*body, "</tbody>", "</table>", "</div>"])
