"""A model's uncertainty: the spread of its outputs under dropout."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from .. import compiler
from ..layers.base import Context, Layer, PyTree, leaves, map_children
from ..layers.dropout import Dropout


def make_dropout_samples(model: Layer, samples: int) -> Callable[[PyTree, Any, Any], Any] | None:
    """A function ``(params, x, key) -> outputs (samples, batch, ...)`` with dropout as in training.

    The spread of the outputs over samples measures the model's uncertainty (Monte Carlo dropout: Gal & Ghahramani
    2016). Everything else is as in evaluation. None for a model without dropout.
    """
    if not any(isinstance(layer, Dropout) and layer.dropped_levels for _, layer in leaves(model)):
        return None
    sampling = _sampling(model)

    @compiler.jit
    def outputs(params: PyTree, x: Any, key: Any) -> Any:
        return jax.lax.map(
            lambda sample_key: sampling.apply(params, x, Context(key=sample_key)), jax.random.split(key, samples)
        )

    return outputs


@dataclass(frozen=True)
class SampledDropout(Dropout):
    """Dropout that also drops in evaluation."""

    def keep_mask(self, x: Any, context: Context) -> Any:
        return super().keep_mask(x, replace(context, train=True))


def _sampling(layer: Any) -> Any:
    if type(layer) is Dropout:
        return SampledDropout(layer.rate)
    return map_children(lambda _, child: _sampling(child), layer)
