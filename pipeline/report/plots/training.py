"""How training went: curves, the sizes of gradients, and how closely they agree with autodiff."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extras import extra
from .theme import LIGHT, WIDTH, Line, Theme, figure_of, plain_ticks, short_name, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib's import takes long, and only who draws needs it
    Axes = Figure = Any


TOLERANCE = 1e-11  # what every gradient in float64 must stay under


EXACT = 1e-18  # where an error of exactly zero is drawn on a logarithmic axis


def evaluations_in(metrics: Sequence[Line]) -> list[Line]:
    """The lines that evaluations of the validation split have logged."""
    return [line for line in metrics if line["kind"] == "evaluation" and line["split"] == "validation"]


def curves(metrics: Sequence[Line], metric: str | None, theme: Theme) -> Figure:
    """Loss and ``metric`` against epochs: training step by step and its running mean, validation after each epoch.

    metric: None where the loss says it all.
    """
    figure = figure_of(WIDTH, 3.6)
    names = ("loss", metric) if metric else ("loss",)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    steps = [line for line in metrics if line["kind"] == "step"]
    evaluations = evaluations_in(metrics)
    per_epoch = _steps_per_epoch(evaluations, steps)
    for axis, name in zip(axes, names):
        drawn = [(line["step"] / per_epoch, line[name]) for line in steps if name in line]
        if drawn:
            x, y = np.transpose(drawn)
            _with_running_mean(axis, x, y, theme.training, "training (running mean)", "training")
        x, y = [line["step"] / per_epoch for line in evaluations], [line[name] for line in evaluations]
        axis.plot(x, y, color=theme.validation, marker="o", markersize=4, label="validation")
        axis.set(title=name.capitalize(), xlabel="epoch")
        whole_numbers(axis)
    _logarithmic(axes[0])
    if metric:
        axes[1].set_ylim(*_upper_part([line[metric] for line in (*steps, *evaluations) if metric in line]))
    axes[-1].legend(loc="lower right" if metric else "upper right")
    return figure


def _logarithmic(axis: Axes) -> None:
    """A logarithmic y axis with its ticks as plain numbers: 0.2, 0.5, 1, 2."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    plain_ticks(axis.yaxis, (1, 2, 5) if high / low < 1e3 else (1,))


def _steps_per_epoch(evaluations: Sequence[Line], steps: Sequence[Line]) -> float:
    """Steps in an epoch, from the last evaluation: it stands at the end of its epoch, the first of which is 1."""
    last = (evaluations or steps)[-1]
    return last["step"] / max(1, last["epoch"])


def _with_running_mean(
    axis: Axes, x: np.ndarray, y: np.ndarray, colour: Any, label: str, label_of_few: str, geometric: bool = False
) -> None:
    """Values as a pale line, and their running mean as a strong one; too few for a mean are a line with its points.

    geometric: whether it is the mean of the values' logarithms.
    """
    smooth, window = _running_mean(np.log(np.maximum(y, 1e-30)) if geometric else y)
    if window == 1:
        axis.plot(x, y, color=colour, marker="o", markersize=4, label=label_of_few)
        return
    axis.plot(x, y, color=colour, alpha=0.25, linewidth=1)
    axis.plot(x[window - 1 :], np.exp(smooth) if geometric else smooth, color=colour, label=label)


