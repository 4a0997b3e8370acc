"""The result as a table for people, on a terminal or in a file."""

import io
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

WIDTH = 190
"""Columns of text, where the output is no terminal that has its own."""
SLOWER = 1.05
"""By hand is called slower than autodiff above this ratio, if eight rounds of ten say so too."""
DEFAULTS = " d"
"""What marks a time that XLA's own options gave."""


def slower(row: dict[str, Any]) -> bool:
    """Whether the hand-written rule takes longer than autodiff, by more than the rounds differ among themselves."""
    return row["ratio"] > SLOWER and row["ratio_low"] > 1


def larger(row: dict[str, Any]) -> bool:
    """Whether the hand-written rule needs more temporary memory than autodiff."""
    return row["manual_bytes"] > row["autodiff_bytes"]


def geometric_mean(ratios: list[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def table(result: dict[str, Any]) -> str:
    """``result`` as benchmark.py writes it, as text: a line a row, the means, what is marked, and the notes."""
    text = io.StringIO()
    terminal = sys.stdout.isatty()
    console = Console(file=text, force_terminal=terminal, width=None if terminal else WIDTH)
    machine, rows = result["machine"], result["rows"]
    options = ", with XLA's own options" if any(row["manual_options"] == "defaults" for row in rows) else ""
    grid = Table(
        title=f"Forward and backward pass together: milliseconds, and temporary memory in MB{options}",
        caption=f"{machine['cpu']}, {machine['cores']} cores: {machine['matmul_gflops']:.0f} GFLOP/s of float32 "
        f"matmul, {machine['copy_gb_per_s']:.0f} GB/s of scale-and-copy",
    )
    grid.add_column("")
    grid.add_column("name", no_wrap=True)
    grid.add_column("input", no_wrap=True)
    for heading in ("manual", "autodiff", "attached", "Flax", "PyTorch", "compiled"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("hand / autodiff", justify="right", no_wrap=True)
    grid.add_column("hand / PyTorch", justify="right", no_wrap=True)
    grid.add_column("MB manual", justify="right", no_wrap=True)
    grid.add_column("MB autodiff", justify="right", no_wrap=True)
    previous = None
    for row in rows:
        if previous not in (None, row["kind"]):
            grid.add_section()
        previous = row["kind"]
        grid.add_row(*_cells(row), style="red" if slower(row) or larger(row) else None)
    console.print(grid)
    for line in _summary(rows):
        console.print(line, highlight=False, soft_wrap=True)
    return text.getvalue()


def _cells(row: dict[str, Any]) -> list[str]:
    mark = ("t" if slower(row) else "") + ("m" if larger(row) else "")
    names = ("manual", "autodiff", "attached", "flax", "torch", "torch_compiled")
    times = [number(row[f"{name}_ms"]) + DEFAULTS * _prefers_defaults(row, name) for name in names]
    against_torch = number(row["manual_ms"] / row["torch_ms"] if row["torch_ms"] else None)
    megabytes = [f"{row[f'{name}_bytes'] / 1e6:.2f}" for name in ("manual", "autodiff")]
    against_autodiff = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
    shape = "x".join(str(size) for size in row["shape"])
    return [mark, row["name"], shape, *times, against_autodiff, against_torch, *megabytes]


def _prefers_defaults(row: dict[str, Any], name: str) -> bool:
    """Whether a column has XLA's own options where the hand-written rules have the project's."""
    return row.get(f"{name}_options", "") == "defaults" != row["manual_options"]


def number(value: float | None) -> str:
    """Three digits, or all of a larger number; "-" for None."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _summary(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for title, kinds in (("layers and losses", ("layer", "loss")), ("models", ("step",))):
        chosen = [row for row in rows if row["kind"] in kinds]
        if chosen:
            mean = geometric_mean([row["ratio"] for row in chosen])
            lines.append(f"Geometric mean of hand / autodiff over {len(chosen)} {title}: {mean:.2f}")
        paired = [row["manual_ms"] / row["torch_ms"] for row in chosen if row["torch_ms"]]
        if paired:
            lines.append(f"Geometric mean of hand / PyTorch over {len(paired)} {title}: {geometric_mean(paired):.2f}")
        won = [row["autodiff_ms"] / row["autodiff_defaults_ms"] for row in chosen if row["autodiff_defaults_ms"]]
        if won:
            lines.append(
                f"Geometric mean of autodiff at its best / with XLA's own options over {len(won)} {title}: "
                f"{geometric_mean(won):.2f}"
            )
    marked = {
        f"t: manual takes more than {SLOWER} of autodiff's time, beyond the spread": [r for r in rows if slower(r)],
        "m: manual takes more temporary memory than autodiff": [r for r in rows if larger(r)],
    }
    for meaning, found in marked.items():
        lines.append(f"{meaning}: {', '.join(row['name'] for row in found) or 'none'}")
    if any(_prefers_defaults(row, name) for row in rows for name in ("autodiff", "flax")):
        lines.append("d: faster with XLA's own options than with the project's")
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row["notes"]:
            notes.setdefault(note, []).append(row["name"])
    lines += [f"{note} ({', '.join(names)})" for note, names in notes.items()]
    return lines
