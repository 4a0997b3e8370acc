"""The rule in lower precision: its error there against autodiff's own."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..faults import describe_error, raise_if_own
from ..measure import Difference, difference, largest
from ..programs.derivatives import by_differences
from ..rule import Rule, is_float, outputs
from ..trial import Trial, bits, in_float64
from .probes import Probe, Sizes, meaning
from .tolerance import implicit_limit, size_around

_LONG = 4096
"""So many rows are accumulated, one after the other, to find sums that are kept in a low precision."""


def in_precision(trial: Trial, dtype: str, arrays: list[Any]) -> None:
    """The rule's error may be at most twice autodiff's own, the largest at a few inputs close by, plus 4 eps."""
    rounding = 4 * float(jnp.finfo(dtype).eps)
    own: dict[str, float] = {}
    errors: dict[str, Difference] = {}
    scales: dict[str, float] = {}
    y = _under_native(trial, lambda: jax.eval_shape(lambda arrays: _outputs(trial.rule, arrays), arrays))
    for k, values in enumerate(_nearby(trial, arrays)):
        d_y = [np.asarray(d).astype(leaf.dtype) for d, leaf in zip(trial.judgement.observations[0].probe.d_y, y)]
        expected = trial.reference([in_float64(a) for a in values], [in_float64(d) for d in d_y])
        try:
            derived, manual = _under_native(trial, lambda v=values, d=d_y: trial.both(v, d))
        except Exception as error:
            raise_if_own(error)
            if _definition_runs(trial, values, d_y):
                raise
            trial.judgement.note(f"not checked in {dtype}: autodiff of the function {describe_error(error)}")
            return
        for part in (0, 1):
            for leaf, right in expected[part].items():
                if leaf not in manual[part] or (part and leaf not in trial.rule.floats):
                    continue
                around = size_around(trial, leaf, expected[1]) if part else 0.0
                error = difference(derived[part][leaf], right, around).relative_error
                if trial.rule.derivative is by_differences and part:
                    error = 16 * float(jnp.finfo(dtype).eps)  # differences say nothing in this precision
                own[leaf] = max(own.get(leaf, 0.0), error)
                if k == 0:
                    errors[leaf], scales[leaf] = difference(manual[part][leaf], right, around), largest(right)
    for leaf, apart in errors.items():
        check = "value" if leaf == "y" or leaf.startswith("y/") else "gradient"
        if trial.rule.layer is None and ((own[leaf] > 0.02 and bits(dtype) == 32) or not math.isfinite(own[leaf])):
            trial.judgement.note(
                f"{leaf}: in {dtype} autodiff itself is off by {own[leaf]:.1e}, so the rule is not judged there"
            )
            continue
        limit = 2 * own[leaf] + rounding
        # Where a saturated function all but stops the cotangent, the rounding of the cotangent is all that is left.
        coming = max(map(largest, trial.judgement.observations[0].probe.d_y), default=0.0)
        stopped = trial.rule.layer is None and scales[leaf] <= 1e-3 * coming and apart.distance <= 4 * rounding * coming
        ok = apart.relative_error <= limit < math.inf or stopped
        if not ok and trial.rule.layer is None:
            limit += implicit_limit(trial, trial.judgement.observations[0].probe)
            ok = apart.relative_error <= limit < math.inf
        if not ok and check == "gradient":
            trial.judgement.rule_dtype = trial.judgement.rule_dtype or dtype
        verdict, message = ("pass", "") if ok else ("fail", f"worst {apart}")
        trial.row(leaf, check, dtype, apart.relative_error, limit, verdict, message)


def accumulation(trial: Trial, dtype: str, arrays: list[Any]) -> None:
    """The rule's sums over many rows of cotangents of one sign: in a low precision they stop growing.

    Autodiff's own error is that of the function; where it is as large, nothing can be said.
    """
    probe = _many_rows(trial, [in_float64(array) for array in arrays])
    if probe is None:
        return
    signed = [meaning(array) in ("real", "not zero") and not np.iscomplexobj(array) for array in probe.arrays]
    values = [
        array if not is_float(array) else (np.abs(array) if flag else np.asarray(array)).astype(original.dtype)
        for array, original, flag in zip(probe.arrays, arrays, signed)
    ]
    y = _under_native(trial, lambda: jax.eval_shape(lambda arrays: _outputs(trial.rule, arrays), values))
    d_y = [(0.5 + np.abs(d)).astype(leaf.dtype) for d, leaf in zip(probe.d_y, y)]
    try:
        expected = trial.reference([in_float64(a) for a in values], [in_float64(d) for d in d_y])[1]
        derived, manual = (part[1] for part in _under_native(trial, lambda: trial.both(values, d_y)))
    except Exception as error:  # a rule for the sizes of the example arguments
        raise_if_own(error)
        trial.judgement.note(f"sums over {_LONG} rows: not checked, as it {describe_error(error)}")
        return
    for leaf, original in zip(trial.rule.leaves, arrays):
        if leaf not in trial.rule.floats or leaf not in manual or manual[leaf].shape != expected[leaf].shape:
            continue
        around = size_around(trial, leaf, expected)
        own = difference(derived[leaf], expected[leaf], around).relative_error
        apart = difference(manual[leaf], expected[leaf], around)
        # Sums in the arguments' own float32 lose about the square root of their length; 16 bits are summed in float32.
        eps = float(jnp.finfo(original.dtype).eps)
        rounding = (4 if bits(str(original.dtype)) < 32 else math.sqrt(_LONG)) * eps
        if own > rounding:
            trial.judgement.note(f"{leaf}: over {_LONG} rows autodiff itself is off by {own:.0e} in {dtype}")
        limit = max(2 * own, rounding)
        ok = apart.relative_error <= limit or not math.isfinite(own)
        if not ok:
            trial.judgement.rule_dtype = trial.judgement.rule_dtype or dtype
        verdict, message = ("pass", "") if ok else ("fail", f"summed in a low precision: worst {apart}")
        trial.row(leaf, "accumulation", dtype, apart.relative_error, limit, verdict, message, probe.name)


def _many_rows(trial: Trial, arrays: list[Any]) -> Probe | None:
    """The arguments with many rows, where the function and its author allow them; None where they do not."""
    if max((np.shape(array)[0] for array in arrays if np.ndim(array)), default=0) >= _LONG:
        return Probe(f"{_LONG} rows or more", arrays, trial.judgement.observations[0].probe.d_y)
    if "sizes" not in trial.checks or trial.domain.sizes == "fixed":
        return None
    sizes = Sizes(trial.rule, arrays, trial.domain)
    leading = {n for n, group in enumerate(sizes.groups) if all(axis == 0 for _, axis in group)}
    number = min(leading - sizes.unrolled(), default=None)
    rows = lambda n, size: (_LONG,) if n == number and size < _LONG else ()  # noqa: E731
    return sizes.resized(f"{_LONG} rows", rows, np.random.default_rng((trial.seed, 17)))


def _under_native(trial: Trial, function: Callable[[], Any]) -> Any:
    """What a function returns under the caller's own setting of float64.

    JAX keeps NumPy indices of a function that it has traced in float64, and may fail on them without it; then float64
    stays on.
    """
    try:
        with trial.native():
            return function()
    except TypeError:
        return function()


def _definition_runs(trial: Trial, arrays: list[Any], d_y: list[Any]) -> bool:
    """Whether autodiff of the definition alone runs in the arguments' own precision."""
    try:
        _under_native(trial, lambda: trial.autodiff_alone(arrays, d_y))
    except Exception as error:
        raise_if_own(error)
        return False
    return True


def _nearby(trial: Trial, arrays: list[Any]) -> list[list[Any]]:
    """The arguments, and three copies with all numbers a few ulps away: a single error of autodiff is one draw only."""
    return [arrays, *([_nudged(array, salt) for array in arrays] for salt in range(3))]


def _nudged(array: Any, salt: int) -> Any:
    """Every number moved by up to a few ulps, by a hash of the number, so that equal ones stay equal."""
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
