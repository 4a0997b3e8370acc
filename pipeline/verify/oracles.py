"""Judges that do not trust the definition's autodiff: finite differences of its value, forward against reverse mode.

Where they contradict autodiff, the definition carries a rule of its own that is wrong, and a backward pass must not be
accused on its word.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.verify import jaxprs
from pipeline.verify.finite_differences import Slope
from pipeline.verify.probes import Probe
from pipeline.verify.report import Row, Verdict
from pipeline.verify.rule import Rule, autodiff, is_float, outputs
from pipeline.verify.tolerance import size_around
from pipeline.verify.trial import Seen, Trial, Values, as_numpy, largest


def forward_mode(rule: Rule, probe: Probe, random: np.random.Generator) -> dict[str, Slope] | None:
    """<d_y, J v> by forward mode with a direction in every float leaf: their slopes, of which the first has the sum.

    None where the definition has no forward mode (a ``custom_vjp`` in it).
    """
    places = [i for i, array in enumerate(probe.arrays) if is_float(array)]
    directions = [random.normal(size=np.shape(probe.arrays[i])) for i in places]

    def slope(floats: list[Any], tangents: list[Any]) -> Any:
        def of_floats(floats: list[Any]) -> list[Any]:
            arrays = list(probe.arrays)
            for place, array in zip(places, floats):
                arrays[place] = array
            return list(outputs(rule.define(arrays)).values())

        _, d_y = jax.jvp(of_floats, (floats,), (tangents,))
        return sum((jnp.real(leaf * d).sum() for leaf, d in zip(d_y, probe.d_y)), start=0.0)

    floats = [jnp.asarray(probe.arrays[i]) for i in places]
    try:
        value = float(jax.jit(slope)(floats, [jnp.asarray(v, array.dtype) for v, array in zip(directions, floats)]))
    except (TypeError, NotImplementedError, ValueError):
        return None
    return {
        rule.leaves[place]: Slope(0.0 if i else value, 0.0, direction)
        for i, (place, direction) in enumerate(zip(places, directions))
    }


def consult(trial: Trial) -> None:
    """Finite differences and forward mode against autodiff; where they contradict it, its word is worth nothing."""
    if not trial.found.seen:
        return
    seen, random = trial.found.seen[0], np.random.default_rng((trial.seed, 3))
    if not all(np.isfinite(leaf).all() for leaf in [*seen.y.values(), *seen.reference.values()]):
        return
    stops = "stop_gradient" in jaxprs.primitives(trial.rule.define, seen.probe.arrays)
    bypassed = None
    for leaf in trial.rule.floats:
        slope = trial.differences.slope(seen.probe, trial.rule.leaves.index(leaf), random)
        around = max(
            size_around(trial, leaf, seen.reference), *(float(np.abs(d).max(initial=0.0)) for d in seen.probe.d_y), 0.0
        )
        if max(slope.scale(seen.reference[leaf]), abs(slope.value)) <= 1e-9 * around * (1 + largest(slope.direction)):
            continue  # noise
        verdict = slope.agrees(seen.reference[leaf])
        if verdict is False and trial.reference_narrow:
            verdict = None  # steps in a coarse precision
        message, outcome = "", "pass"
        if verdict is False and stops:
            trial.found.note(f"{leaf}: finite differences see what stop_gradient holds back; autodiff is followed")
            continue
        if verdict is None:
            continue
        if verdict is False:
            bypassed = bypassed or _bypassed(trial, seen)
            manual = seen.manual.get(leaf)
            by_hand = manual is not None and manual.shape == slope.direction.shape and slope.agrees(manual)
            message, outcome = _contradiction(trial, leaf, seen, slope, bool(by_hand), bypassed), "oracles disagree"
        apart = abs(slope.value - slope.along(seen.reference[leaf]))
        size = max(slope.scale(seen.reference[leaf]), abs(slope.value))
        error = apart / size if size else 0.0
        trial.row(leaf, "finite differences", "float64", error, 1e-5, outcome, message, seen.probe.name)
        if outcome != "pass":
            _withdraw(trial, leaf)
    _forward_mode(trial, seen, random)


def _bypassed(trial: Trial, seen: Seen) -> Values:
    """Autodiff of the definition's operations without any custom rule in it."""
    plain = jaxprs.plain(trial.rule.define)
    try:
        found = jax.jit(lambda arrays, d_y: autodiff(plain, trial.rule.leaves, arrays, d_y)["d"])
        return as_numpy(found(list(seen.probe.arrays), list(seen.probe.d_y)))
    except Exception:
        return {}


def _contradiction(trial: Trial, leaf: str, seen: Seen, slope: Any, by_hand: bool, bypassed: Values) -> str:
    text = (
        f"the oracles disagree: along a random direction finite differences of the function's value give "
        f"{slope.value:.6g}, its autodiff {slope.along(seen.reference[leaf]):.6g}"
    )
    if leaf in bypassed and slope.agrees(bypassed[leaf]):
        text += "; autodiff without the function's own custom rules agrees with the differences: such a rule is wrong"
    text += (
        "; the rule by hand agrees with the differences"
        if by_hand
        else "; the rule by hand does not agree with the differences either"
        if leaf in trial.found.wrong
        else ""
    )
    return text


def _withdraw(trial: Trial, leaf: str) -> None:
    """Against finite differences autodiff accuses nobody: a failed row says instead that the oracles disagree."""
    manual, seen = trial.found.seen[0].manual.get(leaf), trial.found.seen[0]
    differs = leaf in trial.found.wrong
    if differs and manual is not None:
        trial.found.rows = [
            Row(
                row.leaf,
                row.check,
                row.dtype,
                row.relative_error,
                row.limit,
                "oracles disagree",
                row.message,
                row.probe,
            )
            if (row.leaf, row.check) == (leaf, "gradient") and row.verdict == "fail"
            else row
            for row in trial.found.rows
        ]
        del trial.found.wrong[leaf]
    del seen


def _forward_mode(trial: Trial, seen: Seen, random: np.random.Generator) -> None:
    slopes = forward_mode(trial.rule, seen.probe, random)
    if not slopes or any(not np.isfinite(seen.reference[leaf]).all() for leaf in slopes):
        return
    forward = next(iter(slopes.values())).value
    reverse = sum(slope.along(seen.reference[leaf]) for leaf, slope in slopes.items())
    size = math.sqrt(sum(slope.scale(seen.reference[leaf]) ** 2 for leaf, slope in slopes.items()))
    if max(size, abs(forward)) <= 1e-9 * max((largest(d) for d in seen.probe.d_y), default=0.0):
        return  # noise
    error = abs(forward - reverse) / size if size else abs(forward - reverse)
    limit = 64 * float(jnp.finfo(trial.reference_narrow).eps) if trial.reference_narrow else 1e-8
    ok = error <= limit or not math.isfinite(forward)
    message = "" if ok else f"the oracles disagree: forward mode gives {forward:.6g}, reverse mode {reverse:.6g}"
    verdict: Verdict = "pass" if ok else "oracles disagree"
    trial.row("", "forward mode", "float64", error, limit, verdict, message, seen.probe.name)
