"""Whether this machine's compiler computes right numbers: small programs at large sizes, and every rule at one.

A right rule can still give wrong numbers: jaxlib 0.10.2 loses part of a sum of squares from some ten thousand rows on.
The programs are compared with NumPy in float64, in the form that users run: compiled, with the options of
``pipeline.compiler``. Rules are compared with autodiff in another form, operation by operation, in which no reduction,
product or convolution is fused with others.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradient_cases.case import Case
from pipeline import compiler
from pipeline.layers.masking import Masked, MaskedByLength
from pipeline.layers.recurrent import GRU, LSTM, RNN, Bidirectional
from pipeline.verify.make_rule import of_layer
from pipeline.verify.measure import difference, differences, largest
from pipeline.verify.report.report import Report
from pipeline.verify.report.results import Row
from pipeline.verify.rule import outputs
from pipeline.verify.trial import LIMIT

RECURRENT = (RNN, GRU, LSTM, Bidirectional, Masked, MaskedByLength)
RECURRENT_LIMIT = 1e-10
"""The largest relative error of a rule over some hundred time steps; ``LIMIT`` is that of all other rules."""
SIZES = (16_385, 32_769, 1_000_003)
"""From the first two on, jaxlib 0.10.2 is wrong in float64 and in float32."""


@dataclass(frozen=True)
class Program:
    """A computation in JAX and in NumPy.

    compiled, expected: the two functions.
    shapes: those of its arguments. The last ones are integers, as many as ``indices`` has upper bounds.
    terms: how many numbers are added up in one result: rounding grows with their square root.
    fatal: why a process ends that runs it without the project's options.
    """

    name: str
    compiled: Callable[..., Any]
    expected: Callable[..., np.ndarray]
    shapes: tuple[tuple[int, ...], ...]
    terms: int = 1
    indices: tuple[int, ...] = ()
    fatal: compiler.Reason | None = None

    def arguments(self, dtype: str) -> list[np.ndarray]:
        """Floats from 0.5 to 1.5, so that no sum cancels; then the indices."""
        random = np.random.default_rng(len(self.shapes[0]) * self.shapes[0][0])
        floats = self.shapes[: len(self.shapes) - len(self.indices)]
        values = [random.uniform(0.5, 1.5, shape).astype(dtype) for shape in floats]
        places = zip(self.shapes[len(floats) :], self.indices)
        return [*values, *(random.integers(0, high, shape, np.int32) for shape, high in places)]

    def limit(self, dtype: str) -> float:
        """The largest relative error that rounding explains."""
        return float(np.finfo(dtype).eps) * (32 + 4 * self.terms**0.5)

    def report(self, options: Mapping[str, str] | None = None) -> Report:
        """Compares the program with NumPy, in float32 and float64. options: XLA's options; the project's by default."""
        chosen, began = dict(compiler.options() if options is None else options), time.perf_counter()
        if self.fatal and self.fatal.holds(compiler.JAXLIB) and chosen != compiler.options():
            message = f"not run, as it would end this process: {self.fatal.fault} ({self.fatal.issue})"
            return Report(self.name, (_row("y", "compiler", "float32", math.inf, 0.0, message),), (), (), (), 0.0)
        rows = []
        with jax.enable_x64(True):
            run = jax.jit(self.compiled, compiler_options=chosen)
            for dtype in ("float32", "float64"):
                arguments = self.arguments(dtype)
                reference = self.expected(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arguments))
                worst = difference(run(*arguments), reference, largest(reference))
                limit = self.limit(dtype)
                right = worst.relative_error <= limit
                message = "" if right else f"the compiler computes a wrong number {worst}"
                rows.append(_row("y", "compiler", dtype, worst.relative_error, limit, message))
        return Report(self.name, tuple(rows), (), (), (), time.perf_counter() - began)


def _row(leaf: str, check: str, dtype: str, error: float, limit: float, message: str) -> Row:
    return Row(leaf, check, dtype, error, limit, "fail" if message else "pass", message, "as given")


def at_scale(case: Case, options: Mapping[str, str] | None = None) -> Report:
    """Compares a compiled rule in float64 with autodiff of its definition, run operation by operation.

    options: XLA's options for the rule; the project's by default.
    """
    chosen, began = dict(compiler.options() if options is None else options), time.perf_counter()
    with jax.enable_x64(True):
        context = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, case.context())
        rule = of_layer(case.layer, case.params(), case.x, context)
        arrays = [jnp.asarray(array) for array in rule.arrays]
        random = np.random.default_rng(9)
        d_y = [random.normal(size=leaf.shape) for leaf in outputs(jax.eval_shape(rule.define, arrays)).values()]
        manual = jax.jit(rule.manual, compiler_options=chosen)(arrays, d_y)
        autodiff = rule.autodiff(arrays, d_y)
    limit = RECURRENT_LIMIT if isinstance(case.layer, RECURRENT) else LIMIT
    rows = []
    for part, check in (("y", "value"), ("d", "gradient")):
        for leaf, worst in differences(manual[part], autodiff[part]).items():
            message = f"worst {worst}" if not worst.relative_error <= limit else ""
            rows.append(_row(leaf, check, "float64", worst.relative_error, limit, message))
    return Report(case.name, tuple(rows), (), (), (), time.perf_counter() - began)


def _squared_products(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)


def _convolved(x: Any, kernel: Any) -> Any:
    """Convolves images (batch, height, width, channels) without padding."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _convolved_in_numpy(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.tensordot(windows, kernel, ((3, 4, 5), (2, 0, 1)))


