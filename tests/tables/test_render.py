"""Markdown, LaTeX and HTML: escaped, and read back cell by cell by other parsers."""

import html.parser
import re
import shutil
import subprocess

import markdown_it
import pytest

from lora.tables import labels, render
from lora.tables.labels import Line, Listing, Page, Section

NASTY = r"a & b < c > d_e 50% #1 $x$ {y} ~ ^ \z * | ` <script>alert(1)</script>"


def made(**changes) -> Page:
    facts = dict(
        name="table2",
        title="A title & more",
        caption="Caption 100%",
        partial="",
        columns=("Method", "# trainable", "SST-2"),
        sections=(
            Section("Theirs", (Line("published", ("RoBERTa (Adpt^D*)", "0.3M", "94.2±.1")),)),
            Section(
                "Ours on W_q,W_v", (Line("ours", (NASTY, "0.3M", "95.1±.2 (n=2 of 3, 1 failed)")),)
            ),
            Section("Left", (Line("difference", ("minus paper", "", "−0.9")),)),
        ),
        footnotes=("Note one.", NASTY),
        details_texts=2,
        details_columns=("Model", "Task", "n", "Best: median"),
        details=((NASTY, "SST-2", "3 of 3", "95.10"),),
    )
    return Page(**(facts | changes))


class Reader(html.parser.HTMLParser):
    """Rows of text cells per table, every tag balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.open, self.tags = [], [], set()
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def plain(text: str) -> str:
    """Text as a reader sees it, without the two marks."""
    return re.sub(r"W_([qkvo])", r"W\1", re.sub(r"Adpt\^([DPH])", r"Adpt\1", text))


def test_html_reads_back_cell_by_cell():
    reader = Reader(render.to_html(made()))
    main, details = reader.tables
    assert main[0] == ["Method", "# trainable", "SST-2"]
    assert main[2] == ["RoBERTa (AdptD*)", "0.3M", "94.2±.1"]
    assert main[3] == ["Ours on Wq,Wv"]
    assert main[4] == [NASTY, "0.3M", "95.1±.2 (n=2 of 3, 1 failed)"]
    assert main[6] == ["minus paper", "", "−0.9"]
    assert details[1] == [NASTY, "SST-2", "3 of 3", "95.10"]
    assert "script" not in reader.tags


@pytest.mark.parametrize("convert", [render.to_html, render.to_markdown])
def test_a_page_without_details_has_no_second_table(convert):
    text = convert(made(details=(), details_columns=(), details_texts=0))
    assert "All statistics" in convert(made()) and "All statistics" not in text
    assert text.count("</table>") == (1 if convert is render.to_html else 0)


def test_html_loads_no_other_files():
    text = render.to_html(made())
    assert not re.search(r"(src|href)=|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text and 'lang="en"' in text and "<caption>" in text


def test_html_marks_our_values_and_published_values():
    text = render.to_html(made())
    assert '<tr class="published">' in text and '<tr class="ours">' in text


@pytest.mark.parametrize("convert", [render.to_html, render.to_markdown, render.to_latex])
def test_a_partial_table_is_marked(convert):
    assert "PARTIAL" not in convert(made())
    text = convert(made(partial="1 of 3 runs are missing"))
    assert "PARTIAL" in text and "1 of 3 runs" in text


def test_markdown_reads_back_cell_by_cell():
    tokens = (
        markdown_it.MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .parse(render.to_markdown(made()))
    )
    cells = [
        "".join(
            child.content
            for child in token.children
            if child.type in ("text", "text_special", "code_inline")
        )
        for before, token in zip(tokens, tokens[1:], strict=False)
        if before.type in ("td_open", "th_open")
    ]
    assert cells[:3] == ["Method", "# trainable", "SST-2"]
    for text in (
        NASTY,
        "95.1±.2 (n=2 of 3, 1 failed)",
        "−0.9",
        plain("RoBERTa (Adpt^D*)"),
        plain("Ours on W_q,W_v"),
    ):
        assert text in cells
    assert not any(
        token.type == "code_inline" for parent in tokens for token in parent.children or []
    )
    assert "W<sub>q</sub>" in render.to_markdown(made())


def test_latex_escapes_every_special_character():
    text = render.latex(NASTY)
    unescaped = re.sub(r"\\(text\w+\{\}|[&%$#_{}])|\$\^\{\*\}\$", "", text)
    assert not re.search(r"[&%$#_{}~^\\<>]", unescaped)
    assert (
        render.latex("W_q,W_v (Adpt^D) 95.1±.2 −1")
        == r"$W_q$,$W_v$ (Adpt$^{\mathrm{D}}$) 95.1$\pm$.2 $-$1"
    )


def test_latex_rows_have_as_many_cells_as_columns():
    text = render.to_latex(made())
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [
        line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line
    ]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [2, 2, 2, 2]
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_a_latex_table_longer_than_a_page_is_split_into_floats():
    """Every line once and in order, no float longer than allowed, and each with its header."""
    sections = tuple(
        Section(
            f"Section {index}",
            tuple(Line("ours", (f"line {index}.{number}", "1", "2")) for number in range(length)),
        )
        for index, length in enumerate((3, 30, 9, 95, 1))
    )
    text = render.to_latex(made(sections=sections))
    floats = text.split(r"\begin{table}")[1:]
    assert len(floats) == text.count(r"\end{table}") == text.count(r"\toprule") > 3
    lines = [re.findall(r"line \d+\.\d+", part) for part in floats]
    assert sum(lines, []) == [line.cells[0] for section in sections for line in section.lines]
    assert all(
        len(of_float) + part.count(r"\midrule") <= render.FLOAT_LINES
        for of_float, part in zip(lines, floats, strict=True)
    )
    assert text.count("Section 3, continued") == 2 and text.count(r"\label{tab:table2}") == 1


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="no pdflatex on this machine: the other LaTeX tests hold"
)
def test_latex_compiles(tmp_path):
    (tmp_path / "table.tex").write_text(render.to_latex(made()), encoding="utf-8")
    start = r"\documentclass{article}\usepackage{booktabs,graphicx}"
    start += r"\begin{document}\input{table}\end{document}"
    (tmp_path / "all.tex").write_text(start, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_listings_and_texts_are_escaped():
    listing = Listing("Runs", "Caption", ("name", "n"), (False, True), ((NASTY, "3"),))
    assert Reader(render.listing_to_html(listing)).tables == [[["name", "n"], [NASTY, "3"]]]
    text = render.text_to_html("Config", "a: <b>\n")
    assert "<pre>a: &lt;b&gt;\n</pre>" in text and "<h1>Config</h1>" in text


@pytest.mark.parametrize("letters, text", [("k", "$W_k$"), ("o", "$W_o$"), ("qk", "$W_q$,$W_k$")])
def test_every_weight_type_is_printed(letters, text):
    assert render.latex(labels.weight_types(letters)) == text
    assert render.markup(labels.weight_types(letters)).count("<sub>") == len(letters)
