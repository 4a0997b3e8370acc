"""A function's program, its jaxpr, inspected and run in other ways.

It is interpreted operation by operation, through ``jit``, ``scan`` and custom rules: without those rules, with random
rounding errors, or with the changes of a subclass.
"""

import linecache
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.extend.source_info_util as source_info
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ...layers.base import PyTree

CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")
_INLINED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "remat_call")


class Interpreter:
    """Runs a jaxpr; subclasses change operands and results. path: the indices of the calls around an operation."""

    through_custom_rules = False
    stop_gradient_count = 0

    def stops(self, number: int) -> bool:
        """Whether the program's ``stop_gradient`` of this number, in the order they run, holds back gradients."""
        del number
        return True

    def operand(self, key: tuple, variable: Any, value: Any) -> Any:
        del key, variable
        return value

    def result(self, primitive: str, value: Any) -> Any:
        del primitive
        return value

    def stepped(self, path: tuple, number: Any, length: int) -> None:
        """Called at every step of the scan at ``path``; number: its index along the scanned axis."""

    def entered(self, path: tuple, values: dict[Any, Any]) -> None:
        """Called with the values of a program that is about to run; they fill up as it does."""

    def run(self, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], path: tuple = ()) -> list[Any]:
        values = self.values(jaxpr, constants, arguments, path)
        return [variable.val if isinstance(variable, Literal) else values[variable] for variable in jaxpr.outvars]

    def values(
        self, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], path: tuple = ()
    ) -> dict[Any, Any]:
        """Every variable's value."""
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments]))
        read = lambda variable: variable.val if isinstance(variable, Literal) else values[variable]  # noqa: E731
        self.entered(path, values)
        for i, equation in enumerate(jaxpr.eqns):
            operands = [
                self.operand((*path, i, place), variable, read(variable))
                for place, variable in enumerate(equation.invars)
            ]
            results = self._operation(equation, operands, (*path, i))
            values.update(zip(equation.outvars, results))
        return values

    def _operation(self, equation: Any, operands: list[Any], path: tuple) -> Sequence[Any]:
        name = equation.primitive.name
        inner = inner_program(equation, self.through_custom_rules)
        if inner is not None:
            return self.run(inner.jaxpr, inner.consts, operands, path)
        if name == "scan":
            return self._scan(equation.params, operands, path)
        if name == "stop_gradient":
            self.stop_gradient_count += 1
            if not self.stops(self.stop_gradient_count - 1):
                return operands
        results = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
        return [self.result(name, r) for r in (results if equation.primitive.multiple_results else [results])]

    def _scan(self, parameters: dict[str, Any], operands: list[Any], path: tuple) -> Sequence[Any]:
        body, (fixed, carried) = parameters["jaxpr"], scan_counts(parameters)

        def step(carry: list[Any], x: tuple[Any, list[Any]]) -> tuple[list[Any], list[Any]]:
            self.stepped(path, x[0], parameters["length"])
            results = self.run(body.jaxpr, body.consts, [*operands[:fixed], *carry, *x[1]], path)
            avals = [variable.aval.dtype for variable in body.jaxpr.outvars[:carried]]
            return [jnp.asarray(r, dtype) for r, dtype in zip(results[:carried], avals)], results[carried:]

        carry, stacked = jax.lax.scan(
            step,
            operands[fixed : fixed + carried],
            (jnp.arange(parameters["length"]), operands[fixed + carried :]),
            length=parameters["length"],
            reverse=parameters["reverse"],
        )
        return [*carry, *stacked]


def scan_counts(parameters: dict[str, Any]) -> tuple[int, int]:
    """The number of a scan's operands that are the same in every step, and of those carried from step to step."""
    if "num_consts" in parameters:  # before jax 0.12
        return parameters["num_consts"], parameters["num_carry"]
    fixed, carried, _ = map(len, parameters["ft_in"].unpack())
    return fixed, carried


def inner_program(equation: Any, through_custom_rules: bool = True) -> ClosedJaxpr | None:
    """The program inside a call of jit or remat, or of a custom rule's primal function; None for other operations."""
    name, parameters = equation.primitive.name, equation.params
    if name in _INLINED or (through_custom_rules and name in CUSTOM_RULES):
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            if key in parameters:
                inner = parameters[key]
                return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    return None


def equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Every operation of a program and of all programs in it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in _programs_in(value):
                yield from equations(inner)


class Traced(Interpreter):
    """A function's program for arguments like these, which ``evaluate`` runs with the changes of a subclass."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.program, self.shape = jax.make_jaxpr(function, return_shape=True)(*arguments)

    def embedded(self) -> Sequence[Any]:
        """The constant arrays of the program, such as a mask made by NumPy."""
        return self.program.consts

    def evaluate(self, *arguments: Any) -> PyTree:
        self.stop_gradient_count = 0
        values = self.run(self.program.jaxpr, self.embedded(), jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(self.shape), values)


def plain(function: Callable) -> Callable:
    """``function`` without its custom rules: autodiff of the result differentiates its operations."""

    def result(*arguments: Any) -> PyTree:
        traced = Traced(function, *arguments)
        traced.through_custom_rules = True
        return traced.evaluate(*arguments)

    return result


def unstopped(function: Callable, which: int | None = None) -> Callable:
    """``function`` without its ``stop_gradient`` number ``which``, or without any of them."""

    class Unstopped(Traced):
        def stops(self, number: int) -> bool:
            return which is not None and number != which

    return lambda *arguments: Unstopped(function, *arguments).evaluate(*arguments)


_ROUNDED = {
    "add", "sub", "mul", "div", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "tan",
    "asin", "acos", "atan", "atan2", "sinh", "cosh", "sqrt", "rsqrt", "cbrt", "pow", "integer_pow", "square", "erf",
    "erfc", "erf_inv", "lgamma", "digamma", "dot_general", "conv_general_dilated", "reduce_sum", "cumsum",
    "cumprod", "reduce_prod", "add_any", "scatter-add", "scatter_add", "reduce_window_sum", "cumlogsumexp", "fft",
    "convert_element_type", "reduce_precision",
}  # fmt: skip
"""The operations whose results are rounded; those that compare and move numbers are exact."""


def noisy(function: Callable, own_precision: bool) -> Callable:
    """``(seed, *arguments) -> values``: the function with a random rounding error in every operation's result.

    The spread of the values estimates the effect of rounding (Monte Carlo arithmetic, Parker 1997).

    own_precision: whether an operation in float32 has the rounding error of float32, or that of float64.
    """

    class Noisy(Traced):
        seed: Any
        count = 0

        def result(self, primitive: str, value: Any) -> Any:
            if primitive not in _ROUNDED or not has_gradient(value):
                return value
            self.count += 1
            eps = float(jnp.finfo(value.dtype if own_precision else jnp.float64).eps)
            # A multiplicative hash: a proper generator in every operation would take seconds to compile.
            place = jax.lax.iota(jnp.uint32, value.size).reshape(value.shape)
            mixed = (place + jnp.uint32(self.count) * 40503 + jnp.uint32(self.seed) * 974711) * jnp.uint32(2654435761)
            up = (mixed >> 15) & 1
            return jnp.where(up == 1, value * (1 + eps), value * (1 - eps)).astype(value.dtype)

    def result(seed: Any, *arguments: Any) -> PyTree:
        traced = Noisy(function, *arguments)
        traced.seed = seed
        return traced.evaluate(*arguments)

    return result


def has_gradient(leaf: Any) -> bool:
    """Whether it holds real or complex numbers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def source_of(equation: Any) -> str:
    """An operation's line of source code with its place; "" where that is not known."""
    match = re.match(r"(.*?):(\d+)(?::[\d-]+)*(?: \(.*\))?$", source_info.summarize(equation.source_info))
    if match is None:
        return ""
    file, line = match[1], int(match[2])
    code = linecache.getline(file, line).strip()
    place = f"{Path(file).name}, line {line}"
    return f"`{code if len(code) <= 80 else code[:77] + '...'}` ({place})" if code else place


def narrowest_float(function: Callable, *arguments: Any) -> str | None:
    """The narrowest float dtype between float64 arguments and the result; None where all is float64.

    Only values that depend on the arguments' floats count, not constants.
    """
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    dtypes: set[str] = set()
    _collect_dtypes(program, [has_gradient(variable.aval) for variable in program.invars], dtypes)
    narrow = [dtype for dtype in dtypes if jnp.finfo(dtype).bits < 64]
    return min(narrow, key=lambda dtype: (jnp.finfo(dtype).bits, -float(jnp.finfo(dtype).eps)), default=None)


