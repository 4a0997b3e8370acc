"""Layers in Equinox: a module around any layer, and parameters carried over to Equinox's own modules and back.

| layer | Equinox |
|---|---|
| Dense, Conv, ConvTranspose, Embedding | Linear, Conv, ConvTranspose, Embedding |
| LayerNorm, RMSNorm, GroupNorm, BatchNorm | the same names |
| LSTM, GRU | LSTMCell, GRUCell |
| SelfAttention, CrossAttention with as many key heads as heads | MultiheadAttention |

Equinox's modules read one example, with channels first; layers read batches, with channels last.

>>> import equinox as eqx, jax, jax.numpy as jnp
>>> from backhand.interop.equinox import from_equinox
>>> from backhand.layers import Dense
>>> linear = eqx.nn.Linear(3, 4, key=jax.random.key(0))
>>> from_equinox(Dense(4), linear)["kernel"].shape
(3, 4)
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..attachment import attach
from ..extras import extra
from ..layers.attention import CrossAttention, SelfAttention
from ..layers.base import Context, Layer, PyTree, Wrapper
from ..layers.convolution import Conv, ConvTranspose
from ..layers.embedding import Embedding
from ..layers.linear import Dense
from ..layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from ..layers.recurrent import GRU, LSTM
from .conversion import (
    Conversion,
    Table,
    Tree,
    check_epsilon,
    from_framework,
    mean_square,
    renamed,
    shapes,
    to_framework,
    variance,
)

with extra("interop"):
    import equinox as eqx


def _convolution(flip: Callable[[Array], Array]) -> Conversion:
    """(*window, in, out) to (out, in, *window), and a bias with an axis of size 1 for each spatial one."""

    def to(layer: Any, params: Tree) -> Tree:
        tree = {"weight": jnp.moveaxis(flip(params["kernel"]), (-1, -2), (0, 1))}
        if layer.use_bias:
            tree["bias"] = params["bias"].reshape(-1, *(1 for _ in layer.window))
        return tree

    def back(layer: Any, tree: Tree) -> Tree:
        params = {"kernel": flip(jnp.moveaxis(tree["weight"], (0, 1), (-1, -2)))}
        return params | {"bias": tree["bias"].reshape(-1)} if layer.use_bias else params

    return Conversion(to, back)


def _flipped(kernel: Array) -> Array:
    """Equinox's transposed convolution is a correlation with the kernel, ours adds copies of it."""
    return jnp.flip(kernel, tuple(range(kernel.ndim - 2)))


def _to_batch_norm(layer: BatchNorm, params: Tree) -> Tree:
    del layer
    return {"weight": params["scale"], "bias": params["bias"], "mean": params["mean"], "var": variance(params)}


def _from_batch_norm(layer: BatchNorm, tree: Tree) -> Tree:
    del layer
    square = mean_square(tree["mean"], tree["var"])
    return {"scale": tree["weight"], "bias": tree["bias"], "mean": tree["mean"], "mean_square": square}


def _to_attention(layer: Any, params: Tree) -> Tree:
    if layer.groups != layer.heads:
        raise ValueError(f"{layer}: Equinox's MultiheadAttention has as many heads of keys and values as of queries")
    dense = _DENSE.to
    return {_projection(name): dense(layer, part) for name, part in params.items()}


def _from_attention(layer: Any, tree: Tree) -> Tree:
    return {name: _DENSE.back(layer, tree[_projection(name)]) for name in ("query", "key", "value", "out")}


def _projection(name: str) -> str:
    return "output_proj" if name == "out" else f"{name}_proj"


def _transposed(array: Array) -> Array:
    return array.T


