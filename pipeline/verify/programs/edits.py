"""A function whose decisions can be changed: a mask ignored, < for <=, an integer one larger."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from ...layers.base import PyTree
from .jaxprs import Traced, has_gradient, inner_program, source_of

_OTHER_COMPARISONS: dict[str, tuple[Callable, str, str]] = {
    "lt": (jnp.less_equal, "<", "<="),
    "le": (jnp.less, "<=", "<"),
    "gt": (jnp.greater_equal, ">", ">="),
    "ge": (jnp.greater, ">=", ">"),
}
_COUNTED = ("add", "sub", "lt", "le", "gt", "ge", "eq", "ne", "rem")


@dataclass(frozen=True)
class Edit:
    """One operation changed: ``what`` is the case that a select always takes, "compared", or (operand, by).

    For a mask that is a constant of the program, ``what`` is the other mask, and ``key`` the constant's number.
    """

    key: tuple[Any, ...]
    what: Any
    kind: str
    text: str


class Edited(Traced):
    """A function of a list of arrays with decisions that can be changed.

    edits: all that are possible.
    """

    def __init__(self, function: Callable[[list[Any]], PyTree], arrays: list[Any], most: int = 80) -> None:
        super().__init__(function, arrays)
        self.edits: list[Edit] = []
        self._find(self.program.jaxpr, (), "")
        self.edits = self.edits[:most]
        for number, mask in enumerate(self.program.consts):
            if jnp.result_type(mask).kind == "b" and np.ndim(mask):
                others = _masks(np.asarray(mask))
                self.edits += [Edit((number,), other, "other function", text) for text, other in others]

    def embedded(self) -> Sequence[Any]:
        constants = list(self.program.consts)
        for chosen, edit in zip(self._chosen, self.edits):
            if isinstance(edit.what, np.ndarray):
                constants[edit.key[0]] = jnp.where(chosen > 0, edit.what, constants[edit.key[0]])
        return constants

    def _find(self, jaxpr: Jaxpr, path: tuple, outer: str) -> None:
        for i, equation in enumerate(jaxpr.eqns):
            name, key, source = equation.primitive.name, (*path, i), source_of(equation) or outer
            inner = inner_program(equation, self.through_custom_rules)
            if inner is not None:
                self._find(inner.jaxpr, key, source)
            elif name == "scan":
                self._find(equation.params["jaxpr"].jaxpr, key, source)
            elif name == "select_n" and len(equation.invars) == 3 and has_gradient(equation.outvars[0].aval):
                for case in (1, 0):
                    text = f"as if the condition in {source} were {bool(case)} everywhere"
                    self.edits.append(Edit(key, case, "padding", f"{text}: a mask is ignored"))
            if name in _OTHER_COMPARISONS:
                _, now, other = _OTHER_COMPARISONS[name]
                text = f"as if `{now}` in {source} were `{other}`"
                self.edits.append(Edit(key, "compared", "other function", text))
            if name in _COUNTED:
                self._find_numbers(equation, key, source)

    def _find_numbers(self, equation: Any, key: tuple, source: str) -> None:
        for operand, variable in enumerate(equation.invars):
            if (
                isinstance(variable, Literal)
                and np.ndim(variable.val) == 0
                and jnp.result_type(variable.val).kind == "i"
            ):
                for by in (1, -1):
                    text = f"as if the number {int(variable.val)} in {source} were {int(variable.val) + by}"
                    self.edits.append(Edit(key, (operand, by), "other function", text))

    def _operation(self, equation: Any, operands: list[Any], path: tuple) -> Sequence[Any]:
        results = super()._operation(equation, operands, path)
        for number, edit in enumerate(self.edits):
            if edit.key == path and not isinstance(edit.what, np.ndarray):
                other = self._changed(edit, equation, operands)
                results = [jnp.where(self._chosen[number] > 0, other, results[0])]
        return results

    def _changed(self, edit: Edit, equation: Any, operands: list[Any]) -> Any:
        if edit.what == "compared":
            return _OTHER_COMPARISONS[equation.primitive.name][0](*operands)
        if isinstance(edit.what, int):
            return operands[1 + edit.what]
        operand, by = edit.what
        changed = list(operands)
        changed[operand] = changed[operand] + np.asarray(by, jnp.result_type(changed[operand]))
        return super()._operation(equation, changed, ())[0]

    def run_with(self, chosen: Any, arrays: list[Any]) -> PyTree:
        """The function with a number for each edit: 1 where it is made, 0 elsewhere."""
        self._chosen = chosen
        return self.evaluate(arrays)


def _masks(mask: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """A mask moved by one position along an axis, and narrower or wider by one at every side, with words."""
    words, narrower, wider = f"as if the mask of shape {list(mask.shape)} in the function were", mask, mask
    for axis in range(mask.ndim):
        further, back = (_moved(mask, axis, by) for by in (1, -1))
        yield f"{words} one position further along axis {axis}", further
        yield f"{words} one position back along axis {axis}", back
        narrower, wider = narrower & further & back, wider | further | back
    yield f"{words} one position narrower at each side", narrower
    yield f"{words} one position wider at each side", wider


def _moved(mask: np.ndarray, axis: int, by: int) -> np.ndarray:
    """The mask moved by one position; its border is repeated."""
    moved, border = np.roll(mask, by, axis), [slice(None)] * mask.ndim
    border[axis] = slice(0, 1) if by > 0 else slice(-1, None)
    moved[tuple(border)] = mask[tuple(border)]
    return moved
