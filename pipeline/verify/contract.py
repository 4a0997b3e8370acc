"""The contract: structures, shapes, dtypes. Looked at while tracing; nothing is computed."""

import contextlib
import math
from typing import Any

import numpy as np

from pipeline.verify import jaxprs
from pipeline.verify.probes import cotangents
from pipeline.verify.rule import Breach
from pipeline.verify.trial import UNTRACEABLE, Trial, account, bits


def contract(trial: Trial, given: list[Any]) -> bool:
    """Whether there is something to measure."""
    modes = [("float64", given, contextlib.nullcontext), *((p, a, trial.native) for p, a in trial.native_arrays())]
    wrong: dict[tuple[str, str], Breach] = {}
    for dtype, arrays, mode in reversed(modes):
        with mode():
            breaches = _breaches(trial, arrays)
        if dtype == "float64" and trial.rule.layer is None:
            # A rule that is written for its own precision keeps its contract there; what it rounds is seen later.
            breaches = [breach for breach in breaches if breach.kind != "dtype"]
        for breach in breaches:
            wrong.setdefault((breach.leaf, breach.message.replace(dtype, "")), breach)
            trial.row(breach.leaf, "contract", dtype, math.inf, 0.0, "fail", breach.message)
        if not breaches:
            trial.row("", "contract", dtype, 0.0, 0.0)
    trial.found.rows.sort(key=lambda row: row.dtype != "float64")
    trial.found.breaches += wrong.values()
    return not any(
        breach.kind == "exception" or breach.leaf.partition("/")[0] in ("", "y") for breach in wrong.values()
    )


def _breaches(trial: Trial, arrays: list[Any]) -> list[Breach]:
    try:
        return trial.rule.breaches(arrays)
    except UNTRACEABLE as error:
        trial.traceable = False
        if trial.rule.must_jit:
            return [Breach("", "exception", f"cannot be traced, so it fails under jit: {account(error)}")]
        trial.found.note(f"it runs outside jit only: {account(error)}")
        return []
    except Exception as error:
        return [Breach("", "exception", account(error))]


def look_at_dtypes(trial: Trial, given: list[Any]) -> None:
    """Where the definition itself, or the rule alone, leaves float64."""
    d_y = cotangents(trial.rule, given, np.random.default_rng(0))
    trial.reference_narrow = jaxprs.narrowest_float(trial.rule.define, given)
    if trial.reference_narrow:
        trial.found.note(
            f"the function itself passes through {trial.reference_narrow}: the verdict is at that precision"
        )
    if trial.traceable:
        narrow = jaxprs.narrowest_float(trial.by_hand, given, d_y)
        if narrow and not (trial.reference_narrow and bits(trial.reference_narrow) <= bits(narrow)):
            trial.found.narrow = narrow
