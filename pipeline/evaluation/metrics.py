"""What a model is judged by besides its loss: functions ``(outputs, targets) -> {name: mean over what counts}``."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.layers.base import PyTree
from pipeline.losses.base import Targets

Metrics = Callable[[PyTree, Any], dict[str, Array]]

LOWER_IS_BETTER = frozenset({"loss", "perplexity", "wer", "cer", "rmse", "mae"})


def no_metrics(outputs: PyTree, targets: Any) -> dict[str, Array]:
    """No metric: the loss says it all."""
    del outputs, targets
    return {}


def accuracy_metric(outputs: Float[Array, "*rows classes"], targets: Targets) -> dict[str, Array]:
    """Accuracy: the share of rows whose largest output is the label's, weighted as the loss is."""
    right = (outputs.argmax(-1) == targets.values).astype(jnp.float32)
    if targets.weights is None:
        return {"accuracy": right.mean()}
    weights = targets.weights.astype(jnp.float32)
    weights = jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (right.ndim - weights.ndim)), right.shape)
    total = weights.sum()
    return {"accuracy": (weights * right).sum() / jnp.where(total == 0, 1.0, total)}
