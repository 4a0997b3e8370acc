"""One rule on trial: its two derivatives, and everything that is found out about it."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .checks.finite_differences import FiniteDifferences
from .checks.probes import Probe
from .domain import Domain
from .faults import describe_error, is_own, run
from .measure import largest, to_float64
from .programs import jaxprs
from .programs.derivatives import by_differences
from .programs.loops import bounded, last_changes, step_counts
from .progress import Progress
from .report.results import Row
from .rule import MISSING, Breach, Rule, is_float, is_key

LIMIT = 1e-11
"""The largest relative error in float64 that rounding explains."""

CHECKS = ("values", "edges", "sizes", "eager", "state", "vmap", "devices", "oracles")
"""What is checked besides the contract and the gradient at the example arguments; all by default.

values: other values of the same meaning. edges: ties, zeros, large and tiny numbers, equal ids, masks. sizes: other
sizes, odd ones, one example. eager: without ``jit``. state: determinism, and calls that do not depend on earlier ones.
vmap: over two examples. devices: sharded arguments, where there are several devices. oracles: finite differences, and
forward against reverse mode.
"""

_WHERE = {"eager": "without jit", "vmap": "under vmap", "devices": "on several devices"}

Values = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Observation:
    """Both derivatives at one probe, in float64: values by output, cotangents by leaf.

    y, reference: the definition's values, and autodiff's cotangents.
    manual_y, manual: those of the rule.
    """

    probe: Probe
    reference: Values
    manual: Values
    y: Values
    manual_y: Values


@dataclass(eq=False)
class Judgement:
    """Everything that was found out about one rule, for the report and for the diagnosis.

    reference: ``(arrays, d_y) -> values, cotangents`` by autodiff. manual: the same by the rule. both: autodiff's pair,
        and the rule's.
    wrong_leaves: for each leaf whose cotangent is wrong, the first observation of it.
    behaviour: "not deterministic" or "state", where a check found the rule to be so.
    rule_dtype: the narrowest dtype below float64 that the rule passes through where the definition does not.
    not_finite: the probes at which the definition itself is not finite. outside: those outside of the
        author's domain. not_looked_at: what no check looked at, and why.
    cache: what the diagnoses of several leaves have in common, and takes long to compile.
    """

    rule: Rule
    reference: Callable[..., tuple[Values, Values]]
    manual: Callable[..., tuple[Values, Values]]
    both: Callable[..., tuple[tuple[Values, Values], tuple[Values, Values]]]
    rows: list[Row] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong_leaves: dict[str, Observation] = field(default_factory=dict)
    behaviour: str = ""
    rule_dtype: str | None = None
    not_finite: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    not_looked_at: tuple[str, ...] = ()
    cache: dict[Any, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every row passes."""
        return all(row.ok for row in self.rows)

    def note(self, text: str) -> None:
        """Adds a note to the report, unless it is there."""
        if text not in self.notes:
            self.notes.append(text)


