"""Operations with a wrong value in their derivative: an operand transposed, h_t for h_(t-1), no slope at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal

from ...layers.base import PyTree
from .jaxprs import Interpreter, Traced, has_gradient, inner_program, scan_counts, source_of

_SLOPES_OF_OUTPUTS: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda y: 1 - y * y,
    "logistic": lambda y: y * (1 - y),
    "exp": lambda y: y,
}
"""Functions whose slope is a formula of their value y."""

_WRONG_SLOPES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "tanh": {"1 - y, not squared,": lambda y: 1 - y, "y squared": lambda y: y * y},
    "logistic": {"y": lambda y: y, "1 - y": lambda y: 1 - y, "1 - y squared, as tanh's,": lambda y: 1 - y * y},
    "sqrt": {"1/y": lambda y: 1 / y},
}
"""Slopes that are confused with the right ones, as formulas of the value y."""

_SLOPED = {
    "tanh", "logistic", "exp", "exp2", "log", "log1p", "expm1", "sqrt", "rsqrt", "sin", "cos", "erf", "square",
    "integer_pow", "abs", "custom_jvp_call",
}  # fmt: skip

_PARTNERS = ("transposed", "ones", "new state", "other")
"""The kinds of mixup in which a product's other operand is wrong."""


@dataclass(frozen=True)
class Mixup:
    """An operation, mostly a product, whose derivative by ``operand`` uses a wrong value for the other operand.

    kind: of a product, "transposed" (the other operand, transposed), "cotangent transposed", "ones", "new state" (a
        scan's h_t for h_(t-1)) or "other"; of a function of one operand, "identity" (no slope), "slope from input"
        (where it is a formula of the output) or "another slope"; of a sum, "own element" (the diagonal alone).
    """

    key: tuple[Any, ...]
    operand: int
    kind: str
    other: Any
    source: str
    other_source: str


