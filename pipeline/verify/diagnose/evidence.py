"""What is known about a wrong rule, to hold a hypothesis against: how a change anywhere in the program shows in it.

A wrong backward pass is a right one with an error put in somewhere: a change of the gradient at one value of the
function's program. From there the error flows to every leaf by the chain rule, which is the Jacobian of that value by
the leaves. So a change explains the error of a leaf if the Jacobian takes it there. Leaves are compared along a few
random directions, which costs as much for a large leaf as for a small one and finds every difference.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import compiler
from ..programs.flow import Flow, Use, Value, is_number
from ..rule import float_places, is_float, replaced
from ..trial import Judgement, Observation

_DIRECTIONS = 16
"""Along how many random directions a leaf is compared; a leaf of fewer elements is compared element by element."""

_MOST = 2e7
"""The most numbers that all Jacobians may have."""


class At(NamedTuple):
    """Everything at one observation.

    values: every value of the program, by its number. through: the gradient through each use, by its number.
    total: the gradient at each value, by its number. jacobian: (rows, *shape) of each value.
    error: (rows,) manual minus right cotangents. scale: (rows,) what they are compared with.
    """

    observation: Observation
    values: dict[int, np.ndarray]
    through: dict[int, np.ndarray]
    total: dict[int, np.ndarray]
    jacobian: dict[int, np.ndarray]
    error: np.ndarray
    right: np.ndarray
    scale: np.ndarray


class Evidence:
    """A wrong rule at several observations of the same sizes.

    leaves: those that were compared. wrong: those that are wrong.
    Raises ValueError where the program is too long or its arrays are too large, and what its tracing raises.
    """

    def __init__(self, judgement: Judgement, observations: Sequence[Observation], wrong: Sequence[str]) -> None:
        self.judgement, self.rule, self.observations = judgement, judgement.rule, list(observations)
        arrays = list(observations[0].probe.arrays)
        self.flow = Flow(self.rule.define, arrays, self.rule.leaves)
        self.places = float_places(arrays)
        self.leaves = [self.rule.leaves[i] for i in self.places]
        self.wrong = [leaf for leaf in self.leaves if leaf in wrong]
        self._taps = {use.number: use for use in self.flow.uses if use.value.active}
        self._made = {~v.number: v for v in self.flow.values if v.active and (v.made_by or v in self.flow.inputs)}
        random = np.random.default_rng(7)
        self._directions: list[tuple[int, np.ndarray]] = []
        for i in self.places:
            array = np.asarray(arrays[i])
            count = min(array.size, _DIRECTIONS)
            rows = np.eye(array.size) if array.size <= _DIRECTIONS else random.normal(size=(count, array.size))
            rows = rows.astype(array.dtype) * (1 + (0.5j if np.iscomplexobj(array) else 0))
            if np.iscomplexobj(array):
                rows = np.concatenate([rows, np.conj(rows)])
            self._directions += [(i, row.reshape(array.shape)) for row in rows]
        self.row_leaf = np.array([self.places.index(i) for i, _ in self._directions])
        size = sum(int(np.prod(value.shape)) for value in self.flow.values if value.active)
        if size * len(self._directions) > _MOST:
            raise ValueError("the function's arrays are too large to be taken apart")
        self._program = compiler.jit(self._everything)
        self._mutated = compiler.jit(self._with_taps)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs that are floats."""
        return list(self.observations[0].y)

    @property
    def outputs(self) -> list[Use]:
        """The returned values that are floats."""
        return [use for use in self.flow.outputs if use.value.is_float]

    def _outputs(self, arrays: list[Any], taps: dict[int, Any]) -> tuple[list[Any], dict[int, Any]]:
        results, record = self.flow.run(arrays, taps)
        numbers = {n: v for n, v in record.items() if is_number(self.flow.values[n].dtype)}
        return [result for result in results if is_float(result)], numbers

    def _everything(self, arrays: list[Any], d_y: list[Any], directions: list[Any]) -> Any:
        shapes = {n: (use.shape, use.value.dtype) for n, use in self._taps.items()}
        shapes |= {n: (value.shape, value.dtype) for n, value in self._made.items()}
        taps = {n: jnp.zeros(*shape) for n, shape in shapes.items()}
        of_taps = lambda taps: self._outputs(arrays, taps)  # noqa: E731
        y, pull_back, record = jax.vjp(of_taps, taps, has_aux=True)
        (through,) = pull_back([jnp.asarray(d, leaf.dtype) for d, leaf in zip(d_y, y)])
        active = [v.number for v in self.flow.values if v.active]

        def actives(floats: list[Any]) -> dict[int, Any]:
            values = self._outputs(replaced(arrays, self.places, floats), {})[1]
            return {n: values[n] for n in active}

        floats = [arrays[i] for i in self.places]
        tangents = jax.vmap(lambda direction: jax.jvp(actives, (floats,), (direction,))[1])(directions)
        return record, through, tangents

    def _with_taps(self, arrays: list[Any], d_y: list[Any], taps: dict[int, Any]) -> list[Any]:
        floats = [arrays[i] for i in self.places]
        of_floats = lambda floats: self._outputs(replaced(arrays, self.places, floats), taps)[0]  # noqa: E731
        y, pull_back = jax.vjp(of_floats, floats)
        return pull_back([jnp.asarray(d, leaf.dtype) for d, leaf in zip(d_y, y)])[0]

    @cached_property
    def at(self) -> list[At]:
        """Everything, at each observation."""
        return [self._look(observation) for observation in self.observations]

    def _look(self, observation: Observation) -> At:
        arrays, d_y = list(observation.probe.arrays), list(observation.probe.d_y)
        directions = []
        for i in self.places:
            shape = np.shape(arrays[i])
            rows = [row if place == i else np.zeros(shape) for place, row in self._directions]
            directions.append(np.stack(rows).astype(np.asarray(arrays[i]).dtype))
        record, through, tangents = self._program(arrays, d_y, directions)
        as_arrays = lambda part: {n: np.asarray(value) for n, value in part.items()}  # noqa: E731
        through = as_arrays(through)
        uses = {n: d for n, d in through.items() if n >= 0}
        totals = {~n: d for n, d in through.items() if n < 0}
        manual, right = self.rows_of(observation.manual), self.rows_of(observation.reference)
        scale = np.maximum(np.abs(manual), np.abs(right))
        for leaf in range(len(self.leaves)):
            rows = self.row_leaf == leaf
            scale[rows] = scale[rows].max(initial=0.0)
        return At(observation, as_arrays(record), uses, totals, as_arrays(tangents), manual - right, right, scale)

    def rows_of(self, cotangents: dict[str, np.ndarray]) -> np.ndarray:
        """(rows,): the leaves' cotangents along the directions."""
        leaves = self.rule.leaves
        return np.array([np.real((cotangents[leaves[i]] * row).sum()) for i, row in self._directions])

    @cached_property
    def tolerance(self) -> np.ndarray:
        """(leaves,): how closely a hypothesis must predict a leaf: far closer than the error that it explains."""
        if self.judgement.rule_dtype is not None:
            return np.full(len(self.leaves), 64 * float(jnp.finfo(self.judgement.rule_dtype).eps))
        result = np.full(len(self.leaves), 1e-8)
        for i, leaf in enumerate(self.leaves):
            here = self.row_leaf == i
            if leaf in self.wrong:
                relative = [np.abs(at.error[here]).max() / max(at.scale[here].max(), 1e-300) for at in self.at]
                result[i] = max(1e-12, min(1e-8, 0.01 * max(relative)))
        return result

    def response(self, at: At, value: Value, change: np.ndarray) -> np.ndarray:
        """(rows, ...): how a change of the gradient at a value shows; the change may have further axes at its end."""
        jacobian, axes = at.jacobian[value.number], len(value.shape)
        spread = np.tensordot(jacobian, change, (range(1, axes + 1), range(axes)))
        return np.real(spread)

    def fits(self, at: At, response: np.ndarray) -> np.ndarray:
        """(leaves,): whether responses (rows,) are the error of each leaf."""
        apart = np.abs(response - at.error) <= self.tolerance[self.row_leaf] * np.maximum(at.scale, 1e-300)
        return np.array([apart[self.row_leaf == leaf].all() for leaf in range(len(self.leaves))])

    def explained(self, responses: Callable[[At], np.ndarray | None]) -> tuple[tuple[str, ...], int]:
        """The wrong leaves that a hypothesis explains at every observation, and how many others it contradicts.

        responses: its error in all leaves at one observation, (rows,); None where it says nothing.
        """
        explained = np.ones(len(self.leaves), bool)
        for at in self.at:
            response = responses(at)
            if response is None or not np.isfinite(response).all():
                return (), 0
            explained &= self.fits(at, response)
            if not any(explained[self.leaves.index(leaf)] for leaf in self.wrong):
                return (), 0
        of_wrong = tuple(leaf for leaf in self.wrong if explained[self.leaves.index(leaf)])
        return of_wrong, int((~explained).sum())

    def mutated(self, at: At, taps: dict[int, np.ndarray], gates: dict[int, np.ndarray] | None = None) -> np.ndarray:
        """(rows,): the error of the derivative of the program that reads other values at some uses.

        gates: factors of the gradient through uses inside scans, where an error of one step goes on to the next.
        """
        gates, every = gates or {}, {}
        for use in self.flow.tappable():
            tap = taps.get(use.number, np.zeros(use.shape, use.value.dtype))
            inside = use.steps and use.value.active
            every[use.number] = (tap, gates.get(use.number, np.ones(use.shape))) if inside else tap
        arrays, d_y = list(at.observation.probe.arrays), list(at.observation.probe.d_y)
        leaves = dict(zip(self.leaves, map(np.asarray, self._mutated(arrays, d_y, every))))
        return self.rows_of(leaves) - at.right

    def value_at(self, at: At, use: Use) -> np.ndarray:
        """What an operation reads there."""
        if use.literal is not None:
            return np.broadcast_to(np.asarray(use.literal, use.value.dtype), use.shape)
        return at.values[use.value.number]
