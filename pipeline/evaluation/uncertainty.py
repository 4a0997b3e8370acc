"""How sure a model is: its answers with other units dropped."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from pipeline import compiler
from pipeline.layers.base import Context, Layer, PyTree, leaves, map_children
from pipeline.layers.dropout import Dropout


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

    def keep_mask(self, x: Any, context: Context) -> Any:
        return super().keep_mask(x, replace(context, train=True))


def _sampling(layer: Any) -> Any:
    if type(layer) is Dropout:
        return SampledDropout(layer.rate)
    return map_children(lambda _, child: _sampling(child), layer)
