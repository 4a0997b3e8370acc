"""Whether the comparison could have failed: a check that nothing can fail proves nothing."""

import math

import jax.numpy as jnp
import numpy as np

from pipeline.verify import jaxprs
from pipeline.verify.measure import difference
from pipeline.verify.rule import is_float
from pipeline.verify.tolerance import size_around
from pipeline.verify.trial import Seen, Trial


def sensitivity(trial: Trial) -> None:
    """Whether the comparison could have failed: damage to each leaf's copy must be noticed at some probe."""
    if trial.found.wrong or not trial.found.seen:
        return
    structural = _structural_zeros(trial)
    for leaf in trial.rule.floats:
        noticed = any(_notices(trial, leaf, seen) for seen in trial.found.seen)
        if noticed:
            trial.row(leaf, "sensitivity", "float64", 0.0, 0.0)
        elif structural.get(leaf, False):
            trial.found.note(f"{leaf}: no gradient flows into it, by the function's structure")
        elif all(seen.reference[leaf].size == 0 for seen in trial.found.seen):
            trial.found.note(f"{leaf}: it is empty")
        elif _changes_nothing(trial, leaf):
            trial.found.note(f"{leaf}: the function's value does not depend on it here, whatever it holds")
        else:
            message = (
                "the gradient is zero at every probe: a rule that loses it would pass too; give arguments (or edges) "
                "at which it is not"
            )
            trial.row(leaf, "sensitivity", "float64", math.inf, 0.0, "inconclusive", message)


def _notices(trial: Trial, leaf: str, seen: Seen) -> bool:
    right = seen.reference[leaf]
    if not right.size or not np.isfinite(right).all() or not right.any():
        return False
    around = size_around(trial, leaf, seen.reference)
    one_lost = right.copy()
    one_lost.reshape(-1)[np.argmax(np.abs(right))] = 0
    damaged = [np.zeros_like(right), -right, 1.01 * right, one_lost]
    if right.ndim == 2 and right.shape[0] == right.shape[1] > 1 and not np.allclose(right, right.T):
        damaged.append(right.T)
    return all(difference(copy, right, around).relative_error > trial.limit for copy in damaged)


def _changes_nothing(trial: Trial, leaf: str) -> bool:
    """Whether the value stays the same at any numbers in place of the leaf's: its gradient is zero, and rightly."""
    seen, place = trial.found.seen[0], trial.rule.leaves.index(leaf)
    for scale in (1e-3, 1.0, 1e3):
        arrays = list(seen.probe.arrays)
        arrays[place] = scale * np.random.default_rng(11).normal(size=np.shape(arrays[place]))
        y = trial.reference(arrays, seen.probe.d_y)[0]
        if not all(difference(y[name], value, 0.0).relative_error <= 1e-9 for name, value in seen.y.items()):
            return False
    return True


def _structural_zeros(trial: Trial) -> dict[str, bool]:
    probe = trial.found.seen[0].probe
    d_y = [jnp.asarray(d) for d in probe.d_y]
    try:
        flags = jaxprs.without_gradient(
            lambda arrays, d_y: list(trial.rule.autodiff(arrays, d_y)["d"].values()), list(probe.arrays), d_y
        )
    except Exception:
        return {}
    names = [leaf for leaf, array in zip(trial.rule.leaves, probe.arrays) if is_float(array)]
    return dict(zip(names, flags))
