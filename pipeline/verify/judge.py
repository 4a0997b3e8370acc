"""All checks of one rule, in their order."""

import contextlib
import math
from typing import Any

import jax

from .checks.attached import primal, unperturbed
from .checks.behaviour import devices, eager, state, vmap
from .checks.contract import contract, look_at_program
from .checks.gradients import gradients, linearity
from .checks.oracles import consult
from .checks.precision import accumulation, in_precision
from .checks.second_order import note_if_cut, second_derivatives
from .checks.sensitivity import sensitivity
from .checks.unlooked import not_looked_at
from .domain import Domain
from .programs.draws import draws_of_float32
from .reference import GIVE_REFERENCE, differentiable, is_too_large
from .rule import Rule
from .sampling import sampled
from .trial import Judgement, Trial, bits, in_float64


def judge(rule: Rule, **options: Any) -> Judgement:
    """A rule's judgement in float64, whether or not the caller has it on; ``options`` are those of ``Trial``."""
    on = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    native = contextlib.nullcontext if rule.layer is not None else lambda: jax.enable_x64(on)
    with jax.enable_x64(True), draws_of_float32(not on):
        domain, seed = Domain(options.get("domain"), options.get("sizes")), options.get("seed", 0)
        rule, sample = sampled(rule, rule.arrays, domain, seed)
        arrays = [in_float64(array) for array in rule.arrays]
        rule, note = differentiable(rule, arrays)
        trial = Trial(rule, native=native, **options)
        for text in filter(None, (sample, note)):
            trial.judgement.note(text)
        try:
            _judge(trial, arrays)
        finally:
            trial.progress.end()
        trial.judgement.not_looked_at = not_looked_at(trial)
    return trial.judgement


def _judge(trial: Trial, arrays: list[Any]) -> None:
    """All checks at the example arguments; those that depend on a failed one are left out."""
    if not contract(trial, arrays):
        return
    if is_too_large(trial.rule):
        message = f"the arguments are too large to judge the rule without reverse mode: {GIVE_REFERENCE}"
        trial.row("", "gradient", "float64", math.inf, 0.0, "inconclusive", message)
        return
    trial.guard("precision", lambda: look_at_program(trial, arrays))
    if "state" in trial.checks and not trial.guard("determinism", lambda: state(trial, arrays)):
        return
    if trial.judgement.behaviour or not trial.guard("gradient", lambda: gradients(trial, arrays)):
        return
    is_layer = trial.rule.layer is not None
    if trial.holds():
        trial.guard("linearity", lambda: linearity(trial, arrays))
        for check, function in (("eager", eager), ("vmap", vmap), ("devices", devices)):
            if check in trial.checks:
                trial.guard(check, lambda function=function: function(trial, arrays), refusal_counts=is_layer)
    if trial.holds():
        trial.guard("primal", lambda: primal(trial))
        trial.guard("unperturbed", lambda: unperturbed(trial, arrays))
        if trial.traceable and not is_layer:
            look = second_derivatives if trial.order > 1 else note_if_cut
            trial.guard("second derivative", lambda: look(trial, arrays))
    if "oracles" in trial.checks:
        trial.guard("finite differences", lambda: consult(trial))
    if trial.holds():
        for dtype, native_arrays in trial.native_arrays():
            trial.guard("gradient", lambda d=dtype, a=native_arrays: in_precision(trial, d, a), dtype)
            if bits(dtype) < 32 and trial.holds():
                trial.guard("accumulation", lambda d=dtype, a=native_arrays: accumulation(trial, d, a), dtype)
    trial.guard("sensitivity", lambda: sensitivity(trial))
