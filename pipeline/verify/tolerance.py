"""When two derivatives are one: the measure's limit, and what excuses a difference beyond it.

Excused are rounding where the input is ill-conditioned, noise where the gradient is zero in theory, the coarser
precision of a rule that was written for it, another derivative that is as valid at a kink that only the check chose,
and what finite differences bear out where autodiff itself is at fault.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from pipeline.layers.base import leaves
from pipeline.verify.measure import Difference, difference, largest, scale
from pipeline.verify.report import Row, Verdict
from pipeline.verify.rule import is_float
from pipeline.verify.trial import Seen, Trial, Values, bits

_EXCUSED = 1e-5
"""Rounding that an ill-conditioned input explains may be this large; what is larger is a jump, not rounding."""


def compared(
    trial: Trial, check: str, leaf: str, seen: Seen, found: np.ndarray, expected: np.ndarray, beside: Values, part: str
) -> Row:
    around = size_around(trial, leaf, beside) if part == "d" else 0.0
    apart = difference(found, expected, around)
    if apart.relative_error <= trial.limit:
        return Row(leaf, check, "float64", apart.relative_error, trial.limit, probe=seen.probe.name)
    if not np.isfinite(expected).all():
        finite = np.isfinite(found)
        if (np.isfinite(expected) <= finite).all() and _agree_where_finite(found, expected, trial.limit):
            message = f"autodiff of the function itself is not finite {_where(~np.isfinite(expected))}"
            return Row(leaf, check, "float64", math.inf, trial.limit, "inconclusive", message, seen.probe.name)
    allowed = _allowed(trial, leaf, seen, part, apart, scale(expected, around))
    excused = apart.distance <= allowed
    if not excused and part == "d":
        excused = (
            _excused_by_precision(trial, leaf, seen, apart)
            or _is_convention(trial, leaf, seen)
            or _reference_is_at_fault(trial, leaf, seen)
        )
    verdict: Verdict = "pass" if excused else "fail"
    size = largest(expected)
    limit = max(allowed / size, trial.limit) if excused and size else trial.limit
    message = "" if excused else f"worst {apart}"
    return Row(leaf, check, "float64", apart.relative_error, limit, verdict, message, seen.probe.name)


def _allowed(trial: Trial, leaf: str, seen: Seen, part: str, apart: Difference, size: float) -> float:
    """How far apart the two may be: by the limit, and by what rounding alone explains."""
    limit = trial.limit * size
    explained = max(_EXCUSED, 1024 * float(jnp.finfo(trial.reference_narrow or "float64").eps)) * size
    extreme = seen.probe.kind in ("large", "tiny")  # chosen by the check: a rule may lose digits there
    noise = part == "d" and _is_noise(trial, leaf, seen)
    if not math.isfinite(apart.distance) or not (extreme or noise or apart.distance <= explained):
        return limit
    rounding = _rounding(trial, leaf, seen, part)
    if rounding > explained and not (extreme or noise):
        return limit
    if extreme and rounding >= apart.distance > 1e-6 * size and not noise:
        trial.found.note(
            f"{leaf}: it loses digits to cancellation at {seen.probe.kind} numbers, more than autodiff does"
        )
    return limit + rounding


def held(trial: Trial, check: str, leaf: str, found: Any, expected: Any, around: float, dtype: str = "float64") -> None:
    """A row for two arrays that must be equal up to rounding."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        message = f"its shape is {list(found.shape)}; it must be {list(expected.shape)}"
        trial.row(leaf, check, dtype, math.inf, trial.limit, "fail", message)
        return
    apart = difference(found, expected, around)
    allowed = max(
        trial.limit, *(2 * row.limit for row in trial.found.rows if (row.check, row.leaf) == ("gradient", leaf))
    )
    size = max(scale(expected, around), around) or 1.0  # where all is zero, noise is measured beside the cotangents
    scaled = apart.distance / size
    ok = min(apart.relative_error, scaled) <= allowed
    if not ok and trial.found.narrow and trial.rule.layer is None:
        ok = scaled <= 64 * float(jnp.finfo(trial.found.narrow).eps)
    trial.row(
        leaf, check, dtype, apart.relative_error, allowed, "pass" if ok else "fail", "" if ok else f"worst {apart}"
    )


def size_around(trial: Trial, leaf: str, beside: Values) -> float:
    """The largest number among the cotangents of the same layer; without layers, of leaves in the same container."""
    if trial.rule.layer is None:
        container = leaf.rpartition("/")[0]
    else:
        inside = [path for path, _ in leaves(trial.rule.layer) if leaf.startswith(f"{path}/")]
        container = max(inside, key=len, default="")
    near = [v for name, v in beside.items() if not container or name.startswith(f"{container}/")]
    return max(map(largest, near), default=0.0)


