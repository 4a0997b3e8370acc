"""The loops of a program: bounded, so that a check ends, and watched, to see whether they have converged.

A fixed point, a solver or an optimiser is right where its iteration has converged. At arguments at which it has not,
the derivative of the iteration and the implicit one differ, and neither is wrong.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .jaxprs import Traced, has_gradient, scan_counts

_REPEATS = 5
"""So many equal parts of a program in a row are a loop that Python unrolled."""

_LONGEST_PERIOD = 300


class Bounded(Traced):
    """A program whose while loops end after ``most`` steps at the latest, with NaN for what they have not finished."""

    through_custom_rules = True
    most = 10**6

    def _operation(self, equation: Any, operands: list[Any], path: tuple) -> Sequence[Any]:
        if equation.primitive.name != "while":
            return super()._operation(equation, operands, path)
        return self._while(equation.params, operands, path)

    def _while(self, parameters: dict[str, Any], operands: list[Any], path: tuple) -> list[Any]:
        condition, body = parameters["cond_jaxpr"], parameters["body_jaxpr"]
        first = parameters["cond_nconsts"]
        second = first + parameters["body_nconsts"]
        goes_on = lambda carry: self.run(condition.jaxpr, condition.consts, [*operands[:first], *carry], path)[0]  # noqa: E731
        step = lambda carry: self._step(body, operands[first:second], carry, [], path)[0]  # noqa: E731
        watch, carry = self._watch(operands[second:]), list(operands[second:])

        def next_step(state: tuple) -> tuple:
            count, watch, carry = state
            after = step(carry)
            return count + 1, self._watched(watch, carry, after), after

        count, watch, carry = jax.lax.while_loop(
            lambda state: (state[0] < self.most) & goes_on(state[2]), next_step, (0, watch, carry)
        )
        self.finished(path, count, watch)
        unfinished = goes_on(carry)
        return [jnp.where(unfinished, jnp.nan, leaf) if has_gradient(leaf) else leaf for leaf in carry]

    def _scan(self, parameters: dict[str, Any], operands: list[Any], path: tuple) -> Sequence[Any]:
        return super()._scan(parameters, operands, (*path, "loop"))

    def _step(
        self, body: Any, fixed: Sequence[Any], carry: Sequence[Any], x: Sequence[Any], path: tuple
    ) -> tuple[list[Any], list[Any]]:
        results = self.run(body.jaxpr, body.consts, [*fixed, *carry, *x], (*path, "loop"))
        dtypes = [variable.aval.dtype for variable in body.jaxpr.outvars[: len(carry)]]
        after = [
            leaf if jnp.issubdtype(dtype, jax.dtypes.prng_key) else jnp.asarray(leaf, dtype)
            for leaf, dtype in zip(results, dtypes)
        ]
        return after, results[len(carry) :]

    def _watch(self, carry: Sequence[Any]) -> Any:
        """What is known of a loop before its first step."""
        del carry
        return ()

    def _watched(self, watch: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
        """What is known of it after one more step."""
        del before, after
        return watch

    def finished(self, path: tuple, count: Any, watch: Any) -> None:
        """Called where a loop has ended."""


class Watched(Bounded):
    """A program of whose outer loops the last changes are collected, in ``changes``: (last, largest) of each.

    A change is that of the numbers carried from one step to the next, relative to the largest of them so far.
    """

    def __init__(self, function: Callable, *arguments: Any) -> None:
        super().__init__(function, *arguments)
        self.changes: list[tuple[Any, Any]] = []

    def finished(self, path: tuple, count: Any, watch: Any) -> None:
        del count
        if "loop" not in path and watch:
            self.changes.append((jnp.maximum(*watch[0]), watch[1]))

    def _watch(self, carry: Sequence[Any]) -> Any:
        sizes = [_size(leaf) for leaf in carry if has_gradient(leaf)]
        return ((1.0, 1.0), 0.0, sizes) if sizes else ()

    def _watched(self, watch: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
        if not watch:
            return watch
        (last, _), largest, sizes = watch
        pairs = [(one, other) for one, other in zip(before, after) if has_gradient(other)]
        sizes = [jnp.maximum(size, _size(leaf)) for size, (_, leaf) in zip(sizes, pairs)]
        change = jnp.max(jnp.stack([_change(one, other, size) for (one, other), size in zip(pairs, sizes)]))
        return (change, last), jnp.maximum(largest, change), sizes

    def _scan(self, parameters: dict[str, Any], operands: list[Any], path: tuple) -> Sequence[Any]:
        body, (fixed, carried) = parameters["jaxpr"], scan_counts(parameters)

        def step(state: tuple, x: list[Any]) -> tuple[tuple, list[Any]]:
            watch, carry = state
            after, stacked = self._step(body, operands[:fixed], carry, x, path)
            return (self._watched(watch, carry, after), after), stacked

        carry = operands[fixed : fixed + carried]
        (watch, carry), stacked = jax.lax.scan(
            step,
            (self._watch(carry), carry),
            operands[fixed + carried :],
            length=parameters["length"],
            reverse=parameters["reverse"],
        )
        if parameters["length"] >= _REPEATS:
            self.finished(path, parameters["length"], watch)
        return [*carry, *stacked]

    def values(
        self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], path: tuple = ()
    ) -> dict[Any, Any]:
        values = super().values(jaxpr, constants, arguments, path)
        if "loop" not in path:
            self.changes += _of_unrolled(jaxpr, values)
        return values


def _of_unrolled(jaxpr: Any, values: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The last and the largest change of a loop that Python unrolled: the longest run of equal parts."""
    kinds = [(e.primitive.name, tuple(str(variable.aval) for variable in e.outvars)) for e in jaxpr.eqns]
    start, period, repeats = _longest_run(kinds)
    if repeats < _REPEATS:
        return []
    changes = []
    for offset in range(period):
        variables = [jaxpr.eqns[start + k * period + offset].outvars for k in range(repeats)]
        for series in zip(*variables):
            series = [values[variable] for variable in series if variable in values and has_gradient(values[variable])]
            if len(series) == repeats:
                size = jnp.max(jnp.stack([_size(leaf) for leaf in series]))
                changes.append(jnp.stack([_change(one, other, size) for one, other in itertools.pairwise(series)]))
    if not changes:
        return []
    largest = jnp.max(jnp.stack(changes), 0)
    return [(largest[-2:].max(), largest.max())]


