"""Changes of one operation's derivative: another factor, operand, slope or branch; a map that is not transposed."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import compiler
from ..programs.flow import Operation, Use, Value
from ..rule import is_float
from .evidence import At
from .numbers import describe_number
from .sites import Finding, Site, Sites
from .suspect import largest, spread_over

_TRANSFORMED: tuple[tuple[str, Callable[[np.ndarray], np.ndarray], float], ...] = (
    ("{}", lambda w: w, 0.0),
    ("1/{}", lambda w: 1 / w, 0.1),
    ("{} squared", lambda w: w * w, 0.4),
    ("1/{} squared", lambda w: 1 / (w * w), 0.5),
    ("1 - {}", lambda w: 1 - w, 0.4),
    ("1 - {} squared", lambda w: 1 - w * w, 0.5),
    ("{0} (1 - {0})", lambda w: w * (1 - w), 0.5),
    ("1/(1 - {} squared)", lambda w: 1 / (1 - w * w), 0.6),
    ("1/({0} (1 - {0}))", lambda w: 1 / (w * (1 - w)), 0.6),
    ("the root of {}", lambda w: np.sqrt(w), 0.6),
    ("1/the root of {}", lambda w: 1 / np.sqrt(w), 0.6),
    ("exp({})", lambda w: np.exp(w), 0.7),
    ("sigmoid({})", lambda w: 1 / (1 + np.exp(-w)), 0.7),
    ("1/sigmoid({})", lambda w: 1 + np.exp(-w), 0.7),
)
"""What a value may be taken for, each with its words and how far-fetched it is."""


class Factors:
    """Arrays by which a gradient of one shape may be multiplied: the program's values, and functions of them."""

    def __init__(self, sites: Sites, shape: tuple[int, ...], steps: tuple[int, ...], most: int = 60) -> None:
        self._sites, self.shape = sites, shape
        values: list[Value] = []
        seen: list[np.ndarray] = []
        for value in sites.evidence.flow.values:
            array = self._array(sites.first, value)
            constant = array is not None and not value.active and not largest(array - array.flat[0])
            if array is None or constant or len(values) >= most:
                continue
            if not any(largest(array - other) <= 1e-12 * largest(array) for other in seen):
                seen.append(array)
                values.append(value)
        self.values = values
        self.names = [
            (number, transform, words.format(value.name), 2.0 + cost + 0.002 * number)
            for number, value in enumerate(values)
            for transform, (words, _, cost) in enumerate(_TRANSFORMED)
        ]
        with np.errstate(all="ignore"):
            self.matrix = np.array([self.array(sites.first, i).reshape(-1) for i in range(len(self.names))])

    def _array(self, at: At, value: Value) -> np.ndarray | None:
        if value.number not in at.values or not value.is_float or np.iscomplexobj(at.values[value.number]):
            return None
        array = at.values[value.number]
        if not np.isfinite(array).all():
            return None
        return np.broadcast_to(array, self.shape) if array.size == 1 else spread_over(array, self.shape)

    def array(self, at: At, i: int) -> np.ndarray:
        number, transform = self.names[i][:2]
        array = self._array(at, self.values[number])
        if array is None:
            return np.full(self.shape, np.nan)
        with np.errstate(all="ignore"):
            return _TRANSFORMED[transform][1](array)


def multiplied(sites: Sites) -> Iterator[Finding]:
    """The gradient at one place multiplied by a value of the program, or the operation's derivative being one."""
    known: dict[tuple, Factors] = {}
    for site in sites.places:
        if np.iscomplexobj(site.gradient(sites.first)) or not site.value.shape:
            continue
        yield from _unmultiplied(sites, site)
        key = site.value.shape
        if key not in known:
            known[key] = Factors(sites, site.value.shape, site.value.steps)
        factors = known[key]
        if not factors.names:
            continue
        yield from _products(sites, site, factors, site.gradient, own=False)
        if site.use is not None and site.operation is not None and len(site.operation.results) == 1:
            (result,) = site.operation.results
            if result.shape == site.value.shape and site.operation.primitive not in ("add", "sub", "copy", "neg"):
                yield from _products(sites, site, factors, lambda at, r=result: at.total[r.number], own=True)


