"""The page stands alone: everything it shows is inside it."""

import base64
import re
from html.parser import HTMLParser

from matplotlib.figure import Figure

from pipeline.report.page import Page, Plot, Table, write

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
