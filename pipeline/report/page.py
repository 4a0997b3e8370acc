"""A page that needs nothing beside it, with its plots inside: a run's ``report.html``, a verification's.

Each plot stands twice on it, drawn for a light and for a dark background; the reader's device picks.
"""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import storage
from ..display import visible_lines
from ..extras import extra
from .plots import DARK, DPI, LIGHT, Figure, Theme, png

with extra("report"):
    from markupsafe import Markup, escape

LONGEST_CELL = 1_000
"""Characters of a line in a table; of a longer one the middle is left out."""


@dataclass(frozen=True)
class Plot:
    """A figure for the page. name: of its file, without ``.png``; caption: one sentence on what to see in it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class Cell:
    """A text whose colour says something. hint: shown while the pointer rests on it."""

    text: str
    tone: Literal["", "good", "bad", "doubtful"] = ""
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading; ``caption`` is one sentence. The first column names the row.

    sentences: whether all columns hold some, which are broken into lines, rather than numbers.
    """

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    sentences: bool = False


@dataclass(frozen=True)
class Section:
    """Everything about one thing, under one heading, in this order; what is empty is left out.

    badge: a word beside the heading.
    lead: what there is to say; caption: what else to know; code: text as it is written; items: a list of sentences.
    facts: name and value. plots: small ones, side by side where the page is broad enough; legend: how to read them.
    In lead, caption, items and legend, what stands between ``backticks`` is set as code.
    """

    title: str
    badge: Cell | None = None
    lead: str = ""
    caption: str = ""
    code: str = ""
    items: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    plots: Sequence[Plot] = ()
    legend: str = ""


Part = Plot | Table | Section
"""What a page consists of."""


@dataclass(frozen=True)
class Page:
    """What a report says, in the order in which it is read.

    headline: the few numbers that matter, each (value, what it is).
    summary: one paragraph: what was trained, on what, with which result.
    badge: the verdict, before the title.
    facts: name and value of everything else about a run.
    reproduce: the command that repeats a run; environment: name and value (versions, device).
    """

    title: str
    headline: Sequence[tuple[str, str]]
    summary: str
    sections: Sequence[Part]
    facts: Sequence[tuple[str, str]] = ()
    reproduce: str = ""
    environment: Sequence[tuple[str, str]] = ()
    badge: Cell | None = None

    @property
    def parts(self) -> list[Part]:
        """All sections: the run's facts first, how to repeat it last."""
        first = [Section("The run", facts=self.facts)] if self.facts else []
        same = "The same command and seed on the same device, cores and versions give the same bytes in the parameters."
        last = Section("How to reproduce", caption=same, code=self.reproduce, facts=self.environment)
        return [*first, *self.sections, *([last] if self.reproduce else [])]

    @property
    def plots(self) -> list[Plot]:
        """Those that stand alone, and those inside sections."""
        plots: list[Plot] = []
        for part in self.parts:
            plots += [part] if isinstance(part, Plot) else part.plots if isinstance(part, Section) else []
        return plots


@dataclass(frozen=True)
class Drawing:
    """A plot's two PNG files."""

    light: bytes
    dark: bytes

    @property
    def width(self) -> int:
        """In pixels of a page, of which 96 are an inch; a PNG's bytes 16 to 19 are its own pixels."""
        return int.from_bytes(self.light[16:20]) * 96 // DPI


def write(run: Path, page: Page) -> Path:
    """Writes ``plots/*.png`` and ``report.html`` into the folder ``run``, and returns the page's path."""
    drawings = _drawn(page)
    (run / "plots").mkdir(exist_ok=True)
    for plot, drawing in drawings.items():
        (run / "plots" / f"{plot.name}.png").write_bytes(drawing.light)
    report = run / "report.html"
    storage.write(report, _html(page, drawings))
    return report


def render(page: Page) -> str:
    """The page alone, as HTML."""
    return _html(page, _drawn(page))


def _drawn(page: Page) -> dict[Plot, Drawing]:
    return {plot: Drawing(png(plot.draw, LIGHT), png(plot.draw, DARK)) for plot in page.plots}


def _html(page: Page, drawings: dict[Plot, Drawing]) -> str:
    with extra("report"):
        import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_visible
    )
    as_text = lambda file: Markup(base64.b64encode(file).decode())  # noqa: E731
    environment.filters |= {"base64": as_text, "prose": _prose, "breakable": _breakable}
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    kinds = {Plot: "plot", Table: "table", Section: "section"}
    return template.render(page=page, drawings=drawings, parts=[(kinds[type(part)], part) for part in page.parts])


def _visible(value: Any) -> Any:
    """What the template shows, without hidden characters: names and texts are the user's."""
    return visible_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _prose(text: str) -> Markup:
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(visible_lines(text)))))


def _breakable(text: str) -> Markup:
    """A table's text, in which a line may end after a slash."""
    return escape(visible_lines(text, LONGEST_CELL)).replace("/", Markup("/<wbr>"))
