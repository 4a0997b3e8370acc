"""Plots of a training run: plain data in, a matplotlib figure out. ``png`` turns one into the bytes of a file.

Colours keep their meaning throughout (training, validation, judged wrong) and are told apart by people who are colour
blind (Okabe & Ito 2008, "Color Universal Design"); quantities that grow are drawn in viridis, which also grows in
lightness.
"""

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...display import visible
from ...extras import extra
from . import fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib's import takes long, and only who draws needs it
    Axes = Figure = Any

Line = Mapping[str, Any]  # one line of metrics.jsonl


@dataclass(frozen=True)
class Theme:
    """The colours of a page that the plots stand on."""

    background: str
    text: str
    grid: str
    training: str
    validation: str
    wrong: str


LIGHT = Theme("#ffffff", "#1f2430", "#dfe3ea", "#0072b2", "#d55e00", "#b03a5b")
DARK = Theme("#171a21", "#e4e7ee", "#343a47", "#56b4e9", "#e69f00", "#f08cab")

DPI = 150
WIDTH = 9.0  # inches of a plot as broad as the page


def png(draw: Callable[[Theme], Figure], theme: Theme = LIGHT) -> bytes:
    """The PNG file of ``draw(theme)``, drawn in the style that all plots share."""
    with extra("report"):
        import matplotlib as mpl

    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": [fonts.FONT],
        "text.parse_math": False,  # names and texts are the user's, and a dollar is a dollar
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": theme.background,
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
        "text.color": theme.text,
        "xtick.color": theme.text,
        "ytick.color": theme.text,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "lines.linewidth": 2,
        "lines.solid_capstyle": "round",
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        figure = draw(theme)
        mpl.rcParams["font.sans-serif"] = fonts.families_for(fonts.characters_in(figure))
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def short_name(name: str, longest: int = 40) -> str:
    """A name of the user's for a plot, of at most ``longest`` characters and without hidden ones."""
    return visible(name, longest)


def figure_of(width: float, height: float, gap: float = 0.02) -> Figure:
    """width, height: inches; gap: between its axes, as a share of their size."""
    with extra("report"):
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap, hspace=gap))


def whole_numbers(axis: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    with extra("report"):
        from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def plain_ticks(axis: Any, multiples: tuple[int, ...]) -> None:
    """Ticks of a logarithmic axis at these multiples of powers of ten, as plain numbers: 0.2, 0.5, 1, 2."""
    with extra("report"):
        from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def shades(low: str, high: str, name: str = "share") -> Any:
    """The colour map from one colour to another."""
    with extra("report"):
        from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(name, [low, high])
