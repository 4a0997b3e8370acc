"""Plots say what their data says: read back from the figure, not from its pixels."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from pipeline.display import visible
from pipeline.report import plots
from pipeline.report.plots import DARK, LIGHT

STEPS_PER_EPOCH, EPOCHS = 10, 4


def metrics():
    for step in range(1, STEPS_PER_EPOCH * EPOCHS + 1):
        epoch = 1 + (step - 1) // STEPS_PER_EPOCH
        yield {
            "kind": "step",
            "step": step,
            "epoch": epoch,
            "loss": 2 / step,
            "accuracy": 1 - 1 / step,
            "gradient_norm": {"layers/10": 1 / step, "layers/3": 2 / step},
        }
        if step % STEPS_PER_EPOCH == 0:
            yield {
                "kind": "evaluation",
                "split": "validation",
                "step": step,
                "epoch": epoch,
                "loss": 0.5,
                "accuracy": 0.9,
            }


def probabilities_of(predictions, sureness, classes):
    probabilities = np.full((len(predictions), classes), np.nan)
    for row, prediction, sure in zip(probabilities, predictions, sureness):
        row[:] = (1 - sure) / (classes - 1)
        row[prediction] = sure
    return probabilities


def x_of(line: Any) -> np.ndarray:
    return np.asarray(line.get_xdata())


def y_of(line: Any) -> np.ndarray:
    return np.asarray(line.get_ydata())


def test_curves_are_drawn_against_epochs():
    loss, accuracy = plots.curves(list(metrics()), "accuracy", LIGHT).axes
    training, mean, validation = loss.lines
    assert x_of(training)[-1] == x_of(mean)[-1] == x_of(validation)[-1] == EPOCHS
    np.testing.assert_allclose(y_of(training), 2 / np.arange(1, STEPS_PER_EPOCH * EPOCHS + 1))
    assert y_of(accuracy.lines[2]).tolist() == [0.9] * EPOCHS


def test_the_running_mean_is_a_mean():
    smooth, window = plots.training._running_mean(np.arange(50.0))
    assert window == 10
    np.testing.assert_allclose(smooth, np.arange(41) + 4.5)
    assert [plots.training._running_mean(np.zeros(n))[1] for n in (1, 4, 10, 400, 800)] == [1, 1, 2, 10, 20]


def test_a_single_step_is_seen_in_both_plots():
    one = [next(metrics())]
    for figure in (plots.curves(one, "accuracy", LIGHT), plots.gradient_norms(one, LIGHT)):
        drawn = [line for axis in figure.axes for line in axis.lines if line.get_color() != LIGHT.validation]
        assert len(drawn) == 2 and all(line.get_marker() == "o" and len(x_of(line)) == 1 for line in drawn)


def test_confusion_matrix_shows_the_counts_with_the_true_class_as_row():
    labels, predictions = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 2, 1, 2, 2])
    axis = plots.confusion_matrix(labels, predictions, ("cat", "dog", "cow"), LIGHT).axes[0]
    shown = {text.get_position(): text.get_text() for text in axis.texts}
    assert shown == {(0, 0): "2", (2, 0): "1", (1, 1): "1", (2, 2): "2"}  # (column, row)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog", "cow"]


def test_a_line_for_each_layer():
    figure = plots.gradient_norms(list(metrics()), LIGHT)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["layers/3", "layers/10"]
    np.testing.assert_allclose(y_of(figure.axes[0].lines[0]), 2 / np.arange(1, 41))


def test_a_leaf_over_the_limit_stands_out():
    axis = plots.gradient_agreement({"good": 1e-15, "exact": 0.0, "bad": 1e-10}, LIGHT).axes[0]
    markers: Any = axis.collections[1]
    colours = [to_hex(colour) for colour in markers.get_edgecolors()]
    assert colours == [LIGHT.training, LIGHT.training, LIGHT.wrong]
    assert x_of(axis.lines[0])[0] == 1e-11
    left, right = axis.get_xlim()
    assert left < plots.EXACT < 1e-10 < right


def test_worst_mistakes_are_the_surest_and_nothing_that_is_right():
    labels, predictions = np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2])
    probabilities = probabilities_of(predictions, [0.5, 0.99, 0.9, 0.7], 3)
    figure = plots.mistakes(np.zeros((4, 8, 8, 1)), labels, probabilities, ("a", "b", "c"), LIGHT)
    titles = [axis.get_title() for axis in figure.axes if axis.has_data()]
    assert titles == ["true c\npredicted a  90%", "true a\npredicted c  70%", "true a\npredicted b  50%"]


def test_no_mistakes_are_said_to_be_none():
    labels = np.array([0, 1])
    figure = plots.mistakes(np.zeros((2, 8, 8, 1)), labels, probabilities_of(labels, [0.9, 0.9], 2), ("a", "b"), LIGHT)
    assert "No mistakes" in figure.texts[0].get_text()


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("shape", [(3, 3, 1, 20), (5, 5, 3, 8), (7, 2, 12)])
def test_filters_of_images_and_of_signals(shape, theme):
    kernel = np.random.default_rng(0).normal(size=shape)
    figure = plots.filters(kernel, theme)
    assert sum(axis.has_data() for axis in figure.axes) == shape[-1]
    assert plots.png(lambda theme: plots.filters(kernel, theme), theme).startswith(b"\x89PNG\r\n\x1a\n")


def test_mistakes_of_signals_are_lines():
    labels, predictions = np.array([0]), np.array([1])
    signal = np.linspace(-1, 1, 40).reshape(1, 40, 1)
    axis = plots.mistakes(signal, labels, probabilities_of(predictions, [0.8], 2), ("a", "b"), LIGHT).axes[0]
    np.testing.assert_allclose(y_of(axis.lines[0]), signal[0, :, 0])


NASTY = ("[/b]", "$x^{$", "under $100 and $over_{", "<script>", "\x1b[31mred", "\udc80", "\u597d", "x" * 10_000)


@pytest.mark.parametrize(
    "draw",
    [
        partial(plots.confusion_matrix, np.arange(8), np.arange(8)[::-1], NASTY),
        partial(plots.mistakes, np.zeros((8, 8, 8, 1)), np.arange(8), np.roll(np.eye(8), 1, 1), NASTY),
        partial(plots.bars, NASTY, np.arange(8.0), "$x^{$"),
        partial(plots.attributions, np.zeros((8, 8, 8, 1)), np.zeros((8, 8, 8, 1)), NASTY),
        partial(plots.points, np.eye(8, 2), np.arange(8.0), np.arange(8.0), dict(enumerate(NASTY)), "rating"),
        partial(plots.alignment, np.eye(8), NASTY, NASTY),
    ],
    ids=lambda draw: draw.func.__name__,
)
def test_names_of_the_user_are_drawn_as_they_are(draw):
    figures = []
    plots.png(lambda theme: figures.append(draw(theme)) or figures[0])
    texts = [text.get_text() for axis in figures[0].axes for text in axis.findobj(Text)]
    drawn = "\n".join(texts).replace("\N{OPEN BOX}", " ")
    longest = {"mistakes": 12, "alignment": 20}.get(draw.func.__name__, 40)
    for name in NASTY[:-1]:
        assert visible(name, longest) in drawn
    assert max(len(line) for line in drawn.splitlines()) < 60