def _unmultiplied(sites: Sites, site: Site) -> Iterator[Finding]:
    """A product's derivative without its other operand, a quotient's without divisor, a function's without slope."""
    operation = site.operation
    if site.use is None or operation is None or len(operation.results) != 1:
        return
    (result,) = operation.results
    if result.shape != site.value.shape or operation.primitive in ("add", "sub", "copy", "neg"):
        return
    others = [use.value.name for use in operation.uses if use is not site.use]
    if any(use.literal is not None for use in operation.uses):
        return  # a number, which ``scaled`` finds
    text = f"the derivative of {operation} is missing, as if the operation were the identity"
    if operation.primitive in ("mul", "div"):
        text = f"in the derivative of {operation} the other operand, {others[0]}, is missing as a factor"

    def predict(at: At) -> np.ndarray:
        return sites.response(at, site, at.total[result.number] - site.gradient(at))

    yield from sites.finding("missing factor", text, 1.75, predict)


def _products(
    sites: Sites, site: Site, factors: Factors, gradient: Callable[[At], np.ndarray], own: bool
) -> Iterator[Finding]:
    """own: whether the factor takes the place of the operation's own derivative."""
    first, size = sites.first, int(np.prod(site.value.shape))
    matrix = factors.matrix
    jacobian = first.jacobian[site.value.number].reshape(len(first.error), size)
    base = np.real(jacobian @ site.gradient(first).reshape(size))
    with np.errstate(all="ignore"):
        responses = np.real((jacobian * gradient(first).reshape(size)) @ matrix.T)
        wanted = first.error + base
        matches: dict[int, float] = {}
        for leaf in sites.evidence.wrong:
            here = sites.rows(leaf)
            if largest(base[here]) <= 1e-9 * largest(first.scale[here]):
                continue
            norms = (responses[here] ** 2).sum(0)
            share = (responses[here] * wanted[here, None]).sum(0) / norms
            apart = np.abs(share * responses[here] - wanted[here, None]).max(0)
            good = apart <= 1e-7 * largest(wanted[here]) if largest(wanted[here]) > 1e-9 * largest(base[here]) else []
            for i in np.flatnonzero(good):
                matches.setdefault(int(i), float(share[i]))
    for i, share in matches.items():
        words, cost = _scale_words(sites, share)
        if cost is None:
            continue
        name = factors.names[i]

        def predict(at: At, i: int = i, share: float = share) -> np.ndarray:
            new = share * gradient(at) * factors.array(at, i)
            return sites.response(at, site, new - site.gradient(at))

        value, transform = factors.values[name[0]], name[1]
        if own:
            kind, text = _operand_words(site, value, transform, f"{words}{name[2]}")
            yield from sites.finding(kind, text, name[3] + cost, predict)
        else:
            kind, text = _factor_words(sites, site, value, transform, name[2], words)
            yield from sites.finding(kind, text, name[3] + cost + 0.2, predict)


def _operand_words(site: Site, value: Value, transform: int, factor: str) -> tuple[str, str]:
    """Kind and words where ``factor`` is used as the derivative of the site's operation."""
    operation = site.operation
    assert operation is not None and site.use is not None
    if len(operation.uses) == 1:
        return "other function", f"the slope of {operation} is taken as {factor}"
    others = [use.value for use in operation.uses if use is not site.use]
    divisors = {id(v.made_by.uses[0].value) for v in others if v.made_by and v.made_by.primitive == "broadcast_in_dim"}
    own = value in others or id(value) in divisors
    if operation.primitive == "mul" and own and _TRANSFORMED[transform][0] == "1/{}":
        return "extra factor", f"in the derivative of {operation} it is divided by {value.name} instead of multiplied"
    return "as if", f"in the derivative of {operation} {factor} is used instead of the other operand"


def _scale_words(sites: Sites, share: float) -> tuple[str, float | None]:
    if abs(share - 1) <= 1e-7:
        return "", 0.0
    if abs(share + 1) <= 1e-7:
        return "-1 times ", 0.5
    number = describe_number(share, sites.evidence.rule, sites.first.observation)
    simple = any(abs(abs(share) - n) <= 1e-7 * n for k in range(2, 17) for n in (float(k), 1 / k))
    return (f"{share:.6g} times ", 0.8) if simple or "=" in number else ("", None)


