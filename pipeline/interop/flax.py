"""Layers in Flax Linen: a module around any layer, and parameters carried over to Linen's own modules and back.

| layer | Linen |
|---|---|
| Dense, Conv, ConvTranspose, Embedding | Dense, Conv, ConvTranspose, Embed |
| LayerNorm, RMSNorm, GroupNorm, BatchNorm | the same names |
| RNN, LSTM, GRU | RNN of SimpleCell, OptimizedLSTMCell (or LSTMCell), GRUCell |
| Bidirectional | Bidirectional |
| SelfAttention, CrossAttention | MultiHeadDotProductAttention |

>>> import flax.linen as nn, jax, jax.numpy as jnp
>>> from backhand.interop.flax import LayerModule
>>> from backhand.layers import LSTM
>>> x = jnp.ones((2, 5, 3))
>>> module = LayerModule(LSTM(4))  # was nn.RNN(nn.OptimizedLSTMCell(4))
>>> variables = module.init(jax.random.key(0), x)
>>> module.apply(variables, x).shape, sorted(variables["params"]["cell"])
((2, 5, 4), ['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'])
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..attachment import attach
from ..extras import extra
from ..layers.attention import CrossAttention, SelfAttention
from ..layers.base import Context, Layer, PyTree
from ..layers.convolution import Conv, ConvTranspose
from ..layers.embedding import Embedding
from ..layers.linear import Dense
from ..layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from ..layers.recurrent import GRU, LSTM, RNN, Bidirectional
from .conversion import Conversion, Table, Tree, from_framework, mean_square, renamed, to_framework, variance

with extra("interop"):
    from flax import linen


def _flipped(array: Array) -> Array:
    """Linen's transposed convolution is a correlation with the kernel, ours adds copies of it."""
    return jnp.flip(array, tuple(range(array.ndim - 2)))


def _to_batch_norm(layer: BatchNorm, params: Tree) -> Tree:
    del layer
    return {"scale": params["scale"], "bias": params["bias"], "mean": params["mean"], "var": variance(params)}


def _from_batch_norm(layer: BatchNorm, tree: Tree) -> Tree:
    del layer
    square = mean_square(tree["mean"], tree["var"])
    return {"scale": tree["scale"], "bias": tree["bias"], "mean": tree["mean"], "mean_square": square}


def _heads(layer: Any, name: str) -> int:
    return layer.groups if name in ("key", "value") else layer.heads


def _to_attention(layer: Any, params: Tree) -> Tree:
    """Kernels (in, heads, head features) of query, key and value, and (heads, head features, out) of out."""

    def of(name: str, array: Array) -> Array:
        heads = _heads(layer, name)
        return array.reshape(heads, -1) if array.ndim == 1 else array.reshape(array.shape[0], heads, -1)

    out = dict(
        params["out"], kernel=params["out"]["kernel"].reshape(layer.heads, -1, params["out"]["kernel"].shape[-1])
    )
    parts = ("query", "key", "value")
    return {**{part: {name: of(part, array) for name, array in params[part].items()} for part in parts}, "out": out}


def _from_attention(layer: Any, tree: Tree) -> Tree:
    del layer

    def of(array: Array) -> Array:
        return array.reshape(-1) if array.ndim == 2 else array.reshape(array.shape[0], -1)

    out = dict(tree["out"], kernel=tree["out"]["kernel"].reshape(-1, tree["out"]["kernel"].shape[-1]))
    parts = ("query", "key", "value")
    return {**{part: {name: of(array) for name, array in tree[part].items()} for part in parts}, "out": out}


def _to_cell(gates: str, biased: str) -> Any:
    """gates: Linen's letters, in the order of our blocks. biased: the product with the bias, "i" or "h"."""

    def to(layer: Any, params: Tree) -> Tree:
        del layer
        count = max(len(gates), 1)
        kernels = {"i": jnp.split(params["kernel"], count, -1), "h": jnp.split(params["recurrent"], count, -1)}
        cell = {side + gate: {"kernel": kernel} for side in "ih" for gate, kernel in zip(gates or [""], kernels[side])}
        for gate, bias in zip(gates or [""], jnp.split(params["bias"], count, -1)):
            cell[biased + gate]["bias"] = bias
        if "recurrent_bias" in params:
            cell["hn"]["bias"] = params["recurrent_bias"]
        return {"cell": cell}

    return to


def _from_cell(gates: str, biased: str) -> Any:
    def back(layer: Any, tree: Tree) -> Tree:
        del layer
        cell = tree["cell"]

        def joined(side: str, name: str) -> Array:
            return jnp.concatenate([cell[side + gate][name] for gate in gates or [""]], -1)

        params = {"kernel": joined("i", "kernel"), "recurrent": joined("h", "kernel"), "bias": joined(biased, "bias")}
        return params | {"recurrent_bias": cell["hn"]["bias"]} if gates == "rzn" else params

    return back


def _cell(gates: str, biased: str) -> Conversion:
    return Conversion(_to_cell(gates, biased), _from_cell(gates, biased))


def _to_bidirectional(layer: Bidirectional, params: Tree, table: Table) -> Tree:
    parts = {"forward_rnn": "forward_layer", "backward_rnn": "backward_layer"}
    return {theirs: to_framework(table, getattr(layer, ours), params[ours])[0] for theirs, ours in parts.items()}


