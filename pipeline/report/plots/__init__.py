"""Plots of runs and models: plain data in, a matplotlib figure out. ``png`` turns one into the bytes of a file."""

from .classification import confusion_matrix, filters, mistakes
from .diagnosis import attributions, bars, reliability, roc
from .recommendation import by_amount, points, ranking
from .theme import (
    DARK,
    DPI,
    LIGHT,
    WIDTH,
    Figure,
    Line,
    Theme,
    figure_of,
    png,
    shades,
    short_name,
    whole_numbers,
)
from .training import (
    EXACT,
    TOLERANCE,
    curves,
    evaluations_in,
    gradient_agreement,
    gradient_norms,
    overlaid,
    progress,
)
from .translation import alignment

__all__ = [
    "DARK",
    "DPI",
    "EXACT",
    "LIGHT",
    "TOLERANCE",
    "WIDTH",
    "Figure",
    "Line",
    "Theme",
    "alignment",
    "attributions",
    "bars",
    "by_amount",
    "confusion_matrix",
    "curves",
    "evaluations_in",
    "figure_of",
    "filters",
    "gradient_agreement",
    "gradient_norms",
    "mistakes",
    "overlaid",
    "png",
    "points",
    "progress",
    "ranking",
    "reliability",
    "roc",
    "shades",
    "short_name",
    "whole_numbers",
]
