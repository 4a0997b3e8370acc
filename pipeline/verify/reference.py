"""How a definition is differentiated: by reverse mode, else by forward mode, else by finite differences.

A rule is not blamed for a definition that ``jax.vjp`` cannot differentiate: a ``while_loop``, a kernel of Pallas, a
callback, or code in NumPy.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from .faults import UNTRACEABLE, describe_error, run
from .foreign import by_callback
from .programs.derivatives import by_differences, by_forward_mode
from .rule import Rule, autodiff, is_float, outputs

GIVE_REFERENCE = "reference= names the same function in plain JAX, for autodiff to differentiate"

MOST_ELEMENTS = {by_forward_mode: 8192, by_differences: 2048}
"""For so many elements the derivative of each is computed by itself."""


def differentiable(rule: Rule, arrays: list[Any]) -> tuple[Rule, str]:
    """The rule with a derivative that its definition has, and a note on it: "" for reverse mode.

    Where the definition does not run at all, the rule stays as it is.
    """
    rule = _traceable(rule, arrays)
    if rule.derivative is not autodiff:  # that of another library
        return rule, ""
    try:
        y = outputs(run(jax.eval_shape, rule.define, arrays)).values()
    except Exception:
        return rule, ""
    d_y = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in y]
    reason = _fault(rule, arrays, d_y)
    if not reason:
        return rule, ""
    for derivative, words in ((by_forward_mode, "forward mode"), (by_differences, "finite differences")):
        other = dataclasses.replace(rule, derivative=derivative)
        if not _fault(other, arrays, d_y):
            return other, f"the function has no reverse mode (it {reason}): judged by its {words}; {GIVE_REFERENCE}"
    return rule, ""


def is_too_large(rule: Rule) -> bool:
    """Whether its derivative takes a run of the definition for each element, of which there are too many."""
    count = sum(np.size(array) for array in rule.arrays if is_float(array))
    return count > MOST_ELEMENTS.get(rule.derivative, count)


def _fault(rule: Rule, arrays: list[Any], d_y: list[Any]) -> str:
    """What tracing the derivative raises; "" where it raises nothing."""
    try:
        run(jax.eval_shape, rule.autodiff, arrays, d_y)
    except Exception as error:
        return describe_error(error)
    return ""


def _traceable(rule: Rule, arrays: list[Any]) -> Rule:
    """The rule, with a definition that can be traced where its own is written in NumPy; so may its two passes be."""
    try:
        run(jax.eval_shape, rule.define, arrays)
    except UNTRACEABLE:
        return dataclasses.replace(rule, reference=by_callback(rule.reference), must_jit=False)
    except Exception:  # the contract will say so
        return rule
    return rule
