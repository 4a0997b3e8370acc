"""When two derivatives count as equal: the limit of the relative error, and what excuses a difference beyond it.

Excused are: rounding, where the input is ill-conditioned; noise, where the gradient is zero in theory; the coarser
precision that a rule was written for; another valid derivative, at a kink that only a check chose; and a rule that
finite differences confirm, where autodiff itself is wrong.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...layers.base import leaves
from ..faults import raise_if_own, run
from ..measure import Difference, difference, largest, scale
from ..programs.derivatives import by_differences
from ..reference import GIVE_REFERENCE
from ..report.results import Row, Verdict
from ..rule import is_float
from ..trial import Observation, Trial, Values, bits
from .probes import Probe

_EXCUSED = 1e-5
"""The largest relative error that an ill-conditioned input explains; a larger one is a jump, not rounding."""

_COARSEST = 1e-2
"""The largest relative error that a lower precision, or an iteration that has not quite converged, explains."""

_WITH_KINKS = ("ties", "signs", "zeros", "equal ids", "mask", "sizes", "broadcast", "")
"""The kinds of probes at which the checks may hit a kink."""

_IMPLICIT = 1000
"""How many times the last change of an iteration its derivative may be off."""


def comparison_row(
    trial: Trial,
    check: str,
    leaf: str,
    observation: Observation,
    manual: np.ndarray,
    expected: np.ndarray,
    beside: Values,
    part: str,
) -> Row:
    """The row that compares one leaf of an observation.

    beside: all leaves of the same kind, for the scale of the leaf's layer. part: "y" for values, "d" for cotangents.
    """
    around = size_around(trial, leaf, beside) if part == "d" else 0.0
    apart = difference(manual, expected, around)
    limit = trial.limit
    if part == "d" and (off := trial.reference_error(leaf, observation)):
        limit += off / (scale(expected, around) or 1.0)
    if apart.relative_error <= limit:
        return Row(leaf, check, "float64", apart.relative_error, limit, probe=observation.probe.name)
    shown = trial.shown_precision()
    if shown and apart.distance <= coarse_limit(shown) * scale(expected, around):
        if shown == trial.judgement.rule_dtype:
            _note_precision(trial)
        limit = coarse_limit(shown)
        return Row(leaf, check, "float64", apart.relative_error, limit, probe=observation.probe.name)
    if not np.isfinite(expected).all():
        finite = np.isfinite(manual)
        if (np.isfinite(expected) <= finite).all() and _agree_where_finite(manual, expected, trial.limit):
            message = f"autodiff of the function is not finite {_where(~np.isfinite(expected))}"
            if trial.rule.derivative is by_differences:
                message = f"finite differences have not converged {_where(~np.isfinite(expected))}: {GIVE_REFERENCE}"
            return Row(leaf, check, "float64", math.inf, trial.limit, "inconclusive", message, observation.probe.name)
    if part == "d" and (unconverged := _explained_by_iteration(trial, leaf, observation, apart)):
        return Row(leaf, check, "float64", apart.relative_error, unconverged, probe=observation.probe.name)
    allowed = _allowed(trial, leaf, observation, part, apart, scale(expected, around))
    excused = apart.distance <= allowed or _excused_by_precision(trial, leaf, observation, apart, part)
    if not excused and part == "d":
        excused = _is_convention(trial, leaf, observation) or _reference_is_at_fault(trial, leaf, observation)
    verdict: Verdict = "pass" if excused else "fail"
    size = largest(expected)
    limit = max(allowed / size, trial.limit) if excused and size else trial.limit
    message = "" if excused else f"worst {apart}"
    return Row(leaf, check, "float64", apart.relative_error, limit, verdict, message, observation.probe.name)


def _allowed(trial: Trial, leaf: str, observation: Observation, part: str, apart: Difference, size: float) -> float:
    """The largest difference allowed: the limit, and what rounding alone explains."""
    limit = trial.limit * size
    explained = max(_EXCUSED, 1024 * float(jnp.finfo(trial.reference_dtype or "float64").eps)) * size
    extreme = observation.probe.kind in (
        "large",
        "tiny",
    )  # numbers that only the check chose: a rule may lose digits there
    noise = part == "d" and _is_noise(trial, leaf, observation)
    if not math.isfinite(apart.distance) or not (extreme or noise or apart.distance <= explained):
        return limit
    rounding = _rounding(trial, leaf, observation, part)
    if rounding > explained and not (extreme or noise):
        return limit
    if extreme and rounding >= apart.distance > 1e-6 * size and not noise:
        trial.judgement.note(
            f"{leaf}: at {observation.probe.kind} numbers it loses more digits to cancellation than autodiff does"
        )
    return limit + rounding


def require_equal(
    trial: Trial, check: str, leaf: str, manual: Any, expected: Any, around: float, probe: str = ""
) -> None:
    """Adds a row for two arrays that must be equal up to rounding."""
    manual, expected = np.asarray(manual), np.asarray(expected)
    if manual.shape != expected.shape:
        message = f"its shape is {list(manual.shape)}; it must be {list(expected.shape)}"
        trial.row(leaf, check, "float64", math.inf, trial.limit, "fail", message, probe)
        return
    apart = difference(manual, expected, around)
    allowed = max(
        trial.limit, *(2 * row.limit for row in trial.judgement.rows if (row.check, row.leaf) == ("gradient", leaf))
    )
    size = max(scale(expected, around), around) or 1.0  # where all is zero, noise is measured beside the cotangents
    scaled = apart.distance / size
    ok = min(apart.relative_error, scaled) <= allowed
    if not ok and (shown := trial.shown_precision()):
        ok = scaled <= coarse_limit(shown)
    message = "" if ok else f"worst {apart}"
    trial.row(leaf, check, "float64", apart.relative_error, allowed, "pass" if ok else "fail", message, probe)


def size_around(trial: Trial, leaf: str, beside: Values) -> float:
    """The largest number among the cotangents of the same layer; without layers, of leaves in the same container."""
    if trial.rule.layer is None:
        container = leaf.rpartition("/")[0]
    else:
        inside = [path for path, _ in leaves(trial.rule.layer) if leaf.startswith(f"{path}/")]
        container = max(inside, key=len, default="")
    near = [v for name, v in beside.items() if not container or name.startswith(f"{container}/")]
    return max(map(largest, near), default=0.0)


def _rounding(trial: Trial, leaf: str, observation: Observation, part: str) -> float:
    """How far rounding alone may move the two derivatives apart, from runs with random rounding errors."""
    before = {"d": (observation.reference, observation.manual), "y": (observation.y, observation.manual_y)}[part]
    return 16 * max(
        _movement(program, leaf, observation, part, values[leaf]) for program, values in zip(trial.noisy, before)
    )


def _movement(program: Any, leaf: str, observation: Observation, part: str, value: np.ndarray) -> float:
    """How far a program's value of a leaf moves in runs with random rounding errors; 0 where it does not run so."""
    moved = 0.0
    for draw in range(4):
        try:
            after = np.asarray(
                run(program, draw, list(observation.probe.arrays), list(observation.probe.d_y))[part][leaf]
            )
        except Exception as error:
            raise_if_own(error)
            return 0.0
        moved = max(moved, largest(value - after))
    return moved


