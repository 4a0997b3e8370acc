"""The terms of a function's chain rule, each with a gate that scales the gradient through it.

A term is one use of one value by one operation. With its gate at 0 the value passes and no gradient does; the
difference is the term's contribution. A mistake that loses a term, counts it twice or flips its sign is a gate at
another number than 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from ...layers.base import PyTree
from .jaxprs import Traced, has_gradient, inner_program, scan_counts, source_of

EVERY, FIRST, LAST = 0, 1, 2


@dataclass(frozen=True)
class Term:
    """One use of a value: by the operation ``primitive``, as its operand number ``operand``.

    source: the author's line of code with its place: "xc = x - mu (norms.py, line 12)".
    key: the operation's place: its index in the program, after those of the calls that contain it.
    """

    key: tuple[Any, ...]
    primitive: str
    operand: int
    source: str

    def __str__(self) -> str:
        return f"`{self.primitive}`{' in ' if self.source else ''}{self.source}"


@dataclass(frozen=True)
class Constant:
    """A number in the program, such as an epsilon or 1/sqrt(d)."""

    key: tuple[Any, ...]
    value: float
    source: str


class Gated(Traced):
    """A function of a list of arrays, with a gate on every term and a number in place of every constant.

    terms, constants: those of the program, in the order of ``run_with``'s gates and numbers.
    """

    def __init__(self, function: Callable[[list[Any]], PyTree], arrays: list[Any], most: int = 160) -> None:
        super().__init__(function, arrays)
        self.terms: list[Term] = []
        self.constants: list[Constant] = []
        self._scans: set[tuple] = set()
        self._find(self.program.jaxpr, [has_gradient(leaf) for leaf in jax.tree.leaves(arrays)], (), "")
        self.terms = self.terms[:most]
        self._term = {term.key: i for i, term in enumerate(self.terms)}
        self._constant = {constant.key: i for i, constant in enumerate(self.constants)}
        self._step_of: dict[tuple, tuple[Any, int]] = {}

    def _find(self, jaxpr: Jaxpr, active: list[bool], path: tuple, outer: str) -> list[bool]:
        """Whether each output depends on an active input; collects the terms and constants."""
        known = dict(zip(jaxpr.invars, active))
        depends = lambda v: not isinstance(v, Literal) and known.get(v, False)  # noqa: E731
        for i, equation in enumerate(jaxpr.eqns):
            name = equation.primitive.name
            source = source_of(equation) or outer
            flags = [depends(variable) and has_gradient(variable.aval) for variable in equation.invars]
            for place, (variable, flag) in enumerate(zip(equation.invars, flags)):
                if flag:
                    self.terms.append(Term((*path, i, place), equation.params.get("name", name), place, source))
                if isinstance(variable, Literal) and np.ndim(variable.val) == 0 and has_gradient(variable.aval):
                    self.constants.append(Constant((*path, i, place), float(np.real(variable.val)), source))
            inner = inner_program(equation, self.through_custom_rules)
            if inner is not None:
                results = self._find(inner.jaxpr, flags, (*path, i), source)
            elif name == "scan":
                body, (fixed, carried) = equation.params["jaxpr"], scan_counts(equation.params)
                self._scans.add((*path, i))
                inside, results = list(flags), []
                for _ in range(carried + 1):  # until what the carry depends on no longer grows
                    before = len(self.terms), len(self.constants)
                    results = self._find(body.jaxpr, inside, (*path, i), source)
                    grown = [a or b for a, b in zip(inside[fixed : fixed + carried], results)]
                    if grown == inside[fixed : fixed + carried]:
                        break
                    inside[fixed : fixed + carried] = grown
                    del self.terms[before[0] :], self.constants[before[1] :]
            else:
                stopped = name == "stop_gradient" or not any(flags)
                results = [not stopped] * len(equation.outvars)
            known.update(zip(equation.outvars, results))
        return [depends(variable) for variable in jaxpr.outvars]

    def operand(self, key: tuple, variable: Any, value: Any) -> Any:
        if key in self._constant:
            return jnp.asarray(self._numbers[self._constant[key]], variable.aval.dtype)
        if key not in self._term:
            return value
        gate = self._gates[self._term[key]]
        scope = self.scan_of(key)
        if scope is not None:
            number, length = self._step_of[scope]
            here = (self._step == EVERY) | (number == jnp.where(self._step == FIRST, 0, length - 1))
            gate = jnp.where(here, gate, 1.0)
        return _gate(value, gate)

    def scan_of(self, key: tuple) -> tuple | None:
        """The innermost scan that contains an operation."""
        return next((key[:n] for n in range(len(key) - 2, 0, -1) if key[:n] in self._scans), None)

    def stepped(self, path: tuple, number: Any, length: int) -> None:
        self._step_of[path] = number, length

    def run_with(self, gates: Any, numbers: Any, step: Any, arrays: list[Any]) -> PyTree:
        """The function with these gates and constants.

        step: at which step of a scan the gates of its terms count: FIRST, LAST or EVERY.
        """
        self._gates, self._numbers, self._step = gates, numbers, step
        return self.evaluate(arrays)


@jax.custom_vjp
def _gate(value: Any, gate: Any) -> Any:
    """``value``, with its cotangent multiplied by ``gate``; the value may be infinite, as in a mask."""
    del gate
    return value


_gate.defvjp(lambda value, gate: (value, gate), lambda gate, d: (gate.astype(d.dtype) * d, jnp.zeros_like(gate)))
