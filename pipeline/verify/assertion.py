"""One call for every kind of rule: its arguments, one of ``FORMS``, decide how it is checked."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..errors import UserError
from ..layers.base import Layer, PyTree
from .check import check_custom_vjp, check_gradient, check_vjp, verify
from .make_rule import name_of, with_defaults
from .programs import jaxprs
from .report.report import Report
from .report.results import VerificationError

FORMS = """\
    (function, forward, backward, arguments)  a pair written for jax.custom_vjp
    (function, reference, arguments)          a function with a rule inside, and the same in plain JAX
    (function, arguments)                     a jax.custom_vjp or jax.custom_jvp, against its own primal function;
                                              any function with such a rule inside, against its operations alone
    (gradient, params, *data, loss=loss)      a whole gradient, and the scalar that it is the gradient of
    (layer, params, x, context)               a layer of this package, against its own apply"""
"""The arguments that can be checked."""


def assert_gradients_agree(subject: Any, *others: Any, loss: Callable | None = None, **options: Any) -> Report:
    """Raises VerificationError, an AssertionError whose message is the diagnosis, unless every check holds.

    subject, others, loss: one of ``FORMS``.
    options: those of ``check_vjp``, ``check_custom_vjp``, ``check_gradient`` and ``verify``: ``edges``, ``limit``, ...

    Raises TypeError where the arguments have none of the forms.

    >>> import numpy as np
    >>> square = lambda x: x * x
    >>> forward = lambda x: (x * x, x)
    >>> backward = lambda x, d_y: (2 * x * d_y,)
    >>> assert_gradients_agree(square, forward, backward, (np.array([1.0, -2.0]),), checks=()).verdict
    'pass'
    """
    __tracebackhide__ = True  # pytest shows the test, not what is below it
    report = report_on(subject, *others, loss=loss, **options)
    if not report.ok:
        raise VerificationError(report.explanation())
    return report


def report_on(subject: Any, *others: Any, loss: Callable | None = None, **options: Any) -> Report:
    """The report on what ``assert_gradients_agree`` takes.

    Raises TypeError where the arguments have none of the ``FORMS``, and UserError for a ``custom_vjp`` without a rule.
    """
    __tracebackhide__ = True
    if loss is not None:
        return check_gradient(subject, loss, *others, **options)
    if isinstance(subject, Layer):
        return verify(subject, *others, **options)
    *functions, arguments = others or (None,)
    if all(map(callable, (subject, *functions))) and isinstance(arguments, tuple | list):
        match functions:
            case [forward, backward]:
                return check_vjp(subject, forward, backward, arguments, **options)
            case [] | [_] if own_rule(subject) is not None:
                return check_own_rule(subject, arguments, *functions, **options)
            case [reference]:
                return check_custom_vjp(subject, reference, arguments, **options)
            case [] if has_rule_inside(subject, arguments):
                return check_custom_vjp(subject, without_rules(subject), arguments, **options)
    types = ", ".join(type(part).__name__ for part in (subject, *others))
    raise TypeError(f"gradients of ({types}) cannot be checked; the arguments must be one of\n{FORMS}")


def own_rule(function: Callable) -> jax.custom_vjp | jax.custom_jvp | None:
    """The function itself, or what ``jax.jit`` compiled, where it carries a rule of its own."""
    while not isinstance(function, jax.custom_vjp | jax.custom_jvp):
        if not hasattr(function, "__wrapped__") or not hasattr(function, "lower"):
            return None
        function = getattr(function, "__wrapped__")  # noqa: B009  (of which type checkers know nothing)
    return function


def has_rule_inside(function: Callable, arguments: Sequence[PyTree]) -> bool:
    """Whether a custom rule is among the function's operations at these arguments."""
    try:
        names = jaxprs.primitives(lambda: function(*arguments))
    except Exception:  # the checks themselves will say so
        return False
    return bool(names & set(jaxprs.CUSTOM_RULES))


def without_rules(function: Callable) -> Callable:
    """The function's operations without their custom rules, under its name and parameters."""
    return functools.wraps(function)(jaxprs.plain(function))


def check_own_rule(
    subject: Callable, arguments: Sequence[PyTree], reference: Callable | None = None, **options: Any
) -> Report:
    """Checks the rule of a ``jax.custom_vjp`` or ``jax.custom_jvp``, compiled or not, against its own primal function.

    reference: another definition, in place of the primal function. All else as in ``check_vjp``.

    Raises UserError where the rule was not attached.
    """
    function = own_rule(subject)
    assert function is not None
    name = name_of(function)
    definition = reference or function.fun
    if isinstance(function, jax.custom_jvp) and function.jvp is None:
        raise UserError(f"{name} is a jax.custom_jvp without a rule: call {name}.defjvp(jvp) first")
    if isinstance(function, jax.custom_vjp) and (function.fwd is None or function.bwd is None):
        raise UserError(f"{name} is a jax.custom_vjp without a rule: call {name}.defvjp(forward, backward) first")
    # Only JAX knows how to call a jvp, a forward pass that takes more than arrays, and what is compiled.
    if isinstance(function, jax.custom_jvp) or function.symbolic_zeros or subject is not function:
        nondiff = (*options.pop("nondiff", ()), *function.nondiff_argnums)
        report = check_custom_vjp(subject, definition, arguments, nondiff=nondiff, **options)
        return dataclasses.replace(report, subject=name)
    assert function.fwd is not None and function.bwd is not None
    options = {"nondiff_argnums": function.nondiff_argnums} | options
    primal = function.fun if reference is not None else None
    complete = with_defaults(function.fun, arguments)
    nondiff = (*options.pop("nondiff", ()), *range(len(arguments), len(complete)))
    report = check_vjp(definition, function.fwd, function.bwd, complete, primal=primal, nondiff=nondiff, **options)
    return dataclasses.replace(report, subject=name)
