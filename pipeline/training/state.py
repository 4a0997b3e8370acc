"""Everything a training step changes, as one tree."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from pipeline import compiler
from pipeline.layers.base import Layer, PyTree

if TYPE_CHECKING:
    import optax


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "optimizer_state", "step", "average", "finite"],
    meta_fields=[],
)
@dataclass(frozen=True)
class TrainState:
    """Where training stands. There is no random state: randomness is a function of the step.

    params: of the objective.
    optimizer_state: optax's.
    step: int32, the number of updates so far.
    average: exponential moving average of the parameters, or None.
    finite: False from the first step on whose loss, gradient or update was not finite; nothing else moves after that.
    """

    params: PyTree
    optimizer_state: PyTree
    step: Any
    average: PyTree
    finite: Any

    @property
    def evaluated(self) -> PyTree:
        """The parameters to judge and to keep: the average, where there is one."""
        return self.params if self.average is None else self.average


def init_params(objective: Layer, example: PyTree, seed: int) -> PyTree:
    """The parameters of ``objective`` before training.

    example: a batch, or its ShapeDtypeStructs. They are drawn in one compiled program: one by one, the operations take
    seconds to compile.
    """
    return compiler.jit_once(lambda key: objective.init(key, example))(jax.random.key(seed))


def init_state(params: PyTree, optimizer: "optax.GradientTransformation", average: float = 0.0) -> TrainState:
    """The state before the first step. It shares no buffer with ``params`` or within itself: steps donate it."""

    def state(params: PyTree) -> TrainState:
        averaged = params if average else None
        whole = TrainState(params, optimizer.init(params), jnp.int32(0), averaged, jnp.bool(True))
        return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), whole)

    return compiler.jit_once(state)(params)
