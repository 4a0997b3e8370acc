"""One rule on trial: its two derivatives, and everything that is found out about it."""

import contextlib
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.verify import jaxprs
from pipeline.verify.finite_differences import FiniteDifferences
from pipeline.verify.measure import wide
from pipeline.verify.probes import Probe
from pipeline.verify.report import Row
from pipeline.verify.rule import MISSING, Breach, Rule, is_float, is_key

LIMIT = 1e-11
"""Of the relative error in float64: rounding and no more."""

CHECKS = ("values", "edges", "sizes", "eager", "state", "vmap", "devices", "oracles")
"""What is looked at besides the contract and the gradient at the given arguments; all by default.

values: other values of the same meaning. edges: ties, zeros, large, tiny, equal ids, masks. sizes: others, odd ones,
one example. eager: without ``jit``. state: determinism, and calls that do not depend on earlier ones. vmap: over two
examples. devices: sharded, where there are several. oracles: finite differences, and forward against reverse mode.
"""

UNTRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)
"""What is raised where a rule computes with NumPy, or asks for numbers, while it is traced."""

Values = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Seen:
    """Both derivatives at one probe, in float64: values by output, cotangents by leaf."""

    probe: Probe
    reference: Values
    manual: Values
    y: Values
    manual_y: Values


@dataclass(eq=False)
class Judgement:
    """Everything that was found out about one rule, for the report and for the diagnosis."""

    rule: Rule
    reference: Callable[..., tuple[Values, Values]]
    """``(arrays, d_y) -> values, cotangents`` by autodiff."""
    manual: Callable[..., tuple[Values, Values]]
    """The same by hand."""
    both: Callable[..., tuple[tuple[Values, Values], tuple[Values, Values]]]
    """Both at once, autodiff first."""
    rows: list[Row] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: dict[str, Seen] = field(default_factory=dict)
    """For each leaf whose cotangent is wrong, where it was first seen to be."""
    behaviour: str = ""
    """"not deterministic" or "state", where the rule was caught at it."""
    narrow: str | None = None
    """The narrowest dtype that the rule passes through on its own account."""
    shared: dict[Any, Any] = field(default_factory=dict)
    """What the diagnoses of several leaves have in common, and takes long to compile."""

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class Trial:
    """A rule, its derivatives in float64, and what is found. ``enable_x64`` must be on.

    checks: of ``CHECKS``. precisions: names of dtypes below float64, or None for that of the arguments.
    limit: of the relative error in float64. native: enters the caller's own setting of float64.
    traceable: whether the rule can be traced; one written in NumPy cannot.
    by_hand: the rule's own derivative, without what it leaves out. noisy: both, with random rounding errors.
    reference_narrow: the narrowest dtype that the function itself passes through.
    """

    def __init__(
        self,
        rule: Rule,
        checks: Sequence[str] = CHECKS,
        precisions: Sequence[str] | None = None,
        limit: float = LIMIT,
        seed: int = 0,
        native: Callable[[], Any] = contextlib.nullcontext,
    ) -> None:
        self.rule, self.checks, self.limit, self.seed, self.native = rule, tuple(checks), limit, seed, native
        self.precisions = precisions
        self.random = np.random.default_rng((seed, 1))  # not default_rng(seed), from which inputs may come
        self.traceable = True
        self.reference_narrow: str | None = None
        self.by_hand = _arrays_only(rule.manual)
        self._autodiff = compiler.jit(rule.autodiff)
        self._both = compiler.jit(lambda arrays, d_y: (rule.autodiff(arrays, d_y), self.by_hand(arrays, d_y)))
        self.noisy = [compiler.jit(jaxprs.noisy(rule.autodiff, own_precision=True))]
        if rule.must_jit:
            self.noisy.append(compiler.jit(jaxprs.noisy(self.by_hand, own_precision=False)))
        self.differences = FiniteDifferences(rule)
        self.found = Judgement(rule, self.reference, self.manual, self.both)

    def both(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
        """Values and cotangents, by autodiff and by hand: one program where the rule can be traced."""
        given = list(arrays), list(d_y)
        if self.traceable:
            reference, manual = self._both(*given)
        else:
            reference, manual = self._autodiff(*given), self.by_hand(*jax.tree.map(on_device, given))
        return (as_numpy(reference["y"]), as_numpy(reference["d"])), (as_numpy(manual["y"]), as_numpy(manual["d"]))

    def reference(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> tuple[Values, Values]:
        """By autodiff alone."""
        if self.traceable:
            return self.both(arrays, d_y)[0]  # the program is there
        found = self._autodiff(list(arrays), list(d_y))
        return as_numpy(found["y"]), as_numpy(found["d"])

    def manual(self, arrays: Sequence[Any], d_y: Sequence[Any], eager: bool = False) -> tuple[Values, Values]:
        """By hand alone; eager: without ``jit``."""
        if self.traceable and not eager:
            return self.both(arrays, d_y)[1]
        found = self.by_hand(*jax.tree.map(on_device, (list(arrays), list(d_y))))
        return as_numpy(found["y"]), as_numpy(found["d"])

    def row(self, *row: Any) -> None:
        self.found.rows.append(Row(*row))

    def holds(self) -> bool:
        """Whether values and gradients hold so far."""
        return not self.found.wrong and all(row.ok for row in self.found.rows if row.check in ("value", "gradient"))

    def guard(self, check: str, function: Callable[[], Any], dtype: str = "float64") -> bool:
        """Whether it went through; what the rule raised becomes a failed row."""
        try:
            function()
        except Exception as error:
            if _is_our_own(error):
                # Not the rule's fault, and no reason to lose what else was found.
                self.row("", check, dtype, math.inf, 0.0, "inconclusive", f"the check itself failed: {account(error)}")
            else:
                self.found.breaches.append(Breach("", "exception", account(error)))
                self.row("", check, dtype, math.inf, 0.0, "fail", account(error))
            return False
        return True

    def native_arrays(self) -> list[tuple[str, list[Any]]]:
        """The precisions below float64 in which the rule is held to autodiff's own error, and the arguments in them."""
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

    def cast(self, i: int, array: Any, dtype: str) -> Any:
        if not is_float(array):
            return array
        is_input = self.rule.leaves[i].split("/")[0] == "x"
        return np.asarray(array).astype(dtype if is_input or bits(dtype) >= 32 else "float32")


def _arrays_only(manual: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def arrays(arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        found = manual(arrays, d_y)
        return {part: {k: v for k, v in found[part].items() if v is not MISSING} for part in ("y", "d")}

    return arrays


def bits(dtype: str) -> int:
    return jnp.finfo(dtype).bits


def on_device(array: Any) -> Any:
    return array if is_key(array) else jnp.asarray(array)


def as_numpy(values: dict[str, Any]) -> Values:
    return {name: wide(value) for name, value in values.items()}


def in_float64(array: Any) -> Any:
    return wide(array) if is_float(array) else array if is_key(array) else np.asarray(array)


def _is_our_own(error: Exception) -> bool:
    """Whether it was raised in the check's own code, and not in what it calls on the author's behalf."""
    here = Path(__file__)
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    own = [file for file in frames if not {"jax", "jaxlib", "numpy", "jaxtyping"} & set(file.parts) and file.is_file()]
    return bool(own) and own[-1].parent == here.parent and own[-1].name not in ("rule.py", "jaxprs.py")


def account(error: Exception) -> str:
    """What was raised, and the last line of the author's own code on the way there."""
    ours = Path(__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith("<")
        if Path(frame.filename).parent != ours
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:500]}{where}"
