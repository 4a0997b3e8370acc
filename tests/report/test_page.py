"""The page stands alone: everything it shows is inside it."""

import base64
import re
from html.parser import HTMLParser

from matplotlib.figure import Figure

from pipeline.report.page import Cell, Page, Plot, Section, Table, render, write

LOADS = {"src", "srcset", "href", "poster", "data", "action"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in LOADS]

    def handle_data(self, data: str) -> None:
        self.text += data


def draw(theme):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], color=theme.training)
    return figure


def test_page(tmp_path):
    page = Page(
        title="Cats & dogs <b>",
        headline=[("99.1 %", "test accuracy")],
        summary="A summary.",
        facts=[("model", "convnet")],
        sections=[
            Plot("curves", "Curves", "What it shows.", draw),
            Table("By class", "A caption.", ("class", "F1"), [("cat", "0.98")]),
        ],
        reproduce="scripts/run image_recognition --seed 3",
        environment=[("jax", "0.10.2")],
    )
    report = write(tmp_path, page)
    source = report.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(source)

    assert len(reader.loaded) == 2
    assert all(address.startswith("data:image/png;base64,") for address in reader.loaded)
    assert not re.search(r"@import|url\(|<script|<link", source)
    assert (tmp_path / "plots" / "curves.png").read_bytes() == base64.b64decode(reader.loaded[1].partition(",")[2])
    assert reader.loaded[0] != reader.loaded[1]
    for text in ("Cats & dogs <b>", "99.1 %", "A summary.", "What it shows.", "0.98", "--seed 3", "0.10.2"):
        assert text in reader.text


def test_a_page_without_a_run():
    section = Section(
        "kernel <b>",
        badge=Cell("factor", "bad"),
        lead="off by the size of axis 0 of `x` & more",
        items=["an item"],
        facts=[("worst element", "[0, 1]")],
        plots=[Plot("by_hand", "by hand", "", draw), Plot("autodiff", "by autodiff", "", draw)],
        legend="how to read them",
    )
    cells = [("layers/0/kernel", Cell("31", "bad", 'hint "quoted"'))]
    source = render(
        Page(
            "dense", [], "A summary.", [section, Table("All", "", ("leaf", "error"), cells)], badge=Cell("FAIL", "bad")
        )
    )
    reader = Reader()
    reader.feed(source)

    assert len(reader.loaded) == 4
    for text in ("FAIL: dense", "kernel <b>", "axis 0 of x & more", "an item", "[0, 1]", "by autodiff", "how to read"):
        assert text in reader.text
    assert (
        "layers/<wbr>0/<wbr>kernel" in source and '<span class="bad" title="hint &#34;quoted&#34;">31</span>' in source
    )
    assert "The run" not in reader.text and "How to reproduce" not in reader.text


NASTY = ("[/b]", "$x^{$", "<script>alert(1)</script>", "{{ page }}", "\x1b[31mred", "\udc80", "x" * 10_000)


def test_texts_of_the_user_are_shown_and_do_nothing(tmp_path):
    text = " & ".join(NASTY[:-1])
    sections = [
        Plot("plot", text, text, draw),
        Table(text, text, NASTY, [NASTY]),
        Section(
            text, lead=f"`{text}`", caption=text, code=f"{text}\n\tsecond line", items=[text], facts=[(text, text)]
        ),
    ]
    page = Page(text, [(text, text)], text, sections, [(text, text)], reproduce=text)
    source = write(tmp_path, page).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(source)
    assert "<script" not in source and "\x1b" not in source
    shown = text.replace("\x1b", "\\x1b").replace("\udc80", "\\udc80")
    assert reader.text.count(shown) == 19 and f"{shown}\n\tsecond line" in reader.text
    assert "x" * 600 in reader.text and "x" * 700 not in reader.text  # shortened in tables
