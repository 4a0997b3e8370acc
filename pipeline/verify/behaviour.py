"""Whether the rule is one function however it is called: twice, without ``jit``, under ``vmap``, on several devices."""

import contextlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pipeline import compiler
from pipeline.verify.measure import wide
from pipeline.verify.probes import cotangents
from pipeline.verify.rule import MISSING, is_float, is_key, spread
from pipeline.verify.tolerance import held, size_around
from pipeline.verify.trial import Trial, Values, as_numpy, on_device


def state(trial: Trial, given: list[Any]) -> None:
    """Two equal calls, another one, the first again; and two forward passes before either backward pass."""
    d_y, other_d_y = (cotangents(trial.rule, given, trial.random) for _ in range(2))
    other = [np.array(-0.7 * array) if is_float(array) else array for array in given]
    call = lambda arrays, d_y: trial.manual(arrays, d_y, eager=True)  # noqa: E731
    first, second = call(given, d_y), call(given, d_y)
    behaviour = "" if _equal(first, second) else "not deterministic"
    if not behaviour:
        with contextlib.suppress(Exception):  # other values may be outside what the rule is for
            call(other, other_d_y)
        again = call(given, d_y)
        behaviour = "" if _equal(first, again) and _interleaved(trial, given, other, d_y, first) else "state"
    words = {
        "not deterministic": "a second call with the same arguments gives other numbers",
        "state": "what it gives depends on an earlier call with other arguments",
    }
    trial.found.behaviour = behaviour
    if behaviour:
        trial.row("", "determinism", "float64", math.inf, 0.0, "fail", words[behaviour])
    else:
        trial.row("", "determinism", "float64", 0.0, 0.0)


def _interleaved(trial: Trial, given: list[Any], other: list[Any], d_y: list[Any], expected: Any) -> bool:
    rule = trial.rule
    arguments, d = rule.pack([on_device(array) for array in given]), [jnp.asarray(leaf) for leaf in d_y]
    _, residuals = rule.forward(*arguments)
    with contextlib.suppress(Exception):
        rule.forward(*rule.pack([on_device(array) for array in other]))
    found, _ = rule.align(rule.backward(arguments, residuals, spread(rule.reference(*arguments), d)), arguments)
    return all(
        found[leaf] is MISSING or found[leaf] is None or np.array_equal(wide(found[leaf]), value, equal_nan=True)
        for leaf, value in expected[1].items()
    )


def eager(trial: Trial, given: list[Any]) -> None:
    seen = trial.found.seen[0]
    found = trial.manual(given, seen.probe.d_y, eager=True)[1]
    for leaf in trial.rule.floats:
        held(trial, "eager", leaf, found[leaf], seen.reference[leaf], size_around(trial, leaf, seen.reference))


def vmap(trial: Trial, given: list[Any]) -> None:
    """Over two examples, each with a cotangent of its own."""
    if not trial.traceable:
        return
    pair = [trial.found.seen[0], next((s for s in trial.found.seen[2:] if not s.probe.kind), trial.found.seen[1])]
    pair = [s for s in pair if [d.shape for d in s.probe.d_y] == [d.shape for d in pair[0].probe.d_y]]
    pair = pair if len(pair) == 2 else trial.found.seen[:2]
    axes = [None if is_key(array) else 0 for array in given]
    arrays = [array if is_key(array) else np.stack([s.probe.arrays[i] for s in pair]) for i, array in enumerate(given)]
    d_y = [np.stack(both) for both in zip(*(s.probe.d_y for s in pair))]
    mapped = compiler.jit(jax.vmap(trial.by_hand, in_axes=(axes, 0)))
    found = as_numpy(mapped(arrays, d_y)["d"])
    for leaf in trial.rule.floats:
        expected = np.stack([s.reference[leaf] for s in pair])
        around = max(size_around(trial, leaf, s.reference) for s in pair)
        held(trial, "vmap", leaf, found[leaf], expected, around)


def devices(trial: Trial, given: list[Any]) -> None:
    """With the first axis of all arrays that divide over several devices, where there are any."""
    devices = jax.devices()
    if len(devices) == 1 or not trial.traceable:
        return

    mesh = jax.make_mesh((len(devices),), ("examples",), axis_types=(AxisType.Auto,))
    seen = trial.found.seen[0]

    def placed(array: Any) -> Any:
        divides = np.ndim(array) and array.shape[0] % len(devices) == 0 and not is_key(array)
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec("examples") if divides else PartitionSpec()))

    run = compiler.jit(trial.by_hand)
    found = run([placed(array) for array in given], [placed(jnp.asarray(d)) for d in seen.probe.d_y])
    for leaf in trial.rule.floats:
        around = size_around(trial, leaf, seen.reference)
        held(trial, "devices", leaf, as_numpy(found["d"])[leaf], seen.reference[leaf], around)


def _equal(one: tuple[Values, Values], other: tuple[Values, Values]) -> bool:
    return all(np.array_equal(part[leaf], its[leaf], equal_nan=True) for part, its in zip(one, other) for leaf in part)
