"""The check of a layer's hand-written derivative: leaf by leaf, against autodiff of its definition in float64."""

import dataclasses
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.layers.base import Context, Layer, PyTree
from pipeline.verify.contract import breaches, floats, is_float, is_none, spread_none
from pipeline.verify.measure import Difference, differences, largest
from pipeline.verify.report import Report, Row

LIMIT = 1e-11
"""Of the relative error in float64: rounding and no more."""


def verify(
    layer: Layer,
    params: PyTree,
    x: PyTree,
    context: Context = Context(),  # noqa: B008  (frozen)
    *,
    precisions: Sequence[str] = ("float32",),
    transforms: Sequence[str] = ("eager", "vmap"),
    limit: float = LIMIT,
    seed: int = 0,
) -> Report:
    """Compares ``layer``'s hand-written rule with what autodiff derives from its definition, at ``params`` and ``x``.

    A loss or an ``Objective`` is a layer like any other; its x is (inputs, targets). The checks:

        contract         structure, shapes and dtypes of d_params, d_x and ``statistics``; only arrays as residuals
        value            ``forward`` gives what ``apply`` gives
        gradient         every leaf of d_params and d_x, for a random cotangent
        zero cotangent   gives exactly zero
        linearity        the cotangents of a sum of two d_y are the sum of theirs
        eager, vmap      the same without ``jit``, and under ``vmap``

    All are made in float64, whether or not the caller's program has it switched on, with relative errors of at most
    ``limit``. In each of ``precisions`` value and gradient are measured against autodiff in float64 on the same inputs
    and random units, and may err at most twice as much as autodiff in that precision, plus 4 eps.

    precisions: names of dtypes. "bfloat16" is that of the inputs; parameters stay in float32.
    transforms: of "eager" and "vmap", which to check; both take long for a large model.
    limit: long recurrences may need 1e-10.
    seed: of the cotangents. They come from a stream of their own, which inputs of the same seed do not share.

    What a rule raises becomes a failed row. A rule that breaks its contract is not measured.
    """
    with jax.enable_x64(True):
        context = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, context)
        rows = [row for dtype in ("float64", *precisions) for row in _contract(layer, params, x, context, dtype)]
        if all(row.ok for row in rows):
            comparison = _Comparison(layer, params, x, context, limit, seed)
            rows += _guarded("gradient", "float64", comparison.in_float64)
            for transform in transforms:
                rows += _guarded(transform, "float64", {"eager": comparison.eager, "vmap": comparison.vmap}[transform])
            for dtype in precisions:
                rows += _guarded("gradient", dtype, lambda dtype=dtype: comparison.in_precision(dtype))
    return Report(describe(layer), tuple(rows))


def describe(layer: Layer) -> str:
    """The layer as it would be written: fields that have their defaults are left out."""
    shown = [
        f"{field.name}={_describe_value(value)}"
        for field in dataclasses.fields(layer)  # pyright: ignore[reportArgumentType]  (every layer is a dataclass)
        if (value := getattr(layer, field.name)) is not field.default and value != field.default
    ]
    return f"{type(layer).__name__}({', '.join(shown)})"


def _describe_value(value: Any) -> str:
    if isinstance(value, Layer):
        return describe(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe_value, value))}{',' * (len(value) == 1)})"
    return getattr(value, "__name__", None) or repr(value)


def _contract(layer: Layer, params: PyTree, x: PyTree, context: Context, dtype: str) -> Iterator[Row]:
    given = _cast(params, _of_parameters(dtype)), _cast(x, dtype)
    try:
        found = breaches(layer, *given, context)
    except Exception as error:
        found = [("", _account(error))]
    if not found:
        yield Row("", "contract", dtype, 0.0, 0.0, True)
    for leaf, message in found:
        yield Row(leaf, "contract", dtype, math.inf, 0.0, False, message)


