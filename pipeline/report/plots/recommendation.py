"""What a recommender has learned: errors by amount of data, ranks, and a map of items."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .theme import WIDTH, Theme, figure_of, plain_ticks, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib's import takes long, and only who draws needs it
    Axes = Figure = Any


def by_amount(
    amounts: Sequence[np.ndarray], errors: Mapping[str, np.ndarray], names: Sequence[str], theme: Theme
) -> Figure:
    """Root mean square of each kind of error, by how many training ratings a user, and an item, has.

    amounts: for the users and for the items, of each test rating, (ratings,); errors: by name, (ratings,), the first of
    them the model's; names: of the two axes. The groups are about equally large.
    """
    figure = figure_of(WIDTH, 3.6)
    for axis, amount, name in zip(figure.subplots(1, 2, sharey=True), amounts, names):
        edges = np.unique(np.quantile(amount, np.linspace(0, 1, 9)))
        group = np.clip(np.searchsorted(edges, amount, side="right") - 1, 0, max(0, len(edges) - 2))
        present = np.unique(group)
        x = [max(1.0, float(amount[group == its].mean())) for its in present]
        for (label, error), colour in zip(errors.items(), (theme.training, theme.wrong)):
            y = [float(np.sqrt(np.mean(error[group == its] ** 2))) for its in present]
            axis.plot(x, y, color=colour, marker="o", markersize=5, label=label)
        axis.set_xscale("log")
        plain_ticks(axis.xaxis, (1, 2, 5))
        axis.set(xlabel=name)
    figure.axes[0].set(ylabel="RMSE")
    figure.axes[1].legend()
    return figure


def ranking(cutoffs: Sequence[int], metrics: Mapping[str, Mapping[str, float]], theme: Theme) -> Figure:
    """The share of targets among the first k, and their NDCG, against k. metrics: by label, "hr@K" and "ndcg@K"."""
    figure = figure_of(WIDTH, 3.6)
    both = figure.subplots(1, 2)
    for (label, its), colour in zip(metrics.items(), (theme.training, theme.wrong)):
        for axis, name in zip(both, ("hr", "ndcg")):
            y = [its[f"{name}@{k}"] for k in cutoffs]
            axis.plot(cutoffs, y, color=colour, marker="o", markersize=4, label=label)
    for axis, name in zip(both, ("HR@k, and recall@k", "NDCG@k")):
        axis.set_xscale("log")
        axis.set_xticks([k for k in cutoffs if k in (1, 2, 5, 10, 20, 50, 100)])
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set(title=name, xlabel="k")
        axis.set_ylim(bottom=0)
    both[0].legend()
    return figure


def points(
    places: np.ndarray, values: np.ndarray, sizes: np.ndarray, named: Mapping[int, str], scale: str, theme: Theme
) -> Figure:
    """Points in the plane, (points, 2), coloured by ``values`` and as large as ``sizes``; some with their names."""
    figure = figure_of(WIDTH, 5.6)
    axis = figure.subplots()
    order = np.argsort(-sizes)
    area = 8 + 110 * sizes / max(float(sizes.max(initial=1)), 1e-12)
    drawn = axis.scatter(*places[order].T, s=area[order], c=values[order], cmap="viridis", alpha=0.75, linewidths=0)
    figure.colorbar(drawn, ax=axis, label=scale, fraction=0.04, pad=0.01).outline.set_visible(False)  # pyright: ignore
    middle = places[:, 0].mean()
    for i, name in named.items():
        side, where = (-6, "right") if places[i, 0] > middle else (6, "left")
        axis.annotate(
            short_name(name), places[i], (side, 4), textcoords="offset points", fontsize=8, ha=where, color=theme.text
        )
    axis.set(xlabel="first principal component", ylabel="second")
    return figure