def _is_noise(trial: Trial, leaf: str, observation: Observation) -> bool:
    """Whether the leaf is only noise here: tiny compared with its numbers at other arguments."""
    usual = max((largest(other.reference[leaf]) for other in trial.judgement.observations), default=0.0)
    usual = max(usual, max(map(largest, observation.probe.d_y), default=0.0))
    return max(largest(observation.reference[leaf]), largest(observation.manual[leaf])) <= 1e-6 * usual


def _excused_by_precision(trial: Trial, leaf: str, observation: Observation, apart: Difference, part: str) -> bool:
    """Whether it errs as a rule does that is written for float32, which is checked in its own precision later."""
    narrow, shown = trial.judgement.rule_dtype, trial.shown_precision()
    if narrow is None or shown is None or bits(shown) > bits(narrow):
        return False
    right, manual = {
        "d": (observation.reference, observation.manual), "y": (observation.y, observation.manual_y)
    }[part]  # fmt: skip
    if apart.distance > _COARSEST * largest(right[leaf]):
        return False
    if apart.distance > 16 * _movement(trial.coarse_rule, leaf, observation, part, manual[leaf]):
        return False
    _note_precision(trial)
    return True


def coarse_limit(dtype: str) -> float:
    """How far a result may be off that passes through a precision below float64, however well-conditioned it is."""
    return (64 if bits(dtype) >= 32 else 2) * float(jnp.finfo(dtype).eps)


