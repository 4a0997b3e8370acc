"""The rule in lower precision: held to autodiff's own error there."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.verify.measure import Difference, difference, largest
from pipeline.verify.rule import Rule, is_float, outputs
from pipeline.verify.tolerance import size_around
from pipeline.verify.trial import Trial, bits, in_float64


def in_precision(trial: Trial, dtype: str, arrays: list[Any]) -> None:
    """The error by hand is at most twice autodiff's own, plus 4 eps; its own is the largest of a few."""
    rounding = 4 * float(jnp.finfo(dtype).eps)
    own: dict[str, float] = {}
    found: dict[str, Difference] = {}
    scales: dict[str, float] = {}
    y = _under_native(trial, lambda: jax.eval_shape(lambda arrays: _outputs(trial.rule, arrays), arrays))
    for k, values in enumerate(_nearby(trial, arrays)):
        d_y = [np.asarray(d).astype(leaf.dtype) for d, leaf in zip(trial.found.seen[0].probe.d_y, y)]
        expected = trial.reference([in_float64(a) for a in values], [in_float64(d) for d in d_y])
        derived, manual = _under_native(trial, lambda v=values, d=d_y: trial.both(v, d))
        for part in (0, 1):
            for leaf, right in expected[part].items():
                if leaf not in manual[part] or (part and leaf not in trial.rule.floats):
                    continue
                around = size_around(trial, leaf, expected[1]) if part else 0.0
                mine = difference(derived[part][leaf], right, around).relative_error
                own[leaf] = max(own.get(leaf, 0.0), mine)
                if k == 0:
                    found[leaf], scales[leaf] = difference(manual[part][leaf], right, around), largest(right)
    for leaf, apart in found.items():
        check = "value" if leaf == "y" or leaf.startswith("y/") else "gradient"
        if trial.rule.layer is None and ((own[leaf] > 0.02 and bits(dtype) == 32) or not math.isfinite(own[leaf])):
            trial.found.note(
                f"{leaf}: in {dtype} autodiff itself is off by {own[leaf]:.1e}: nothing is asked of the rule"
            )
            continue
        limit = 2 * own[leaf] + rounding
        # Beside an incoming cotangent that a saturated function all but stops, its rounding is all there is to see.
        coming = max(map(largest, trial.found.seen[0].probe.d_y), default=0.0)
        stopped = trial.rule.layer is None and scales[leaf] <= 1e-3 * coming and apart.distance <= 4 * rounding * coming
        ok = apart.relative_error <= limit < math.inf or stopped
        if not ok and check == "gradient":
            trial.found.narrow = trial.found.narrow or dtype
        verdict, message = ("pass", "") if ok else ("fail", f"worst {apart}")
        trial.row(leaf, check, dtype, apart.relative_error, limit, verdict, message)


def _under_native(trial: Trial, function: Callable[[], Any]) -> Any:
    """What a function gives under the caller's own setting of float64.

    JAX keeps NumPy indices of a function that it has traced in float64, and may stumble over them without: then float64
    stays on.
    """
    try:
        with trial.native():
            return function()
    except TypeError:
        return function()


def _nearby(trial: Trial, arrays: list[Any]) -> list[list[Any]]:
    """The arguments, and thrice more with all numbers a few ulps away: one error of autodiff's is only one draw."""
    return [arrays, *([_nudged(array, salt) for array in arrays] for salt in range(3))]


def _nudged(array: Any, salt: int) -> Any:
    """Every number up to a few ulps away, by an amount that the number itself decides: equal ones stay equal."""
    if not is_float(array) or np.iscomplexobj(array):
        return array
    eps, numbers = float(jnp.finfo(array.dtype).eps), np.asarray(array).astype(np.float64)
    bits = np.ascontiguousarray(numbers).view(np.uint64).reshape(numbers.shape) + np.uint64(salt)
    with np.errstate(over="ignore"):
        hashed = bits * np.uint64(0x9E3779B97F4A7C15)
    steps = (hashed >> np.uint64(60)).astype(np.float64) - 7.5
    return (numbers * (1 + steps / 2 * eps)).astype(np.asarray(array).dtype)


def _outputs(rule: Rule, arrays: Sequence[Any]) -> list[Any]:
    return list(outputs(rule.define(arrays)).values())
