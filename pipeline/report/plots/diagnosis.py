"""Diagnoses: ROC curves, reliability diagrams, and what drove the answers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .classification import bare
from .theme import WIDTH, Theme, figure_of, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib's import takes long, and only who draws needs it
    Axes = Figure = Any


def roc(
    false_positive_rate: np.ndarray,
    true_positive_rate: np.ndarray,
    points: Mapping[str, tuple[float, float]],
    roc_auc: float,
    theme: Theme,
) -> Figure:
    """The ROC curve, with operating points by name.

    false_positive_rate, true_positive_rate: at every threshold; points: the pair of each operating point.
    """
    figure = figure_of(5.2, 4.8)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=theme.grid, linestyle="--", linewidth=1.5)
    axis.step(false_positive_rate, true_positive_rate, where="post", color=theme.training, label=f"AUC {roc_auc:.4f}")
    for (name, (x, y)), marker in zip(points.items(), "os^"):
        axis.plot(x, y, marker, color=theme.validation, markersize=8, label=name, linestyle="none", zorder=3)
    axis.set(
        xlabel="false positive rate (1 - specificity)",
        ylabel="true positive rate (sensitivity)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axis.legend(loc="lower right")
    return figure


def reliability(diagrams: Mapping[str, Sequence[np.ndarray]], theme: Theme) -> Figure:
    """Accuracy against confidence, one panel a diagram, by its title.

    diagrams: confidence, accuracy and count of each bin; a dot's area is its count.
    """
    figure = figure_of(WIDTH, 4.4)
    axes = figure.subplots(1, len(diagrams), squeeze=False)[0]
    for axis, (title, (confidence, accuracy, counts)) in zip(axes, diagrams.items()):
        axis.plot([0, 1], [0, 1], color=theme.grid, linestyle="--", linewidth=1.5)
        ends = np.minimum(confidence, accuracy), np.maximum(confidence, accuracy)
        axis.vlines(confidence, *ends, color=theme.wrong, linewidth=2, alpha=0.7)
        sizes = 30 + 400 * counts / counts.sum()
        axis.scatter(confidence, accuracy, s=sizes, color=theme.training, alpha=0.85, zorder=3)
        low = max(0.0, min(float(confidence.min()), float(accuracy.min())) - 0.08)
        axis.set(title=title, xlabel="confidence (mean probability)", xlim=(low, 1.03), ylim=(low, 1.03))
    axes[0].set_ylabel("accuracy")
    return figure


def bars(names: Sequence[str], values: np.ndarray, label: str, theme: Theme) -> Figure:
    """A signed number for each name, from top to bottom."""
    figure = figure_of(WIDTH, 0.3 * len(names) + 0.8)
    axis = figure.subplots()
    colours = np.where(values >= 0, theme.wrong, theme.training)
    axis.barh(np.arange(len(names)), values, color=list(colours), height=0.65)
    axis.axvline(0, color=theme.text, linewidth=1)
    axis.set_yticks(np.arange(len(names)), [short_name(name) for name in names], fontsize=9)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set(xlabel=label)
    return figure


def attributions(inputs: np.ndarray, values: np.ndarray, titles: Sequence[str], theme: Theme) -> Figure:
    """What each pixel or sample adds to an answer: red speaks for it, blue against it.

    inputs: images (examples, height, width, channels) in [0, 1], each beside its values; or signals (examples, time,
    channels), under their values. values: of the inputs' shape; channels are added up.
    """
    of_images = inputs.ndim == 4
    sums = values.sum(-1)
    columns = min(4 if of_images else 2, len(inputs))
    rows = -(-len(inputs) // columns)
    figure = figure_of(WIDTH * columns / (4 if of_images else 2), (1.75 if of_images else 1.9) * rows, gap=0.03)
    axes = figure.subplots(rows, columns * (1 + of_images), squeeze=False)
    panels = axes.reshape(-1, 1 + of_images)
    for pair, x, value, title in zip(panels, inputs, sums, titles):
        most = float(np.abs(value).max(initial=1e-12))
        if of_images:
            pair[0].imshow(np.clip(x, 0, 1), cmap="gray", vmin=0, vmax=1)
            pair[1].imshow(value, cmap="RdBu_r", vmin=-most, vmax=most)
        else:
            extent = (-0.5, len(x) - 0.5, float(x.min()), float(x.max()) + 1e-6)
            pair[0].imshow(value[None], cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6, extent=extent, aspect="auto")
            pair[0].plot(x, color=theme.text, linewidth=1.2)
        lines = [short_name(line, 28) for line in title.split("\n")]
        pair[0].set_title("\n".join(lines), fontsize=8, linespacing=1.3)
    bare(axes)
    return figure
