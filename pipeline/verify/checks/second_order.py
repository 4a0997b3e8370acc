"""Second derivatives: the derivative of the rule itself, against autodiff's."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..faults import describe_error, raise_if_own, run
from ..measure import difference
from ..programs import jaxprs
from ..rule import autodiff
from ..trial import Trial, as_numpy
from .tolerance import coarse_limit

_LIMIT = 1e-8
"""The largest relative error of a second derivative in float64."""


def second_derivatives(trial: Trial, arrays: list[Any]) -> None:
    """Compares both programs' derivatives by the arguments and by the incoming cotangent, along one direction."""
    rule, random = trial.rule, np.random.default_rng((trial.seed, 13))
    example = trial.judgement.observations[0]
    directions = {leaf: random.normal(size=example.reference[leaf].shape) for leaf in rule.floats}
    count = len(arrays)
    names = [*rule.leaves, *(f"d_{name}" for name in example.y)]

    def derivative(program: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
        def slope(values: list[Any]) -> Any:
            cotangents = program(values[:count], values[count:])["d"]
            return sum(
                (jnp.real(cotangents[leaf] * v).sum() for leaf, v in directions.items() if leaf in cotangents), 0.0
            )

        return rule.jit(lambda values: autodiff(slope, names, values, [jnp.ones(())])["d"])

    observations = [example, *(o for o in trial.judgement.observations if o.probe.name == "other values")]
    reference, manual = derivative(rule.autodiff), derivative(trial.manual_program)
    shown = trial.shown_precision()
    limit = max(_LIMIT, coarse_limit(shown) if shown else 0.0)
    worst: dict[str, tuple[Any, str]] = {}
    for observation in observations:
        values = [*(jnp.asarray(a) if hasattr(a, "dtype") else a for a in observation.probe.arrays)]
        values += [jnp.asarray(d) for d in observation.probe.d_y]
        try:
            expected = as_numpy(run(reference, values))
        except Exception as error:
            raise_if_own(error)
            trial.judgement.note(
                f"second derivatives: not checked, as autodiff of the function {describe_error(error)}"
            )
            return
        try:
            found = as_numpy(run(manual, values))
        except Exception as error:
            raise_if_own(error)
            trial.judgement.note(f"second derivatives: the rule has none, as it {describe_error(error)}")
            return
        around = max((float(np.abs(d).max(initial=0.0)) for d in expected.values()), default=0.0)
        for name, right in expected.items():
            apart = difference(found[name], right, around)
            if name not in worst or apart.relative_error > worst[name][0].relative_error:
                worst[name] = apart, observation.probe.name
    for name, (apart, where) in worst.items():
        ok = apart.relative_error <= limit
        message = "" if ok else f"the derivative of the rule is not autodiff's: worst {apart}"
        verdict = "pass" if ok else "fail"
        trial.row(name, "second derivative", "float64", apart.relative_error, limit, verdict, message, where)


def note_if_cut(trial: Trial, arrays: list[Any]) -> None:
    """A note where the rule holds back second derivatives that the function has."""
    d_y = list(trial.judgement.observations[0].probe.d_y)
    own = jaxprs.primitives(trial.manual_program, arrays, d_y) - jaxprs.primitives(trial.rule.define, arrays)
    if "stop_gradient" in own:
        trial.judgement.note("its second derivatives are cut by a stop_gradient in the rule; order=2 compares them")
