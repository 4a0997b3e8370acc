"""Whether the comparison could have failed: a check that cannot fail proves nothing."""

import math

import jax.numpy as jnp
import numpy as np

from ..faults import raise_if_own
from ..measure import difference
from ..programs import jaxprs
from ..rule import is_float
from ..trial import Observation, Trial
from .tolerance import size_around


def sensitivity(trial: Trial) -> None:
    """Adds a row for every leaf: a damaged copy of its cotangent must fail at some probe."""
    if trial.judgement.wrong_leaves or not trial.judgement.observations:
        return
    structural = _structural_zeros(trial)
    for leaf in trial.rule.floats:
        if any(_notices(trial, leaf, observation) for observation in trial.judgement.observations):
            trial.row(leaf, "sensitivity", "float64", 0.0, 0.0)
        elif structural.get(leaf, False):
            trial.judgement.note(f"{leaf}: the function's structure lets no gradient flow into it")
        elif all(observation.reference[leaf].size == 0 for observation in trial.judgement.observations):
            trial.judgement.note(f"{leaf}: it is empty")
        elif _changes_nothing(trial, leaf):
            trial.judgement.note(f"{leaf}: the function's value does not depend on it here")
        else:
            message = (
                "the gradient is zero at every probe, so a rule that loses it would pass, too; give arguments (or "
                "edges) at which it is not zero"
            )
            trial.row(leaf, "sensitivity", "float64", math.inf, 0.0, "inconclusive", message)


def _notices(trial: Trial, leaf: str, observation: Observation) -> bool:
    right = observation.reference[leaf]
    if not right.size or not np.isfinite(right).all() or not right.any():
        return False
    around = size_around(trial, leaf, observation.reference)
    without_largest = right.copy()
    without_largest.reshape(-1)[np.argmax(np.abs(right))] = 0
    damaged = [np.zeros_like(right), -right, 1.01 * right, without_largest]
    if right.ndim == 2 and right.shape[0] == right.shape[1] > 1 and not np.allclose(right, right.T):
        damaged.append(right.T)
    return all(difference(copy, right, around).relative_error > trial.limit for copy in damaged)


def _changes_nothing(trial: Trial, leaf: str) -> bool:
    """Whether the value stays the same whatever the leaf's numbers are: then zero is the right gradient."""
    observation, place = trial.judgement.observations[0], trial.rule.leaves.index(leaf)
    for scale in (1e-3, 1.0, 1e3):
        arrays = list(observation.probe.arrays)
        arrays[place] = scale * np.random.default_rng(11).normal(size=np.shape(arrays[place]))
        y = trial.reference(arrays, observation.probe.d_y)[0]
        if not all(difference(y[name], value, 0.0).relative_error <= 1e-9 for name, value in observation.y.items()):
            return False
    return True


def _structural_zeros(trial: Trial) -> dict[str, bool]:
    """For each float leaf, whether no cotangent reaches it by the structure of autodiff's program."""
    probe = trial.judgement.observations[0].probe
    d_y = [jnp.asarray(d) for d in probe.d_y]
    try:
        flags = jaxprs.without_gradient(
            lambda arrays, d_y: list(trial.rule.autodiff(arrays, d_y)["d"].values()), list(probe.arrays), d_y
        )
    except Exception as error:  # a program that cannot be inspected says nothing
        raise_if_own(error)
        return {}
    names = [leaf for leaf, array in zip(trial.rule.leaves, probe.arrays) if is_float(array)]
    return dict(zip(names, flags))
