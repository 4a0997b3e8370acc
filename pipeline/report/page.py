"""A run's ``report.html``: one file that needs nothing beside it, with its plots inside.

The same plots are left as files in ``plots/``. On the page each stands twice, drawn for a light and for a dark
background; the reader's device picks.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from pipeline.report.plots import DARK, DPI, LIGHT, Theme, png


@dataclass(frozen=True)
class Plot:
    """A figure for the page. name: of its file, without ``.png``; caption: one sentence on what to see in it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading; ``caption`` is one sentence. The first column names the row."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """What a report says, in the order in which it is read.

    headline: the few numbers that matter, each (value, what it is).
    summary: one paragraph: what was trained, on what, with which result.
    facts: name and value of everything else about the run.
    reproduce: the command that repeats the run; environment: name and value (versions, device).
    """

    title: str
    headline: Sequence[tuple[str, str]]
    summary: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Plot | Table]
    reproduce: str
    environment: Sequence[tuple[str, str]]


def write(run: Path, page: Page) -> Path:
    """Writes ``plots/*.png`` and ``report.html`` into the folder ``run``, and returns the page's path."""
    (run / "plots").mkdir(exist_ok=True)
    images = {}
    for plot in (section for section in page.sections if isinstance(section, Plot)):
        light, dark = png(plot.draw, LIGHT), png(plot.draw, DARK)
        (run / "plots" / f"{plot.name}.png").write_bytes(light)
        images[plot.name] = {
            "light": base64.b64encode(light).decode(),
            "dark": base64.b64encode(dark).decode(),
            "width": int.from_bytes(light[16:20])
            * 96
            // DPI,  # a PNG's bytes 16 to 19; 96 pixels of a page are an inch
        }
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        files("pipeline.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    report = run / "report.html"
    report.write_text(template.render(page=page, images=images), encoding="utf-8")
    return report