def _running_mean(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The mean over a window of a fortieth of the values (of fewer than 400: a fifth, at most 10), and its length."""
    window = max(1, len(values) // 40, min(10, len(values) // 5))
    return np.convolve(values, np.full(window, 1 / window), mode="valid"), window


def _upper_part(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis of accuracies: down to where the better three quarters of them are, but at most 0.9."""
    low = min(0.9, float(np.quantile(values, 0.25))) if values else 0.0
    return max(0.0, low - 0.05), 1.005


def gradient_norms(metrics: Sequence[Line], theme: Theme) -> Figure:
    """The length of every layer's gradient against steps, on a logarithmic axis; dark lines are early layers."""
    with extra("report"):
        import matplotlib as mpl

    steps = [line for line in metrics if line["kind"] == "step" and line.get("gradient_norm")]
    layers = sorted(steps[0]["gradient_norm"], key=_in_order) if steps else []
    figure = figure_of(WIDTH, max(3.6, 0.19 * len(layers) + 0.8))
    axis = figure.subplots()
    low, high = (0.0, 0.85) if theme is LIGHT else (0.2, 1.0)
    x = np.array([line["step"] for line in steps])
    for layer, position in zip(layers, np.linspace(low, high, len(layers))):
        y = np.array([line["gradient_norm"][layer] for line in steps], float)
        y[y == 0] = np.nan  # behind a kernel of zeros nothing arrives at the first step
        _with_running_mean(axis, x, y, mpl.colormaps["viridis"](position), layer, layer, geometric=True)
    axis.set(xlabel="step", ylabel="L2 norm of the gradient")
    _logarithmic(axis)
    if layers:
        figure.legend(loc="outside right center", fontsize=8)
    return figure


def _in_order(path: str) -> list[tuple[bool, int, str]]:
    """Sorts layers as they stand in the model: layers/2 before layers/10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.split("/")]


def gradient_agreement(relative_errors: Mapping[str, float], theme: Theme) -> Figure:
    """Each leaf's disagreement between the two gradients, on a logarithmic axis with the tolerance."""
    leaves = list(relative_errors)
    errors = np.array([relative_errors[leaf] for leaf in leaves], float)
    figure = figure_of(WIDTH, max(2.2, 0.24 * len(leaves) + 1))
    axis = figure.subplots()
    y = np.arange(len(leaves))
    exact = errors == 0
    drawn = np.where(exact, EXACT, errors)
    colours = np.where(errors <= TOLERANCE, theme.training, theme.wrong)
    axis.hlines(y, EXACT / 10, drawn, color=theme.grid, linewidth=1.5)
    axis.scatter(drawn, y, s=36, color=np.where(exact, theme.background, colours), edgecolors=list(colours), zorder=3)
    axis.axvline(TOLERANCE, color=theme.wrong, linestyle="--", linewidth=1.5)
    axis.text(TOLERANCE * 1.6, -0.9, "1e-11: the limit", color=theme.wrong, va="center", fontsize=9)
    epsilon = np.finfo(np.float64).eps
    axis.axvline(epsilon, color=theme.text, linestyle=":", linewidth=1, alpha=0.6)
    axis.text(epsilon * 1.6, -0.9, "float64's own rounding", va="center", fontsize=9, alpha=0.8)
    axis.set_xscale("log")
    axis.set_xlim(EXACT / 10, max(1e-9, float(drawn.max(initial=0)) * 10))
    ticks = [10.0**power for power in range(-16, int(np.log10(axis.get_xlim()[1])) + 1, 2)]
    axis.set_xticks([EXACT, *ticks], ["exactly 0", *(f"{tick:.0e}" for tick in ticks)])
    axis.set_yticks(y, leaves, family="monospace", fontsize=8)
    axis.set_ylim(len(leaves) - 0.4, -1.6)
    axis.grid(False, axis="y")
    axis.set(xlabel="largest difference / largest gradient of the leaf")
    return figure


def progress(metrics: Sequence[Line], names: Sequence[str], theme: Theme) -> Figure:
    """Each of the named validation metrics against epochs."""
    figure = figure_of(WIDTH, 3.2)
    evaluations = evaluations_in(metrics)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        x, y = [line["epoch"] for line in evaluations], [line[name] for line in evaluations]
        axis.plot(x, y, color=theme.validation, marker="o", markersize=3)
        axis.set(title=name, xlabel="epoch")
        whole_numbers(axis)
    return figure


def overlaid(lines: Mapping[str, Sequence[tuple[float, float]]], theme: Theme) -> Figure:
    """Several runs' values against epochs, by the runs' names."""
    with extra("report"):
        import matplotlib as mpl

    figure = figure_of(WIDTH, 3.6)
    axis = figure.subplots()
    low, high = (0.0, 0.85) if theme is LIGHT else (0.2, 1.0)
    for (name, points), place in zip(lines.items(), np.linspace(low, high, len(lines))):
        if points:
            x, y = np.transpose(points)
            colour = mpl.colormaps["viridis"](place)
            axis.plot(x, y, color=colour, marker="o", markersize=3, label=short_name(name))
    axis.set(xlabel="epoch")
    whole_numbers(axis)
    figure.legend(loc="outside right center", fontsize=8)
    return figure
