"""Judging a model: calibrated statistics, means over a whole set, and predictions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.layers.base import Context, Layer, PyTree, leaves, map_children
from pipeline.layers.combinators import Objective, Tied
from pipeline.layers.dropout import Dropout
from pipeline.training.metrics import Metrics, classification
from pipeline.training.optimizer import STATISTICS, name_of
from pipeline.training.step import Batch


def make_evaluation(
    objective: Objective | Tied, metrics: Metrics = classification
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


def make_dropout_samples(model: Layer, samples: int) -> Callable[[PyTree, Any, Any], Any] | None:
    """A function ``(params, x, key) -> outputs (samples, batch, ...)``: the model with units dropped as in training.

    How far they lie apart says how unsure the model is (Monte Carlo dropout: Gal & Ghahramani 2016). All else is as in
    evaluation. None for a model that drops nothing.
    """
    if not any(isinstance(layer, Dropout) and layer.dropped_levels for _, layer in leaves(model)):
        return None
    sampling = _sampling(model)

    @compiler.jit
    def outputs(params: PyTree, x: Any, key: Any) -> Any:
        return jax.lax.map(lambda its: sampling.apply(params, x, Context(key=its)), jax.random.split(key, samples))

    return outputs


@dataclass(frozen=True)
class SampledDropout(Dropout):
    """Dropout that drops in evaluation, too."""

    def kept(self, x: Any, context: Context) -> Any:
        return super().kept(x, replace(context, train=True))


def _sampling(layer: Any) -> Any:
    if type(layer) is Dropout:
        return SampledDropout(layer.rate)
    return map_children(lambda _, child: _sampling(child), layer)


def make_calibration(objective: Objective | Tied) -> Callable[[PyTree, Iterable[Batch]], PyTree]:
    """A function ``(params, batches) -> params`` that writes the population's statistics for BatchNorm.

    The statistics of equal training batches are averaged, with the parameters as they are now (Wu & Johnson 2021,
    "Rethinking 'Batch' in BatchNorm"). Dropout is left out: the model is calibrated as it will be evaluated. Models
    without statistics come back as they are, and need no batches.
    """
    quiet = _without_dropout(objective)

    @compiler.jit
    def statistics(params: PyTree, batch: Batch) -> PyTree:
        _, residuals = quiet.forward(params, batch, Context(train=True))
        return quiet.statistics(params, residuals)

    def calibrate(params: PyTree, batches: Iterable[Batch]) -> PyTree:
        if not any(name_of(path) in STATISTICS for path, _ in jax.tree_util.tree_leaves_with_path(params)):
            return params
        sums, count = None, 0
        for batch in batches:
            its = statistics(params, batch)
            sums, count = (its if sums is None else jax.tree.map(jnp.add, sums, its)), count + 1
        if not count:
            raise ValueError("a model with BatchNorm needs batches to calibrate its statistics on; there were none")
        return jax.tree.map(
            lambda total, now: now if total is None else total / count, sums, params, is_leaf=lambda node: node is None
        )

    return calibrate


def _without_dropout(layer: Any) -> Any:
    if isinstance(layer, Dropout):
        return replace(layer, rate=0.0)
    return map_children(lambda _, child: _without_dropout(child), layer)
