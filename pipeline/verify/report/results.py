"""What a verification gives: verdict, rows, diagnoses, places. Plain data, which ``Report`` presents."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..measure import Difference, distances

Verdict = Literal["pass", "fail", "inconclusive", "oracles disagree"]


class VerificationError(AssertionError):
    """A manual gradient that is wrong, or that could not be judged. The message is the diagnosis."""


@dataclass(frozen=True)
class Row:
    """One check of one leaf in one precision, at the probe where it came out worst.

    leaf: the key path of an argument's leaf ("kernel", "params/layers/0/bias"), "y" or "y/..." for outputs;
        "" where the whole rule is meant.
    relative_error: infinite where there was nothing to measure: an exception, a wrong structure, NaN.
    probe: which arguments and cotangent: "as given", "large", "one example", "sizes (4, 9), (9, 5)", ...
    message: where it does not pass: the worst element with both values, the exception, or why it cannot be judged.
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

    kind: the kind of mistake, one of ``pipeline.verify.diagnose.KINDS``.
    text: the hypothesis that explains the leaf, with its numbers.
    exact: whether it explains every element up to rounding.
    probe: the arguments at which the two arrays were computed.
    worst: the element with the largest error; None where there is nothing to compare.
    manual, reference: the leaf's manual cotangent and that of autodiff, in float64.
    confidence: "high", "medium" or "low": how likely it is that no other mistake gives the same numbers.
    """

    leaf: str
    kind: str
    text: str
    exact: bool = False
    probe: str = ""
    worst: Difference | None = None
    manual: np.ndarray | None = None
    reference: np.ndarray | None = None
    confidence: str = "high"

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
        """Where the error is: a bar for each index (or block of indices) of every axis."""
        parts = (f"axis {axis} {_bars(shares)}" for axis, shares in enumerate(self.profile) if shares.size > 1)
        return "   ".join(parts)

    def lines(self) -> list[str]:
        """The words, the worst element, the picture."""
        lines = [self.text if self.confidence == "high" else f"{self.text} (confidence: {self.confidence})"]
        if self.worst is not None and self.manual is not None:
            error = f"relative error {self.worst.relative_error:.2e}, worst {self.worst}"
            lines.append(f"{error}{f'; arguments: {self.probe}' if self.probe else ''}")
        if self.picture():
            lines.append(f"error along {self.picture()}")
        return lines


@dataclass(frozen=True)
class Place:
    """A layer of a composed model whose own rule is wrong: its path, the layer as text, and the mistake."""

    path: str
    layer: str
    text: str

    def __str__(self) -> str:
        return f"{self.path or '(the outermost layer)'}: {self.layer}: {self.text}"


@dataclass(frozen=True)
class Results:
    """All that was found out about one rule.

    subject: what was verified, as it would be written.
    places: in a composed model, the layers whose own rule is wrong; those that only inherit the error are not named.
    notes: what is not wrong and worth knowing: a convention at a kink, a check that could not be made and why.
    seconds: how long it took.
    not_looked_at: what no check looked at, and why.
    """

    subject: str
    rows: tuple[Row, ...]
    diagnoses: tuple[Diagnosis, ...] = ()
    places: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    not_looked_at: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """ "fail" where a check failed; else "oracles disagree" or "inconclusive" where a row says so; else "pass"."""
        verdicts = {row.verdict for row in self.rows}
        for verdict in ("fail", "oracles disagree", "inconclusive"):
            if verdict in verdicts:
                return verdict
        return "pass"

    @property
    def ok(self) -> bool:
        """Whether every check passes."""
        return self.verdict == "pass"

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that do not pass."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def unexplained(self) -> tuple[Row, ...]:
        """The failures that no diagnosis explains; none where ``places`` do, whose error the other leaves inherit."""
        explained = {diagnosis.leaf for diagnosis in self.diagnoses}
        return () if self.places else tuple(row for row in self.failures if row.leaf not in explained)

    def worst(self, check: str = "gradient", dtype: str = "float64") -> Row | None:
        """The row with the largest relative error among those of a check; None where it was not reached."""
        rows = [row for row in self.rows if (row.check, row.dtype) == (check, dtype)]
        return max(rows, key=lambda row: row.relative_error, default=None)

    def closing(self) -> str:
        """One line: what was not looked at, and why; "" where there is nothing."""
        return f"not looked at: {'; '.join(self.not_looked_at)}" if self.not_looked_at else ""

    def summary(self) -> str:
        """One line: how many checks were made, and how many failed."""
        failed = len(self.failures)
        count = f"{failed} of {len(self.rows)} checks failed" if failed else f"all {len(self.rows)} checks passed"
        return f"{count}; {self.seconds:.1f} s" if self.seconds else count


def _bars(shares: np.ndarray, width: int = 32) -> str:
    """Eight heights of bar, and a dot for no error at all; at most ``width`` blocks of equal length."""
    blocks = np.array_split(shares, min(width, shares.size))
    heights = [block.max() for block in blocks]
    return "".join("·" if not height else "▁▂▃▄▅▆▇█"[min(7, int(8 * height))] for height in heights)
