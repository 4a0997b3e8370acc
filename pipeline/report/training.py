"""What every report shows of training: the curves, and how closely the manual gradient agrees with autodiff."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from . import plots
from .page import Plot, Table


def learning_sections(metrics: Sequence[Mapping[str, Any]], unit: str = "") -> list[Plot]:
    """Loss, accuracy where there is one, and the gradients' sizes.

    metrics: the lines of ``metrics.jsonl``. unit: of the loss, such as "nats per character".
    """
    metric = "accuracy" if any("accuracy" in line for line in metrics) else None
    return [
        Plot(
            "curves" if metric else "loss",
            "Loss and accuracy" if metric else "Loss",
            "Training loss at each step (with dropout, augmentation and label smoothing where the recipe has them), "
            f"validation loss after every epoch{', in ' + unit if unit else ''}.",
            partial(plots.curves, metrics, metric),
        ),
        gradient_sizes(metrics),
    ]


def gradient_sizes(metrics: Sequence[Mapping[str, Any]]) -> Plot:
    """The length of each layer's gradient over time."""
    return Plot(
        "gradient_norms",
        "Gradient size by layer",
        "The length of each layer's gradient, dark lines for the layers nearest the input: none should vanish or "
        "explode.",
        partial(plots.gradient_norms, metrics),
    )


def gradient_sections(relative_errors: Mapping[str, float]) -> list[Plot | Table]:
    """The disagreement between manual gradient and autodiff in each leaf of the trained model, in float64."""
    rows = [
        (leaf, "exactly 0" if error == 0 else f"{error:.1e}", "agrees" if error <= plots.TOLERANCE else "DIFFERS")
        for leaf, error in relative_errors.items()
    ]
    return [
        Plot(
            "agreement",
            "Manual gradient against autodiff",
            "The largest difference between the manual gradient and jax.grad's in each leaf, relative to the leaf's "
            "largest gradient, in float64 on the trained model.",
            partial(plots.gradient_agreement, relative_errors),
        ),
        Table(
            "Gradient check",
            "The same in numbers: every leaf must stay under 1e-11.",
            ("parameter", "relative error", "verdict"),
            rows,
        ),
    ]
