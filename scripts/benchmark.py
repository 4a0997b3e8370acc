"""How fast the hand-written rules are: beside autodiff, the same rules attached, Flax with optax, and PyTorch.

    python scripts/benchmark.py [NAME ...] [--json FILE] [--defaults]

Every layer, loss and model, all columns in one process and interleaved: milliseconds (the median over the rounds) and
temporary memory (what XLA allocates besides inputs and outputs). The hand-written rules are compiled as the project's
users compile them, with the options of ``pipeline.compiler``. Autodiff and Flax are compiled with those and with XLA's
own, and the faster of the two counts; ``autodiff_options`` and ``flax_options`` say which it is, and
``autodiff_defaults_ms`` and ``flax_defaults_ms`` what XLA's own give. ``--defaults`` compiles everything with those.

``ratio`` is that of the hand-written rule to autodiff round by round: its median, with ``ratio_low`` and
``ratio_high``, what eight rounds of ten lie between. PyTorch's columns are there where it is installed and JAX runs on
the CPU; a column that could not be measured is null, and ``notes`` say why.
"""

import json
from functools import partial
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
from pipeline import compiler
from pipeline.errors import UserError
from pipeline.layers.base import Context

SECONDS = 1.0
"""What the rounds of one row take together, about."""


def row(case: Case, defaults: bool = False) -> dict[str, Any]:
    """One line of the result; see the module's docstring. defaults: compiles every column with XLA's own options."""
    arrays = case.input()
    x = jax.tree.map(jax.numpy.asarray, arrays)
    context = Context(train=True, key=jax.random.key(1))
    params = compiler.jit(case.layer.init)(jax.random.key(0), x)
    flax_params = compiler.jit(partial(flax_counterparts.parameters, case))(x)
    rest: tuple[Any, ...] = (x, context)
    if case.kind != "step":
        y = jax.eval_shape(case.layer.apply, params, x, context)
        random = np.random.default_rng(1)
        drawn = lambda leaf: random.standard_normal(leaf.shape, np.float32) if leaf.shape else np.float32(1)  # noqa: E731
        rest = (*rest, jax.tree.map(lambda leaf: jax.numpy.asarray(drawn(leaf), leaf.dtype), y))

    ours = {"defaults": {}} if defaults else {"ours": compiler.options()}
    both = ours if defaults or not compiler.options() else ours | {"defaults": {}}
    programs = {
        "manual": (gradient_of(case, "manual"), params, ours),
        "autodiff": (gradient_of(case, "autodiff"), params, both),
        "attached": (gradient_of(case, "attached"), params, ours),
        "flax": (flax_counterparts.gradient_of(case), flax_params, both),
    }
    compiled = {
        (name, which): measure.compiled(function, its, *rest, options=options)
        for name, (function, its, choices) in programs.items()
        for which, options in choices.items()
    }
    torch_columns, notes = torch(case, arrays, rest[-1])

    columns = {" ".join(key): call for key, (call, _) in compiled.items()}
    samples = measure.interleaved(columns | torch_columns, SECONDS)
    medians = {name: 1e3 * float(np.median(column)) for name, column in samples.items()}
    best = {
        name: min(choices, key=lambda which, name=name: medians[f"{name} {which}"])
        for name, (_, _, choices) in programs.items()
    }
    chosen = {name: samples[f"{name} {which}"] for name, which in best.items()}
    ratio = measure.ratio(chosen["manual"], chosen["autodiff"])
    return {
        "name": case.name,
        "kind": case.kind,
        "shape": list(case.shape()),
        **{f"{name}_ms": medians[f"{name} {which}"] for name, which in best.items()},
        **{f"{name}_ms": medians.get(name) for name in ("torch", "torch_compiled")},
        **{f"{name}_options": which for name, which in best.items()},
        **{f"{name}_defaults_ms": medians.get(f"{name} defaults") for name in ("autodiff", "flax")},
        "manual_bytes": compiled["manual", best["manual"]][1],
        "autodiff_bytes": compiled["autodiff", best["autodiff"]][1],
        "ratio": ratio.median,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "rounds": len(chosen["manual"]),
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
    defaults: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """How fast the hand-written rules are.

    Args:
        names: What to measure; nothing: every layer, loss and model.
        json_file: Where to write the rows and the machine's own ceilings, each row as soon as it is measured.
        defaults: Compile every column with XLA's default options instead of those that are best for it.
    """
    cases = selected(names)
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}")
    result = {"machine": measure.machine(), "rows": []}
    for case in track(cases, "measuring", console=Console(stderr=True)):
        result["rows"].append(row(case, defaults))
        if json_file is not None:  # after every row: a run of all takes most of an hour
            json_file.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result), end="")


if __name__ == "__main__":
    run(main)