def _collect_dtypes(jaxpr: Jaxpr, active: list[bool], dtypes: set[str]) -> list[bool]:
    known = dict(zip(jaxpr.invars, active))
    depends = lambda v: not isinstance(v, Literal) and known.get(v, False)  # noqa: E731
    for equation in jaxpr.eqns:
        flags = [depends(variable) for variable in equation.invars]
        if not any(flags):
            continue
        inner = inner_program(equation)
        if inner is not None:
            results = _collect_dtypes(inner.jaxpr, flags, dtypes)
        else:
            results = [has_gradient(variable.aval) for variable in equation.outvars]
            bodies = [part for value in equation.params.values() for part in _programs_in(value)]
            for body in bodies:
                _collect_dtypes(body, [True] * len(body.invars), dtypes)
            avals: list[Any] = [variable.aval for variable in equation.outvars]
            dtypes |= {str(aval.dtype) for aval in avals if _is_real_float(aval)}
        known.update(zip(equation.outvars, results))
    return [depends(variable) for variable in jaxpr.outvars]


def _programs_in(value: Any) -> list[Jaxpr]:
    parts = value if isinstance(value, tuple | list) else (value,)
    return [inner for part in parts if isinstance(inner := getattr(part, "jaxpr", part), Jaxpr)]


def _is_real_float(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.floating)


def intermediates(function: Callable, arrays: list[Any], shape: tuple[int, ...], most: int = 24) -> dict[str, Any]:
    """A function's intermediate values of one shape, each by its operation and line."""
    values: dict[str, Any] = {}

    class Collecting(Traced):
        def _operation(self, equation: Any, operands: list[Any], path: tuple) -> Sequence[Any]:
            results = super()._operation(equation, operands, path)
            if (
                len(results) == 1
                and _spreads_over(jnp.shape(results[0]), shape)
                and has_gradient(results[0])
                and len(values) < most
            ):
                name = f"`{equation.primitive.name}` in {source_of(equation)}"
                if not isinstance(results[0], Tracer):
                    values.setdefault(name, np.broadcast_to(np.asarray(results[0]), shape))
            return results

    Collecting(function, arrays).evaluate(arrays)
    return values


def _spreads_over(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(small) == len(shape) and small != (1,) * len(shape) and all(a in (1, b) for a, b in zip(small, shape))


def numbers(function: Callable, *arguments: Any) -> list[float]:
    """The float constants of a function's program, in order."""
    constants = [
        float(np.real(variable.val))
        for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr)
        for variable in equation.invars
        if isinstance(variable, Literal) and np.ndim(variable.val) == 0 and has_gradient(variable.aval)
    ]
    return list(dict.fromkeys(constants))


def operations(function: Callable, *arguments: Any) -> list[Any]:
    """Every operation of a function's program."""
    return list(equations(jax.make_jaxpr(function)(*arguments).jaxpr))


def primitives(function: Callable, *arguments: Any) -> set[str]:
    """The names of all operations in a function's program.

    >>> sorted(primitives(lambda x: jnp.sin(x) + 1, 0.5))
    ['add', 'sin']
    """
    return {equation.primitive.name for equation in operations(function, *arguments)}


def without_gradient(function: Callable, arrays: list[Any], d_y: list[Any]) -> list[bool]:
    """For each result of a pull-back, whether it is zero by the program's structure: no cotangent reaches it."""
    program = jax.make_jaxpr(function)(arrays, d_y).jaxpr
    return [not flag for flag in _depends(program, [False] * (len(program.invars) - len(d_y)) + [True] * len(d_y))]


def _depends(jaxpr: Jaxpr, active: list[bool]) -> list[bool]:
    known = dict(zip(jaxpr.invars, active))
    depends = lambda v: not isinstance(v, Literal) and known.get(v, False)  # noqa: E731
    for equation in jaxpr.eqns:
        inner = inner_program(equation)
        flags = [depends(variable) for variable in equation.invars]
        results = _depends(inner.jaxpr, flags) if inner is not None else [any(flags)] * len(equation.outvars)
        known.update(zip(equation.outvars, results))
    return [depends(variable) for variable in jaxpr.outvars]
