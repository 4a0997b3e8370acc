"""Manual against autodiff: is a hand-written backward pass right, leaf by leaf, and where is it not?

report = verify(layer, params, x, context)
print(report)
report.raise_if_failed()
"""

from pipeline.verify.check import LIMIT, verify
from pipeline.verify.measure import relative_errors
from pipeline.verify.report import Report, Row, VerificationError

__all__ = ["LIMIT", "Report", "Row", "VerificationError", "relative_errors", "verify"]
