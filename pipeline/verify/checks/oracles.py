"""Checks of autodiff itself: finite differences of the definition's value, and forward against reverse mode.

Where they contradict autodiff, a custom rule inside the definition is wrong, and the rule that is checked must not be
blamed for it.
"""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..faults import raise_if_own, run
from ..measure import largest
from ..programs import jaxprs
from ..programs.derivatives import by_differences
from ..report.results import Verdict
from ..rule import autodiff, float_places, outputs, paired, replaced
from ..trial import Observation, Trial, Values, as_numpy
from .finite_differences import Slope
from .tolerance import size_around


def consult(trial: Trial) -> None:
    """Compares autodiff with finite differences and forward mode; where they contradict it, it accuses nobody."""
    if not trial.judgement.observations or trial.rule.derivative is by_differences:
        return
    observation, random = trial.judgement.observations[0], np.random.default_rng((trial.seed, 3))
    if not all(np.isfinite(leaf).all() for leaf in [*observation.y.values(), *observation.reference.values()]):
        return
    stops = "stop_gradient" in jaxprs.primitives(trial.rule.define, observation.probe.arrays)
    bypassed = None
    for leaf in trial.rule.floats:
        slope = trial.differences.slope(observation.probe, trial.rule.leaves.index(leaf), random)
        around = max(size_around(trial, leaf, observation.reference), *map(largest, observation.probe.d_y), 0.0)
        if max(slope.scale(observation.reference[leaf]), abs(slope.value)) <= 1e-9 * around * (
            1 + largest(slope.direction)
        ):
            continue  # noise
        agrees = slope.agrees(observation.reference[leaf])
        if agrees is False and stops:
            trial.judgement.note(f"{leaf}: finite differences include what stop_gradient holds back; autodiff decides")
            continue
        if agrees is None or (agrees is False and trial.reference_dtype):
            continue  # they have not converged, or step in a coarse precision
        apart = abs(slope.value - slope.along(observation.reference[leaf]))
        size = max(slope.scale(observation.reference[leaf]), abs(slope.value))
        error = apart / size if size else 0.0
        if agrees:
            trial.row(leaf, "finite differences", "float64", error, 1e-5, "pass", "", observation.probe.name)
            continue
        bypassed = bypassed or _bypassed(trial, observation)
        message = _contradiction(trial, leaf, observation, slope, bypassed)
        trial.row(
            leaf, "finite differences", "float64", error, 1e-5, "oracles disagree", message, observation.probe.name
        )
        _withdraw(trial, leaf)
    if trial.rule.derivative is autodiff:
        _forward_mode(trial, observation, random)


def _bypassed(trial: Trial, observation: Observation) -> Values:
    """Autodiff of the definition's operations, without the custom rules in it."""
    plain = jaxprs.plain(trial.rule.define)
    program = trial.rule.jit(lambda arrays, d_y: autodiff(plain, trial.rule.leaves, arrays, d_y)["d"])
    try:
        return as_numpy(run(program, list(observation.probe.arrays), list(observation.probe.d_y)))
    except Exception as error:  # the operations alone may have no derivative
        raise_if_own(error)
        return {}


def _contradiction(trial: Trial, leaf: str, observation: Observation, slope: Slope, bypassed: Values) -> str:
    text = (
        f"the oracles disagree: along a random direction, the slope is "
        f"{slope.value:.6g} by finite differences and {slope.along(observation.reference[leaf]):.6g} by autodiff"
    )
    if leaf in bypassed and slope.agrees(bypassed[leaf]):
        text += "; without the function's own custom rules autodiff agrees with the differences: such a rule is wrong"
    manual = observation.manual.get(leaf)
    if manual is not None and manual.shape == slope.direction.shape and slope.agrees(manual):
        return f"{text}; the manual rule agrees with the differences"
    if leaf in trial.judgement.wrong_leaves:
        return f"{text}; the manual rule does not agree with the differences either"
    return text


def _withdraw(trial: Trial, leaf: str) -> None:
    """Turns a failed row into one that says that the oracles disagree, as autodiff is contradicted."""
    if leaf not in trial.judgement.wrong_leaves or leaf not in trial.judgement.observations[0].manual:
        return
    trial.judgement.rows = [
        replace(row, verdict="oracles disagree")
        if (row.leaf, row.check, row.verdict) == (leaf, "gradient", "fail")
        else row
        for row in trial.judgement.rows
    ]
    del trial.judgement.wrong_leaves[leaf]


def _forward_mode(trial: Trial, observation: Observation, random: np.random.Generator) -> None:
    """Compares <d_y, J v> by forward mode with <J^T d_y, v> by reverse mode, with a direction v in every float leaf.

    No row is added where the definition has no forward mode (a ``custom_vjp`` in it).
    """
    rule, arrays = trial.rule, observation.probe.arrays
    places = float_places(arrays)
    directions = [np.asarray(random.normal(size=np.shape(arrays[i]))) for i in places]

    def slope(floats: list[Any], tangents: list[Any]) -> Any:
        of_floats = lambda floats: list(outputs(rule.define(replaced(arrays, places, floats))).values())  # noqa: E731
        _, d_y = jax.jvp(of_floats, (floats,), (tangents,))
        return paired(d_y, observation.probe.d_y)

    floats = [jnp.asarray(arrays[i]) for i in places]
    try:
        forward = float(
            run(trial.rule.jit(slope), floats, [jnp.asarray(v, array.dtype) for v, array in zip(directions, floats)])
        )
    except (TypeError, NotImplementedError, ValueError) as error:
        raise_if_own(error)
        return
    gradients = [observation.reference[rule.leaves[i]] for i in places]
    if not gradients or any(not np.isfinite(gradient).all() for gradient in gradients):
        return
    terms = [gradient * v for gradient, v in zip(gradients, directions)]
    reverse = sum(float(np.real(np.sum(term))) for term in terms)
    size = math.sqrt(sum(float(np.sum(np.abs(term) ** 2)) for term in terms))
    if max(size, abs(forward)) <= 1e-9 * max(map(largest, observation.probe.d_y), default=0.0):
        return  # noise
    error = abs(forward - reverse) / size if size else abs(forward - reverse)
    limit = 64 * float(jnp.finfo(trial.reference_dtype).eps) if trial.reference_dtype else 1e-8
    ok = error <= limit or not math.isfinite(forward)
    message = "" if ok else f"the oracles disagree: forward mode gives {forward:.6g}, reverse mode {reverse:.6g}"
    verdict: Verdict = "pass" if ok else "oracles disagree"
    trial.row("", "forward mode", "float64", error, limit, verdict, message, observation.probe.name)
