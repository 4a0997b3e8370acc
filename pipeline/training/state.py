"""The state of training: everything that a training step changes, as one tree."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .. import compiler
from ..errors import UserError
from ..layers.base import Layer, PyTree
from ..options import flag

if TYPE_CHECKING:
    import optax

COPIES = 4
"""Arrays of a parameter's size in training: the parameter, its gradient, and two moments of the optimiser."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "optimizer_state", "step", "average", "finite"],
    meta_fields=[],
)
@dataclass(frozen=True)
class TrainState:
    """The state of training. It has no random key: all randomness is a function of the seed and the step.

    params: the objective's parameters.
    optimizer_state: optax's state.
    step: int32, the number of updates so far.
    average: exponential moving average of the parameters, or None.
    finite: False from the first step whose loss, gradient or update was not finite; the state no longer changes then.
    """

    params: PyTree
    optimizer_state: PyTree
    step: Any
    average: PyTree
    finite: Any

    @property
    def evaluated(self) -> PyTree:
        """The parameters to evaluate and to save: the moving average, if there is one."""
        return self.params if self.average is None else self.average


def init_params(objective: Layer, example: PyTree, seed: int) -> PyTree:
    """The initial parameters of ``objective``.

    example: a batch (inputs, targets), or its ShapeDtypeStructs.

    All parameters are drawn in one compiled program: compiled one by one, the operations take seconds.
    """
    return compiler.jit_once(lambda key: objective.init(key, example))(jax.random.key(seed))


def require_model_fits(objective: Layer, example: PyTree, sizes: Sequence[str]) -> None:
    """Raises UserError if the parameters of ``objective``, their gradient and the optimiser's state exceed the memory.

    Nothing is computed. example: see ``init_params``. sizes: names of the options that the model's size depends on.
    """
    params = jax.eval_shape(lambda key: objective.init(key, example), jax.random.key(0))
    leaves = jax.tree.leaves(params)
    needed, present = COPIES * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), device_memory()
    if needed > present:
        raise UserError(
            f"the model has {sum(leaf.size for leaf in leaves):,} parameters: with their gradient and the optimiser's "
            f"state they take {needed / 2**30:,.1f} GiB, and this {jax.devices()[0].platform} has "
            f"{present / 2**30:,.1f} GiB of memory; lower {' or '.join(f'--{flag(name)}' for name in sizes)}"
        )


def device_memory() -> int | float:
    """The memory of the device, in bytes; a CPU's is the machine's. Infinite where the system does not say it."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    names = getattr(os, "sysconf_names", {})
    if jax.default_backend() == "cpu" and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return math.inf


def init_state(params: PyTree, optimizer: "optax.GradientTransformation", average: float = 0.0) -> TrainState:
    """The state before the first step.

    average: decay of the moving average of the parameters; 0: none.

    No two arrays of the state share a buffer with each other or with ``params``, so that a step may donate it.
    """

    def state(params: PyTree) -> TrainState:
        averaged = params if average else None
        whole = TrainState(params, optimizer.init(params), jnp.int32(0), averaged, jnp.bool(True))
        return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), whole)

    return compiler.jit_once(state)(params)
