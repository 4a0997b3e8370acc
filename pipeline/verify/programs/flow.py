"""How cotangents flow through a function's program: every value, the gradient through each use of it, its Jacobian.

A use is one value read by one operation. Every use has a tap, an array that is added to the value: the gradient by
the tap is the gradient through that use, and a tap that is not zero runs the program as if another value were read
there. Values inside a scan have its steps as their first axis.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ...layers.base import PyTree
from ..rule import is_float
from .jaxprs import has_gradient, inner_program, scan_counts, source_of


@dataclass(eq=False)
class Value:
    """One value of the program.

    shape: with ``steps``, the lengths of the scans around it, as its first axes.
    active: whether it depends on the floats among the function's arguments, and gradients flow into it.
    name: "`exp` in `p = jnp.exp(s)` (file.py, line 3)", an argument's name, or a number.
    made_by: the operation whose result it is; None for arguments and constants.
    outer: of a value that enters a scan, the value outside.
    entry: how it enters a scan: "constant", "carry" or "slice".
    """

    number: int
    shape: tuple[int, ...]
    dtype: Any
    name: str
    steps: tuple[int, ...]
    active: bool
    made_by: "Operation | None" = None
    outer: "Value | None" = None
    entry: str = ""

    @property
    def is_float(self) -> bool:
        return jnp.issubdtype(self.dtype, jnp.inexact)


@dataclass(eq=False)
class Use:
    """One value read by an operation as its operand number ``place``; by none where the function returns it.

    literal: the number, where the value is one that is written in the program.
    """

    number: int
    value: Value
    operation: "Operation | None"
    place: int
    steps: tuple[int, ...]
    literal: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of its tap: a literal inside a scan is one number for each step."""
        return (*self.steps, *self.value.shape[len(self.value.steps) :])


@dataclass(eq=False)
class Operation:
    """One operation. source: the author's line of code with its place. path: its place in the program."""

    equation: Any
    source: str
    path: tuple[int, ...]
    uses: list[Use] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)

    @property
    def primitive(self) -> str:
        return self.equation.primitive.name

    def __str__(self) -> str:
        name = self.equation.params.get("name", self.primitive)
        return f"`{name}`{' in ' if self.source else ''}{self.source}"


