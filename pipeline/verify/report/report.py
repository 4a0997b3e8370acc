"""A verification's results presented: a text for people, plain data for programs, a page for both."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .results import Diagnosis, Results, VerificationError


@dataclass(frozen=True)
class Report(Results):
    """The report on one rule. ``print(report)`` shows it; ``rich.print`` shows it in colour."""

    def table(self) -> Table:
        """A line for every check and precision: the number of leaves it was made of, and the worst of them."""
        table = Table(caption=self.summary(), caption_justify="left")
        for column in ("check", "precision", "leaves", "worst leaf", "relative error", "limit", ""):
            table.add_column(column, justify="right" if column in ("leaves", "relative error", "limit") else "left")
        for check, dtype in dict.fromkeys((row.check, row.dtype) for row in self.rows):
            rows = [row for row in self.rows if (row.check, row.dtype) == (check, dtype)]
            worst = max(rows, key=lambda row: (not row.ok, row.relative_error))
            failed = [row for row in rows if not row.ok]
            outcome = Text(f"{len(failed)} {_WORDS[worst.verdict]}", "bold red") if failed else Text("ok", "green")
            leaves = str(len({row.leaf for row in rows})) if any(row.leaf for row in rows) else ""
            table.add_row(check, dtype, leaves, worst.leaf, _error(worst.relative_error), f"{worst.limit:.0e}", outcome)
        return table

    def leaf_table(self) -> Table:
        """A line for every leaf's gradient in float64."""
        table = Table()
        for column in ("leaf", "relative error", "limit", ""):
            table.add_column(column, justify="right" if column in ("relative error", "limit") else "left")
        for row in self.rows:
            if (row.check, row.dtype) == ("gradient", "float64"):
                outcome = "ok" if row.ok else Text("FAILED", "bold red")
                table.add_row(row.leaf, _error(row.relative_error), f"{row.limit:.0e}", outcome)
        return table

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dump``; numbers that are not finite are None, as JSON has no infinity."""
        rows = [
            {
                "leaf": row.leaf, "check": row.check, "dtype": row.dtype, "probe": row.probe,
                "relative_error": _finite(row.relative_error), "limit": _finite(row.limit),
                "verdict": row.verdict, "ok": row.ok, "message": row.message,
            }
            for row in self.rows
        ]  # fmt: skip
        return {
            "subject": self.subject,
            "verdict": self.verdict,
            "ok": self.ok,
            "seconds": self.seconds,
            "diagnoses": [_diagnosis_to_json(diagnosis) for diagnosis in self.diagnoses],
            "places": [{"path": place.path, "layer": place.layer, "text": place.text} for place in self.places],
            "notes": list(self.notes),
            "not_looked_at": list(self.not_looked_at),
            "rows": rows,
        }

    def to_html(self, file: Path | str | None = None) -> str:
        """One page that needs no network, with pictures of where each error is; also written to ``file``."""
        from .page import page  # drawing needs matplotlib: imported when it is asked for

        html = page(self)
        if file is not None:
            Path(file).write_text(html, encoding="utf-8")
        return html

    def raise_if_failed(self) -> None:
        """Raises VerificationError, whose message is the whole diagnosis, unless the verdict is "pass"."""
        if not self.ok:
            raise VerificationError(self.explanation())

    def explanation(self) -> str:
        """Verdict, places, diagnoses, notes, and the failed checks of leaves without a diagnosis."""
        return "\n".join([f"{self.subject}: {self.verdict}", *self._body()])

    def _body(self) -> list[str]:
        lines = [f"wrong rule: {place}" for place in self.places]
        for diagnosis in self.diagnoses:
            first, *others = diagnosis.lines()
            lines += [f"{diagnosis.leaf or 'the rule'}: {first}", *(f"    {line}" for line in others)]
        return [*lines, *map(str, self.unexplained), *(f"note: {note}" for note in self.notes)]

    def __rich__(self) -> RenderableType:
        style = {"pass": "bold green", "fail": "bold red"}.get(self.verdict, "bold yellow")
        head = Text.assemble((self.verdict.upper(), style), "  ", (self.subject, "bold"))
        body = (Padding(Text(line), (0, 0, 0, 2)) for line in self._body())
        return Group(head, *body, self.table(), *([Text(self.closing())] if self.closing() else []))

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=160).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


_WORDS = {"fail": "FAILED", "inconclusive": "inconclusive", "oracles disagree": "ORACLES DISAGREE"}


def _error(relative_error: float) -> str:
    return f"{relative_error:.1e}" if math.isfinite(relative_error) else "-"


def _diagnosis_to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    worst = diagnosis.worst
    return {
        "leaf": diagnosis.leaf,
        "kind": diagnosis.kind,
        "text": diagnosis.text,
        "exact": diagnosis.exact,
        "confidence": diagnosis.confidence,
        "probe": diagnosis.probe,
        "worst": worst
        and {
            "index": list(worst.index),
            "manual": _finite(worst.value),
            "autodiff": _finite(worst.reference),
            "relative_error": _finite(worst.relative_error),
        },
        "profile": [shares.tolist() for shares in diagnosis.profile],
    }


def _finite(number: Any) -> Any:
    """The number; a pair where it is complex, None where it is not finite."""
    if isinstance(number, complex):
        return [_finite(number.real), _finite(number.imag)]
    return float(number) if math.isfinite(number) else None