def _rounding(trial: Trial, leaf: str, seen: Seen, part: str) -> float:
    """How much rounding alone may set the two derivatives apart: each operation's result is off by an ulp or so."""
    moved = 0.0
    before = {"d": (seen.reference, seen.manual), "y": (seen.y, seen.manual_y)}[part]
    given = list(seen.probe.arrays), list(seen.probe.d_y)
    for function, values in zip(trial.noisy, before):
        for draw in range(4):
            try:
                after = np.asarray(function(draw, *given)[part][leaf])
            except Exception:
                return 0.0
            with np.errstate(invalid="ignore"):
                change = np.abs(values[leaf] - after)
            moved = max(moved, largest(change))
    return 16 * moved


def _is_noise(trial: Trial, leaf: str, seen: Seen) -> bool:
    """Whether the leaf is zero in theory here and noise in practice: tiny beside what it is at other arguments."""
    usual = max((largest(other.reference[leaf]) for other in trial.found.seen), default=0.0)
    usual = max(usual, max(map(largest, seen.probe.d_y), default=0.0))
    return max(largest(seen.reference[leaf]), largest(seen.manual[leaf])) <= 1e-6 * usual


def _excused_by_precision(trial: Trial, leaf: str, seen: Seen, apart: Difference) -> bool:
    """A rule written for float32 is not wrong in float64: it is held to its own precision, which is checked later."""
    narrow = trial.found.narrow
    native = trial.native_arrays() if narrow is not None and trial.rule.layer is None else []
    if narrow is None or not native or bits(native[0][0]) > bits(narrow):
        return False
    if apart.distance > 64 * float(jnp.finfo(narrow).eps) * largest(seen.reference[leaf]):
        return False
    trial.found.note(f"the rule passes through {narrow}, the precision of the given arguments, at which it is held")
    return True


def _is_convention(trial: Trial, leaf: str, seen: Seen) -> bool:
    """Whether it differs at a kink that only we chose, and takes another of the derivatives that are valid there.

    Valid are those between the derivatives close by, element by element, with the same sums where those all agree.
    """
    if seen.probe.given or seen.probe.kind not in ("ties", "equal ids", "mask", "sizes", ""):
        return False
    manual = seen.manual[leaf]
    if not np.isfinite(manual).all():
        return False
    near = []
    for i in range(48):
        random = np.random.default_rng((trial.seed, 7, i))
        arrays = [
            a + 1e-7 * random.normal(size=np.shape(a)) * (largest(np.asarray(a)) or 1.0) if is_float(a) else a
            for a in seen.probe.arrays
        ]
        near.append(trial.reference(arrays, seen.probe.d_y)[1][leaf])
    stacked, slack = np.stack(near), 1e-5 * max(largest(near[0]), largest(manual))
    if np.ptp(stacked, axis=0).max(initial=0.0) <= 1e3 * slack:
        return False  # no kink: the derivatives close by are one
    if (manual < stacked.min(0) - slack).any() or (manual > stacked.max(0) + slack).any():
        return False
    for kept in (None, *range(manual.ndim)):
        summed = tuple(axis for axis in range(manual.ndim) if axis != kept)
        sums, room = stacked.sum(tuple(axis + 1 for axis in summed)), slack * manual.size
        fixed = np.ptp(sums, axis=0) <= room  # however the kink falls: what a tie hands out is handed out once
        if (np.abs(manual.sum(summed) - sums[0]) > room)[fixed].any():
            return False
    trial.found.note(
        f"{leaf}: at a kink ({seen.probe.name}) it takes another derivative than the function has under JAX; "
        "both are valid"
    )
    return True


def _reference_is_at_fault(trial: Trial, leaf: str, seen: Seen) -> bool:
    """Whether at values that only the check chose finite differences contradict autodiff and bear the rule out."""
    if seen.probe.given or seen.probe.kind in ("", "sizes") or leaf in trial.found.wrong:
        return False
    slopes = [
        trial.differences.slope(seen.probe, trial.rule.leaves.index(leaf), np.random.default_rng((trial.seed, 9, i)))
        for i in range(2)
    ]
    if not all(s.agrees(seen.manual[leaf]) and s.agrees(seen.reference[leaf]) is False for s in slopes):
        return False
    trial.found.note(
        f"{leaf}: at {seen.probe.name} finite differences agree with the rule and not with the function's own autodiff"
    )
    return True


def _agree_where_finite(found: np.ndarray, expected: np.ndarray, limit: float) -> bool:
    both = np.isfinite(expected) & np.isfinite(found)
    return difference(found[both], expected[both], 0.0).relative_error <= limit


def _where(flags: np.ndarray) -> str:
    return f"at {list(map(int, np.argwhere(flags)[0]))}" if flags.ndim else "here"