def _factor_words(sites: Sites, site: Site, value: Value, transform: int, name: str, scale: str) -> tuple[str, str]:
    """Kind and words of a gradient that is multiplied by a value of the program, transformed."""
    divisor = any(
        use.operation is not None and use.operation.primitive == "div" and use.place == 1
        for use in _readers(sites, value)
    )
    words = _TRANSFORMED[transform][0]
    inverse = words.startswith("1/")
    beside = f", and {scale.removesuffix(' times ')} is a factor" if scale else ""
    if words == "{}" and np.isin(sites.first.values[value.number], (0, 1)).all():
        return "missing term", f"{site.words} counts only where {value.name} is 1{beside}"
    if divisor and words in ("{}", "1/{}"):
        if inverse:
            return "extra factor", f"divided by {value.name} once too often{beside}: {site.words}"
        return "missing factor", f"the division by {value.name} is missing{beside}: in {site.words}"
    if inverse:
        return "missing factor", f"the factor {name.removeprefix('1/')} is missing{beside}: in {site.words}"
    return "extra factor", f"multiplied by {name} once too often{beside}: {site.words}"


def _readers(sites: Sites, value: Value) -> list[Use]:
    """The uses of a value, also after it was broadcast."""
    uses = [use for use in sites.evidence.flow.uses if use.value is value]
    moved = [u for u in uses if u.operation and u.operation.primitive in ("broadcast_in_dim", "reshape", "squeeze")]
    return uses + [reader for u in moved if u.operation for reader in _readers(sites, u.operation.results[0])]


def exchanged(sites: Sites) -> Iterator[Finding]:
    """A matrix product's derivative with another value of the same shape in place of its other operand."""
    flow = sites.evidence.flow
    for site in sites.places:
        operation = site.operation
        if site.use is None or operation is None or operation.primitive != "dot_general":
            continue
        other = operation.uses[1 - site.use.place]
        for value in flow.values:
            if value.number not in sites.first.values or not value.is_float or len(value.steps) != len(other.steps):
                continue
            array = sites.first.values[value.number]
            for words, turn in (("", lambda a: a), (", transposed,", lambda a: np.swapaxes(a, -1, -2))):
                if array.ndim < 2 + len(value.steps) and words:
                    continue
                if turn(array).shape != other.shape or (value is other.value and not words):
                    continue

                def predict(at: At, site: Site = site, value: Value = value, turn: Callable = turn) -> np.ndarray:
                    return sites.response(at, site, exchange(at, site, turn(at.values[value.number])))

                what = "the other operand" if value is other.value else f"the value of {value.name}"
                instead = "instead of itself" if value is other.value else "instead of the other operand"
                text = f"in the derivative of {operation} {what}{words} is used {instead}"
                yield from sites.finding("transposed" if words else "as if", text, 2.3 + 0.2 * bool(words), predict)


def exchange(at: At, site: Site, partner: np.ndarray) -> np.ndarray:
    """The change of a gradient through a matrix product with this array in place of the other operand."""
    assert site.operation is not None and site.use is not None
    total = at.total[site.operation.results[0].number]
    return _product_transposed(site.operation, site.use.place, total, partner) - site.gradient(at)


