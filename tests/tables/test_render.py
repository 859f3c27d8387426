"""Markdown, LaTeX and HTML: escaped, and read back cell by cell by other parsers."""

import html.parser
import re
import shutil
import subprocess

import markdown_it
import pytest

from lora.tables import labels, render
from lora.tables.labels import Line, Listing, Note, Page, Section

ABOUT = (("column", "sst2"),)
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
        notes=(Note("Note one."), Note(NASTY), Note("Note of SST-2.", ABOUT)),
        columns_about=((), (), ABOUT),
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
    (main,) = reader.tables
    assert main[0] == ["Method", "# trainable", "SST-2a"]
    assert main[2] == ["RoBERTa (AdptD*)", "0.3M", "94.2±.1"]
    assert main[3] == ["Ours on Wq,Wv"]
    assert main[4] == [NASTY, "0.3M", "95.1±.2 (n=2 of 3, 1 failed)"]
    assert main[6] == ["minus paper", "", "−0.9"]
    assert "script" not in reader.tags


def test_html_links_a_letter_to_its_note_and_back():
    line = Line("ours", ("x", "1", "2.0±.1"), ((), (), ABOUT))
    text = render.to_html(made(sections=(Section("Ours", (line,), ABOUT),)))
    ids = re.findall(r'id="([^"]*)"', text)
    assert sorted(ids) == ["cell-a", "note-a"]
    assert re.findall(r'href="([^"]*)"', text) == [*["#note-a"] * 3, "#cell-a"]
    heading, note = text.index('id="cell-a"'), text.index('id="note-a"')
    assert text.index("SST-2<sup") < heading < note < text.index("Note of SST-2.")


def test_markdown_and_latex_have_the_letters_as_superscripts():
    text = render.to_markdown(made())
    assert "SST-2<sup>a</sup> |" in text and "- <sup>a</sup> Note of SST-2." in text
    assert "- Note one." in text
    text = render.to_latex(made())
    assert r"SST-2\rlap{\textsuperscript{a}} \\" in text
    assert r"\noindent\textsuperscript{a} Note of SST-2.\par" in text


def test_html_loads_no_other_files():
    text = render.to_html(made())
    assert not re.search(r"src=|href=\"[^#]|@import|url\(", text)
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
    assert cells[:3] == ["Method", "# trainable", "SST-2a"]
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


def command_names(text: str) -> set[str]:
    """Return the LaTeX commands and environments of a text."""
    return set(re.findall(r"\\([A-Za-z]+)", text)) | set(re.findall(r"\\begin\{(\w+)\}", text))


def test_latex_needs_no_package_but_booktabs(paper_table2):
    r"""Every command is of LaTeX's kernel, plain math or booktabs; every letter is known to it."""
    booktabs = {"toprule", "midrule", "bottomrule"}
    kernel = set(
        "begin end table tabular centering caption label footnotesize setlength tabcolsep "
        "multicolumn textbf itshape rlap textsuperscript noindent par sloppy usepackage "
        "textbackslash textasciitilde textasciicircum textless textgreater mathrm pm times dagger "
        "pi Delta varphi".split()
    )
    for page in (made(), paper_table2.page, paper_table2.details):
        text = render.to_latex(page)
        assert command_names(text) <= booktabs | kernel
        assert set(re.findall(r"[^\x00-\x7f]", text)) <= set("“”’é")


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="no pdflatex on this machine: the other LaTeX tests hold"
)
def test_latex_compiles_with_booktabs_alone_and_fits_a_landscape_a4(tmp_path, paper_table2):
    pages = [made(), paper_table2.page, paper_table2.details]
    for index, page in enumerate(pages):
        (tmp_path / f"{index}.tex").write_text(render.to_latex(page), encoding="utf-8")
    document = r"""\documentclass[a4paper,landscape]{article}
\usepackage{booktabs}
\setlength{\textwidth}{26cm}\setlength{\oddsidemargin}{-0.8cm}
\setlength{\textheight}{18cm}\setlength{\topmargin}{-2.2cm}
\begin{document}
""" + "".join(rf"\input{{{index}}}" for index in range(len(pages)))
    (tmp_path / "all.tex").write_text(document + r"\end{document}", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search(r"Overfull \\hbox|Float too large", done.stdout)


def test_listings_and_texts_are_escaped():
    listing = Listing("Runs", "Caption", ("name", "n"), (False, True), ((NASTY, "3"),))
    assert Reader(render.listing_to_html(listing)).tables == [[["name", "n"], [NASTY, "3"]]]
    text = render.text_to_html("Config", "a: <b>\n")
    assert "<pre>a: &lt;b&gt;\n</pre>" in text and "<h1>Config</h1>" in text


@pytest.mark.parametrize("letters, text", [("k", "$W_k$"), ("o", "$W_o$"), ("qk", "$W_q$,$W_k$")])
def test_every_weight_type_is_printed(letters, text):
    assert render.latex(labels.weight_types(letters)) == text
    assert render.markup(labels.weight_types(letters)).count("<sub>") == len(letters)
