"""Manual against autodiff: is a hand-written backward pass right, leaf by leaf, and if not, what is wrong with it?

report = check_vjp(function, forward, backward, arguments)
print(report)
report.raise_if_failed()
"""

from pipeline.verify.assertion import assert_gradients_agree
from pipeline.verify.check import check_custom_vjp, check_gradient, check_vjp, verify
from pipeline.verify.measure import relative_errors
from pipeline.verify.report import Diagnosis, Place, Report, Row, VerificationError
from pipeline.verify.trial import CHECKS, LIMIT

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
    "relative_errors",
    "verify",
]
