"""Initialisers ``(key, shape, dtype) -> array``: module-level functions, so that equal layers compare equal."""

from collections.abc import Callable
from typing import Any

import jax

Initializer = Callable[..., Any]

# Kernels have shape (..., in, out): fan-in is the product of all but the last axis.
lecun_normal: Initializer = jax.nn.initializers.lecun_normal()
"""Variance 1 / fan-in (LeCun et al. 1998), which preserves the variance of activations through linear layers."""
he_normal: Initializer = jax.nn.initializers.he_normal()
"""Variance 2 / fan-in (He et al. 2015), which also makes up for ReLU halving the variance."""
glorot_uniform: Initializer = jax.nn.initializers.glorot_uniform()
"""Variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010), a compromise between forward and backward pass."""
orthogonal: Initializer = jax.nn.initializers.orthogonal()
"""Orthogonal rows or columns (Saxe et al. 2014), so that repeated products preserve the length of vectors."""
normal: Initializer = jax.nn.initializers.normal(0.02)
"""Standard deviation 0.02, which is usual for embeddings (Radford et al. 2018)."""
zeros: Initializer = jax.nn.initializers.zeros
ones: Initializer = jax.nn.initializers.ones
