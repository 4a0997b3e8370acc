"""Plots of a training run: plain data in, a matplotlib figure out. ``png`` turns one into the bytes of a file.

Colours keep their meaning throughout (training, validation, judged wrong) and are told apart by people who are colour
blind (Okabe & Ito 2008, "Color Universal Design"); quantities that grow are drawn in viridis, which also grows in
lightness.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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
TOLERANCE = 1e-11  # what every gradient in float64 must stay under
EXACT = 1e-18  # where an error of exactly zero is drawn on a logarithmic axis


def png(draw: Callable[[Theme], Figure], theme: Theme = LIGHT) -> bytes:
    """The PNG file of ``draw(theme)``, drawn in the style that all plots share."""
    import matplotlib as mpl

    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
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
    with mpl.rc_context(style):
        figure = draw(theme)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def figure_of(width: float, height: float, gap: float = 0.02) -> Figure:
    """width, height: inches; gap: between its axes, as a share of their size."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap, hspace=gap))


def whole_numbers(axis: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _plain_ticks(axis: Any, multiples: tuple[int, ...]) -> None:
    """Ticks of a logarithmic axis at these multiples of powers of ten, as plain numbers: 0.2, 0.5, 1, 2."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def shades(low: str, high: str, name: str = "share") -> Any:
    """The colour map from one colour to another."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(name, [low, high])


def evaluations_in(metrics: Sequence[Line]) -> list[Line]:
    """Of the validation split."""
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
            smooth, window = _running_mean(y)
            axis.plot(x, y, color=theme.training, alpha=0.25, linewidth=1)
            axis.plot(x[window - 1 :], smooth, color=theme.training, label="training (running mean)")
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
    _plain_ticks(axis.yaxis, (1, 2, 5) if high / low < 1e3 else (1,))


def _steps_per_epoch(evaluations: Sequence[Line], steps: Sequence[Line]) -> float:
    """Steps in an epoch, from the last evaluation: it stands at the end of its epoch, the first of which is 1."""
    last = (evaluations or steps)[-1]
    return last["step"] / max(1, last["epoch"])


def _running_mean(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The mean over a window of a fortieth of the values (at least 1), and the window's length."""
    window = max(1, len(values) // 40)
    return np.convolve(values, np.full(window, 1 / window), mode="valid"), window


def _upper_part(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis of accuracies: down to where the better three quarters of them are, but at most 0.9."""
    low = min(0.9, float(np.quantile(values, 0.25))) if values else 0.0
    return max(0.0, low - 0.05), 1.005


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str], theme: Theme) -> Figure:
    """How often each true class (row) was taken for each class (column). Zeros are left blank."""
    from sklearn.metrics import confusion_matrix as count_confusions

    counts = count_confusions(labels, predictions, labels=np.arange(len(classes)))
    side = max(4.2, 0.52 * len(classes) + 1.4)
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
    turn = 0 if max(map(len, classes)) <= 3 else 45
    axis.set_xticks(ticks, classes, rotation=turn, ha="right" if turn else "center")
    axis.set_yticks(ticks, classes)
    axis.set(xlabel="predicted", ylabel="true")
    axis.spines[:].set_visible(False)
    return figure


def gradient_norms(metrics: Sequence[Line], theme: Theme) -> Figure:
    """The length of every layer's gradient against steps, on a logarithmic axis; dark lines are early layers."""
    import matplotlib as mpl

    steps = [line for line in metrics if line["kind"] == "step" and line.get("gradient_norm")]
    layers = sorted(steps[0]["gradient_norm"], key=_in_order) if steps else []
    figure = figure_of(WIDTH, max(3.6, 0.19 * len(layers) + 0.8))
    axis = figure.subplots()
    low, high = (0.0, 0.85) if theme is LIGHT else (0.2, 1.0)
    x = [line["step"] for line in steps]
    for layer, position in zip(layers, np.linspace(low, high, len(layers))):
        y = np.array([line["gradient_norm"][layer] for line in steps], float)
        y[y == 0] = np.nan  # behind a kernel of zeros nothing arrives at the first step
        smooth, window = _running_mean(np.log(np.maximum(y, 1e-30)))
        colour = mpl.colormaps["viridis"](position)
        axis.plot(x, y, color=colour, alpha=0.2, linewidth=1)
        axis.plot(x[window - 1 :], np.exp(smooth), color=colour, label=layer)
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
    _bare(axes)
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
    names = np.asarray(classes)
    for axis, x, true, predicted, row in zip(
        axes.flat, inputs[wrong], names[labels[wrong]], names[predictions[wrong]], probabilities[wrong]
    ):
        if x.ndim == 3:
            axis.imshow(np.clip(x, 0, 1), cmap="gray", vmin=0, vmax=1)
        else:
            axis.plot(x, color=theme.training, linewidth=1.5)
        axis.set_title(f"true {true}\npredicted {predicted}  {row.max():.0%}", fontsize=9, linespacing=1.3)
    _bare(axes)
    return figure


def _bare(axes: np.ndarray) -> None:
    """No ticks and no grid; a frame only where something is drawn."""
    for axis in axes.flat:
        axis: Axes
        axis.grid(False)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(axis.has_data() and not axis.images)
        axis.patch.set_visible(axis.has_data())


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
    axis.set_yticks(np.arange(len(names)), [name.replace("$", r"\$") for name in names], fontsize=9)
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
        pair[0].set_title(title, fontsize=8, linespacing=1.3)
    _bare(axes)
    return figure


def _shown(token: str) -> str:
    """A token with its spaces visible, and without what matplotlib takes for mathematics."""
    return token.replace(" ", "\N{OPEN BOX}").replace("$", r"\$")


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
        _plain_ticks(axis.xaxis, (1, 2, 5))
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
        text = name.replace("$", r"\$")
        axis.annotate(text, places[i], (side, 4), textcoords="offset points", fontsize=8, ha=where, color=theme.text)
    axis.set(xlabel="first principal component", ylabel="second")
    return figure
