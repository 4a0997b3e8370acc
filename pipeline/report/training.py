"""What every report shows of training: the curves, and how closely the manual gradient agrees with autodiff."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from . import plots
from .page import Plot, Section, Table


def data_sections(content: Mapping[str, Any], most: int = 50) -> list[Table | Section]:
    """What was read. content: of ``data.account``; most: number of classes in the table."""
    splits = content["splits"]
    counts = {part: split.get("classes", {}) for part, split in splits.items()}
    classes = list(counts["train"])
    rows = [(name, *(f"{counts[part].get(name, 0):,}" for part in splits)) for name in classes[:most]]
    rows.append(("all", *(f"{split['examples']:,}" for split in splits.values())))
    caption = "The examples of each class and split." if classes else "The examples of each split."
    if len(classes) > most:
        caption += f" Of {len(classes):,} classes the first {most} are shown."
    table = Table("The data", caption, ("class" if classes else "", *splits), rows)
    notes = Section("What is not used as it is", items=content["notes"])
    return [table, *([notes] if content["notes"] else [])]


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