def _product_transposed(operation: Operation, place: int, gradient: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The gradient by one operand of a ``dot_general``, of the result's gradient and the other operand."""
    (left, right), (left_batch, right_batch) = operation.equation.params["dimension_numbers"]
    steps = len(operation.results[0].steps)
    of_steps = [chr(ord("A") + i) for i in range(steps)]
    names = [[""] * len(use.value.shape[len(use.value.steps) :]) for use in operation.uses]  # a letter for each axis
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    result = []
    for i, j in zip(left_batch, right_batch):
        names[0][i] = names[1][j] = next(letters)
        result.append(names[0][i])
    for i, j in zip(left, right):
        names[0][i] = names[1][j] = next(letters)
    for own in names:
        for i, name in enumerate(own):
            if not name:
                own[i] = next(letters)
                result.append(own[i])
    spell = lambda parts: "".join([*of_steps, *parts])  # noqa: E731
    return np.einsum(f"{spell(result)},{spell(names[1 - place])}->{spell(names[place])}", gradient, partner)


def routed(sites: Sites) -> Iterator[Finding]:
    """A maximum, minimum or selection whose gradient takes one branch alone, both, or the other."""
    for operation in sites.evidence.flow.operations:
        if operation.primitive not in ("max", "min", "select_n", "clamp") or not operation.results[0].active:
            continue
        result = operation.results[0]
        branches = [u for u in operation.uses if u.value.active and u.shape == result.shape]
        name = {"max": "the maximum", "min": "the minimum", "clamp": "the clipping"}.get(
            operation.primitive, "the choice"
        )
        for share in {tuple(float(i == j) for j in range(len(branches))) for i in range(len(branches))} | {
            (1.0,) * len(branches)
        }:

            def predict(at: At, share: tuple[float, ...] = share, result: Value = result, branches=branches) -> Any:
                whole, total = at.total[result.number], np.zeros_like(at.error)
                for part, use in zip(share, branches):
                    change = part * whole - at.through[use.number]
                    total = total + sites.evidence.response(at, use.value, change)
                return total

            if len(branches) == 1:
                words = "passes wherever it is, also where it is held back (clipped or masked)"
            elif all(share):
                words = "passes to both of its branches everywhere"
            else:
                words = f"passes to {branches[share.index(1.0)].value.name} everywhere, and to the other nowhere"
            text = f"the gradient through {name}, {operation}, {words}"
            yield from sites.finding("other function", text, 1.7, predict)


def clipped(sites: Sites) -> Iterator[Finding]:
    """A gradient that passes through a maximum of a minimum, or the other way round, where the value is held."""
    evidence = sites.evidence
    for outer in evidence.flow.operations:
        inner = next((use.value.made_by for use in outer.uses if use.value.made_by), None)
        pair = {outer.primitive, inner.primitive if inner else ""}
        if pair != {"max", "min"} or inner is None or not outer.results[0].active:
            continue
        for use in (each for each in inner.uses if each.value.active):

            def predict(at: At, use: Use = use, result: Value = outer.results[0]) -> np.ndarray:
                return evidence.response(at, use.value, at.total[result.number] - at.through[use.number])

            text = f"the gradient passes through {inner} and {outer} also where the value is clipped"
            yield from sites.finding("other function", text, 1.5, predict)


def totals(sites: Sites) -> Iterator[Finding]:
    """The whole sum in place of the cumulative one."""
    for operation in sites.evidence.flow.operations:
        use, result = operation.uses[0] if operation.uses else None, operation.results[0]
        if operation.primitive != "cumsum" or use is None or not use.value.active:
            continue
        axis = operation.equation.params["axis"] + len(result.steps)

        def predict(at: At, use: Use = use, result: Value = result, axis: int = axis) -> np.ndarray:
            whole = np.broadcast_to(at.total[result.number].sum(axis, keepdims=True), use.shape)
            return sites.evidence.response(at, use.value, whole - at.through[use.number])

        text = f"in the derivative of {operation} the sum over all of axis {axis} is used instead of the cumulative one"
        yield from sites.finding("extra sum", text, 1.4, predict)


_LINEAR = (
    "cumsum", "conv_general_dilated", "fft", "triangular_solve", "custom_linear_solve", "dot_general", "scan",
    "reduce_window_sum",
)  # fmt: skip


def untransposed(sites: Sites) -> Iterator[Finding]:
    """An operation's linear map in place of its transpose: time not reversed, a kernel not flipped, A for A^T."""
    for operation in sites.evidence.flow.operations:
        if operation.primitive not in _LINEAR or operation.results[0].steps:
            continue
        for result in operation.results:
            for use in operation.uses:
                if not (use.value.active and result.active and use.shape == result.shape and len(use.shape)):
                    continue
                if use.value.dtype != result.dtype or np.prod(use.shape) > 4096:
                    continue
                forward = _forward_map(sites, operation, use, operation.results.index(result))

                def predict(at: At, use: Use = use, result: Value = result, forward: Callable = forward) -> np.ndarray:
                    change = forward(at, at.total[result.number]) - at.through[use.number]
                    return sites.evidence.response(at, use.value, change)

                text = f"the linear map of {operation} is used instead of its transpose"
                words = {"cumsum": ": the sum is not reversed", "scan": ": its steps are not reversed in time"}
                words |= {"conv_general_dilated": ": the kernel is not flipped", "fft": ": it is not conjugated"}
                words |= dict.fromkeys(("triangular_solve", "custom_linear_solve"), ": A is not transposed")
                text += words.get(operation.primitive, "")
                kind = "flipped" if operation.primitive in ("cumsum", "scan") else "transposed"
                yield from sites.finding(kind, text, 1.3, predict)
                if "solve" in operation.primitive and len(use.shape) <= 2:
                    yield from _solved_untransposed(sites, operation, use, result, forward, text)


def _forward_map(sites: Sites, operation: Operation, use: Use, number: int) -> Callable[[At, np.ndarray], np.ndarray]:
    equation = operation.equation

    def of_floats(floats: list[Any], rest: list[Any]) -> Any:
        operands = [own if own is not None else other for own, other in zip(floats, rest)]
        results = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
        return (results if equation.primitive.multiple_results else [results])[number]

    derivative = compiler.jit(lambda floats, rest, d: jax.jvp(lambda f: of_floats(f, rest), (floats,), (d,))[1])

    def forward(at: At, gradient: np.ndarray) -> np.ndarray:
        operands = [jnp.asarray(sites.evidence.value_at(at, each)) for each in operation.uses]
        floats = [operand if is_float(operand) else None for operand in operands]
        rest = [None if is_float(operand) else operand for operand in operands]
        change = [None if operand is None else jnp.zeros_like(operand) for operand in floats]
        change[use.place] = jnp.asarray(gradient)
        return np.asarray(derivative(floats, rest, change))

    return forward


def _solved_untransposed(
    sites: Sites, operation: Operation, use: Use, result: Value, forward: Callable, text: str
) -> Iterator[Finding]:
    """The solution with A in place of its transpose, which all other gradients of the operation are made of."""

    def predict(at: At) -> np.ndarray | None:
        gradient = at.total[result.number]
        flat = np.eye(gradient.size).reshape(gradient.size, *gradient.shape)
        matrix = np.stack([forward(at, row).reshape(-1) for row in flat], 1)
        wrong = np.linalg.solve(matrix.T, matrix @ gradient.reshape(-1)).reshape(gradient.shape)
        return sites.evidence.response(at, result, wrong - gradient)

    yield from sites.finding("transposed", text, 1.1, predict)


def overwritten(sites: Sites) -> Iterator[Finding]:
    """Rows that are read several times, by ids given or computed: their gradients overwritten in place of added."""
    flow = sites.evidence.flow
    readers: dict[int, list[Operation]] = {}
    for operation in flow.operations:
        reads = operation.primitive in ("gather", "dynamic_slice") and operation.uses[0].value.active
        if reads and not operation.results[0].steps:
            readers.setdefault(operation.uses[0].value.number, []).append(operation)
    for number, operations in readers.items():
        value = flow.values[number]
        names = " and ".join(dict.fromkeys(map(str, operations)))
        for words, last in (("the last", True), ("the first", False)):

            def predict(at: At, operations=operations, value=value, last: bool = last) -> np.ndarray:
                change = _written(sites, at, operations, value, last)
                change -= sum(at.through[operation.uses[0].number] for operation in operations)
                return sites.evidence.response(at, value, change)

            text = f"where {names} reads an element of {value.name} several times (duplicates), {words} gradient alone "
            text += "counts: overwritten instead of accumulated"
            yield from sites.finding("duplicates", text, 1.0, predict)


def _written(sites: Sites, at: At, operations: list[Operation], value: Value, last: bool) -> np.ndarray:
    result = np.zeros(value.shape, value.dtype)
    places, gradients = [], []
    for operation in operations:
        equation = operation.equation
        operands = [sites.evidence.value_at(at, use) for use in operation.uses]
        operands[0] = np.arange(operands[0].size, dtype=np.float64).reshape(value.shape)
        places.append(np.asarray(equation.primitive.bind(*map(jnp.asarray, operands), **equation.params)).reshape(-1))
        gradients.append(at.total[operation.results[0].number].reshape(-1))
    order = slice(None) if last else slice(None, None, -1)
    where, what = np.concatenate(places)[order], np.concatenate(gradients)[order]
    known = np.isfinite(where) & (where >= 0)
    result.reshape(-1)[where[known].astype(int)] = what[known]
    return result
