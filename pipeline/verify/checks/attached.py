"""What JAX calls of an attached rule besides its two passes: the primal function, and fewer arguments at a time."""

from typing import Any

from ..faults import run
from ..measure import difference
from ..programs import jaxprs
from ..rule import autodiff, outputs, replaced
from ..trial import Trial, as_numpy
from .tolerance import coarse_limit, require_equal, size_around


def primal(trial: Trial) -> None:
    """Compares the function where nothing is differentiated with its definition."""
    function = trial.rule.primal
    if function is None:
        return
    rule = trial.rule
    shown = trial.shown_precision()
    limit = max(trial.limit, coarse_limit(shown) if shown else 0.0)
    program = rule.jit(lambda arrays: outputs(function(*rule.pack(arrays))))
    for observation in trial.judgement.observations:
        if observation.probe.kind in ("sizes", "broadcast"):
            continue
        values = as_numpy(run(program, list(observation.probe.arrays)))
        for name, value in values.items():
            expected = observation.y.get(name)
            apart = None if expected is None or expected.shape != value.shape else difference(value, expected, 0.0)
            # The forward pass was compared with the definition: what it gives is right up to rounding.
            if apart is not None and apart.relative_error > limit and name in observation.manual_y:
                apart = min(apart, difference(value, observation.manual_y[name], 0.0), key=lambda d: d.relative_error)
            if apart is None or apart.relative_error > limit:
                message = f"where nothing is differentiated, the function returns another value: worst {apart}"
                trial.row(name, "primal", "float64", 1.0, limit, "fail", message, observation.probe.name)
                return
    trial.row("", "primal", "float64", 0.0, limit)


def unperturbed(trial: Trial, arrays: list[Any]) -> None:
    """Differentiates by each argument alone, and by all but one, where a rule is told which are differentiated."""
    function, rule = trial.rule.primal, trial.rule
    places = [i for i, leaf in enumerate(rule.leaves) if leaf in rule.floats]
    if function is None or len(places) < 2 or not trial.traceable:
        return
    calls = jaxprs.operations(lambda arrays: function(*rule.pack(arrays)), arrays)
    if not any(call.params.get("symbolic_zeros") for call in calls):
        return
    observation = trial.judgement.observations[0]
    alone = [(i,) for i in places]
    others = [tuple(j for j in places if j != i) for i in places] if len(places) > 2 else []

    def program(arrays: list[Any], d_y: list[Any]) -> list[dict[str, Any]]:
        def of_some(chosen: tuple[int, ...]) -> dict[str, Any]:
            some = lambda values: function(*rule.pack(replaced(arrays, chosen, values)))  # noqa: E731
            return autodiff(some, [rule.leaves[i] for i in chosen], [arrays[i] for i in chosen], d_y)["d"]

        return [of_some(chosen) for chosen in (*alone, *others)]

    results = run(rule.jit(program), arrays, list(observation.probe.d_y))
    for chosen, cotangents in zip((*alone, *others), results):
        names = ", ".join(rule.leaves[i] for i in chosen)
        for leaf, d in as_numpy(cotangents).items():
            around = size_around(trial, leaf, observation.reference)
            where = f"only {names} differentiated"
            require_equal(trial, "unperturbed", leaf, d, observation.reference[leaf], around, probe=where)
