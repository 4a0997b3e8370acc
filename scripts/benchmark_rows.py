"""Whether a training step on the rows of a batch takes longer for the table's other rows.

    python scripts/benchmark_rows.py [COUNT ...] [--json FILE]

The same model at tables of every COUNT: the mean of a batch's rows (128 examples of 8 ids, all different and spread
over the table, in 32 features) and a linear layer, with Adam. Milliseconds of a step on the batch's rows and of one on
all rows, the medians of interleaved rounds, and the first in proportion to that of the first COUNT.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table as Text

from benchmarks import measure
from command_line import run
from pipeline import compiler
from pipeline.errors import UserError
from pipeline.layers.combinators import Serial
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.layers.pooling import GlobalAveragePool
from pipeline.losses.base import Targets
from pipeline.losses.regression import MeanSquaredError
from pipeline.training.sparse_updates import SparseTable, with_sparse_updates
from pipeline.training.state import init_params, init_state
from pipeline.training.step import make_train_step

COUNTS = (1_700, 30_000, 1_000_000)
EXAMPLES, IDS, FEATURES = 128, 8, 32
SECONDS = 10.0
"""What the rounds take together, about."""


def stepping(count: int, all_rows: bool) -> Callable[[], None]:
    """A call of one step, with a state of its own that goes on from call to call."""
    random = np.random.default_rng(0)
    ids = random.permutation(count)[: EXAMPLES * IDS].reshape(EXAMPLES, IDS).astype(np.int32)
    batch = jax.tree.map(jax.numpy.asarray, (ids, Targets(random.random((EXAMPLES, 1), np.float32))))
    objective = Objective(Serial((Embedding(count, FEATURES), GlobalAveragePool(), Dense(1))), MeanSquaredError())
    optimizer = optax.adam(1e-3)
    step = make_train_step(objective, optimizer)
    if not all_rows:
        step = with_sparse_updates(step, (SparseTable(("model/layers/0/embedding",), ("0",)),))
    step = compiler.jit(step, donate_argnums=0)
    state = init_state(init_params(objective, batch, 0), optimizer)

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, batch))

    return call


def measured(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for every table; see the module's docstring."""
    steps = {f"{count} rows": stepping(count, all_rows=False) for count in counts}
    samples = measure.interleaved(steps | {f"{count} all": stepping(count, all_rows=True) for count in counts}, SECONDS)
    return [
        {
            "count": count,
            "rows_ms": 1e3 * float(np.median(samples[f"{count} rows"])),
            "all_ms": 1e3 * float(np.median(samples[f"{count} all"])),
            **measure.ratio(samples[f"{count} rows"], samples[f"{counts[0]} rows"])._asdict(),
        }
        for count in counts
    ]


def main(
    counts: Annotated[tuple[int, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[COUNT ...]")] = COUNTS,
    /,
    *,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Whether a training step on the rows of a batch takes longer for the table's other rows.

    Args:
        counts: How many rows the tables have, the first being what the others are compared with.
        json_file: Where to write the rows, besides the table.
    """
    if min(counts) < EXAMPLES * IDS:
        raise UserError(f"COUNT is {min(counts)}; a batch alone has {EXAMPLES * IDS} different ids")
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}; make it first")
    rows = measured(counts)
    if json_file is not None:
        json_file.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    text = Text(title="Milliseconds of a step")
    for heading in ("rows", "on the batch's rows", "on all rows", f"batch's rows / those of {counts[0]:,}"):
        text.add_column(heading, justify="right")
    for row in rows:
        ratio = f"{row['median']:.2f} ({row['low']:.2f}-{row['high']:.2f})"
        text.add_row(f"{row['count']:,}", f"{row['rows_ms']:.3g}", f"{row['all_ms']:.3g}", ratio)
    Console().print(text)


if __name__ == "__main__":
    run(main)
