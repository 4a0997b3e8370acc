"""Which layer was the first to produce a value that is not finite."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pipeline.data.batches import Batch
from pipeline.errors import UserError
from pipeline.layers.base import Context, Layer, PyTree, Wrapper, children, map_children
from pipeline.layers.combinators import Repeat
from pipeline.training.state import TrainState


class NonFiniteError(UserError):
    """Training met a loss, gradient or update that is not finite. state: as it was before that step."""

    def __init__(self, message: str, state: TrainState) -> None:
        super().__init__(message)
        self.state = state


def locate(objective: Layer, params: PyTree, batch: Batch, context: Context) -> str | None:
    """Who is to blame, in words: the batch, a parameter, or the first layer in the order of computation.

    Runs the hand-written forward and backward pass once more, layer by layer, outside ``jit`` (so a scan is a loop).
    None where all is finite.
    """
    for name, tree in zip(("inputs", "targets"), batch):
        if not _finite(tree):
            return f"the batch's own {name}{_example(tree)}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not _finite(leaf):
            return f"the parameter {jax.tree_util.keystr(path, simple=True, separator='/')}"
    spied = _spied(objective, "", (), Counter())
    try:
        with jax.disable_jit():
            value, residuals = spied.forward(params, batch, context)
            spied.backward(params, residuals, jnp.ones_like(value))
    except _Found as found:
        return str(found)
    return None


class _Found(Exception):
    pass


@dataclass(frozen=True, eq=False)
class _Spy(Wrapper):
    """``layer``, looked at as it computes.

    repeats: path and times of every Repeat it stands in; calls: how often each pass has been through it.
    """

    layer: Layer
    path: str
    repeats: tuple[tuple[str, int], ...]
    calls: Counter

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self._looked_at("forward", self.layer.apply(params, x, context), {})

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = self.layer.forward(params, x, context)
        return self._looked_at("forward", y, {}), residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        d_params, d_x = self.layer.backward(params, residuals, d_y)
        self._looked_at("backward", d_x, d_params)
        return d_params, d_x

    def _looked_at(self, which: str, value: PyTree, d_params: dict[str, Any]) -> PyTree:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            return value  # somebody asks for shapes only
        call = self.calls[self.path, which]
        self.calls[self.path, which] += 1
        bad = [name for name, d in d_params.items() if not _finite(d)]
        if bad or not _finite(value):
            of = f", gradient of its {bad[0]}" if bad else ""
            raise _Found(f"{self._name(call, which)} ({type(self.layer).__name__}), in its {which} pass{of}")
        return value

    def _name(self, call: int, which: str) -> str:
        """The path, with the index of the pass behind each Repeat: ``model/layers/1/layer[3]/layers/0``."""
        times = [times for _, times in self.repeats]
        call %= math.prod(times)
        indices = np.unravel_index(call if which == "forward" else math.prod(times) - 1 - call, times) if times else ()
        name = self.path
        for (repeated, _), index in reversed(list(zip(self.repeats, indices))):
            name = f"{repeated}[{index}]{name.removeprefix(repeated)}"
        return name


def _spied(layer: Any, path: str, repeats: tuple[tuple[str, int], ...], calls: Counter) -> Any:
    if not any(children(layer)):
        return _Spy(layer, path, repeats, calls)

    def spied(name: str, child: Layer) -> Layer:
        its_path = f"{path}/{name}" if path else name
        inside = (*repeats, (its_path, layer.times)) if isinstance(layer, Repeat) else repeats
        return _spied(child, its_path, inside, calls)

    return map_children(spied, layer)


def _finite(tree: PyTree) -> bool:
    arrays = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return all(bool(jnp.isfinite(array).all()) for array in arrays)


def _example(tree: PyTree) -> str:
    """Which row is the first bad one."""
    for leaf in jax.tree.leaves(tree):
        bad = ~np.isfinite(np.asarray(leaf, np.float64))
        if bad.any() and bad.ndim:
            return f" (example {np.argwhere(bad)[0][0]} of the batch)"
    return ""
