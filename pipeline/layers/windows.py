"""Windows that slide over signals or images: padding, the check of an input's axes, and strided placement."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .base import Layer

Padding = str | tuple[tuple[int, int], ...]


def explicit_padding(
    padding: Padding, sizes: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """The padding (low, high) of each spatial axis: "SAME" gives ceil(size / stride) windows, "VALID" pads nothing."""
    if isinstance(padding, str):
        return tuple(lax.padtype_to_pads(sizes, window, strides, padding))
    return padding


def check_axes(layer: Layer, shape: tuple[int, ...], space: int) -> None:
    """Raises ValueError unless ``shape`` is (batch, ``space`` spatial axes, channels)."""
    if len(shape) != space + 2:
        raise ValueError(f"{layer} needs an input (batch, {space} spatial axes, channels), not {shape}")


def spread_out(d: Array, starts: Sequence[int], strides: Sequence[int], shape: tuple[int, ...]) -> Array:
    """Zeros of ``shape`` with the elements of ``d`` at every stride-th position from ``starts`` on.

    Elements outside of ``shape`` are dropped.
    """
    edges = [
        (start, size - start - (count - 1) * stride - 1, stride - 1)
        for start, size, count, stride in zip(starts, shape[1:-1], d.shape[1:-1], strides)
    ]
    return lax.pad(d, jnp.zeros((), d.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
