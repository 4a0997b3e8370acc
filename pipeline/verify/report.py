"""What a verification found: verdict, rows, diagnoses; a text for people, plain data for programs, a page for both."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.verify.measure import Difference, distances

Verdict = Literal["pass", "fail", "inconclusive", "oracles disagree"]


class VerificationError(AssertionError):
    """A hand-written backward pass that was not found to hold. The message is the diagnosis."""


@dataclass(frozen=True)
class Row:
    """One check of one leaf in one precision, at the probe where it came out worst.

    leaf: the key path of an argument's leaf ("kernel", "params/layers/0/bias"), "y" and what is below it for outputs;
        "" where the whole rule is meant.
    relative_error: infinite where there was nothing to measure: an exception, a wrong structure, NaN.
    probe: which arguments and cotangent: "as given", "large", "one example", "sizes (4, 9), (9, 5)", ...
    message: where it does not pass: the worst element with both values, what was raised, or why nothing can be said.
    """

    leaf: str
    check: str
    dtype: str
    relative_error: float
    limit: float
    verdict: Verdict = "pass"
    message: str = ""
    probe: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict == "pass"

    def __str__(self) -> str:
        text = f"{self.leaf or 'the rule'}: {self.check} in {self.dtype}{', ' * bool(self.probe)}{self.probe} "
        text += {"pass": "ok", "fail": "FAILED"}.get(self.verdict, self.verdict)
        if math.isfinite(self.relative_error):
            text += f", relative error {self.relative_error:.2e}, limit {self.limit:.2e}"
        return f"{text}; {self.message}" if self.message else text


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What is wrong with one leaf, in words.

    kind: of mistake, one of ``pipeline.verify.diagnose.KINDS``.
    text: the hypothesis that explains the leaf, with its numbers.
    exact: whether it explains every element to rounding.
    probe: where the two arrays were taken.
    worst: the element with the largest error; None where there is nothing to compare.
    manual, reference: the leaf's cotangent by hand and by autodiff, in float64.
    """

    leaf: str
    kind: str
    text: str
    exact: bool = False
    probe: str = ""
    worst: Difference | None = None
    manual: np.ndarray | None = None
    reference: np.ndarray | None = None

    @property
    def error(self) -> np.ndarray | None:
        """|manual - reference| of every element; infinite where a number is missing."""
        if self.manual is None or self.reference is None or self.manual.shape != self.reference.shape:
            return None
        return distances(self.manual, self.reference)

    @property
    def profile(self) -> tuple[np.ndarray, ...]:
        """For every axis, the largest error at each of its indices, as a share of the largest of all."""
        error = self.error
        if error is None or not error.size or not error.max():
            return ()
        shares = np.where(np.isinf(error), 1.0, error / max(error[np.isfinite(error)].max(initial=0.0), 1e-300))
        axes = range(error.ndim)
        return tuple(shares.max(tuple(other for other in axes if other != axis)) for axis in axes)

    def picture(self) -> str:
        """Where the error lies: a bar for each index (or block of indices) of every axis."""
        parts = (f"axis {axis} {_bars(shares)}" for axis, shares in enumerate(self.profile) if shares.size > 1)
        return "   ".join(parts)

    def lines(self) -> list[str]:
        """The words, the worst element, the picture."""
        lines = [self.text]
        if self.worst is not None and self.manual is not None:
            error = f"relative error {self.worst.relative_error:.2e}, worst {self.worst}"
            lines.append(f"{error}{f' ({self.probe})' if self.probe else ''}")
        if self.picture():
            lines.append(f"error along {self.picture()}")
        return lines


@dataclass(frozen=True)
class Place:
    """A part of a composed model whose own rule is wrong: its path, the layer as it is written, and in what."""

    path: str
    layer: str
    text: str

    def __str__(self) -> str:
        return f"{self.path or '(the outermost layer)'}: {self.layer}: {self.text}"