def _from_bidirectional(layer: Bidirectional, tree: Tree, table: Table) -> Tree:
    parts = {"forward_layer": "forward_rnn", "backward_layer": "backward_rnn"}
    return {ours: from_framework(table, getattr(layer, ours), tree[theirs], {}) for ours, theirs in parts.items()}


def bidirectional(cells: Table) -> Conversion:
    """cells: the conversions of the layers of both directions."""
    return Conversion(partial(_to_bidirectional, table=cells), partial(_from_bidirectional, table=cells))


_KERNEL, _NORM = renamed({"kernel": "kernel", "bias": "bias"}), renamed({"scale": "scale", "bias": "bias"})
_ATTENTION = Conversion(_to_attention, _from_attention)
_CELLS: Table = {RNN: _cell("", "i"), LSTM: _cell("ifgo", "h"), GRU: _cell("rzn", "i")}

LINEN: Table = {
    Dense: _KERNEL,
    Conv: _KERNEL,
    ConvTranspose: Conversion(
        lambda layer, params: {**params, "kernel": _flipped(params["kernel"])},
        lambda layer, tree: {**tree, "kernel": _flipped(tree["kernel"])},
    ),
    Embedding: renamed({"embedding": "embedding"}),
    LayerNorm: _NORM,
    RMSNorm: renamed({"scale": "scale"}),
    GroupNorm: _NORM,
    BatchNorm: Conversion(_to_batch_norm, _from_batch_norm, ("mean", "var")),
    **_CELLS,
    Bidirectional: bidirectional(_CELLS),
    SelfAttention: _ATTENTION,
    CrossAttention: _ATTENTION,
}
"""The layers that have a counterpart in Linen."""


def to_linen(layer: Layer, params: PyTree) -> dict[str, PyTree]:
    """The variables of Linen's counterpart of ``layer``: {"params": ...}, with "batch_stats" if it has statistics."""
    parameters, statistics = to_framework(LINEN, layer, params)
    return {"params": parameters} | ({"batch_stats": statistics} if statistics else {})


def from_linen(layer: Layer, variables: Any) -> PyTree:
    """The parameters of ``layer``, from the variables of Linen's counterpart.

    Raises ValueError, with the names there are, if the variables are not those of the counterpart.
    """
    return from_framework(LINEN, layer, variables.get("params", {}), variables.get("batch_stats", {}))


class LayerModule(linen.Module):
    """A Linen module around any layer: its parameters have Linen's names, and ``jax.grad`` uses its manual rule.

    Initial values are the layer's own, drawn with the key "params"; the parts of a composite are called ``layers_0``,
    ``layers_1``, ... BatchNorm's statistics are in "batch_stats". A training step in which that collection is mutable
    updates them as Linen does: ``momentum`` times the old ones, plus the rest times those of the batch.

    layer: any layer. momentum: that of the statistics of BatchNorm.
    """

    layer: Layer
    momentum: float = 0.99

    @linen.compact
    def __call__(self, x: PyTree, *, train: bool = False, mask: Any = None, memory_mask: Any = None) -> PyTree:
        """``layer.apply``. train: whether dropout drops, with the key "dropout". The masks are those of ``Context``."""
        key = self.make_rng("params") if self.is_initializing() else None
        fresh = to_linen(self.layer, self.layer.init(key, x)) if key is not None else self._shapes(x)
        parameters = {name: self.param(name, lambda _, value=value: value) for name, value in fresh["params"].items()}
        statistics = {
            name: self.variable("batch_stats", name, lambda value=value: value)
            for name, value in fresh.get("batch_stats", {}).items()
        }
        values = {name: variable.value for name, variable in statistics.items()}
        params = from_linen(self.layer, {"params": parameters, "batch_stats": values})
        key = self.make_rng("dropout") if train and self.has_rng("dropout") else None
        context = Context(train, key, mask, memory_mask)
        if train and statistics and self.is_mutable_collection("batch_stats") and not self.is_initializing():
            for name, value in updated_statistics(LINEN, self.layer, params, x, context, values, self.momentum).items():
                statistics[name].value = value
        return attach(self.layer)(params, x, context)

    def _shapes(self, x: PyTree) -> dict[str, PyTree]:
        """What ``init`` would give, without computing it: ``param`` compares the shapes with the stored ones."""
        types = jax.eval_shape(lambda key, x: to_linen(self.layer, self.layer.init(key, x)), jax.random.key(0), x)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), types)


def updated_statistics(
    table: Table, layer: Layer, params: PyTree, x: PyTree, context: Context, old: PyTree, momentum: float
) -> PyTree:
    """``momentum`` times the ``old`` statistics, plus the rest times those of the batch x."""
    params, x = jax.lax.stop_gradient((params, x))
    statistics = layer.statistics(params, layer.forward(params, x, context)[1])
    leaves, structure = jax.tree.flatten(statistics, is_leaf=lambda leaf: leaf is None)
    pairs = zip(leaves, structure.flatten_up_to(params))
    params = structure.unflatten([param if statistic is None else statistic for statistic, param in pairs])
    new = to_framework(table, layer, params)[1]
    return jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new.astype(old.dtype), old, new)
