"""Repeat: equal layers one after the other, as one scan over their stacked parameters."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .base import Context, Layer, PyTree, Static, vary_like
from .combinators import without_memory


@dataclass(frozen=True)
class Repeat(Layer):
    """``times`` equal layers one after the other, run as one scan over parameters stacked along a new first axis.

    Each layer has its own parameters, but the compiled program contains the layer only once, however deep the model is.
    The layer's output must have the shape and dtype of its input. For an input (x, memory), the output must be like x,
    and every layer gets the same memory.

    >>> from backhand.layers import Dense
    >>> layer, x = Repeat(Dense(3), times=4), jnp.ones((2, 3))
    >>> params = layer.init(jax.random.key(0), x)
    >>> params["layer"]["kernel"].shape, layer.apply(params, x, Context()).shape
    ((4, 3, 3), (2, 3))
    """

    examplewise: ClassVar[bool] = True

    layer: Layer
    times: int

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": jax.vmap(lambda key: self.layer.init(key, x))(jax.random.split(key, self.times))}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        def step(y: PyTree, indexed: tuple[PyTree, Any]) -> tuple[PyTree, None]:
            layer_params, i = indexed
            return self.layer.apply(layer_params, _with_memory(x, y), context.child(i)), None

        return jax.lax.scan(
            step,
            vary_like(without_memory(x), x, params, context),
            (params["layer"], jnp.arange(self.times, dtype=jnp.int32)),
        )[0]

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        common = jax.tree.leaves((x[1:] if isinstance(x, tuple) else (), context))
        shared: dict[int, int] = {}
        structure = None

        def step(y: PyTree, indexed: tuple[PyTree, Any]) -> tuple[PyTree, PyTree]:
            nonlocal structure
            layer_params, i = indexed
            y, residuals = self.layer.forward(layer_params, _with_memory(x, y), context.child(i))
            residuals, structure = jax.tree.flatten(residuals)
            # A residual that is an input of every layer, such as a memory or a mask, is saved once and not stacked.
            for place, leaf in enumerate(residuals):
                for source, array in enumerate(common):
                    if leaf is array:
                        shared[place] = source
            return y, [leaf for place, leaf in enumerate(residuals) if place not in shared]

        y, stacked = jax.lax.scan(
            step,
            vary_like(without_memory(x), x, params, context),
            (params["layer"], jnp.arange(self.times, dtype=jnp.int32)),
        )
        places = tuple(sorted(shared))
        return y, (stacked, [common[shared[place]] for place in places], Static((places, structure)))

    def _residuals_of(self, own: PyTree, shared: PyTree, static: Static) -> PyTree:
        places, structure = static.value  # pyright: ignore[reportGeneralTypeIssues]
        own, shared = list(own), list(shared)
        return jax.tree.unflatten(
            structure, [shared.pop(0) if i in places else own.pop(0) for i in range(structure.num_leaves)]
        )

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The chain rule of Serial, as a scan from the last layer to the first.

        d_y is the carry, d_params are stacked like the parameters, and the cotangent of a memory is the sum over all
        layers, since each of them reads it. The residuals are the layers' own, stacked, except for those that all
        layers share, which are saved once.
        """
        stacked, shared, static = residuals

        def one(d_y: PyTree, layer_params: PyTree, own: PyTree) -> tuple[PyTree, PyTree, PyTree]:
            d_params, d_x = self.layer.backward(layer_params, self._residuals_of(own, shared, static), d_y)
            return (d_params, d_x[0], d_x[1:]) if isinstance(d_x, tuple) else (d_params, d_x, ())

        def step(carry: tuple[PyTree, PyTree], saved: tuple[PyTree, PyTree]) -> tuple[tuple[PyTree, PyTree], PyTree]:
            d_y, d_rest = carry
            d_params, d_y, d_layer_rest = one(d_y, *saved)
            return (d_y, jax.tree.map(jnp.add, d_rest, d_layer_rest)), d_params

        first_layer = jax.tree.map(lambda leaf: leaf[0], (params["layer"], stacked))
        d_rest = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, d_y, *first_layer)[2])
        (d_x, d_rest), d_params = jax.lax.scan(
            step,
            vary_like((d_y, d_rest), d_y, params, residuals),
            (params["layer"], stacked),
            length=self.times,
            reverse=True,
        )
        return {"layer": d_params}, ((d_x, *d_rest) if d_rest else d_x)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return jax.vmap(lambda layer_params: self.layer.init_cache(layer_params, x, length, context))(params["layer"])

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        def one(y: PyTree, indexed: tuple[PyTree, PyTree, Any]) -> tuple[PyTree, PyTree]:
            layer_params, layer_cache, i = indexed
            return self.layer.decode_step(layer_params, layer_cache, _with_memory(x, y), context.child(i))

        return jax.lax.scan(one, without_memory(x), (params["layer"], cache, jnp.arange(self.times, dtype=jnp.int32)))

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        stacked, shared, static = residuals
        of_one = lambda p, own: self.layer.statistics(p, self._residuals_of(own, shared, static))  # noqa: E731
        return {"layer": jax.vmap(of_one)(params["layer"], stacked)}


def _with_memory(x: PyTree, y: PyTree) -> PyTree:
    """``y``, with the memory beside it if ``x`` is a pair (x, memory)."""
    return (y, *x[1:]) if isinstance(x, tuple) else y
