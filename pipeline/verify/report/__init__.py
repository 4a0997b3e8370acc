"""What was found out about a rule, as data (``results``), as text and JSON (``report``) and as a page (``page``)."""

from .report import Report
from .results import Diagnosis, Place, Results, Row, Verdict, VerificationError

__all__ = ["Diagnosis", "Place", "Report", "Results", "Row", "Verdict", "VerificationError"]
