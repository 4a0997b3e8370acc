"""What a translation attends to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .theme import Theme, figure_of, shades, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib's import takes long, and only who draws needs it
    Axes = Figure = Any


def alignment(weights: np.ndarray, source: Sequence[str], target: Sequence[str], theme: Theme) -> Figure:
    """How much every token of a target (rows) attends to each of its source (columns). weights: (target, source)."""
    figure = figure_of(0.26 * len(source) + 1.4, 0.26 * len(target) + 1.2)
    axis = figure.subplots()
    axis.grid(False)
    colours = shades(theme.background, theme.training)
    axis.imshow(weights, cmap=colours, vmin=0, vmax=max(0.5, float(weights.max())), aspect="auto")
    axis.set_xticks(range(len(source)), [_shown(token) for token in source], rotation=90, fontsize=8)
    axis.set_yticks(range(len(target)), [_shown(token) for token in target], fontsize=8)
    axis.xaxis.tick_top()
    axis.spines[:].set_visible(False)
    return figure


def _shown(token: str) -> str:
    """A token with its spaces visible."""
    return short_name(token.replace(" ", "\N{OPEN BOX}"), 20)
