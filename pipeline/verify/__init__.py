"""Checks manual gradients against autodiff: is a backward pass right in every leaf, and if not, what is wrong with it?

    >>> import numpy as np
    >>> def square(x):
    ...     return x**2
    >>> def forward(x):
    ...     return x**2, x
    >>> def backward(x, d_y):
    ...     return (3 * x * d_y,)
    >>> report = check_vjp(square, forward, backward, (np.array([0.5, -1.5, 2.0]),))
    >>> report.verdict
    'fail'
    >>> print(report.explanation())  # doctest: +ELLIPSIS
    square: fail
    x: off by the constant 1.5...

``print(report)`` shows every check, ``report.raise_if_failed()`` raises in a test, and ``report.to_html(file)`` writes
a page with pictures of the error. ``python -m pipeline.verify --help`` explains the same on the command line.

Where to read on: ``check`` has the entry points, ``rule`` the one form that every rule is brought into, ``judge`` the
order of the checks, and ``measure`` the relative error. ``checks/`` has one file for each kind of check, ``programs/``
inspects and changes a function's program, ``diagnose/`` explains what is wrong, and ``report/`` presents it.
"""

from .assertion import assert_gradients_agree
from .check import check_custom_vjp, check_gradient, check_vjp, verify
from .domain import multiples_of
from .measure import relative_errors
from .report import Diagnosis, Place, Report, Row, VerificationError
from .trial import CHECKS, LIMIT

__all__ = [
    "CHECKS",
    "LIMIT",
    "Diagnosis",
    "Place",
    "Report",
    "Row",
    "VerificationError",
    "assert_gradients_agree",
    "check_custom_vjp",
    "check_gradient",
    "check_vjp",
    "multiples_of",
    "relative_errors",
    "verify",
]
