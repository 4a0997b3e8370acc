"""The cotangents of a definition that has no reverse mode: by forward mode, or by finite differences.

Both take and return what ``rule.autodiff`` does, and can be traced.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ...layers.base import PyTree
from ..rule import float_places, outputs, paired, replaced

_HALVINGS = 7


def by_forward_mode(
    define: Callable[..., PyTree], names: Sequence[str], arrays: Sequence[Any], d_y: Sequence[Any]
) -> dict[str, Any]:
    """By ``jax.jvp`` along every element: for definitions with a ``while_loop``."""

    def along(place: int, tangent: Any) -> Any:
        of_one = lambda array: list(outputs(define(replaced(arrays, [place], [array]))).values())  # noqa: E731
        return paired(jax.jvp(of_one, (jnp.asarray(arrays[place]),), (tangent,))[1], d_y)

    def of_leaf(place: int) -> Any:
        array = jnp.asarray(arrays[place])
        unit = lambda i, one: jnp.zeros(array.size, array.dtype).at[i].set(one).reshape(array.shape)  # noqa: E731
        slopes = lambda one: jax.lax.map(lambda i: along(place, unit(i, one)), jnp.arange(array.size))  # noqa: E731
        d = slopes(1) if not jnp.iscomplexobj(array) else slopes(1) - 1j * slopes(1j)
        return d.reshape(array.shape).astype(array.dtype)

    return {"y": outputs(define(arrays)), "d": {names[i]: of_leaf(i) for i in float_places(arrays)}}


def by_differences(
    define: Callable[..., PyTree], names: Sequence[str], arrays: Sequence[Any], d_y: Sequence[Any]
) -> dict[str, Any]:
    """By central differences in every element, extrapolated to step 0: for kernels and callbacks.

    ``"error"`` has an estimate of each number's error. Where they have not converged, as at a kink, the number is NaN.
    """
    value = lambda arrays: paired(list(outputs(define(arrays)).values()), d_y)  # noqa: E731
    here = value(arrays)

    def along(place: int, one: Any) -> tuple[Any, Any]:
        array = jnp.asarray(arrays[place])
        size = jnp.abs(array).reshape(-1)
        unit = jnp.maximum(size, 0.1 * jnp.where(size.max(initial=0) > 0, size.max(initial=0), 10))
        sides = [2e-2 / 2**k for k in range(_HALVINGS)] + [1e-5]
        steps = jnp.asarray([sign * side for side in sides for sign in (1, -1)], unit.dtype)

        def moved(number: Any) -> Any:
            i, step = number // steps.size, steps[number % steps.size]
            change = jnp.zeros(array.size, array.dtype).at[i].set((one * step * unit[i]).astype(array.dtype))
            return value(replaced(arrays, [place], [array + change.reshape(array.shape)]))

        values = jax.lax.map(moved, jnp.arange(array.size * steps.size)).reshape(array.size, -1, 2)
        return _extrapolated(values, here, steps[::2] * unit[:, None])

    d, error = {}, {}
    for i in float_places(arrays):
        slope, apart = along(i, 1)
        if jnp.iscomplexobj(arrays[i]):
            imaginary, other = along(i, 1j)
            slope, apart = slope - 1j * imaginary, jnp.maximum(apart, other)
        d[names[i]] = slope.reshape(jnp.shape(arrays[i])).astype(jnp.asarray(arrays[i]).dtype)
        error[names[i]] = apart.reshape(jnp.shape(arrays[i]))
    return {"y": outputs(define(arrays)), "d": d, "error": error}


def _extrapolated(values: Any, here: Any, steps: Any) -> tuple[Any, Any]:
    """Ridders' derivatives and errors, from the values on either side at every step: (elements, steps, 2).

    The last step is one so small that a bend shows: at a kink, central differences converge to neither side's slope.
    """
    table: list[list[Any]] = []
    best = jnp.full(values.shape[:1], jnp.nan, steps.dtype)
    error = jnp.full(values.shape[:1], jnp.inf, steps.dtype)
    for i in range(_HALVINGS):
        row = [(values[:, i, 0] - values[:, i, 1]) / (2 * steps[:, i])]
        for j in range(i):
            factor = 4.0 ** (j + 1)
            row.append((factor * row[j] - table[i - 1][j]) / (factor - 1))
            estimate = jnp.maximum(jnp.abs(row[-1] - row[j]), jnp.abs(row[-1] - table[i - 1][j]))
            best, error = jnp.where(estimate < error, row[-1], best), jnp.minimum(estimate, error)
        table.append(row)
    bend = jnp.abs(values[:, -1].sum(-1) - 2 * here) / steps[:, -1]
    room = 64 * jnp.finfo(steps.dtype).eps * jnp.abs(here) / steps[:, -1]
    largest = jnp.where(jnp.isfinite(best), jnp.abs(best), 0).max(initial=0)
    converged = (bend <= 1e-3 * largest + room) & (error <= 1e-2 * largest + 1e-300)
    return jnp.where(converged, best, jnp.nan), error