class _Comparison:
    """Both derivatives of one layer at one input, in one program for a precision: compiling takes most of the time."""

    def __init__(self, layer: Layer, params: PyTree, x: PyTree, context: Context, limit: float, seed: int) -> None:
        self.layer, self.context, self.limit = layer, context, limit
        self.params, self.x = _cast(params, "float64"), _cast(x, "float64")
        random = np.random.default_rng((seed, 1))  # not default_rng(seed), from which inputs may come
        y = floats(jax.eval_shape(layer.apply, self.params, self.x, context))
        self.d_y, self.other_d_y = (jax.tree.map(lambda leaf: random.normal(size=leaf.shape), y) for _ in range(2))
        self.both = jax.jit(lambda *given: (self._autodiff(*given), self._manual(*given)))

    def _autodiff(self, params: PyTree, x: PyTree, d_y: PyTree) -> PyTree:
        y, pull_back = jax.vjp(lambda params, x: self.layer.apply(params, x, self.context), params, x)
        no_gradient = lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0)  # noqa: E731
        d_y = jax.tree.map(lambda d, leaf: no_gradient(leaf) if d is None else d, d_y, y, is_leaf=is_none)
        d_params, d_x = pull_back(d_y)
        return {"y": floats(y), "params": floats(d_params), "x": floats(d_x)}

    def _manual(self, params: PyTree, x: PyTree, d_y: PyTree) -> PyTree:
        y, residuals = self.layer.forward(params, x, self.context)
        d_params, d_x = self.layer.backward(params, residuals, d_y)
        return {"y": floats(y), "params": _filled(d_params, params), "x": _filled(d_x, x)}

    def in_float64(self) -> Iterator[Row]:
        reference, one = self.both(self.params, self.x, self.d_y)
        manual = lambda d_y: self.both(self.params, self.x, d_y)[1]  # noqa: E731
        yield from self._rows("value", _values(one, reference))
        yield from self._rows("gradient", _cotangents(one, reference))
        of_zero = manual(jax.tree.map(np.zeros_like, self.d_y))
        yield from self._rows("zero cotangent", _cotangents(of_zero, jax.tree.map(np.zeros_like, of_zero)), limit=0.0)
        of_sum, summed = manual(_mix(self.d_y, self.other_d_y)), _mix(one, manual(self.other_d_y))
        yield from self._rows("linearity", _cotangents(of_sum, summed))

    def eager(self) -> Iterator[Row]:
        reference, _ = self.both(self.params, self.x, self.d_y)
        found = self._manual(*jax.tree.map(jnp.asarray, (self.params, self.x, self.d_y)))
        yield from self._rows("eager", _cotangents(found, reference))

    def vmap(self) -> Iterator[Row]:
        """Over two inputs, x and x with its first axis reversed, each with a cotangent of its own."""
        both = _stack(
            (self.x, self.d_y),
            (jax.tree.map(lambda leaf: np.flip(leaf, 0) if leaf.ndim else leaf, self.x), self.other_d_y),
        )
        found = jax.jit(jax.vmap(self._manual, in_axes=(None, 0, 0)))(self.params, *both)
        one, other = (self.both(self.params, *jax.tree.map(lambda leaf, i=i: leaf[i], both))[0] for i in (0, 1))
        yield from self._rows("vmap", _cotangents(found, _stack(one, other)))

    def in_precision(self, dtype: str) -> Iterator[Row]:
        params, x = _cast(self.params, _of_parameters(dtype)), _cast(self.x, dtype)
        y = floats(jax.eval_shape(self.layer.apply, params, x, self.context))
        given = params, x, jax.tree.map(lambda d, leaf: d.astype(leaf.dtype), self.d_y, y)
        reference, _ = self.both(*_cast(given, "float64"))
        derived, found = self.both(*given)
        rounding = 4 * float(jnp.finfo(dtype).eps)
        for check, compare in (("value", _values), ("gradient", _cotangents)):
            own = compare(derived, reference)
            for leaf, difference in compare(found, reference).items():
                yield _row(leaf, check, dtype, difference, 2 * own[leaf].relative_error + rounding)

    def _rows(self, check: str, found: dict[str, Difference], limit: float | None = None) -> Iterator[Row]:
        for leaf, difference in found.items():
            yield _row(leaf, check, "float64", difference, self.limit if limit is None else limit)


def _guarded(check: str, dtype: str, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """The rows up to an exception, and a failed row in its place."""
    try:
        yield from rows()
    except Exception as error:
        yield Row("", check, dtype, math.inf, 0.0, False, _account(error))


def _row(leaf: str, check: str, dtype: str, difference: Difference, limit: float) -> Row:
    # Written so that NaN fails; a reference that is not a number must not pass as the limit of itself.
    ok = difference.relative_error <= limit < math.inf
    worst = f"worst at {list(difference.index)}: {difference.value:.17g}, and {difference.reference:.17g} was expected"
    return Row(leaf, check, dtype, difference.relative_error, limit, ok, "" if ok else worst)


def _account(error: Exception) -> str:
    """What was raised, and the last line of the layer's own code on the way there."""
    ours = Path(__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith("<")
        if Path(frame.filename).parent != ours
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:500]}{where}"


def _values(found: PyTree, expected: PyTree) -> dict[str, Difference]:
    return differences({"y": found["y"]}, {"y": expected["y"]})


def _cotangents(found: PyTree, expected: PyTree) -> dict[str, Difference]:
    """An input belongs to the layer as a whole: it is measured beside all its parameters."""
    of_x = differences({"x": found["x"]}, {"x": expected["x"]}, largest(expected["params"]))
    return differences(found["params"], expected["params"]) | of_x


def _filled(cotangent: PyTree, primal: PyTree) -> PyTree:
    """None where the primal is not a float, and zeros where it is and None stands for a gradient that does not flow."""
    zeros = lambda d, leaf: jnp.zeros_like(leaf) if d is None and is_float(leaf) else d  # noqa: E731
    return jax.tree.map(zeros, spread_none(cotangent, primal), primal, is_leaf=is_none)


def _cast(tree: PyTree, dtype: str) -> PyTree:
    def cast(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return array.astype(dtype) if is_float(array) else array

    return jax.tree.map(cast, tree)


def _of_parameters(dtype: str) -> str:
    """Parameters stay in float32 where the inputs are narrower."""
    return "float32" if jnp.finfo(dtype).bits < 32 else dtype


def _mix(one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: 0.75 * np.asarray(a) - 1.5 * np.asarray(b), one, other)


def _stack(one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), one, other)
