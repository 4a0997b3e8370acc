"""Finds the first layer that produced a value that is not finite."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..data.batches import Batch
from ..errors import UserError
from ..layers.base import Context, Layer, PyTree, Wrapper, children, map_children
from ..layers.checking import LayerError
from ..layers.repeat import Repeat
from .state import TrainState
from .step import norms_by_layer


class NonFiniteError(UserError):
    """A step whose loss, gradient or update is not finite. state: the state before that step."""

    def __init__(self, message: str, state: TrainState) -> None:
        super().__init__(message)
        self.state = state


def locate(objective: Layer, params: PyTree, batch: Batch, context: Context) -> str | None:
    """The first value that is not finite, in words: the batch's, a parameter, a layer's in order of computation, or
    the norm of a layer's gradient.

    Repeats the manual forward and backward pass layer by layer, outside ``jit`` (so that a scan is a loop). None if all
    values are finite.
    """
    for name, tree in zip(("inputs", "targets"), batch):
        if not _finite(tree):
            return f"the batch's own {name}{_example(tree)}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not _finite(leaf):
            return f"the parameter {jax.tree_util.keystr(path, simple=True, separator='/')}"
    watched = _watched(objective, "", (), Counter())
    try:
        with jax.disable_jit():
            value, residuals = watched.forward(params, batch, context)
            d_params, _ = watched.backward(params, residuals, jnp.ones_like(value))
    except (_NonFiniteValue, LayerError) as error:  # such as a label out of range, which is NaN in a compiled step
        return str(error)
    for layer, norm in norms_by_layer(d_params).items():
        if not _finite(norm):
            return f"the norm of the gradient of {layer}, whose squares overflow"
    return None


def locate_in_step(batch: Any, metrics: Mapping[str, Any]) -> str | None:
    """The first array of a step that is not finite, in words, where only the batch and the metrics are known.

    metrics: those of ``make_train_step``'s step. None if all values are finite.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if not _finite(leaf):
            return f"the batch's own {jax.tree_util.keystr(path, simple=True, separator='/') or 'array'}"
    if not _finite(metrics["loss"]):
        return "the loss that objective returned"
    layers = [layer for layer, norm in metrics["gradient_norm"].items() if not _finite(norm)]
    return f"the gradient of {layers[0] or 'params'}" if layers else None


class _NonFiniteValue(Exception):
    pass


@dataclass(frozen=True, eq=False)
class _Watched(Wrapper):
    """``layer``, which raises _NonFiniteValue when it computes a value that is not finite.

    repeats: path and ``times`` of every Repeat around it; calls: number of forward and backward calls so far, by path.
    """

    layer: Layer
    path: str
    repeats: tuple[tuple[str, int], ...]
    calls: Counter

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self._check("forward", self.layer.apply(params, x, context), {})

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = self.layer.forward(params, x, context)
        return self._check("forward", y, {}), residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        d_params, d_x = self.layer.backward(params, residuals, d_y)
        self._check("backward", d_x, d_params)
        return d_params, d_x

    def _check(self, which: str, value: PyTree, d_params: dict[str, Any]) -> PyTree:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            return value  # only shapes are asked for
        call = self.calls[self.path, which]
        self.calls[self.path, which] += 1
        bad = [name for name, d in d_params.items() if not _finite(d)]
        if bad or not _finite(value):
            of = f", gradient of its {bad[0]}" if bad else ""
            raise _NonFiniteValue(f"{self._name(call, which)} ({type(self.layer).__name__}), in its {which} pass{of}")
        return value

    def _name(self, call: int, which: str) -> str:
        """The path, with an index after each Repeat: ``model/layers/1/layer[3]/layers/0``."""
        times = [times for _, times in self.repeats]
        call %= math.prod(times)
        indices = np.unravel_index(call if which == "forward" else math.prod(times) - 1 - call, times) if times else ()
        name = self.path
        for (repeated, _), index in reversed(list(zip(self.repeats, indices))):
            name = f"{repeated}[{index}]{name.removeprefix(repeated)}"
        return name


def _watched(layer: Any, path: str, repeats: tuple[tuple[str, int], ...], calls: Counter) -> Any:
    if layer.indivisible or not any(children(layer)):
        return _Watched(layer, path, repeats, calls)

    def watched(name: str, child: Layer) -> Layer:
        child_path = f"{path}/{name}" if path else name
        around = (*repeats, (child_path, layer.times)) if isinstance(layer, Repeat) else repeats
        return _watched(child, child_path, around, calls)

    return map_children(watched, layer)


def _finite(tree: PyTree) -> bool:
    arrays = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return all(bool(jnp.isfinite(array).all()) for array in arrays)


def _example(tree: PyTree) -> str:
    """The first row with a value that is not finite, in words."""
    for leaf in jax.tree.leaves(tree):
        bad = ~np.isfinite(np.asarray(leaf, np.float64))
        if bad.any() and bad.ndim:
            return f" (example {np.argwhere(bad)[0][0]} of the batch)"
    return ""
