"""What a classifier gets right and wrong: confusion matrices, mistakes, filters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extras import extra
from .theme import WIDTH, Theme, figure_of, shades, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib's import takes long, and only who draws needs it
    Axes = Figure = Any


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str], theme: Theme) -> Figure:
    """How often each true class (row) was taken for each class (column). Zeros are left blank."""
    with extra("train"):
        from sklearn.metrics import confusion_matrix as count_confusions

    counts = count_confusions(labels, predictions, labels=np.arange(len(classes)))
    names = [short_name(name) for name in classes]
    longest = max(map(len, names))
    side = max(4.2, 0.52 * len(classes) + 1.4) + 0.08 * max(0, longest - 12)
    figure = figure_of(side, side)
    axis = figure.subplots()
    axis.grid(False)
    # Mistakes are few beside what is right: the root keeps a single one visible.
    shade = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    colours = shades(theme.background, theme.training)
    axis.imshow(shade, cmap=colours, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            red, green, blue, _ = colours(float(shade[row, column]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            weight = "bold" if row != column else "normal"
            colour = "#ffffff" if dark else "#1f2430"
            axis.text(column, row, f"{count}", ha="center", va="center", color=colour, weight=weight, fontsize=9)
    ticks = range(len(classes))
    turn = 0 if longest <= 3 else 45
    axis.set_xticks(ticks, names, rotation=turn, ha="right" if turn else "center")
    axis.set_yticks(ticks, names)
    axis.set(xlabel="predicted", ylabel="true")
    axis.spines[:].set_visible(False)
    return figure


def filters(kernel: np.ndarray, theme: Theme, limit: int = 64) -> Figure:
    """The first layer's filters, at most ``limit``: (height, width, channels, filters), or (time, channels, filters).

    Filters of three channels are shown in colour, others as the mean over their channels.
    """
    kernel = kernel[..., :limit]
    count = kernel.shape[-1]
    columns = min(16, count)
    rows = -(-count // columns)
    figure = figure_of(WIDTH, WIDTH / columns * rows, gap=0.06)
    axes = figure.subplots(rows, columns, squeeze=False)
    largest = float(np.abs(kernel).max(initial=1e-12))
    for axis, one in zip(axes.flat, np.moveaxis(kernel, -1, 0)):
        if one.ndim == 3 and one.shape[-1] == 3:
            axis.imshow(one / (2 * largest) + 0.5)
        elif one.ndim == 3:
            axis.imshow(one.mean(-1), cmap="RdBu_r", vmin=-largest, vmax=largest)
        else:
            axis.axhline(0, color=theme.grid, linewidth=1)
            axis.plot(one, color=theme.training, linewidth=1.5)
            axis.set_ylim(-largest * 1.1, largest * 1.1)
    bare(axes)
    return figure


def mistakes(
    inputs: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    theme: Theme,
    limit: int = 24,
) -> Figure:
    """The wrongly classified examples of which the model was surest, the surest first, at most ``limit``.

    inputs: images (examples, height, width, channels) in [0, 1] or signals (examples, time, channels).
    """
    predictions = probabilities.argmax(-1)
    wrong = np.flatnonzero(predictions != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predictions[wrong]], kind="stable")][:limit]
    if not len(wrong):
        figure = figure_of(WIDTH, 1.0)
        figure.text(0.5, 0.5, "No mistakes: every example was classified correctly.", ha="center", va="center")
        return figure
    columns = 6
    rows = -(-len(wrong) // columns)
    figure = figure_of(WIDTH, (WIDTH / columns + 0.55) * rows if inputs.ndim == 4 else (1.5 + 0.55) * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    names = np.asarray([short_name(name, 12) for name in classes])
    for axis, x, true, predicted, row in zip(
        axes.flat, inputs[wrong], names[labels[wrong]], names[predictions[wrong]], probabilities[wrong]
    ):
        if x.ndim == 3:
            axis.imshow(np.clip(x, 0, 1), cmap="gray", vmin=0, vmax=1)
        else:
            axis.plot(x, color=theme.training, linewidth=1.5)
        axis.set_title(f"true {true}\npredicted {predicted}  {row.max():.0%}", fontsize=9, linespacing=1.3)
    bare(axes)
    return figure


def bare(axes: np.ndarray) -> None:
    """No ticks and no grid; a frame only where something is drawn."""
    for axis in axes.flat:
        axis: Axes
        axis.grid(False)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(axis.has_data() and not axis.images)
        axis.patch.set_visible(axis.has_data())