def _note_precision(trial: Trial) -> None:
    narrow = trial.judgement.rule_dtype
    trial.judgement.note(
        f"the rule passes through {narrow}, the precision of the arguments, so it is judged at that precision"
    )


def implicit_limit(trial: Trial, probe: Probe) -> float:
    """How far the gradient may be off by what the iteration of an implicit function has left to converge."""
    converges, change = trial.convergence(probe)
    return min(_IMPLICIT * change, _COARSEST) if converges else 0.0


def _explained_by_iteration(trial: Trial, leaf: str, observation: Observation, apart: Difference) -> float:
    """The limit of the relative error where an iteration that has not quite converged explains it, or 0."""
    if apart.distance > _COARSEST * largest(observation.reference[leaf]):
        return 0.0
    limit = implicit_limit(trial, observation.probe)
    if apart.distance > limit * largest(observation.reference[leaf]):
        return 0.0
    trial.judgement.note(
        f"the last steps of its iteration still change the numbers, by about {limit / _IMPLICIT:.0e}: its gradient is "
        f"judged to {limit:.0e}"
    )
    return limit


def _is_convention(trial: Trial, leaf: str, observation: Observation) -> bool:
    """Whether it differs at a kink that only the check chose, by another of the derivatives that are valid there.

    Valid are those between the derivatives close by, element by element, with the same sums where those all agree.
    """
    if observation.probe.from_author or observation.probe.kind not in _WITH_KINKS:
        return False
    manual = observation.manual[leaf]
    if not np.isfinite(manual).all():
        return False
    near = []
    for i in range(48):
        random = np.random.default_rng((trial.seed, 7, i))
        arrays = [
            a + 1e-7 * random.normal(size=np.shape(a)) * (largest(np.asarray(a)) or 1.0) if is_float(a) else a
            for a in observation.probe.arrays
        ]
        near.append(trial.reference(arrays, observation.probe.d_y)[1][leaf])
    stacked, slack = np.stack(near), 1e-5 * max(largest(near[0]), largest(manual))
    if np.ptp(stacked, axis=0).max(initial=0.0) <= 1e3 * slack:
        return False  # no kink: the derivatives close by are equal
    if (manual < stacked.min(0) - slack).any() or (manual > stacked.max(0) + slack).any():
        return False
    for remaining in (None, *range(manual.ndim)):
        summed = tuple(axis for axis in range(manual.ndim) if axis != remaining)
        sums, room = stacked.sum(tuple(axis + 1 for axis in summed)), slack * manual.size
        fixed = np.ptp(sums, axis=0) <= room  # on every side of the kink: a tie passes its gradient on once
        if (np.abs(manual.sum(summed) - sums[0]) > room)[fixed].any():
            return False
    trial.judgement.note(
        f"{leaf}: at a kink ({observation.probe.name}) its derivative is not the one of JAX; both are valid"
    )
    return True


def _reference_is_at_fault(trial: Trial, leaf: str, observation: Observation) -> bool:
    """Whether finite differences contradict autodiff and confirm the rule, at values that only the check chose."""
    if observation.probe.from_author or observation.probe.kind in ("", "sizes") or leaf in trial.judgement.wrong_leaves:
        return False
    slopes = [
        trial.differences.slope(
            observation.probe, trial.rule.leaves.index(leaf), np.random.default_rng((trial.seed, 9, i))
        )
        for i in range(2)
    ]
    if not all(s.agrees(observation.manual[leaf]) and s.agrees(observation.reference[leaf]) is False for s in slopes):
        return False
    trial.judgement.note(
        f"{leaf}: at {observation.probe.name} finite differences agree with the rule, not with autodiff of the function"
    )
    return True


def _agree_where_finite(manual: np.ndarray, expected: np.ndarray, limit: float) -> bool:
    both = np.isfinite(expected) & np.isfinite(manual)
    return difference(manual[both], expected[both], 0.0).relative_error <= limit


def _where(flags: np.ndarray) -> str:
    return f"at {list(map(int, np.argwhere(flags)[0]))}" if flags.ndim else "here"
