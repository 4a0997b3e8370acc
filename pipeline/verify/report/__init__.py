"""What was found out about a rule, as data (``results``), as text and JSON (``report``) and as a page (``page``)."""

from pipeline.verify.report.report import Report
from pipeline.verify.report.results import Diagnosis, Place, Results, Row, Verdict, VerificationError

__all__ = ["Diagnosis", "Place", "Report", "Results", "Row", "Verdict", "VerificationError"]
