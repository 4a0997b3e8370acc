"""The page says what the report says, and its pictures show what the arrays hold."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipeline.report.plots import DARK, LIGHT, png
from pipeline.verify.measure import difference, distances
from pipeline.verify.report import Diagnosis
from pipeline.verify.report import page as pages
from pipeline.verify.report.drawings import CELLS, Sheet, heat_map, planes, profile, short
from pipeline.verify.report.page import page
from pipeline.verify.report.report import Report
from pipeline.verify.report.results import Place, Row

SHAPES = [(), (1,), (5,), (1000,), (7, 3), (200, 300), (300, 3), (3, 900), (5, 12, 6), (40, 2, 70), (3, 3, 8, 16)]
SHAPES += [(100, 90, 80, 2), (2, 3, 2, 4, 5), (2, 2, 2, 2, 2, 2), (1, 1, 1)]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def diagnosis(
    manual: Any, reference: Any, leaf: str = "kernel", kind: str = "factor", text: str = "off by 32"
) -> Diagnosis:
    worst = None
    if manual is not None and reference is not None and manual.shape == reference.shape and manual.size:
        worst = difference(manual, reference, 0.0)
    return Diagnosis(leaf, kind, text, True, "as given", worst, manual, reference)


def failed(leaf: str, message: str = "") -> Row:
    return Row(leaf, "gradient", "float64", 31.0, 1e-11, "fail", message, "as given")


def report(*diagnoses: Diagnosis, rows: tuple[Row, ...] = (), **options: Any) -> Report:
    return Report("dense", (*(failed(d.leaf) for d in diagnoses), *rows), diagnoses, **options)


class Reader(HTMLParser):
    """The text, what is loaded, and every cell of a table with its class and hint."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.loaded, self.tags = "", [], []
        self.cells: list[tuple[str, str, str]] = []
        self.tone, self.hint = "", ""
        self.feed(re.sub(r"<style>.*</style>", "", source, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.loaded += [found[name] for name in ("src", "srcset", "href") if name in found]
        if tag == "td":
            self.cells.append(("", "", ""))
            self.tone, self.hint = "", ""
        if tag == "span":
            self.tone, self.hint = found.get("class") or "", found.get("title") or ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.tags and self.cells and data.strip():
            self.cells[-1] = (self.cells[-1][0] + data.strip(), self.tone, self.hint)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_cell_stands_for_the_elements_that_lead_to_it(shape):
    array, names = planes(normal(*shape))
    sheet = Sheet.of(array, names)
    assert sheet.cells.ndim == 2 and max(sheet.cells.shape) <= CELLS
    expected = np.zeros(sheet.cells.shape)
    random = np.random.default_rng(1)
    indices = list(np.ndindex(shape)) if array.size < 3000 else [tuple(random.integers(shape)) for _ in range(3000)]
    for index in indices:
        index = tuple(map(int, index))
        cell = sheet.cell(index)
        expected[cell] = max(expected[cell], abs(array[index]))
    if array.size < 3000:
        np.testing.assert_array_equal(np.abs(sheet.cells), expected)
    else:
        assert (np.abs(sheet.cells) >= expected).all()
    assert set(sheet.cells.ravel()) <= set(array.ravel())
    assert np.abs(sheet.cells).max() == np.abs(array).max()


def test_one_bad_element_among_many_is_seen():
    array = np.zeros((1000, 1000))
    array[777, 123] = np.nan
    sheet = Sheet.of(array, ["axis 0", "axis 1"])
    assert np.argwhere(np.isnan(sheet.cells)).tolist() == [list(sheet.cell((777, 123)))]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_of_a_picture_is_cut_off_or_overlaps(shape, theme):
    array, names = planes(np.asarray(-1e5 * normal(*shape)))
    drawn: list[Any] = []

    def draw(theme: Any) -> Any:
        drawn.append(heat_map(Sheet.of(array, names), 4e5, (0,) * len(shape), theme))
        return drawn[0]

    assert png(draw, theme).startswith(b"\x89PNG")
    figure = drawn[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    axes = figure.axes[0]
    for labels, side in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
        boxes = sorted(label.get_window_extent(renderer).extents.tolist() for label in labels)
        boxes.sort(key=lambda box: box[side])
        assert all(before[side + 2] <= after[side] for before, after in pairwise(boxes))


def test_colours_are_shares_of_the_limit_and_numbers_are_written_where_there_is_room():
    array = np.array([[2.0, -4.0], [0.0, np.inf]])
    axes = heat_map(Sheet.of(array, ["axis 0", "axis 1"]), 4.0, (0, 1), LIGHT).axes[0]
    shown: Any = axes.images[0].get_array()
    np.testing.assert_array_equal(shown.filled(np.nan), [[0.5, -1], [0, np.nan]])
    assert axes.images[0].get_clim() == (-1, 1)
    assert [text.get_text() for text in axes.texts] == ["2", "-4", "0", "inf"]
    frames: Any = axes.patches
    assert all((frame.get_x(), frame.get_y()) == (0.5, -0.5) for frame in frames)  # around row 0, column 1


def test_the_largest_numbers_of_float64_are_drawn():
    array = np.array([[1.7e308, -1.7e308]])
    axes = heat_map(Sheet.of(array, ["axis 0", "axis 1"]), 1.7e308, None, LIGHT).axes[0]
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), [[1, -1]])


def test_what_is_not_finite_is_striped():
    array = normal(20, 20)
    assert len(heat_map(Sheet.of(array, ["axis 0", "axis 1"]), 4.0, None, LIGHT).axes[0].images) == 1
    array[3, 4] = np.nan
    _, stripes = heat_map(Sheet.of(array, ["axis 0", "axis 1"]), 4.0, None, LIGHT).axes[0].images
    marks = np.asarray(stripes.get_array())
    assert set(marks[24:32, 32:40].ravel()) == {1, 2} and np.count_nonzero(marks) == 64


def test_bars_are_the_profile():
    shares = np.array([0.0, 0.5, 1.0, 1e-6, 1e-16])
    bars: Any = profile(shares, 2, LIGHT).axes[0].patches
    heights = [bar.get_height() for bar in bars]
    assert heights[:3] == [0, 0.5, 1] and 0 < heights[3] < 0.1 and heights[4] == 0  # small, and rounding
    assert len(profile(np.ones(1000), 0, LIGHT).axes[0].patches) == CELLS


def test_errors_of_numbers_that_are_missing_or_equal():
    found = distances(np.array([1.0, np.inf, np.nan, np.inf]), np.array([3.0, np.inf, 0.0, 1.0]))
    assert found.tolist() == [2, 0, np.inf, np.inf]


def test_numbers_in_short():
    assert [short(number) for number in (12.345, 0.012345, 1.2345e-7, 0.0, np.nan)] == [
        "12.3",
        "0.0123",
        "1.2e-7",
        "0",
        "nan",
    ]


ARRAYS = {
    "a matrix": (32 * normal(7, 3), normal(7, 3)),
    "a scalar": (np.array(2.0), np.array(1.0)),
    "a vector": (normal(300), np.zeros(300)),
    "not finite": (np.where(normal(5, 12, 6) > 1, np.nan, np.inf), normal(5, 12, 6)),
    "both infinite": (np.full(4, np.inf), np.full(4, np.inf)),
    "complex": (normal(4, 6) + 1j, normal(4, 6) - 1j),
    "complex by hand only": (normal(4) + 1j, normal(4)),
    "empty": (np.zeros((0, 3)), np.zeros((0, 3))),
    "one empty": (np.zeros((0, 3)), normal(2, 3)),
    "other shapes": (normal(5, 3), normal(3)),
    "none by hand": (None, normal(3)),
    "nothing": (None, None),
    "equal": (normal(3), normal(3)),
    "large": (np.array([1.7e308, -1.7e308]), np.array([1.5e308, 0.0])),
    "tiny": (np.array([5e-324, 0.0]), np.array([0.0, 0.0])),
    "seven axes": (normal(2, 1, 2, 3, 1, 2, 2), 2 * normal(2, 1, 2, 3, 1, 2, 2)),
}
PICTURES = {"a scalar": 3, "a matrix": 5, "complex": 5, "empty": 0, "one empty": 1, "other shapes": 2, "nothing": 0}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_diagnosis_of_any_arrays(name):
    reader = Reader(page(report(diagnosis(*ARRAYS[name]))))
    assert "off by 32" in reader.text and "factor" in reader.text
    assert all(address.startswith("data:image/png;base64,") for address in reader.loaded)
    if name in PICTURES:
        assert reader.tags.count("img") == PICTURES[name]


def test_what_a_diagnosis_says():
    manual, reference = normal(7, 3), normal(7, 3)
    manual[4, 1] *= -800
    reader = Reader(page(report(diagnosis(manual, reference, text="the size of axis 0 of `x`, the batch size"))))
    assert "FAIL: dense" in reader.text
    assert "the size of axis 0 of x, the batch size" in reader.text and "code" in reader.tags
    for text in ("[4, 1]", f"{manual[4, 1]:.10g}", f"{reference[4, 1]:.10g}", "-800", "as given", "|difference|"):
        assert text in reader.text
    assert "on its own scale" in reader.text
    assert "on its own scale" not in page(report(diagnosis(normal(3), normal(3) + 0.1)))


def test_a_report_that_passes():
    rows = (Row("x", "gradient", "float64", 1e-16, 1e-11), Row("", "contract", "float64", 0.0, 0.0))
    reader = Reader(page(Report("dense", rows, notes=("at 0 the function's own convention binds",), seconds=1.5)))
    assert "PASS: dense" in reader.text and "2 of 2" in reader.text and "1.5 s" in reader.text
    assert "own convention binds" in reader.text
    assert [cell[0] for cell in reader.cells] == ["x", "1e-16", "", "(the rule)", "", "ok"]
    assert not reader.loaded and "How to reproduce" not in reader.text


def test_an_empty_report():
    assert "PASS: dense" in Reader(page(Report("dense", ()))).text


@pytest.mark.parametrize(
    ("verdict", "shown"), [("fail", "✗ 0.5"), ("inconclusive", "? 0.5"), ("oracles disagree", "≠ 0.5")]
)
def test_what_does_not_hold_stands_out_and_is_explained(verdict, shown):
    row = Row("x", "gradient", "float64", 0.5, 1e-11, verdict, "worst at [3]", "ties")
    better = Row("x", "gradient", "float64", 1e-16, 1e-11, probe="as given")
    reader = Reader(page(Report("dense", (better, row, better))))
    assert f"{verdict.upper()}: dense" in reader.text and str(row) in reader.text
    assert reader.cells[1] == (shown, "bad" if verdict == "fail" else "doubtful", str(row))


def test_places_and_what_they_explain():
    places = (Place("model/layers/3", "Conv(features=8)", "kernel: not flipped"),)
    rows = (failed("model/layers/0/kernel", "inherited"),)
    shown = Reader(page(report(rows=rows, places=places))).text
    assert "model/layers/3: Conv(features=8): kernel: not flipped" in shown and "Failed checks" not in shown


def test_names_are_text_whatever_they_hold():
    name = "<script>alert('x')</script> & \"$\\alpha_{$ {{ 7 * 7 }} `x`"
    source = page(
        report(diagnosis(normal(2), normal(2) + 1, leaf=name, text=name), rows=(failed(name, name),), notes=(name,))
    )
    reader = Reader(source)
    assert "script" not in reader.tags
    assert reader.text.count("alert('x')") >= 4 and "49" not in re.sub(r"<style>.*</style>", "", reader.text)


def test_hundreds_of_rows_and_a_long_subject():
    rows = tuple(failed(f"params/layers/{i}/kernel") for i in range(600))
    subject = f"Serial(({', '.join(['Dense(features=4)'] * 100)}))"
    reader = Reader(page(Report(subject, rows)))
    assert len(reader.cells) == 1200 and "600" in reader.text and subject in reader.text


def test_only_so_many_diagnoses_are_drawn(monkeypatch):
    monkeypatch.setattr(pages, "PICTURED", 1)
    reader = Reader(page(report(*(diagnosis(normal(2), 2 * normal(2), leaf=f"leaf {i}") for i in range(3)))))
    assert reader.tags.count("img") == 4 and reader.text.count("Only the first 1 are drawn") == 2


def test_it_is_written(tmp_path):
    found = report(diagnosis(normal(2), 2 * normal(2)))
    source = found.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == source
    assert not re.search(r"@import|url\(|<script|<link|https?://", source)
