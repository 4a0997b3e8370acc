"""Judges that do not trust the definition's autodiff: finite differences of its value, forward against reverse mode.

Where they contradict autodiff, the definition carries a rule of its own that is wrong, and a backward pass must not be
accused on its word.
"""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.verify import jaxprs
from pipeline.verify.finite_differences import Slope
from pipeline.verify.measure import largest
from pipeline.verify.report import Verdict
from pipeline.verify.rule import autodiff, float_places, outputs, paired, replaced
from pipeline.verify.tolerance import size_around
from pipeline.verify.trial import Seen, Trial, Values, as_numpy


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
        around = max(size_around(trial, leaf, seen.reference), *map(largest, seen.probe.d_y), 0.0)
        if max(slope.scale(seen.reference[leaf]), abs(slope.value)) <= 1e-9 * around * (1 + largest(slope.direction)):
            continue  # noise
        agrees = slope.agrees(seen.reference[leaf])
        if agrees is False and stops:
            trial.found.note(f"{leaf}: finite differences see what stop_gradient holds back; autodiff is followed")
            continue
        if agrees is None or (agrees is False and trial.reference_narrow):
            continue  # they have not converged, or step in a coarse precision
        apart = abs(slope.value - slope.along(seen.reference[leaf]))
        size = max(slope.scale(seen.reference[leaf]), abs(slope.value))
        error = apart / size if size else 0.0
        if agrees:
            trial.row(leaf, "finite differences", "float64", error, 1e-5, "pass", "", seen.probe.name)
            continue
        bypassed = bypassed or _bypassed(trial, seen)
        message = _contradiction(trial, leaf, seen, slope, bypassed)
        trial.row(leaf, "finite differences", "float64", error, 1e-5, "oracles disagree", message, seen.probe.name)
        _withdraw(trial, leaf)
    _forward_mode(trial, seen, random)


def _bypassed(trial: Trial, seen: Seen) -> Values:
    """Autodiff of the definition's operations without any custom rule in it."""
    plain = jaxprs.plain(trial.rule.define)
    try:
        found = compiler.jit(lambda arrays, d_y: autodiff(plain, trial.rule.leaves, arrays, d_y)["d"])
        return as_numpy(found(list(seen.probe.arrays), list(seen.probe.d_y)))
    except Exception:
        return {}


def _contradiction(trial: Trial, leaf: str, seen: Seen, slope: Slope, bypassed: Values) -> str:
    text = (
        f"the oracles disagree: along a random direction finite differences of the function's value give "
        f"{slope.value:.6g}, its autodiff {slope.along(seen.reference[leaf]):.6g}"
    )
    if leaf in bypassed and slope.agrees(bypassed[leaf]):
        text += "; autodiff without the function's own custom rules agrees with the differences: such a rule is wrong"
    manual = seen.manual.get(leaf)
    if manual is not None and manual.shape == slope.direction.shape and slope.agrees(manual):
        return f"{text}; the rule by hand agrees with the differences"
    if leaf in trial.found.wrong:
        return f"{text}; the rule by hand does not agree with the differences either"
    return text


def _withdraw(trial: Trial, leaf: str) -> None:
    """Against finite differences autodiff accuses nobody: a failed row says instead that the oracles disagree."""
    if leaf not in trial.found.wrong or leaf not in trial.found.seen[0].manual:
        return
    trial.found.rows = [
        replace(row, verdict="oracles disagree")
        if (row.leaf, row.check, row.verdict) == (leaf, "gradient", "fail")
        else row
        for row in trial.found.rows
    ]
    del trial.found.wrong[leaf]


def _forward_mode(trial: Trial, seen: Seen, random: np.random.Generator) -> None:
    """<d_y, J v> by forward mode against <J^T d_y, v> by reverse mode, with a direction v in every float leaf.

    Nothing is said where the definition has no forward mode (a ``custom_vjp`` in it).
    """
    rule, arrays = trial.rule, seen.probe.arrays
    places = float_places(arrays)
    directions = [np.asarray(random.normal(size=np.shape(arrays[i]))) for i in places]

    def slope(floats: list[Any], tangents: list[Any]) -> Any:
        of_floats = lambda floats: list(outputs(rule.define(replaced(arrays, places, floats))).values())  # noqa: E731
        _, d_y = jax.jvp(of_floats, (floats,), (tangents,))
        return paired(d_y, seen.probe.d_y)

    floats = [jnp.asarray(arrays[i]) for i in places]
    try:
        forward = float(
            compiler.jit(slope)(floats, [jnp.asarray(v, array.dtype) for v, array in zip(directions, floats)])
        )
    except (TypeError, NotImplementedError, ValueError):
        return
    gradients = [seen.reference[rule.leaves[i]] for i in places]
    if not gradients or any(not np.isfinite(gradient).all() for gradient in gradients):
        return
    terms = [gradient * v for gradient, v in zip(gradients, directions)]
    reverse = sum(float(np.real(np.sum(term))) for term in terms)
    size = math.sqrt(sum(float(np.sum(np.abs(term) ** 2)) for term in terms))
    if max(size, abs(forward)) <= 1e-9 * max(map(largest, seen.probe.d_y), default=0.0):
        return  # noise
    error = abs(forward - reverse) / size if size else abs(forward - reverse)
    limit = 64 * float(jnp.finfo(trial.reference_narrow).eps) if trial.reference_narrow else 1e-8
    ok = error <= limit or not math.isfinite(forward)
    message = "" if ok else f"the oracles disagree: forward mode gives {forward:.6g}, reverse mode {reverse:.6g}"
    verdict: Verdict = "pass" if ok else "oracles disagree"
    trial.row("", "forward mode", "float64", error, limit, verdict, message, seen.probe.name)