def _kernel_gradient(x: Any, d_y: Any) -> Any:
    """Computes ``_convolved``'s gradient by its kernel: a convolution whose windows are as large as an image."""
    numbers = ("CHWN", "IHWO", "HWNC")
    return lax.conv_general_dilated(x, d_y, (1, 1), "VALID", dimension_numbers=numbers)


def _kernel_gradient_in_numpy(x: np.ndarray, d_y: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, d_y.shape[1:3], axis=(1, 2))
    return np.tensordot(windows, d_y, ((0, 4, 5), (0, 1, 2)))


def _added(count: int, values: Any, ids: Any) -> Any:
    return jnp.zeros((count, *values.shape[1:]), values.dtype).at[ids].add(values)


def _added_in_numpy(count: int, values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, ids, values)
    return sums


def _of_rows(n: int) -> Iterator[Program]:
    """Programs over n rows."""
    yield Program(
        f"squared matrix-vector products, {n:,} rows",
        _squared_products,
        lambda matrix, rows: ((rows @ matrix.T) ** 2).sum(1),
        ((3, 3), (n, 3)),
    )
    yield Program(
        f"sums of matrix-vector products, {n:,} rows",
        lambda matrix, rows: jax.vmap(lambda row: (matrix @ row).sum())(rows),
        lambda matrix, rows: (rows @ matrix.T).sum(1),
        ((5, 7), (n, 7)),
    )
    yield Program(f"row sums, {n:,} rows", lambda x: x.sum(1), lambda x: x.sum(1), ((n, 7),))
    yield Program(f"column sums, {n:,} rows", lambda x: x.sum(0), lambda x: x.sum(0), ((n, 7),), terms=n)
    yield Program(f"a sum of {n:,} squares", lambda x: (x * x).sum(), lambda x: (x * x).sum(), ((n,),), terms=n)
    yield Program(f"a product of {n:,} columns", lambda a, b: a @ b, lambda a, b: a @ b, ((5, n), (n, 3)), terms=n)
    yield Program(
        f"variances, {n:,} rows",
        lambda x: jnp.square(x - x.mean(1, keepdims=True)).mean(1),
        lambda x: x.var(1),
        ((n, 7),),
    )
    yield Program(
        f"column variances, {n:,} rows",
        lambda x: jnp.square(x - x.mean(0, keepdims=True)).mean(0),
        lambda x: x.var(0),
        ((n, 7),),
        terms=n,
    )
    yield Program(f"largest of rows, {n:,} rows", lambda x: x.max(1), lambda x: x.max(1), ((n, 7),))
    yield Program(f"largest of columns, {n:,} rows", lambda x: x.max(0), lambda x: x.max(0), ((n, 7),))
    yield Program(
        f"log-sum-exp, {n:,} rows",
        lambda x: jax.scipy.special.logsumexp(x, 1),
        lambda x: np.log(np.exp(x).sum(1)),
        ((n, 7),),
    )
    yield Program(
        f"a scatter of {n:,} rows into 1,009",
        partial(_added, 1_009),
        partial(_added_in_numpy, 1_009),
        ((n, 3), (n,)),
        terms=n // 1_009,
        indices=(1_009,),
    )
    yield Program(
        f"a gather of {n:,} rows from 1,009",
        lambda x, ids: x[ids],
        lambda x, ids: x[ids],
        ((1_009, 3), (n,)),
        indices=(1_009,),
    )


IMAGES = ((67, 31, 29, 3, 5), (67, 31, 29, 24, 22), (5, 101, 203, 33, 17))
"""Batch, height, width, and the channels before and after a convolution."""

PROGRAMS = (
    *(program for n in SIZES for program in _of_rows(n)),
    *(
        program
        for batch, height, width, channels, features in (
            (67, 31, 29, 3, 5),
            (67, 31, 29, 24, 22),
            (5, 101, 203, 33, 17),
        )
        for program in (
            Program(
                f"a convolution of {batch}x{height}x{width}x{channels}",
                _convolved,
                _convolved_in_numpy,
                ((batch, height, width, channels), (3, 3, channels, features)),
                terms=9 * channels,
            ),
            Program(
                f"the gradient of a kernel, {batch}x{height}x{width}x{channels}",
                _kernel_gradient,
                _kernel_gradient_in_numpy,
                ((batch, height, width, channels), (batch, height - 2, width - 2, features)),
                terms=batch * height * width,
            ),
        )
    ),
    Program(
        "a sum along an axis of rank 7",
        lambda a, b: (a * b).sum(3),
        lambda a, b: (a * b).sum(3),
        ((3, 1, 2, 2, 8, 8, 8),) * 2,
        fatal=compiler.HIGH_RANK,
    ),
    Program(
        "a sum along an axis of rank 8",
        lambda a, b: jnp.log((a[..., None, None, None, None, None] * b).sum(2)),
        lambda a, b: np.log((a[..., None, None, None, None, None] * b).sum(2)),
        ((10, 4, 6), (10, 4, 6, 9, 9, 9, 9, 9)),
        fatal=compiler.HIGH_RANK,
    ),
)