def _longest_run(kinds: list[Any]) -> tuple[int, int, int]:
    """Start, period and number of repeats of the longest run of equal parts of a sequence."""
    best, longest = (0, 1, 0), 0
    for period in range(1, min(len(kinds) // _REPEATS, _LONGEST_PERIOD) + 1):
        run = 0
        for i in range(len(kinds) - period + 1):
            if i < len(kinds) - period and kinds[i] == kinds[i + period]:
                run += 1
                continue
            repeats = run // period + 1
            if repeats >= _REPEATS and run > longest:
                best, longest = (i - run, period, repeats), run
            run = 0
    return best


def _size(leaf: Any) -> Any:
    return jnp.abs(leaf).max(initial=0.0).astype(float)


def _change(before: Any, after: Any, size: Any) -> Any:
    moved = jnp.abs(after - before).max(initial=0.0).astype(float)
    return jnp.where(moved == 0, 0.0, moved / size)


def bounded(function: Callable, most: int) -> Callable:
    """``function`` with loops of at most so many steps; what they have not finished is NaN."""

    def result(*arguments: Any) -> Any:
        program = Bounded(function, *arguments)
        program.most = most
        return program.evaluate(*arguments)

    return result


def step_counts(function: Callable, *arguments: Any) -> list[Any]:
    """The number of steps of every outer while loop."""
    counts: list[Any] = []

    class Counting(Bounded):
        def finished(self, path: tuple, count: Any, watch: Any) -> None:
            if "loop" not in path:
                counts.append(count)

    Counting(function, *arguments).evaluate(*arguments)
    return counts


def last_changes(function: Callable, *arguments: Any) -> list[tuple[Any, Any]]:
    """For each outer loop the change of its last two steps, and the largest of all its steps: see ``Watched``."""
    program = Watched(function, *arguments)
    program.most = 10**5
    program.evaluate(*arguments)
    return program.changes
