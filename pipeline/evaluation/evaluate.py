"""Judging a model: calibrated statistics, means over a whole set, and predictions."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.data.batches import Batch, Examples, Sequences, by_length, evaluation_batches
from pipeline.evaluation.classification import accuracy_metric
from pipeline.evaluation.metrics import Metrics
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.objective import Objective


def make_evaluation(
    objective: Objective, metrics: Metrics = accuracy_metric
) -> Callable[[PyTree, Iterable[Batch]], dict[str, float]]:
    """A function ``(params, batches) -> {"loss": ..., **metrics}``: means over all that counts, never over padding.

    It is compiled once for batches of one shape; the sums stay on the device until the last batch is in.
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
            its = sums(params, batch)
            totals = its if totals is None else jax.tree.map(jnp.add, totals, its)
        if totals is None:
            raise ValueError("evaluate was given no batches")
        totals = jax.device_get(totals)
        names = ("loss", *sorted(totals.keys() - {"count", "loss"}))
        return {name: float(totals[name]) / float(totals["count"]) for name in names}

    return evaluate


def predict(model: Layer, params: PyTree, batches: Iterable[Batch]) -> np.ndarray:
    """The model's outputs for every example that counts (padding has weight 0), in order: (examples, ...)."""
    apply = compiler.jit(lambda params, inputs: model.apply(params, inputs, Context()))
    outputs = []
    for inputs, targets in batches:
        rows = np.asarray(apply(params, inputs))
        outputs.append(rows if targets.weights is None else rows[np.asarray(targets.weights) != 0])
    return np.concatenate(outputs)


def all_outputs(model: Layer, params: PyTree, examples: Examples, batch_size: int) -> np.ndarray:
    """The model's outputs for every example, in their order: (examples, ...)."""
    outputs = predict(model, params, evaluation_batches(examples, batch_size))
    return outputs[np.argsort(by_length(examples))] if isinstance(examples, Sequences) else outputs
