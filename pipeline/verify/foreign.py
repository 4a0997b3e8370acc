"""Functions that are not written in JAX, as ones that JAX can trace."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..layers.base import PyTree


def by_callback(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function in NumPy as one that JAX can trace. It is called once with ones, to find out its shapes."""

    def call(*arguments: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(arguments)
        traced = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray)]

        def on_host(*arrays: Any) -> PyTree:
            own = list(leaves)
            for i, array in zip(traced, arrays):
                own[i] = np.asarray(array)
            return jax.tree.map(np.asarray, function(*jax.tree.unflatten(structure, own)))

        like = on_host(*(np.ones(leaves[i].shape, leaves[i].dtype) for i in traced))
        dtypes = jax.tree.map(lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype), like)
        shapes = jax.tree.map(lambda leaf, dtype: jax.ShapeDtypeStruct(leaf.shape, dtype), like, dtypes)
        cast = lambda *arrays: jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), on_host(*arrays), dtypes)  # noqa: E731
        return jax.pure_callback(cast, shapes, *(jnp.asarray(leaves[i]) for i in traced), vmap_method="sequential")

    return call