class Trial:
    """A rule, its derivatives in float64, and the judgement as it grows. ``enable_x64`` must be on.

    checks: of ``CHECKS``. precisions: names of dtypes below float64, or None for that of the arguments.
    domain, sizes: the fields of ``Domain``. order: of the derivatives that are checked, 1 or 2.
    limit: the largest relative error in float64. native: enters the caller's own setting of float64.
    traceable: whether the rule can be traced; one written in NumPy cannot.
    manual_program: the rule's own derivative, without the leaves that it leaves out.
    most_steps: bounds while loops, where there are any.
    noisy: autodiff's program and the rule's, with random rounding errors; coarse_rule: the rule's, with those of the
        precisions that it passes through.
    reference_dtype: the narrowest dtype below float64 that the definition itself passes through.
    """

    def __init__(
        self,
        rule: Rule,
        checks: Sequence[str] = CHECKS,
        precisions: Sequence[str] | None = None,
        limit: float = LIMIT,
        seed: int = 0,
        native: Callable[[], Any] = contextlib.nullcontext,
        domain: Any = None,
        sizes: Any = None,
        order: int = 1,
    ) -> None:
        self.rule, self.checks, self.limit, self.seed, self.native = rule, tuple(checks), limit, seed, native
        self.precisions, self.order = precisions, order
        self.domain = Domain(domain, sizes)
        self.progress = Progress(rule.subject)
        self.random = np.random.default_rng((seed, 1))  # not default_rng(seed), from which inputs may come
        self.traceable = True
        self.reference_dtype: str | None = None
        self.manual_program = _without_missing_leaves(rule.manual)
        self.most_steps: int | None = None
        self._autodiff = rule.jit(lambda arrays, d_y: self._bounded(rule.autodiff)(arrays, d_y))
        self._both = rule.jit(
            lambda arrays, d_y: tuple(self._bounded(f)(arrays, d_y) for f in (rule.autodiff, self.manual_program))
        )
        self.noisy = [rule.jit(jaxprs.noisy(rule.autodiff, own_precision=True))]
        if rule.must_jit:
            self.noisy.append(rule.jit(jaxprs.noisy(self.manual_program, own_precision=False)))
        self.coarse_rule = rule.jit(jaxprs.noisy(self.manual_program, own_precision=True))
        self.differences = FiniteDifferences(rule)
        self.judgement = Judgement(rule, self.reference, self.manual, self.both)

    def look_at_loops(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> None:
        """Finds out how many steps while loops take at the example arguments; at others they may never end."""
        programs = [program for program in (self.rule.autodiff, self.manual_program) if self.traceable]
        if not any("while" in jaxprs.primitives(program, arrays, d_y) for program in programs):
            return
        counts = [run(self.rule.jit(partial(step_counts, program)), list(arrays), list(d_y)) for program in programs]
        self.most_steps = 1000 + 50 * max((int(count) for each in counts for count in each), default=0)

    def _bounded(self, program: Callable[..., Any]) -> Callable[..., Any]:
        return program if self.most_steps is None else bounded(program, self.most_steps)

    def convergence(self, probe: Probe) -> tuple[bool, float]:
        """Whether the loops that converge at the example arguments do so here, and to which relative change."""
        example = self.judgement.observations[0].probe if self.judgement.observations else probe
        there, here = self._last_changes(example), self._last_changes(probe)
        if len(there) != len(here):
            return True, 0.0
        converging = [one for one, original in zip(here, there) if _converges(*original)]
        if not all(_converges(*one) for one in converging):
            return False, 0.0
        return True, max((last for last, _ in converging), default=0.0) + 1e-13 * bool(converging)

    def _last_changes(self, probe: Probe) -> list[tuple[float, float]]:
        key = ("changes", id(probe))
        if key not in self.judgement.cache and self.traceable:
            if "watched" not in self.judgement.cache:
                self.judgement.cache["watched"] = self.rule.jit(self._watched)
            if not run(jax.eval_shape, self._watched, list(probe.arrays), list(probe.d_y)):  # there is no loop
                self.judgement.cache[key] = []
                return []
            changes = run(self.judgement.cache["watched"], list(probe.arrays), list(probe.d_y))
            self.judgement.cache[key] = [(float(last), float(most)) for last, most in changes]
        return self.judgement.cache.get(key, [])

    def _watched(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> list[tuple[Any, Any]]:
        definition = last_changes(lambda arrays, _: self.rule.define(arrays), arrays, d_y)
        return definition + last_changes(self.manual_program, arrays, d_y)

    def both(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
        """Values and cotangents by autodiff, and by the rule: one program where the rule can be traced."""
        if self.traceable:
            reference, manual = run(self._both, list(arrays), list(d_y))
            return _as_pair(reference), _as_pair(manual)
        return self.autodiff_alone(arrays, d_y), self.manual(arrays, d_y, eager=True)

    def reference(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> tuple[Values, Values]:
        """Values and cotangents by autodiff alone."""
        if self.traceable:
            return self.both(arrays, d_y)[0]  # the program is there
        return self.autodiff_alone(arrays, d_y)

    def autodiff_alone(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> tuple[Values, Values]:
        """Values and cotangents by autodiff, in a program without the rule."""
        return _as_pair(run(self._autodiff, list(arrays), list(d_y)))

    def reference_error(self, leaf: str, observation: Observation) -> float:
        """How far the reference itself may be off at a leaf: nothing, unless it is made of finite differences."""
        if self.rule.derivative is not by_differences:
            return 0.0
        key = ("error", id(observation.probe))
        if key not in self.judgement.cache:
            arguments = list(observation.probe.arrays), list(observation.probe.d_y)
            self.judgement.cache[key] = as_numpy(run(self._autodiff, *arguments)["error"])
        return 20 * largest(self.judgement.cache[key][leaf])

    def manual(self, arrays: Sequence[Any], d_y: Sequence[Any], eager: bool = False) -> tuple[Values, Values]:
        """Values and cotangents by the rule alone; eager: without ``jit``."""
        if self.traceable and not eager:
            return self.both(arrays, d_y)[1]
        return _as_pair(self.manual_program(*jax.tree.map(on_device, (list(arrays), list(d_y)))))

    def row(self, *row: Any) -> None:
        """Adds a row to the report, from the fields of ``Row``."""
        self.judgement.rows.append(Row(*row))

    def holds(self) -> bool:
        """Whether values and gradients are right so far."""
        rows = self.judgement.rows
        return not self.judgement.wrong_leaves and all(row.ok for row in rows if row.check in ("value", "gradient"))

    def guard(
        self, check: str, function: Callable[[], Any], dtype: str = "float64", refusal_counts: bool = True
    ) -> bool:
        """Calls ``function``; whether it raised nothing.

        What the rule raises becomes a failed row; or a note, where it need not take part in this check. A fault of the
        verifier itself is not blamed on the rule: its row is inconclusive, and the other rows stay.
        """
        self.progress.at(_WHERE.get(check, check))
        try:
            function()
        except Exception as error:
            text = describe_error(error)
            if not refusal_counts and not is_own(error):
                self.judgement.note(f"{_WHERE.get(check, check)}: not checked, as it {text}")
            elif is_own(error):
                self.row("", check, dtype, math.inf, 0.0, "inconclusive", f"the check itself failed: {text}")
            else:
                self.judgement.breaches.append(Breach("", "exception", text))
                self.row("", check, dtype, math.inf, 0.0, "fail", text)
            return False
        return True

    def native_arrays(self) -> list[tuple[str, list[Any]]]:
        """The precisions below float64 that are checked, each with the arguments in it."""
        if self.precisions is not None:
            return [
                (dtype, [self.cast(i, a, dtype) for i, a in enumerate(self.rule.arrays)]) for dtype in self.precisions
            ]
        with self.native():
            arrays = [array if is_key(array) else jnp.asarray(array) for array in self.rule.arrays]
        dtypes = [str(array.dtype) for array in arrays if is_float(array) and not jnp.iscomplexobj(array)]
        narrow = min(dtypes, key=bits, default="float64")
        if bits(narrow) == 64 or not self.traceable:
            return []
        return [(narrow, arrays)]

    def shown_precision(self) -> str | None:
        """The precision below float64 that the function, or a rule for arguments of that precision, passes through."""
        dtypes = [self.reference_dtype]
        narrow = self.judgement.rule_dtype
        if narrow is not None and self.rule.layer is None and self.traceable:
            native = self.native_arrays()
            dtypes += [narrow] if native and bits(native[0][0]) <= bits(narrow) else []
        return min(filter(None, dtypes), key=bits, default=None)

    def cast(self, i: int, array: Any, dtype: str) -> Any:
        """The rule's array number ``i`` in a dtype; parameters stay in float32 where it is narrower."""
        if not is_float(array):
            return array
        is_input = self.rule.leaves[i].split("/")[0] == "x"
        return np.asarray(array).astype(dtype if is_input or bits(dtype) >= 32 else "float32")


def _converges(last: float, largest: float) -> bool:
    """Whether a loop whose last and largest changes are these has converged; a sum of many numbers has not."""
    return last <= 1e-3 and last <= 1e-2 * largest


def _without_missing_leaves(manual: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def program(arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        parts = manual(arrays, d_y)
        return {part: {k: v for k, v in parts[part].items() if v is not MISSING} for part in ("y", "d")}

    return program


def _as_pair(parts: dict[str, Any]) -> tuple[Values, Values]:
    return as_numpy(parts["y"]), as_numpy(parts["d"])


def bits(dtype: str) -> int:
    """The size of a float dtype's numbers."""
    return jnp.finfo(dtype).bits


def on_device(array: Any) -> Any:
    """The array as JAX's."""
    return array if is_key(array) else jnp.asarray(array)


def as_numpy(values: dict[str, Any]) -> Values:
    """Every array in float64, as NumPy's."""
    return {name: to_float64(value) for name, value in values.items()}


def in_float64(array: Any) -> Any:
    """The array in float64 where it holds floats, as it is otherwise."""
    return to_float64(array) if is_float(array) else array if is_key(array) else np.asarray(array)
