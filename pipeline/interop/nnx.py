"""Layers in Flax NNX: a module around any layer, and parameters carried over to NNX's own modules and back.

The counterparts are those of ``interop.flax``, with NNX's names: Linear, MultiHeadAttention. NNX's GRUCell has no bias
of the recurrent product, so only a GRU whose ``recurrent_bias`` is 0 can be carried over to it.

>>> import jax, jax.numpy as jnp
>>> from flax import nnx
>>> from backhand.interop.nnx import LayerModule
>>> from backhand.layers import Dense
>>> module = LayerModule(Dense(4), jnp.ones((2, 3)), rngs=nnx.Rngs(0))  # was nnx.Linear(3, 4, rngs=nnx.Rngs(0))
>>> module(jnp.ones((2, 3))).shape, module.kernel.shape
((2, 4), (3, 4))
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..attachment import attach
from ..extras import extra
from ..layers.base import Context, Layer, PyTree
from ..layers.recurrent import GRU, LSTM, RNN, Bidirectional
from .conversion import Conversion, Table, Tree, check_epsilon, from_framework, shapes, to_framework
from .flax import LINEN, bidirectional, updated_statistics

with extra("interop"):
    from flax import nnx


def _cell(biased: str) -> Conversion:
    """Gates are side by side, as ours; biased: which product has the bias."""

    def to(layer: Any, params: Tree) -> Tree:
        del layer
        cell = {"dense_i": {"kernel": params["kernel"]}, "dense_h": {"kernel": params["recurrent"]}}
        cell[biased]["bias"] = params["bias"]
        return {"cell": cell}

    def back(layer: Any, tree: Tree) -> Tree:
        del layer
        cell = tree["cell"]
        kernels = {"kernel": cell["dense_i"]["kernel"], "recurrent": cell["dense_h"]["kernel"]}
        return kernels | {"bias": cell[biased]["bias"]}

    return Conversion(to, back)


def _to_gru(layer: GRU, params: Tree) -> Tree:
    if np.any(params["recurrent_bias"]):
        raise ValueError("GRU: NNX's GRUCell has no bias of the recurrent product, but recurrent_bias is not 0")
    return _cell("dense_i").to(layer, params)


def _from_gru(layer: GRU, tree: Tree) -> Tree:
    params = _cell("dense_i").back(layer, tree)
    return params | {"recurrent_bias": jnp.zeros(layer.units, params["bias"].dtype)}


_CELLS: Table = {RNN: _cell("dense_i"), LSTM: _cell("dense_h")}
_ALL_CELLS: Table = {**_CELLS, GRU: Conversion(_to_gru, _from_gru)}

NNX: Table = {
    **{kind: conversion for kind, conversion in LINEN.items() if kind is not GRU},
    **_CELLS,
    Bidirectional: bidirectional(_CELLS),
}
"""The layers whose parameters NNX's counterpart can hold; a GRU's have our names in a ``LayerModule``."""
_CARRIED: Table = {**NNX, **_ALL_CELLS, Bidirectional: bidirectional(_ALL_CELLS)}


def to_nnx(layer: Layer, params: PyTree, module: nnx.Module) -> None:
    """Writes ``params`` into NNX's counterpart of ``layer``, in place.

    Raises ValueError, and writes nothing, if names, shapes or epsilons differ.
    """
    check_epsilon(layer, module)
    new = to_framework(_table(module), layer, params)
    old = _trees(module)
    if shapes(new) != shapes(old):
        raise ValueError(
            f"{layer}: its parameters {shapes(new)} are not those of {type(module).__name__}, {shapes(old)}"
        )
    for kind, tree in zip((nnx.Param, nnx.BatchStat), new):
        state = nnx.state(module, kind)
        nnx.update(module, jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(tree)))


def from_nnx(layer: Layer, module: nnx.Module) -> PyTree:
    """The parameters of ``layer``, from NNX's counterpart. Raises ValueError if names or epsilons differ."""
    check_epsilon(layer, module)
    return from_framework(_table(module), layer, *_trees(module))


def _table(module: nnx.Module) -> Table:
    return NNX if isinstance(module, LayerModule) else _CARRIED


def _trees(module: nnx.Module) -> tuple[PyTree, PyTree]:
    """The parameters and the statistics of a module."""
    return tuple(nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))  # pyright: ignore


class LayerModule(nnx.Module):
    """An NNX module around any layer: its parameters have NNX's names, and gradients use its manual rule.

    Initial values are the layer's own, drawn with the stream "params"; the parts of a composite are called
    ``layers_0``, ``layers_1``, ... BatchNorm's statistics are of the type ``nnx.BatchStat``. A call with ``train``
    updates them as NNX does: ``momentum`` times the old ones, plus the rest times those of the batch.

    layer: any layer. x: an example input. momentum: that of the statistics of BatchNorm.
    """

    def __init__(self, layer: Layer, x: PyTree, *, rngs: nnx.Rngs, momentum: float = 0.99) -> None:
        self.definition, self.momentum = layer, momentum
        parameters, statistics = to_framework(NNX, layer, layer.init(rngs.params(), x))
        for name, value in parameters.items():
            setattr(self, name, _variables(value, statistics.get(name)))
        for name in set(statistics) - set(parameters):
            setattr(self, name, nnx.BatchStat(statistics[name]))

    def __call__(
        self, x: PyTree, *, train: bool = False, rngs: nnx.Rngs | None = None, mask: Any = None, memory_mask: Any = None
    ) -> PyTree:
        """``layer.apply``. rngs: its stream "dropout" draws what dropout drops; mask, memory_mask: see Context."""
        parameters, statistics = _trees(self)
        layer, params = self.definition, from_framework(NNX, self.definition, parameters, statistics)
        context = Context(train, rngs.dropout() if train and rngs is not None else None, mask, memory_mask)
        if train and statistics:
            new = updated_statistics(NNX, layer, params, x, context, statistics, self.momentum)
            state = nnx.state(self, nnx.BatchStat)
            nnx.update(self, jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(new)))
        return attach(layer)(params, x, context)


def _variables(parameters: PyTree, statistics: PyTree) -> Any:
    """The arrays of both trees as variables of NNX, in one tree."""
    if not isinstance(parameters, dict):
        return jax.tree.map(nnx.Param, parameters)
    statistics = statistics or {}
    parts = {name: _variables(value, statistics.get(name)) for name, value in parameters.items()}
    others = {name: nnx.BatchStat(value) for name, value in statistics.items() if name not in parameters}
    return nnx.Dict({**parts, **others})
