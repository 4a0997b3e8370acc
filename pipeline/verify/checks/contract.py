"""The contract: structures, shapes, dtypes. They are checked while tracing; nothing is computed."""

import contextlib
import math
from typing import Any

import numpy as np

from ..faults import UNTRACEABLE, describe_error
from ..programs import jaxprs
from ..rule import Breach
from ..trial import Trial, bits
from .probes import cotangents


def contract(trial: Trial, arrays: list[Any]) -> bool:
    """Adds the contract's rows; whether there are values and cotangents to compare."""
    modes = [("float64", arrays, contextlib.nullcontext), *((p, a, trial.native) for p, a in trial.native_arrays())]
    wrong: dict[tuple[str, str], Breach] = {}
    for dtype, own_arrays, mode in reversed(modes):
        with mode():
            breaches = _breaches(trial, own_arrays)
        if dtype == "float64" and trial.rule.layer is None:
            # A rule may be written for one precision only: its dtypes count there, and its rounding is checked later.
            breaches = [breach for breach in breaches if breach.kind != "dtype"]
        for breach in breaches:
            wrong.setdefault((breach.leaf, breach.message.replace(dtype, "")), breach)
            trial.row(breach.leaf, "contract", dtype, math.inf, 0.0, "fail", breach.message)
        if not breaches:
            trial.row("", "contract", dtype, 0.0, 0.0)
    trial.judgement.rows.sort(key=lambda row: row.dtype != "float64")
    trial.judgement.breaches += wrong.values()
    return not any(
        breach.kind == "exception" or breach.leaf.partition("/")[0] in ("", "y") for breach in wrong.values()
    )


def _breaches(trial: Trial, arrays: list[Any]) -> list[Breach]:
    try:
        return trial.rule.breaches(arrays)
    except UNTRACEABLE as error:
        trial.traceable = False
        if trial.rule.must_jit:
            return [Breach("", "exception", f"cannot be traced, so it fails under jit: {describe_error(error)}")]
        trial.judgement.note(f"it does not run under jit: {describe_error(error)}")
        return []
    except Exception as error:
        return [Breach("", "exception", describe_error(error))]


def look_at_program(trial: Trial, arrays: list[Any]) -> None:
    """Finds out whether the definition itself, or the rule alone, leaves float64, and how long their loops run."""
    d_y = cotangents(trial.rule, arrays, np.random.default_rng(0))
    trial.look_at_loops(arrays, d_y)
    trial.reference_dtype = jaxprs.narrowest_float(trial.rule.define, arrays)
    if trial.reference_dtype:
        trial.judgement.note(
            f"the function itself passes through {trial.reference_dtype}, so it is judged at that precision"
        )
    if trial.traceable:
        narrow = jaxprs.narrowest_float(trial.manual_program, arrays, d_y)
        if narrow and not (trial.reference_dtype and bits(trial.reference_dtype) <= bits(narrow)):
            trial.judgement.rule_dtype = narrow