_DENSE = renamed({"kernel": "weight", "bias": "bias"}, _transposed)
_NORM = renamed({"scale": "weight", "bias": "bias"})
_ATTENTION = Conversion(_to_attention, _from_attention)
_CELL = {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias"}

EQUINOX: Table = {
    Dense: _DENSE,
    Conv: _convolution(lambda kernel: kernel),
    ConvTranspose: _convolution(_flipped),
    Embedding: renamed({"embedding": "weight"}),
    LayerNorm: _NORM,
    RMSNorm: renamed({"scale": "weight"}),
    GroupNorm: _NORM,
    BatchNorm: Conversion(_to_batch_norm, _from_batch_norm, ("mean", "var")),
    LSTM: renamed(_CELL, _transposed),
    GRU: renamed({**_CELL, "recurrent_bias": "bias_n"}, _transposed),
    SelfAttention: _ATTENTION,
    CrossAttention: _ATTENTION,
}
"""The layers that have a counterpart in Equinox."""


def to_equinox(layer: Layer, params: PyTree, module: Any, state: Any = None) -> Any:
    """A copy of Equinox's counterpart of ``layer`` with ``params``.

    state: the ``eqx.nn.State`` of a BatchNorm; the result is then (module, state), with its statistics.

    Raises ValueError if names, shapes or epsilons differ, or if the layer has no counterpart.
    """
    _check(layer, module, state)
    parameters, statistics = to_framework(EQUINOX, layer, params)
    old = _arrays(module)
    if shapes(parameters) != shapes(old):
        raise ValueError(
            f"{layer}: its parameters {shapes(parameters)} are not those of {type(module).__name__}, {shapes(old)}"
        )
    for path, array in jax.tree.leaves_with_path(parameters):
        names = [entry.key for entry in path]
        module = eqx.tree_at(lambda module, names=names: reduce(getattr, names, module), module, array)
    if not statistics:
        return module if state is None else (module, state)
    index = _state_index(module)
    state = state.set(index, (statistics["mean"], statistics["var"]))
    if module.mode == "ema":
        state = state.set(module.ema_first_time_index, jnp.array(False))
    else:  # a running mean that was not started at 0 needs no correction for that
        state = state.set(module.batch_counter, jnp.zeros_like(state.get(module.batch_counter)))
    return module, state


def from_equinox(layer: Layer, module: Any, state: Any = None) -> PyTree:
    """The parameters of ``layer``, from Equinox's counterpart. state: see ``to_equinox``."""
    _check(layer, module, state)
    statistics = {}
    if isinstance(module, eqx.nn.BatchNorm):
        mean, var = state.get(_state_index(module))
        if module.mode == "batch":
            counter = state.get(module.batch_counter)
            correction = jnp.where(counter == 0, 1.0, 1 - module.momentum**counter).astype(mean.dtype)
            mean, var = mean / correction, var / correction
        statistics = {"mean": mean, "var": var}
    return from_framework(EQUINOX, layer, _arrays(module), statistics)


def _check(layer: Layer, module: Any, state: Any) -> None:
    while isinstance(layer, Wrapper):
        layer = layer.layer
    if type(layer) not in EQUINOX:
        raise ValueError(f"{layer} has no counterpart in Equinox")
    if isinstance(layer, BatchNorm) and state is None:
        raise ValueError("BatchNorm: its statistics are in Equinox's state, so the state must be given, too")
    check_epsilon(layer, module)


def _state_index(module: Any) -> Any:
    return module.ema_state_index if module.mode == "ema" else module.batch_state_index


def _arrays(module: Any) -> Tree:
    """The parameters of a module and of its parts, by the names of their fields."""
    tree = {}
    for name, value in vars(module).items():
        if eqx.is_array(value):
            tree[name] = value
        elif isinstance(value, eqx.nn.Linear):
            tree[name] = _arrays(value)
    return tree


class LayerModule(eqx.Module):
    """An Equinox module around any layer; ``jax.grad`` and ``eqx.filter_grad`` use its manual rule.

    It reads what the layer reads, a batch: in a model that is written for one example, ``module(x[None])[0]``, which
    under ``jax.vmap`` is one batch again. BatchNorm's statistics are among ``params``; no gradient sets them, see
    ``evaluation.batch_statistics``.

    layer: any layer. x: an example input. key: the initial values are the layer's own, drawn with it.
    """

    params: PyTree
    layer: Layer = eqx.field(static=True)

    def __init__(self, layer: Layer, x: PyTree, *, key: Array) -> None:
        self.layer, self.params = layer, layer.init(key, x)

    def __call__(
        self, x: PyTree, *, key: Any = None, train: bool = False, mask: Any = None, memory_mask: Any = None
    ) -> PyTree:
        """``layer.apply``. key: of what dropout drops; train, mask, memory_mask: see Context."""
        return attach(self.layer)(self.params, x, Context(train, key, mask, memory_mask))
