"""Whether the rule gives the same however it is called: twice, without ``jit``, under ``vmap``, on several devices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ..faults import raise_if_own, run
from ..measure import to_float64
from ..programs import jaxprs
from ..rule import MISSING, is_float, is_key, spread
from ..trial import Trial, Values, as_numpy, on_device
from .probes import cotangents
from .tolerance import require_equal, size_around


def state(trial: Trial, arrays: list[Any]) -> None:
    """Calls the rule twice alike, then with other arguments, then as at first; and two forward passes in a row."""
    d_y, other_d_y = (cotangents(trial.rule, arrays, trial.random) for _ in range(2))
    factor = -0.7 if trial.most_steps is None else 1.01  # far away, a while loop may never end
    other = [np.array(factor * array) if is_float(array) else array for array in arrays]
    call = lambda arrays, d_y: trial.manual(arrays, d_y, eager=True)  # noqa: E731
    first, second = call(arrays, d_y), call(arrays, d_y)
    behaviour = "" if _equal(first, second) else "not deterministic"
    if not behaviour:
        _try(lambda: call(other, other_d_y))
        again = call(arrays, d_y)
        behaviour = "" if _equal(first, again) and _interleaved(trial, arrays, other, d_y, first) else "state"
    words = {
        "not deterministic": "a second call with the same arguments returns other numbers",
        "state": "the result depends on an earlier call with other arguments",
    }
    trial.judgement.behaviour = behaviour
    if behaviour:
        trial.row("", "determinism", "float64", math.inf, 0.0, "fail", words[behaviour])
    else:
        trial.row("", "determinism", "float64", 0.0, 0.0)


def _interleaved(trial: Trial, arrays: list[Any], other: list[Any], d_y: list[Any], expected: Any) -> bool:
    """Whether a forward pass with other arguments leaves the backward pass of an earlier one as it is."""
    rule = trial.rule
    arguments, d = rule.pack([on_device(array) for array in arrays]), [jnp.asarray(leaf) for leaf in d_y]
    _, residuals = rule.forward(*arguments)
    _try(lambda: rule.forward(*rule.pack([on_device(array) for array in other])))
    aligned, _ = rule.align(rule.backward(arguments, residuals, spread(rule.reference(*arguments), d)), arguments)
    return all(
        aligned[leaf] is MISSING
        or aligned[leaf] is None
        or np.array_equal(to_float64(aligned[leaf]), value, equal_nan=True)
        for leaf, value in expected[1].items()
    )


def _try(call: Callable[[], Any]) -> None:
    """Calls the rule at arguments that it may not be made for."""
    try:
        call()
    except Exception as error:
        raise_if_own(error)


def eager(trial: Trial, arrays: list[Any]) -> None:
    """Compares the rule without ``jit`` with autodiff."""
    observation = trial.judgement.observations[0]
    manual = trial.manual(arrays, observation.probe.d_y, eager=True)[1]
    for leaf in trial.rule.floats:
        require_equal(
            trial,
            "eager",
            leaf,
            manual[leaf],
            observation.reference[leaf],
            size_around(trial, leaf, observation.reference),
        )


def vmap(trial: Trial, arrays: list[Any]) -> None:
    """Compares the rule under ``vmap`` over two examples, each with its own cotangent, with autodiff of each."""
    if not trial.traceable:
        return
    pair = [
        trial.judgement.observations[0],
        next((s for s in trial.judgement.observations[2:] if not s.probe.kind), trial.judgement.observations[1]),
    ]
    pair = [s for s in pair if [d.shape for d in s.probe.d_y] == [d.shape for d in pair[0].probe.d_y]]
    pair = pair if len(pair) == 2 else trial.judgement.observations[:2]
    axes = [None if is_key(array) else 0 for array in arrays]
    stacked = [
        array if is_key(array) else np.stack([s.probe.arrays[i] for s in pair]) for i, array in enumerate(arrays)
    ]
    d_y = [np.stack(both) for both in zip(*(s.probe.d_y for s in pair))]
    mapped = trial.rule.jit(jax.vmap(trial.manual_program, in_axes=(axes, 0)))
    manual = as_numpy(run(mapped, stacked, d_y)["d"])
    for leaf in trial.rule.floats:
        expected = np.stack([s.reference[leaf] for s in pair])
        around = max(size_around(trial, leaf, s.reference) for s in pair)
        require_equal(trial, "vmap", leaf, manual[leaf], expected, around)


def devices(trial: Trial, arrays: list[Any]) -> None:
    """Compares the rule on several devices, where there are any, with autodiff on one.

    Arrays whose first axis divides evenly are sharded along it.
    """
    devices = jax.devices()
    if len(devices) == 1 or not trial.traceable:
        return
    observation = trial.judgement.observations[0]
    operations = jaxprs.primitives(trial.manual_program, arrays, observation.probe.d_y)
    if callbacks := {name for name in operations if "callback" in name} - {"debug_callback"}:
        # A collective may wait for a device that waits for the callback; XLA then ends the whole process.
        trial.judgement.note(f"on several devices: not checked, as a {min(callbacks)} in it may stop the process there")
        return
    mesh = jax.make_mesh((len(devices),), ("examples",), axis_types=(AxisType.Auto,))

    def placed(array: Any) -> Any:
        divides = np.ndim(array) and array.shape[0] % len(devices) == 0 and not is_key(array)
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec("examples") if divides else PartitionSpec()))

    program = trial.rule.jit(trial.manual_program)
    manual = run(program, [placed(array) for array in arrays], [placed(jnp.asarray(d)) for d in observation.probe.d_y])
    for leaf in trial.rule.floats:
        around = size_around(trial, leaf, observation.reference)
        require_equal(trial, "devices", leaf, as_numpy(manual["d"])[leaf], observation.reference[leaf], around)


def _equal(one: tuple[Values, Values], other: tuple[Values, Values]) -> bool:
    return all(np.array_equal(a[leaf], b[leaf], equal_nan=True) for a, b in zip(one, other) for leaf in a)
