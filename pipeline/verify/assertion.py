"""One call for every kind of rule: its arguments, one of ``FORMS``, decide how it is checked."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..errors import UserError
from ..layers.base import Layer, PyTree
from .check import check_custom_vjp, check_gradient, check_vjp, verify
from .make_rule import name_of, with_defaults
from .report.report import Report
from .report.results import VerificationError

FORMS = """\
    (function, forward, backward, arguments)  a pair written for jax.custom_vjp
    (function, reference, arguments)          a function with a rule inside, and the same in plain JAX
    (function, arguments)                     a jax.custom_vjp, against its own primal function
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
            case [reference] if not isinstance(subject, jax.custom_vjp):
                return check_custom_vjp(subject, reference, arguments, **options)
            case [] | [_] if isinstance(subject, jax.custom_vjp):
                return check_own_rule(subject, arguments, *functions, **options)
    types = ", ".join(type(part).__name__ for part in (subject, *others))
    raise TypeError(f"gradients of ({types}) cannot be checked; the arguments must be one of\n{FORMS}")


def check_own_rule(
    function: jax.custom_vjp, arguments: Sequence[PyTree], reference: Callable | None = None, **options: Any
) -> Report:
    """Checks the rule that ``defvjp`` attached to a ``jax.custom_vjp`` against the function's own primal.

    reference: another definition, in place of the primal function. All else as in ``check_vjp``.

    Raises UserError where ``defvjp`` was not called.
    """
    name = name_of(function)
    if function.fwd is None or function.bwd is None:
        raise UserError(f"{name} is a jax.custom_vjp without a rule: call {name}.defvjp(forward, backward) first")
    definition = reference or function.fun
    if function.symbolic_zeros:  # its forward pass takes more than arrays; only JAX knows how to call it
        return check_custom_vjp(function, definition, arguments, **options)
    options = {"nondiff_argnums": function.nondiff_argnums} | options
    primal = function.fun if reference is not None else None
    complete = with_defaults(function.fun, arguments)
    nondiff = (*options.pop("nondiff", ()), *range(len(arguments), len(complete)))
    report = check_vjp(definition, function.fwd, function.bwd, complete, primal=primal, nondiff=nondiff, **options)
    return dataclasses.replace(report, subject=name)
