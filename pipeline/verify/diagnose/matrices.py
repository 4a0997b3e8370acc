"""Mistakes in the derivatives of matrix operations, of complex ones, and of interpolation with fixed weights."""

from collections.abc import Callable, Iterator

import numpy as np

from ..programs.flow import Value
from .evidence import At
from .operands import exchange
from .sites import Finding, Site, Sites
from .suspect import largest

_INVERTING = ("lu", "cholesky", "custom_linear_solve", "triangular_solve")


def factorised(sites: Sites) -> Iterator[Finding]:
    """Solves and factorisations: one side untransposed, a diagonal that is not halved."""
    flow = sites.evidence.flow
    if not any(operation.primitive in _INVERTING for operation in flow.operations):
        return
    square = [v for v in flow.values if v.is_float and _is_square(v) and v.number in sites.first.values]
    for site in sites.places:
        if not _is_square(site.value):
            continue
        for value in square:
            if value.shape != site.value.shape:
                continue
            for words, change in _SIDES:

                def predict(
                    at: At, site: Site = site, value: Value = value, change: Callable = change
                ) -> np.ndarray | None:
                    gradient, matrix = site.gradient(at), at.values[value.number]
                    if np.linalg.cond(matrix) > 1e8:
                        return None
                    return sites.response(at, site, change(gradient, matrix) - gradient)

                text = f"{site.words}: its {words} factor, {value.name}, is not transposed"
                yield from sites.finding("transposed", text, 1.9, predict)
    for operation in flow.operations:
        if operation.primitive == "cholesky" and operation.uses[0].value.active and not operation.results[0].steps:
            use, result = operation.uses[0], operation.results[0]
            for words, phi in _TRIANGLES:

                def unhalved(at: At, use=use, result=result, phi: Callable = phi) -> np.ndarray:
                    factor, gradient = np.tril(at.values[result.number]), np.tril(at.total[result.number])
                    inverse = np.linalg.inv(factor)
                    middle = np.swapaxes(factor, -1, -2) @ gradient
                    new = np.swapaxes(inverse, -1, -2) @ phi(middle) @ inverse
                    return sites.evidence.response(at, use.value, new - at.through[use.number])

                text = f"in the derivative of {operation}, of Phi(L^T d_L), {words}"
                yield from sites.finding("doubled term", text, 1.6, unhalved)


_SIDES: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]], ...] = (
    ("right", lambda d, x: d @ np.linalg.inv(np.swapaxes(x, -1, -2)) @ x),
    ("right", lambda d, x: d @ np.linalg.inv(x) @ np.swapaxes(x, -1, -2)),
    ("left", lambda d, x: x @ np.linalg.inv(np.swapaxes(x, -1, -2)) @ d),
    ("left", lambda d, x: np.swapaxes(x, -1, -2) @ np.linalg.inv(x) @ d),
)
_TRIANGLES: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("the diagonal is not halved", np.tril),
    ("the diagonal is left out", lambda m: np.tril(m, -1)),
    ("the upper triangle is not cut away", lambda m: m),
    ("the upper triangle is taken instead of the lower", lambda m: np.triu(m)),
    ("half of the whole is taken instead of the triangle", lambda m: m / 2),
)


def _is_square(value: Value) -> bool:
    shape = value.shape[len(value.steps) :]
    return not value.steps and len(shape) >= 2 and shape[-1] == shape[-2] > 1


def conjugated(sites: Sites) -> Iterator[Finding]:
    """A complex product whose derivative has the other operand conjugated, or not, of one operand or of both."""
    for operation in sites.evidence.flow.operations:
        if operation.primitive != "mul" or not operation.results[0].active:
            continue
        result = operation.results[0]
        if not np.issubdtype(result.dtype, np.complexfloating) or len({u.value.number for u in operation.uses}) < 2:
            continue
        active = [use for use in operation.uses if use.value.active]
        for group in [active, *([use] for use in active if len(active) > 1)]:

            def predict(at: At, group=group, operation=operation, result=result) -> np.ndarray:
                total = np.zeros_like(at.error)
                for use in group:
                    other = sites.evidence.value_at(at, operation.uses[1 - use.place])
                    change = at.total[result.number] * np.conj(other)
                    narrow = tuple(i for i, size in enumerate(use.shape) if size < change.shape[i])
                    change = change.sum(narrow, keepdims=True) - at.through[use.number]
                    total = total + sites.evidence.response(at, use.value, change)
                return total

            text = f"in the derivative of {operation} the other operand is not conjugated (or once too often)"
            yield from sites.finding("as if", text, 1.2, predict)


def interpolated(sites: Sites) -> Iterator[Finding]:
    """A product with fixed weights, of which the backward pass uses those of another convention."""
    for operation in sites.evidence.flow.operations:
        if operation.primitive != "dot_general" or operation.results[0].steps:
            continue
        for use in operation.uses:
            other = operation.uses[1 - use.place]
            if not use.value.active or other.value.active or len(other.shape) != 2:
                continue
            site = next((s for s in sites.all if s.use is use), None)
            weights = sites.evidence.value_at(sites.first, other)
            if site is None or largest(weights) == 0:
                continue
            for turn in (np.asarray, np.transpose):
                count, size = turn(weights).shape
                for words, matrix in _conventions(count, size):

                    def predict(at: At, site=site, matrix=matrix, turn: Callable = turn) -> np.ndarray:
                        return sites.response(at, site, exchange(at, site, turn(matrix)))

                    text = f"in the derivative of {operation} the weights are those of another convention: {words}"
                    yield from sites.finding("other function", text, 1.5, predict)


def _conventions(count: int, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Words and matrix (count, size) of ways to interpolate ``size`` numbers at ``count`` places."""
    if count < 2 or size < 2:
        return
    places = np.arange(count)
    for words, at in positions(places, count, size):
        hat = np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(size)))
        yield f"linear, {words}", hat
        yield f"nearest, {words}", np.eye(size)[np.clip(np.round(at).astype(int), 0, size - 1)]
        yield f"nearest below, {words}", np.eye(size)[np.clip(np.floor(at).astype(int), 0, size - 1)]
        with np.errstate(all="ignore"):
            normal = hat / hat.sum(0)
        if np.isfinite(normal).all():
            yield f"linear, {words}, normalised for each input", normal


def positions(places: np.ndarray, count: int, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Words and the position in the input of each place of the output."""
    yield "the corners aligned (align_corners=True)", places * (size - 1) / (count - 1)
    half = (places + 0.5) * size / count - 0.5
    yield "half-pixel centres (align_corners=False)", np.clip(half, 0, size - 1)
    yield "half-pixel centres, not held at the border", half
    yield "asymmetric (no half pixel)", np.clip(places * size / count, 0, size - 1)
