"""What a verification found: rows, a table for people, plain data for programs."""

import io
import math
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text


class VerificationError(AssertionError):
    """A hand-written backward pass that does not hold. The message lists every failed check."""


@dataclass(frozen=True)
class Row:
    """One check of one leaf in one precision.

    leaf: the parameter's path, "x" and what is below it for inputs, "y" for outputs; "" where the whole layer is meant.
    relative_error: infinite where there was nothing to measure: an exception, a wrong structure, NaN.
    message: of a failed check: the worst element with both values, or what was raised.
    """

    leaf: str
    check: str
    dtype: str
    relative_error: float
    limit: float
    ok: bool
    message: str = ""

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        text = f"{self.leaf or 'the layer'}: {self.check} in {self.dtype} {verdict}"
        if math.isfinite(self.relative_error):
            text += f", relative error {self.relative_error:.2e}, limit {self.limit:.2e}"
        return f"{text}; {self.message}" if self.message else text


@dataclass(frozen=True)
class Report:
    """The verdict on one layer. ``print(report)`` shows it; ``rich.print`` shows it in colour."""

    layer: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.ok)

    def worst(self, check: str = "gradient", dtype: str = "float64") -> Row | None:
        """The row with the largest relative error among those of a check; None where it was not reached."""
        rows = [row for row in self.rows if (row.check, row.dtype) == (check, dtype)]
        return max(rows, key=lambda row: row.relative_error, default=None)

    def table(self) -> Table:
        """A line for every leaf, a column for every check and precision, relative errors in the cells."""
        columns = list(dict.fromkeys((row.check, row.dtype) for row in self.rows))
        cells = {(row.leaf, row.check, row.dtype): row for row in self.rows}
        table = Table(title=self.layer, title_justify="left", caption=self._verdict(), caption_justify="left")
        table.add_column("leaf")
        for check, dtype in columns:
            table.add_column(f"{check}\n{dtype}", justify="right")
        for leaf in dict.fromkeys(row.leaf for row in self.rows):
            table.add_row(leaf or "(the layer)", *(_cell(cells.get((leaf, *column))) for column in columns))
        return table

    def _verdict(self) -> str:
        failed = len(self.failures)
        return f"{failed} of {len(self.rows)} checks failed" if failed else f"all {len(self.rows)} checks hold"

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dump``; an infinite error is None, as JSON has no infinity."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row["relative_error"] = row["relative_error"] if math.isfinite(row["relative_error"]) else None
        return {"layer": self.layer, "ok": self.ok, "rows": rows}

    def raise_if_failed(self) -> None:
        """Raises VerificationError with the leaf, the check, the size and the worst element of every failure."""
        if not self.ok:
            raise VerificationError("\n".join([f"{self.layer}: {self._verdict()}", *map(str, self.failures)]))

    def __rich__(self) -> RenderableType:
        return Group(self.table(), *(Text(str(row), style="red") for row in self.failures))

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=160).print(self)
        return text.getvalue()


def _cell(row: Row | None) -> Text:
    if row is None:
        return Text("")
    error = f"{row.relative_error:.1e}" if math.isfinite(row.relative_error) else "-"
    return Text(error if row.ok else f"{error} FAILED", style="" if row.ok else "bold red")
