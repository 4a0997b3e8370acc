"""What a metric is during training: a function ``(outputs, targets) -> {name: mean over the batch}``, in jax.numpy."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from ..layers.base import PyTree

Metrics = Callable[[PyTree, Any], dict[str, Array]]
"""Means are weighted as the loss is: over what ``objective.count(targets)`` counts, without padding."""

LOWER_IS_BETTER = frozenset({"loss", "perplexity", "wer", "cer", "rmse", "mae"})
"""Metrics that improve when they fall; all others improve when they rise."""


def no_metrics(outputs: PyTree, targets: Any) -> dict[str, Array]:
    """No metric besides the loss."""
    del outputs, targets
    return {}