class Flow:
    """The program of a function of a list of arrays, with all its values, uses and operations.

    Raises ValueError where it has more than ``most`` uses.
    """

    def __init__(
        self, function: Callable[[list[Any]], PyTree], arrays: list[Any], names: Sequence[str], most: int = 1500
    ) -> None:
        self.program: ClosedJaxpr = jax.make_jaxpr(function)(arrays)
        self.values: list[Value] = []
        self.uses: list[Use] = []
        self.operations: list[Operation] = []
        self._value_at: dict[tuple, Value] = {}
        self._use_at: dict[tuple, Use] = {}
        self._most = most
        jaxpr = self.program.jaxpr
        self.inputs = [
            self._value(variable, f"`{name}`", (), is_float(array))
            for variable, name, array in zip(jaxpr.invars, names, arrays)
        ]
        for value, variable in zip(self.inputs, jaxpr.invars):
            self._value_at[(), variable] = value
        results = self._collect(jaxpr, (), (), "")
        self.outputs = [self._use(((), "out", i), value, None, i, ()) for i, value in enumerate(results)]

    def _value(self, variable: Any, name: str, steps: tuple[int, ...], active: bool, **more: Any) -> Value:
        aval = variable.aval
        active = active and has_gradient(aval)
        value = Value(len(self.values), (*steps, *aval.shape), aval.dtype, name, steps, active, **more)
        self.values.append(value)
        return value

    def _use(self, key: tuple, value: Value, operation: Operation | None, place: int, steps: Any, literal=None) -> Use:
        use = Use(len(self.uses), value, operation, place, steps, literal)
        self.uses.append(use)
        self._use_at[key] = use
        if len(self.uses) > self._most:
            raise ValueError("the program is too long to be taken apart")
        return use

    def _read(self, variable: Any, path: tuple, key: tuple, steps: tuple[int, ...]) -> Value:
        if not isinstance(variable, Literal):
            return self._value_at[path, variable]
        if key not in self._value_at:
            self._value_at[key] = self._value(variable, f"{variable.val!s}", (), False)
        return self._value_at[key]

    def _collect(self, jaxpr: Jaxpr, path: tuple, steps: tuple[int, ...], outer: str) -> list[Value]:
        """Collects all values, uses and operations of a program whose inputs are known; returns its results."""
        for variable in jaxpr.constvars:
            self._value_at[path, variable] = self._value(variable, "a constant array", steps, False)
        for i, equation in enumerate(jaxpr.eqns):
            source, here = source_of(equation) or outer, (*path, i)
            operands = [self._read(v, path, (*here, "literal", n), steps) for n, v in enumerate(equation.invars)]
            inner = inner_program(equation, _through(equation))
            if inner is not None:
                self._value_at |= {(here, v): value for v, value in zip(inner.jaxpr.invars, operands)}
                results = self._collect(inner.jaxpr, here, steps, source)
            else:
                operation = Operation(equation, source, here)
                self.operations.append(operation)
                for n, (variable, value) in enumerate(zip(equation.invars, operands)):
                    literal = variable.val if isinstance(variable, Literal) else None
                    operation.uses.append(self._use((here, n), value, operation, n, steps, literal))
                active = [equation.primitive.name != "stop_gradient" and any(v.active for v in operands)]
                active *= len(equation.outvars)
                if equation.primitive.name == "scan":
                    active = self._collect_scan(operation, operands, steps)
                results = [
                    self._value(variable, str(operation), steps, flag, made_by=operation)
                    for variable, flag in zip(equation.outvars, active)
                ]
                operation.results = results
            self._value_at |= {(path, variable): value for variable, value in zip(equation.outvars, results)}
        return [self._read(v, path, (*path, "result", n), steps) for n, v in enumerate(jaxpr.outvars)]

    def _collect_scan(self, operation: Operation, operands: list[Value], steps: tuple[int, ...]) -> list[bool]:
        parameters, path = operation.equation.params, operation.path
        body, (fixed, carried) = parameters["jaxpr"].jaxpr, scan_counts(parameters)
        inside, active = (*steps, parameters["length"]), [value.active for value in operands]
        for _ in range(carried + 1):  # until what the carry depends on no longer grows
            before = len(self.values), len(self.uses), len(self.operations)
            for n, (variable, operand) in enumerate(zip(body.invars, operands)):
                entry = "constant" if n < fixed else "carry" if n < fixed + carried else "slice"
                name = "the previous state, h_(t-1)," if entry == "carry" else operand.name
                more = {"outer": operand, "entry": entry}
                self._value_at[path, variable] = self._value(variable, name, inside, active[n], **more)
            results = [value.active for value in self._collect(body, path, inside, operation.source)]
            grown = [a or b for a, b in zip(active[fixed : fixed + carried], results)]
            if grown == active[fixed : fixed + carried]:
                return results
            active[fixed : fixed + carried] = grown
            del self.values[before[0] :], self.uses[before[1] :], self.operations[before[2] :]
            self._value_at = {key: v for key, v in self._value_at.items() if v.number < before[0]}
        raise AssertionError("the carry's dependence on the arguments has no end")

    def run(self, arrays: Sequence[Any], taps: dict[int, Any]) -> tuple[list[Any], dict[int, Any]]:
        """What the function returns, flat, and every value by its number.

        taps: by the number of their use, or by ``~number`` of a value; added to numbers, exclusive-or for booleans. A
        pair of a tap and a gate multiplies the gradient through the use by the gate, too.
        """
        record: dict[int, Any] = {}
        jaxpr = self.program.jaxpr
        arguments = [_tapped(array, taps.get(~value.number)) for value, array in zip(self.inputs, arrays)]
        record |= {value.number: array for value, array in zip(self.inputs, arguments)}
        results = self._run(jaxpr, self.program.consts, arguments, (), taps, record)
        return [_tapped(r, taps.get(use.number)) for r, use in zip(results, self.outputs)], record

    def _run(self, jaxpr: Jaxpr, constants: Any, arguments: Any, path: tuple, taps: dict, record: dict) -> list[Any]:
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments]))
        record |= {self._value_at[path, v].number: values[v] for v in jaxpr.constvars}
        for i, equation in enumerate(jaxpr.eqns):
            here = (*path, i)
            operands = [
                jnp.asarray(v.val, jnp.result_type(v.val)) if isinstance(v, Literal) else values[v]
                for v in equation.invars
            ]
            inner = inner_program(equation, _through(equation))
            if inner is not None:
                results = self._run(inner.jaxpr, inner.consts, operands, here, taps, record)
            else:
                uses = [self._use_at[here, n] for n in range(len(operands))]
                operands = [_tapped(operand, taps.get(use.number)) for operand, use in zip(operands, uses)]
                if equation.primitive.name == "scan":
                    results = self._run_scan(equation.params, operands, here, taps, record)
                else:
                    results = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
                    results = results if equation.primitive.multiple_results else [results]
                numbers = [self._value_at[path, variable].number for variable in equation.outvars]
                results = [_tapped(result, taps.get(~number)) for result, number in zip(results, numbers)]
                record |= dict(zip(numbers, results))
            values.update(zip(equation.outvars, results))
        return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]

    def _run_scan(self, parameters: dict[str, Any], operands: list[Any], path: tuple, taps: dict, record: dict) -> Any:
        body, (fixed, carried) = parameters["jaxpr"], scan_counts(parameters)
        within = lambda at: len(at) > len(path) and at[: len(path)] == path  # noqa: E731
        inside = {n: tap for n, tap in taps.items() if within(self._path_of(n))}

        def step(carry: list[Any], x: tuple[list[Any], dict[int, Any]]) -> tuple[list[Any], Any]:
            arguments, stacked = [*operands[:fixed], *carry, *x[0]], {}
            stacked |= {self._value_at[path, v].number: a for v, a in zip(body.jaxpr.invars, arguments)}
            results = self._run(body.jaxpr, body.consts, arguments, path, x[1], stacked)
            dtypes = [variable.aval.dtype for variable in body.jaxpr.outvars[:carried]]
            return [jnp.asarray(r, d) for r, d in zip(results[:carried], dtypes)], (results[carried:], stacked)

        carry, (results, stacked) = jax.lax.scan(
            step,
            operands[fixed : fixed + carried],
            (operands[fixed + carried :], inside),
            length=parameters["length"],
            reverse=parameters["reverse"],
        )
        record |= stacked
        return [*carry, *results]

    def _path_of(self, tap: int) -> tuple:
        """The place of the operation that reads the tapped use, or makes the tapped value."""
        operation = self.uses[tap].operation if tap >= 0 else self.values[~tap].made_by
        return () if operation is None else operation.path

    def tappable(self) -> Iterator[Use]:
        """Uses whose value can be changed: of numbers and booleans."""
        return (use for use in self.uses if is_number(use.value.dtype))


def is_number(dtype: Any) -> bool:
    """Whether it is a dtype of numbers or booleans, and not of random keys."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool_))


def _through(equation: Any) -> bool:
    """Whether the operation is taken apart: rules that forward mode cannot pass are, functions with a slope are not."""
    return "vjp" in equation.primitive.name


def _number(literal: Any) -> Any:
    return jnp.asarray(literal.val, literal.aval.dtype)


def _tapped(value: Any, tap: Any) -> Any:
    if tap is None:
        return value
    if isinstance(tap, tuple):
        return _gate(value + tap[0], tap[1])
    return value ^ tap if value.dtype == bool else value + tap


@jax.custom_vjp
def _gate(value: Any, gate: Any) -> Any:
    """``value``, with its cotangent multiplied by ``gate``; the value may be infinite, as in a mask."""
    del gate
    return value


_gate.defvjp(lambda value, gate: (value, gate), lambda gate, d: (gate * d, jnp.zeros_like(gate)))
