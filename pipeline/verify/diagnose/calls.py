"""Which of the custom rules that a function calls is wrong; what comes before them only inherits their errors.

Every call of a ``jax.custom_vjp`` or ``jax.custom_jvp`` in the function's program is judged alone, at the numbers that
it gets there, against autodiff of its own primal function.
"""

import ast
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from ..judge import judge
from ..make_rule import of_custom_vjp
from ..programs.jaxprs import CUSTOM_RULES, Traced, equations, inner_program, plain, scan_counts, source_of
from ..report import Diagnosis
from ..report.results import Place
from ..rule import Rule, is_float
from . import diagnose

_MOST_CALLS = 24
"""The most calls that are judged."""


def has_calls(rule: Rule) -> bool:
    """Whether the rule is a function that does more than call one custom rule."""
    if rule.primal is None:
        return False
    with jax.enable_x64(True):
        arrays = [jnp.asarray(a, jnp.float64) if is_float(a) else a for a in rule.arrays]
        program = jax.make_jaxpr(lambda arrays: rule.primal(*rule.pack(arrays)))(arrays)  # pyright: ignore[reportOptionalCall]
    calls = any(_is_own(equation) for equation in equations(program.jaxpr))
    alone = len(program.jaxpr.eqns) == 1 and _is_own(program.jaxpr.eqns[0])
    return calls and not alone


def locate_calls(rule: Rule) -> tuple[tuple[Place, ...], tuple[Diagnosis, ...]]:
    """The custom rules that are wrong, and their diagnoses, with the rule's name before the leaf's."""
    function = rule.primal
    assert function is not None
    places: list[Place] = []
    diagnoses: list[Diagnosis] = []
    with jax.enable_x64(True):
        arrays = [jnp.asarray(a, jnp.float64) if is_float(a) else a for a in rule.arrays]
        calls = _Calls(lambda arrays: function(*rule.pack(arrays)), arrays)
        calls.evaluate(arrays)
        for call in calls.found[:_MOST_CALLS]:
            judgement = judge(call.rule, checks=("values", "edges"), precisions=())
            if judgement.ok or not judgement.wrong_leaves:
                continue
            own = diagnose(judgement)
            where = f"`{call.name}` ({call.place})"
            if not any(place.path == where for place in places):
                places.append(Place(where, f"called in {call.source}", own[0].text if own else ""))
                diagnoses += [dataclasses.replace(d, leaf=f"{call.name}/{d.leaf}") for d in own]
    return tuple(places), tuple(diagnoses)


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of a custom rule. name, place: of the function that carries it. source: the line that calls it."""

    name: str
    place: str
    source: str
    rule: Rule


class _Calls(Traced):
    """A function's program, run operation by operation: the calls of custom rules, with the numbers that they get."""

    def __init__(self, function: Callable[[list[Any]], Any], arrays: list[Any]) -> None:
        super().__init__(function, arrays)
        self.found: list[_Call] = []

    def _operation(self, equation: Any, operands: list[Any], path: tuple) -> Sequence[Any]:
        if _is_own(equation):
            self._record(equation, operands)
            inner = inner_program(equation)
            assert inner is not None
            return self.run(inner.jaxpr, inner.consts, operands, path)  # rules inside it, too
        return super()._operation(equation, operands, path)

    def _scan(self, parameters: dict[str, Any], operands: list[Any], path: tuple) -> Sequence[Any]:
        """The scan as a loop, so that every call has numbers."""
        body, (fixed, carried), length = parameters["jaxpr"], scan_counts(parameters), parameters["length"]
        carry, stacked = operands[fixed : fixed + carried], []
        steps = range(length - 1, -1, -1) if parameters["reverse"] else range(length)
        for step in steps:
            xs = [operand[step] for operand in operands[fixed + carried :]]
            results = self.run(body.jaxpr, body.consts, [*operands[:fixed], *carry, *xs], path)
            carry = results[:carried]
            stacked.append(results[carried:])
        stacked = stacked[::-1] if parameters["reverse"] else stacked
        return [*carry, *(jnp.stack(column) for column in zip(*stacked))]

    def _record(self, equation: Any, operands: list[Any]) -> None:
        name, place = _definition(equation)
        shapes = [np.shape(operand) for operand in operands]
        same = [call for call in self.found if (call.name, call.place) == (name, place)]
        if any([np.shape(a) for a in call.rule.arrays] == shapes for call in same):
            return  # the same rule at the same sizes

        def function(*arguments: Any) -> list[Any]:
            parameters = equation.primitive.get_bind_params(equation.params)
            return list(equation.primitive.bind(*arguments, **parameters))

        arguments = tuple(operand if is_float(operand) else np.asarray(operand) for operand in operands)
        inner = inner_program(equation)
        assert inner is not None
        nested = any(_is_own(each) for each in equations(inner.jaxpr))
        reference = plain(function) if nested else jax.extend.core.jaxpr_as_fun(inner)  # which keeps the lines of code
        names = _argument_names(equation, len(arguments))
        rule = of_custom_vjp(function, reference, arguments, names, ())
        self.found.append(
            _Call(name, place, source_of(equation) or "the function", dataclasses.replace(rule, subject=name))
        )


def _is_own(equation: Any) -> bool:
    """Whether the operation calls a custom rule that is not JAX's own."""
    if equation.primitive.name not in CUSTOM_RULES or inner_program(equation) is None:
        return False
    rules = (equation.params.get(name) for name in ("bwd", "jvp_jaxpr_fun"))
    sources = [
        _information(equation),
        *(str(getattr(getattr(r, "debug_info", None), "func_src_info", "")) for r in rules),
    ]
    return any(source and "/jax/_src/" not in source for source in sources)


def _information(equation: Any) -> str:
    """ "name at path/to/file.py:line" of the function that carries the rule."""
    inner = inner_program(equation)
    information = getattr(inner.jaxpr if inner else None, "debug_info", None)
    return str(getattr(information, "func_src_info", "") or "")


def _argument_names(equation: Any, count: int) -> list[str]:
    """The names of the parameters of the function that carries the rule, where its arguments are that many arrays."""
    name, _, where = _information(equation).partition(" at ")
    file, _, line = where.rpartition(":")
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == name and node.lineno <= int(line) + 2:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
                if first <= int(line) <= node.lineno and len(names) == count:
                    return names
    return [f"argument{i}" for i in range(count)]


def _definition(equation: Any) -> tuple[str, str]:
    """The name of the function that carries the rule, and its file and line."""
    name, _, where = _information(equation).partition(" at ")
    file, _, line = where.rpartition(":")
    return name or "a custom rule", f"{file.rpartition('/')[2]}, line {line}" if file else "of an unknown file"