class Mixed(Traced):
    """A function of a list of arrays whose operations can have mixups in their derivatives; their values stay right.

    mixups: all that are possible.
    """

    def __init__(self, function: Callable[[list[Any]], PyTree], arrays: list[Any], most: int = 240) -> None:
        super().__init__(function, arrays)
        self.mixups: list[Mixup] = []
        self._find(self.program.jaxpr, (), "", 0)
        self.mixups = self.mixups[:most]
        self._at: dict[tuple, list[tuple[int, Mixup]]] = {}
        for number, mixup in enumerate(self.mixups):
            self._at.setdefault(mixup.key, []).append((number, mixup))
        self._scopes = {mixup.key[:-1] for mixup in self.mixups}
        self._constant_values: dict[tuple, dict[Any, Any]] = {}
        self._values: dict[tuple, dict[Any, Any]] = {}

    def _find(self, jaxpr: Jaxpr, path: tuple, outer: str, carried: int, fixed: int = 0) -> None:
        sources: dict[Any, str] = {}
        for equation in jaxpr.eqns:
            sources |= {v: f"`{equation.primitive.name}` in {source_of(equation) or outer}" for v in equation.outvars}
        sources |= dict.fromkeys(jaxpr.invars[fixed : fixed + carried], "the previous state, h_(t-1),")
        state = dict(zip(jaxpr.invars[fixed : fixed + carried], jaxpr.outvars[:carried]))
        for i, equation in enumerate(jaxpr.eqns):
            source = source_of(equation) or outer
            inner = inner_program(equation, self.through_custom_rules)
            if inner is not None:
                self._find(inner.jaxpr, (*path, i), source, 0)
            elif equation.primitive.name == "scan":
                fixed, carried = scan_counts(equation.params)
                self._find(equation.params["jaxpr"].jaxpr, (*path, i), source, carried, fixed)
            elif equation.primitive.name in ("mul", "dot_general"):
                for operand in (0, 1):
                    self._find_product(jaxpr, equation, operand, (*path, i), source, sources, state)
            elif equation.primitive.name in _SLOPED and _of_each_element(equation):
                self.mixups.append(Mixup((*path, i), 0, "identity", None, source, ""))
                if equation.primitive.name in _SLOPES_OF_OUTPUTS:
                    self.mixups.append(Mixup((*path, i), 0, "slope from input", None, source, ""))
                for words in _WRONG_SLOPES.get(equation.primitive.name, ()):
                    self.mixups.append(Mixup((*path, i), 0, "another slope", words, source, ""))
            if equation.primitive.name in ("div", "sub", "mul"):
                self._find_sums(jaxpr, equation, (*path, i), source)

    def _find_sums(self, jaxpr: Any, equation: Any, key: tuple, source: str) -> None:
        """Operands that are a sum of something of the result's own shape: softmax's denominator, a mean."""
        made = {variable: e for e in jaxpr.eqns for variable in e.outvars}
        for operand, variable in enumerate(equation.invars):
            maker = None if isinstance(variable, Literal) else made.get(variable)
            while maker is not None and maker.primitive.name in ("broadcast_in_dim", "reshape", "copy"):
                maker = None if isinstance(maker.invars[0], Literal) else made.get(maker.invars[0])
            if maker is not None and maker.primitive.name == "reduce_sum":
                (summed,) = maker.invars
                if summed.aval.shape == equation.outvars[0].aval.shape:
                    self.mixups.append(Mixup(key, operand, "own element", summed, source, ""))

    def _find_product(
        self, jaxpr: Any, equation: Any, operand: int, key: tuple, source: str, sources: dict, state: dict
    ) -> None:
        partner = equation.invars[1 - operand]
        if isinstance(partner, Literal) or not has_gradient(equation.invars[operand].aval) or not partner.aval.shape:
            return
        shape = partner.aval.shape
        if len(shape) > 1 and shape[-1] == shape[-2] > 1:
            self.mixups.append(Mixup(key, operand, "transposed", partner, source, ""))
        self.mixups.append(Mixup(key, operand, "ones", partner, source, ""))
        result = equation.outvars[0].aval.shape
        if len(result) > 1 and result[-1] == result[-2] > 1:
            self.mixups.append(Mixup(key, operand, "cotangent transposed", partner, source, ""))
        if partner in state:
            self.mixups.append(Mixup(key, operand, "new state", state[partner], source, ""))
        variables = [*jaxpr.invars, *(v for e in jaxpr.eqns for v in e.outvars)]
        for variable in variables[:48]:
            alike = getattr(variable.aval, "shape", None) == shape and variable.aval.dtype == partner.aval.dtype
            if alike and variable is not partner and variable is not state.get(partner):
                self.mixups.append(Mixup(key, operand, "other", variable, source, sources.get(variable, "an input")))

    def values(
        self, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], path: tuple = ()
    ) -> dict[Any, Any]:
        if path in self._scopes:  # values that come later in the program may be mixed up, too
            values = Interpreter().values(jaxpr, constants, arguments)
            self._constant_values[path] = {variable: jax.lax.stop_gradient(value) for variable, value in values.items()}
        return super().values(jaxpr, constants, arguments, path)

    def entered(self, path: tuple, values: dict[Any, Any]) -> None:
        self._values[path] = values

    def _operation(self, equation: Any, operands: list[Any], path: tuple) -> Sequence[Any]:
        results = super()._operation(equation, operands, path)
        here = self._at.get(path, [])
        changes = [
            self._chosen[number] * self._change(mixup, equation, operands, results[0], path)
            for number, mixup in here
            if mixup.kind not in _PARTNERS
        ]
        for operand in (0, 1):  # a product is linear in its other operand, so one more product covers all mixups of it
            partners = [(n, mixup) for n, mixup in here if mixup.kind in _PARTNERS and mixup.operand == operand]
            if partners:
                right = jax.lax.stop_gradient(operands[1 - operand])
                wrong = [(self._chosen[number], self._partner(mixup, right, path)) for number, mixup in partners]
                apart = sum(jnp.where(chosen != 0, chosen * (other - right), 0) for chosen, other in wrong)
                changes.append(self._product(equation, operands, operand, apart))
        for change in changes:
            results = [results[0] + change - jax.lax.stop_gradient(change)]
        return results

    def _partner(self, mixup: Mixup, right: Any, path: tuple) -> Any:
        """The value in the derivative in place of the product's other operand."""
        if mixup.kind == "transposed":
            return jnp.swapaxes(right, -1, -2)
        return jnp.ones_like(right) if mixup.kind == "ones" else self._constant_values[path[:-1]][mixup.other]

    def _change(self, mixup: Mixup, equation: Any, operands: list[Any], result: Any, path: tuple) -> Any:
        """The change to the result, of which only the gradient counts."""
        stop_gradient = jax.lax.stop_gradient
        own = operands[mixup.operand]
        if mixup.kind == "identity":
            return own - result
        if mixup.kind == "slope from input":
            return _SLOPES_OF_OUTPUTS[equation.primitive.name](stop_gradient(own)) * own - result
        if mixup.kind == "another slope":
            return _WRONG_SLOPES[equation.primitive.name][mixup.other](stop_gradient(result)) * own - result
        if mixup.kind == "own element":
            summed, others = self._values[path[:-1]][mixup.other], [stop_gradient(operand) for operand in operands]
            alone = list(others)
            alone[mixup.operand] = stop_gradient(own) + (summed - stop_gradient(summed))
            through = list(others)
            through[mixup.operand] = own
            apply = lambda operands: super(Mixed, self)._operation(equation, operands, ())[0]  # noqa: E731
            return apply(alone) - apply(through)
        right_way = self._product(equation, operands, mixup.operand, stop_gradient(operands[1 - mixup.operand]))
        return jnp.swapaxes(right_way, -1, -2) - right_way  # the cotangent transposed

    def _product(self, equation: Any, operands: list[Any], operand: int, partner: Any) -> Any:
        factors = list(operands)
        factors[1 - operand] = partner
        return super()._operation(equation, factors, ())[0]

    def run_with(self, chosen: Any, arrays: list[Any]) -> PyTree:
        """The function with a number for each mixup: 1 where it happens, 0 elsewhere."""
        self._chosen = chosen
        return self.evaluate(arrays)


def _of_each_element(equation: Any) -> bool:
    """Whether it is a function of one operand, element by element."""
    own, value = equation.invars[0].aval, equation.outvars[0].aval
    return len(equation.invars) == 1 and has_gradient(own) and own.shape == value.shape and own.dtype == value.dtype