@dataclass(frozen=True)
class Report:
    """The verdict on one rule. ``print(report)`` shows it; ``rich.print`` shows it in colour.

    subject: what was verified, as it would be written.
    places: in a composed model, the layers whose own rule is wrong; those that only inherit the error are not named.
    notes: what is not wrong and worth knowing: a convention at a kink, a check that could not be made and why.
    """

    subject: str
    rows: tuple[Row, ...]
    diagnoses: tuple[Diagnosis, ...] = ()
    places: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """ "fail" where a check failed; else "oracles disagree" or "inconclusive" where a row says so; else "pass"."""
        found = {row.verdict for row in self.rows}
        for verdict in ("fail", "oracles disagree", "inconclusive"):
            if verdict in found:
                return verdict
        return "pass"

    @property
    def ok(self) -> bool:
        return self.verdict == "pass"

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that do not pass."""
        return tuple(row for row in self.rows if not row.ok)

    def worst(self, check: str = "gradient", dtype: str = "float64") -> Row | None:
        """The row with the largest relative error among those of a check; None where it was not reached."""
        rows = [row for row in self.rows if (row.check, row.dtype) == (check, dtype)]
        return max(rows, key=lambda row: row.relative_error, default=None)

    def table(self) -> Table:
        """A line for every check and precision: how many leaves it was made of, and the worst of them."""
        table = Table(caption=self.summary(), caption_justify="left")
        for column in ("check", "precision", "leaves", "worst leaf", "relative error", "limit", ""):
            table.add_column(column, justify="right" if column in ("leaves", "relative error", "limit") else "left")
        for check, dtype in dict.fromkeys((row.check, row.dtype) for row in self.rows):
            rows = [row for row in self.rows if (row.check, row.dtype) == (check, dtype)]
            worst = max(rows, key=lambda row: (not row.ok, row.relative_error))
            error = f"{worst.relative_error:.1e}" if math.isfinite(worst.relative_error) else "-"
            failed = [row for row in rows if not row.ok]
            outcome = Text(f"{len(failed)} {_WORDS[worst.verdict]}", "bold red") if failed else Text("ok", "green")
            leaves = str(sum(bool(row.leaf) for row in rows)) if any(row.leaf for row in rows) else ""
            table.add_row(check, dtype, leaves, worst.leaf, error, f"{worst.limit:.0e}", outcome)
        return table

    def leaf_table(self) -> Table:
        """A line for every leaf's gradient in float64."""
        table = Table()
        for column in ("leaf", "relative error", "limit", ""):
            table.add_column(column, justify="right" if column in ("relative error", "limit") else "left")
        for row in self.rows:
            if (row.check, row.dtype) == ("gradient", "float64"):
                error = f"{row.relative_error:.1e}" if math.isfinite(row.relative_error) else "-"
                table.add_row(row.leaf, error, f"{row.limit:.0e}", "ok" if row.ok else Text("FAILED", "bold red"))
        return table

    def summary(self) -> str:
        """One line: how many checks were made, and how many do not hold."""
        failed = len(self.failures)
        count = f"{failed} of {len(self.rows)} checks failed" if failed else f"all {len(self.rows)} checks hold"
        return f"{count}; {self.seconds:.1f} s" if self.seconds else count

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dump``; what is not finite is None, as JSON has no infinity."""
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
            "rows": rows,
        }

    def to_html(self, file: Path | str | None = None) -> str:
        """One page that needs no network, with pictures of where each error lies; also written to ``file``."""
        from pipeline.verify.page import page  # drawing needs matplotlib: loaded when it is asked for

        html = page(self)
        if file is not None:
            Path(file).write_text(html, encoding="utf-8")
        return html

    def raise_if_failed(self) -> None:
        """Raises VerificationError, whose message is the whole diagnosis, unless the verdict is "pass"."""
        if not self.ok:
            raise VerificationError(self.explanation())

    def explanation(self) -> str:
        """Verdict, places, diagnoses; and the failed checks where no diagnosis stands for them."""
        return "\n".join([f"{self.subject}: {self.verdict}", *self._body()])

    def _body(self) -> list[str]:
        lines = [f"whose own rule is wrong: {place}" for place in self.places]
        for diagnosis in self.diagnoses:
            first, *others = diagnosis.lines()
            lines += [f"{diagnosis.leaf or 'the rule'}: {first}", *(f"    {line}" for line in others)]
        explained = {diagnosis.leaf for diagnosis in self.diagnoses}
        if not self.places:  # the other leaves of a composed model only inherit the error
            lines += [str(row) for row in self.failures if row.leaf not in explained or not self.diagnoses]
        return lines + [f"note: {note}" for note in self.notes]

    def __rich__(self) -> RenderableType:
        style = {"pass": "bold green", "fail": "bold red"}.get(self.verdict, "bold yellow")
        head = Text.assemble((self.verdict.upper(), style), "  ", (self.subject, "bold"))
        return Group(head, *(Padding(Text(line), (0, 0, 0, 2)) for line in self._body()), self.table())

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=160).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _diagnosis_to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    worst = diagnosis.worst
    return {
        "leaf": diagnosis.leaf,
        "kind": diagnosis.kind,
        "text": diagnosis.text,
        "exact": diagnosis.exact,
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


_WORDS = {"fail": "FAILED", "inconclusive": "inconclusive", "oracles disagree": "ORACLES DISAGREE"}


def _bars(shares: np.ndarray, width: int = 32) -> str:
    """Eight heights of bar, and a dot for no error at all; at most ``width`` blocks of equal length."""
    blocks = np.array_split(shares, min(width, shares.size))
    heights = [block.max() for block in blocks]
    return "".join("·" if not height else "▁▂▃▄▅▆▇█"[min(7, int(8 * height))] for height in heights)
