"""How fast the hand-written rules are: beside autodiff, the same rules attached, Flax with optax, and PyTorch.

    python scripts/benchmark.py [NAME ...] [--json FILE]

Every layer, loss and model, all columns in one process and interleaved: milliseconds (the median over the rounds) and
temporary memory (what XLA allocates besides inputs and outputs). ``ratio`` is that of the hand-written rule to autodiff
round by round: its median, with ``ratio_low`` and ``ratio_high``, what eight rounds of ten lie between. PyTorch's
columns are there where it is installed and JAX runs on the CPU; a column that could not be measured is null, and
``notes`` say why.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from benchmarks import flax_counterparts, measure
from benchmarks.cases import CASES, Case
from benchmarks.gradients import gradient_of
from benchmarks.table import table
from command_line import run
from pipeline.errors import UserError
from pipeline.layers.base import Context

SECONDS = 1.0
"""What the rounds of one row take together, about."""


def row(case: Case) -> dict[str, Any]:
    """One line of the result; see the module's docstring."""
    arrays = case.input()
    x = jax.tree.map(jax.numpy.asarray, arrays)
    context = Context(train=True, key=jax.random.key(1))
    params = case.layer.init(jax.random.key(0), x)
    flax_params = flax_counterparts.parameters(case, x)
    rest: tuple[Any, ...] = (x, context)
    if case.kind != "step":
        y = jax.eval_shape(case.layer.apply, params, x, context)
        d_y = np.random.default_rng(1).standard_normal(y.shape, np.float32) if y.shape else np.float32(1)
        rest = (*rest, jax.numpy.asarray(d_y, y.dtype))

    manual, manual_bytes = measure.compiled(gradient_of(case, "manual"), params, *rest)
    autodiff, autodiff_bytes = measure.compiled(gradient_of(case, "autodiff"), params, *rest)
    attached, _ = measure.compiled(gradient_of(case, "attached"), params, *rest)
    flax, _ = measure.compiled(flax_counterparts.gradient_of(case), flax_params, *rest)
    columns = {"manual": manual, "autodiff": autodiff, "attached": attached, "flax": flax}
    torch_columns, notes = torch(case, arrays, rest[-1])

    samples = measure.interleaved(columns | torch_columns, SECONDS)
    names = ("manual", "autodiff", "attached", "flax", "torch", "torch_compiled")
    ratio = measure.ratio(samples["manual"], samples["autodiff"])
    return {
        "name": case.name,
        "kind": case.kind,
        "shape": list(case.shape()),
        **{f"{name}_ms": 1e3 * float(np.median(samples[name])) if name in samples else None for name in names},
        "manual_bytes": manual_bytes,
        "autodiff_bytes": autodiff_bytes,
        "ratio": ratio.median,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "rounds": len(samples["manual"]),
        "notes": notes,
    }


def torch(case: Case, x: Any, d_y: Any) -> tuple[dict[str, Any], list[str]]:
    """PyTorch's columns that can be measured, each called once, and why the others cannot."""
    if find_spec("torch") is None:
        return {}, ["torch: PyTorch is not installed"]
    if jax.default_backend() != "cpu":
        return {}, [f"torch: measured on a CPU only, and JAX runs on {jax.default_backend()}"]
    from benchmarks import torch_counterparts

    if not torch_counterparts.has(case):
        return {}, ["torch: no counterpart"]
    columns = {"torch": torch_counterparts.gradient_of(case, x, d_y, compile=False)}
    compiled = torch_counterparts.gradient_of(case, x, d_y, compile=True)
    try:
        compiled()
    except Exception as error:  # whatever torch.compile raises where there is no C++ compiler, or one it cannot use
        return columns, [f"torch_compiled: {type(error).__name__}: {str(error).strip().splitlines()[0]}"]
    return columns | {"torch_compiled": compiled}, []


def selected(names: tuple[str, ...]) -> list[Case]:
    """The cases of these names, in the order of the table; all where there are none."""
    known = [case.name for case in CASES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"There is no benchmark called {', '.join(unknown)}. There are: {', '.join(known)}")
    return [case for case in CASES if not names or case.name in names]


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = (),
    /,
    *,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """How fast the hand-written rules are.

    Args:
        names: What to measure; nothing: every layer, loss and model.
        json_file: Where to write the rows and the machine's own ceilings, besides the table.
    """
    cases = selected(names)
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}")
    result = {"machine": measure.machine(), "rows": []}
    for case in track(cases, "measuring", console=Console(stderr=True)):
        result["rows"].append(row(case))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result), end="")


if __name__ == "__main__":
    run(main)
