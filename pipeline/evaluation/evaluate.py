"""A model's loss and metrics over a whole set of examples, and its outputs for each of them."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..data.batches import Batch, Examples, Sequences, by_length, evaluation_batches
from ..layers.base import Context, Layer, PyTree
from ..layers.objective import Objective
from .classification import accuracy_metric
from .metrics import Metrics


def make_evaluation(
    objective: Objective, metrics: Metrics = accuracy_metric
) -> Callable[[PyTree, Iterable[Batch]], dict[str, float]]:
    """A function ``(params, batches) -> {"loss": ..., **metrics}``: means over all examples, without padding.

    It is compiled once for each shape of batches; the sums stay on the device until the last batch. Raises ValueError
    for no batches.
    """

    @compiler.jit
    def sums(params: PyTree, batch: Batch) -> dict[str, Any]:
        loss, outputs = objective.evaluate(params, batch, Context())
        count = objective.count(batch[1])
        means = {"loss": loss, **metrics(outputs, batch[1])}
        return {"count": count, **{name: count * mean for name, mean in means.items()}}

    def evaluate(params: PyTree, batches: Iterable[Batch]) -> dict[str, float]:
        totals = None
        for batch in batches:
            batch_sums = sums(params, batch)
            totals = batch_sums if totals is None else jax.tree.map(jnp.add, totals, batch_sums)
        if totals is None:
            raise ValueError("evaluate was given no batches")
        totals = jax.device_get(totals)
        names = ("loss", *sorted(totals.keys() - {"count", "loss"}))
        return {name: float(totals[name]) / float(totals["count"]) for name in names}

    return evaluate


def predict(model: Layer, params: PyTree, batches: Iterable[Batch]) -> np.ndarray:
    """The model's outputs for all examples of the batches, without padding: (examples, ...), in their order.

    Padding is what has weight 0 in the targets: see ``data.evaluation_batches``.
    """
    apply = compiler.jit(lambda params, inputs: model.apply(params, inputs, Context()))
    outputs = []
    for inputs, targets in batches:
        rows = np.asarray(apply(params, inputs))
        outputs.append(rows if targets.weights is None else rows[np.asarray(targets.weights) != 0])
    return np.concatenate(outputs)


def all_outputs(model: Layer, params: PyTree, examples: Examples, batch_size: int) -> np.ndarray:
    """The model's outputs for all examples, in their order: (examples, ...)."""
    outputs = predict(model, params, evaluation_batches(examples, batch_size))
    return outputs[np.argsort(by_length(examples))] if isinstance(examples, Sequences) else outputs
