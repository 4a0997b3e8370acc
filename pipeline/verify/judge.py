"""All checks of one rule, in their order."""

import contextlib
from typing import Any

import jax

from pipeline.verify.behaviour import devices, eager, state, vmap
from pipeline.verify.contract import contract, look_at_dtypes
from pipeline.verify.gradients import gradients, linearity
from pipeline.verify.oracles import consult
from pipeline.verify.precision import in_precision
from pipeline.verify.rule import Rule
from pipeline.verify.sensitivity import sensitivity
from pipeline.verify.trial import Judgement, Trial, in_float64


def judge(rule: Rule, **options: Any) -> Judgement:
    """A rule's judgement in float64, whether or not the caller has it on; ``options`` are those of ``Trial``."""
    on = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    native = contextlib.nullcontext if rule.layer is not None else lambda: jax.enable_x64(on)
    with jax.enable_x64(True):
        trial = Trial(rule, native=native, **options)
        _judge(trial, [in_float64(array) for array in rule.arrays])
    return trial.found


def _judge(trial: Trial, given: list[Any]) -> None:
    """All checks; those that follow from a failed one are left out."""
    if not contract(trial, given):
        return
    look_at_dtypes(trial, given)
    if "state" in trial.checks and not trial.guard("determinism", lambda: state(trial, given)):
        return
    if trial.found.behaviour or not trial.guard("gradient", lambda: gradients(trial, given)):
        return
    if trial.holds():
        trial.guard("linearity", lambda: linearity(trial, given))
        for check, function in (("eager", eager), ("vmap", vmap), ("devices", devices)):
            if check in trial.checks:
                trial.guard(check, lambda function=function: function(trial, given))
    if "oracles" in trial.checks:
        consult(trial)
    if trial.holds():
        for dtype, arrays in trial.native_arrays():
            trial.guard("gradient", lambda d=dtype, a=arrays: in_precision(trial, d, a), dtype)
    sensitivity(trial)
