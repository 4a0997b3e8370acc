"""The derivative of a program that reads another value at one place: as a recompute does that differs from the forward.

A mask ignored, < for <=, a number one larger, an epsilon or a constant forgotten, another operand, other ids.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..programs.flow import Operation, Use
from .evidence import At
from .sites import Finding, Sites
from .suspect import shifted

Change = tuple[str, str, float, list[tuple[Use, Callable[[At], np.ndarray]]]]
"""Kind, words, cost, and the uses that read other values."""


def recomputed(sites: Sites, most: int = 1200) -> Iterator[Finding]:
    """Every change of what one use reads, the likely ones first."""
    for kind, text, cost, changes in itertools.islice(_changes(sites), most):

        def predict(at: At, changes: Any = changes) -> np.ndarray:
            taps = {use.number: _tap(sites, at, use, new(at)) for use, new in changes}
            return sites.evidence.mutated(at, taps)

        yield from sites.finding(kind, text, cost, predict)


def _tap(sites: Sites, at: At, use: Use, new: np.ndarray) -> np.ndarray:
    old = sites.evidence.value_at(at, use)
    new = np.broadcast_to(np.asarray(new), use.shape).astype(use.value.dtype)
    with np.errstate(all="ignore"):
        return new ^ old if use.value.dtype == bool else np.asarray(new - old)


def _changes(sites: Sites) -> Iterator[Change]:
    yield from _decisions(sites)
    yield from _numbers(sites)
    yield from _ids(sites)
    yield from _left_out(sites)
    yield from _sums(sites)
    yield from _others(sites)


def _decisions(sites: Sites) -> Iterator[Change]:
    """Masks and comparisons."""
    flow, first = sites.evidence.flow, sites.first
    booleans = [v for v in flow.values if v.dtype == bool and v.number in first.values and len(v.shape)]
    for use in flow.uses:
        operation = use.operation
        if use.value.dtype != bool or operation is None or not len(use.shape):
            continue
        for case in (True, False):
            text = f"as if the condition that {operation} reads were {case} everywhere: a mask is ignored"
            yield "padding", text, 1.2, [(use, lambda at, c=case, u=use: np.full(u.shape, c))]
        made = use.value.made_by
        for words, other in _COMPARISONS:
            if made is None or made.primitive not in _COMPARED:
                break
            text = f"as if the comparison {made} were `{words}`"

            def compared(at: At, made: Operation = made, other: Callable = other) -> np.ndarray:
                return other(*(sites.evidence.value_at(at, operand) for operand in made.uses))

            yield "other function", text, 1.3, [(use, compared)]
        read = lambda at, u=use: sites.evidence.value_at(at, u)  # noqa: E731
        for axis, size in enumerate(use.shape):
            if size < 2:
                continue
            for by, words in ((1, "further"), (-1, "back")):
                moved = lambda at, r=read, a=axis, b=by: _moved(r(at), a, b)  # noqa: E731
                text = f"as if the mask that {operation} reads were one position {words} along axis {axis}"
                yield "other function", text, 1.5, [(use, moved)]
        for words, several in (("narrower", np.logical_and), ("wider", np.logical_or)):
            text = f"as if the mask that {operation} reads were one position {words} at each side"
            yield "other function", text, 1.6, [(use, lambda at, r=read, s=several: _resized(r(at), s))]
        if len(use.shape) > 1 and use.shape[-1] == use.shape[-2]:
            text = f"as if the mask that {operation} reads were transposed"
            yield "other function", text, 1.6, [(use, lambda at, r=read: np.swapaxes(r(at), -1, -2))]
        for value in booleans:
            if value.shape == use.shape and value is not use.value:
                text = f"as if {operation} read the condition {value.name} instead"
                yield "other function", text, 1.9, [(use, lambda at, v=value: at.values[v.number])]


_COMPARED = ("lt", "le", "gt", "ge", "eq", "ne")
_COMPARISONS: tuple[tuple[str, Callable], ...] = (
    ("<", np.less), ("<=", np.less_equal), (">", np.greater), (">=", np.greater_equal), ("==", np.equal),
    ("!=", np.not_equal),
)  # fmt: skip


def _moved(mask: np.ndarray, axis: int, by: int) -> np.ndarray:
    """The mask moved by one position; its border is repeated."""
    moved, border = np.roll(mask, by, axis), [slice(None)] * mask.ndim
    border[axis] = slice(0, 1) if by > 0 else slice(-1, None)
    moved[tuple(border)] = mask[tuple(border)]
    return moved


def _resized(mask: np.ndarray, several: Callable) -> np.ndarray:
    result = mask
    for axis in range(mask.ndim):
        result = several(result, several(_moved(mask, axis, 1), _moved(mask, axis, -1)))
    return result


def _numbers(sites: Sites) -> Iterator[Change]:
    """Numbers that are written in the program."""
    flow = sites.evidence.flow
    literals = [use for use in flow.uses if use.literal is not None and not np.ndim(use.literal)]
    integers = [u for u in literals if u.value.dtype.kind in "iu"]
    floats = [u for u in literals if u.value.is_float and np.isfinite(u.literal) and abs(u.literal) < 1e20]
    known = {int(use.literal) for use in integers}
    for use in integers[:24]:
        own = int(use.literal)
        others = [own + 1, own - 1, *(sorted({s * n + b for n in known for s in (1, -1) for b in (0, 1, -1)}))]
        for other in dict.fromkeys(n for n in others if n != own and abs(n) < 1e4):
            text = f"as if the number {own} in {_of(use)} were {other}"
            yield "other function", text, 1.4 + (abs(other - own) > 1), [(use, lambda at, n=other: np.asarray(n))]
    for use in floats[:32]:
        own = float(np.real(use.literal))
        near = [0.0, 1.0] + ([own - 1, own + 1] if own == int(own) and own > 1 else [1 - own] if 0 < own < 1 else [])
        for other in near:
            if other != own:
                text = f"as if the constant {own:.6g} in {_of(use)} were {other:.6g}"
                yield "other function", text, 1.5, [(use, lambda at, n=other: np.asarray(n))]
        yield from _outside(sites, use)
    for one, other in itertools.combinations(floats[:12], 2):
        a, b = float(np.real(one.literal)), float(np.real(other.literal))
        pairs = [(b, a), (-b, -a), (1 - a, 1 - b), (0.0, 1.0), (1.0, 0.0)]
        for c, d in pairs:
            if (c, d) != (a, b) and 0 < abs(a) <= 1 and 0 < abs(b) <= 1:
                text = f"as if {a:.6g} in {_of(one)} were {c:.6g} and {b:.6g} in {_of(other)} were {d:.6g}"
                text += ": the two are exchanged" if {abs(c), abs(d)} == {abs(a), abs(b)} else ""
                changes = [(one, lambda at, n=c: np.asarray(n)), (other, lambda at, n=d: np.asarray(n))]
                yield "other function", text, 1.8, changes


def _of(use: Use) -> str:
    assert use.operation is not None
    return use.operation.source or str(use.operation)


def _outside(sites: Sites, use: Use) -> Iterator[Change]:
    """An epsilon added outside of a root instead of inside."""
    adding = use.operation
    if adding is None or adding.primitive != "add":
        return
    (variance,) = [other for other in adding.uses if other is not use]
    for reader in sites.evidence.flow.uses:
        if reader.value is adding.results[0] and reader.operation and reader.operation.primitive in ("sqrt", "rsqrt"):

            def outside(at: At) -> np.ndarray:
                return (np.sqrt(sites.evidence.value_at(at, variance)) + float(use.literal)) ** 2

            text = f"as if the constant {float(use.literal):.6g} in {_of(use)} were added outside of the root in "
            yield "other function", f"{text}{reader.operation.source}", 1.4, [(reader, outside)]


def _ids(sites: Sites) -> Iterator[Change]:
    """Other ids of the same shape, or one off, at one place where rows are read or written, or at several."""
    flow, first = sites.evidence.flow, sites.first
    readers = [
        use
        for use in flow.uses
        if use.operation and use.operation.primitive.startswith(("gather", "scatter")) and use.place == 1
    ]
    for use in readers:
        for by in (1, -1):
            text = f"as if the ids that {use.operation} reads were one {'more' if by > 0 else 'less'}"
            read = lambda at, u=use, b=by: sites.evidence.value_at(at, u) + b  # noqa: E731
            yield "shifted", text, 1.6, [(use, read)]
    yield from _exchanged(sites, readers[:8])
    others = [v for v in flow.values if v.number in first.values and v.dtype.kind in "iu" and v.shape]
    for count in (1, 2, 3):
        for group in itertools.combinations(readers[:8], count):
            same = all((sites.evidence.value_at(first, u) == sites.evidence.value_at(first, group[0])).all()
                       if u.shape == group[0].shape else False for u in group)  # fmt: skip
            seen: list[np.ndarray] = []
            for value in others if same else ():
                array = first.values[value.number]
                if array.size != np.prod(group[0].shape):
                    continue
                array = array.reshape(group[0].shape)
                if (array == sites.evidence.value_at(first, group[0])).all() or any((array == s).all() for s in seen):
                    continue
                seen.append(array)
                name = _origin(sites, value)
                text = f"as if {' and '.join(dict.fromkeys(str(u.operation) for u in group))} used the ids {name}"
                read = lambda at, v=value, u=group[0]: at.values[v.number].reshape(u.shape)  # noqa: E731
                yield "other ids", f"{text} instead", 1.5 + 0.2 * count, [(use, read) for use in group]


def _exchanged(sites: Sites, readers: list[Use]) -> Iterator[Change]:
    """Two arrays of ids in each other's place, wherever rows are read or written, or at all such places but one."""
    first = sites.first
    values = {use.number: sites.evidence.value_at(first, use) for use in readers}
    kinds: list[list[Use]] = []
    for use in readers:
        same = next((kind for kind in kinds if np.array_equal(values[kind[0].number], values[use.number])), None)
        kinds.append([use]) if same is None else same.append(use)
    for one, other in itertools.combinations(kinds, 2):
        if values[one[0].number].shape != values[other[0].number].shape:
            continue
        for left_out in (None, *one, *other):
            changes = [
                (use, lambda at, v=partner: sites.evidence.value_at(at, v))
                for use, partner in (*((u, other[0]) for u in one), *((u, one[0]) for u in other))
                if use is not left_out
            ]
            names = [_origin(sites, kind[0].value) for kind in (one, other)]
            text = f"as if the ids {names[0]} and {names[1]} were exchanged: sent along the edges, not against them"
            if left_out is not None:
                text += f", but not in {left_out.operation}"
            yield "other ids", text, 1.6 + 0.3 * (left_out is not None), changes


def _origin(sites: Sites, value: Any) -> str:
    """The argument whose numbers a value of integers has."""
    own = sites.first.values[value.number]
    for argument in sites.evidence.flow.inputs:
        array = sites.first.values.get(argument.number)
        if array is not None and array.size == own.size and (array.reshape(-1) == own.reshape(-1)).all():
            return argument.name
    return value.name


def _left_out(sites: Sites) -> Iterator[Change]:
    """One operand of a sum taken as zero, or of a product as one."""
    for use in sites.evidence.flow.uses:
        operation = use.operation
        if operation is None or not use.value.is_float or use.literal is not None:
            continue
        neutral = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}.get(operation.primitive)
        if neutral is not None and not (operation.primitive == "div" and use.place == 0):
            text = f"as if {use.value.name} were left out of {operation}: the recompute lacks it"
            yield "recompute", text, 2.45, [(use, lambda at, n=neutral: np.asarray(n))]


def _sums(sites: Sites) -> Iterator[Change]:
    """A sum or maximum along an axis taken over blocks of it, over more, or over less."""
    flow = sites.evidence.flow
    for operation in flow.operations:
        if operation.primitive not in ("reduce_sum", "reduce_max"):
            continue
        summed, result = operation.uses[0], operation.results[0]
        for use in flow.uses:
            reader = use.operation
            if use.value is not result or reader is None:
                continue
            spread = _spread(flow, use)
            if spread is None or spread.shape != summed.shape:
                continue
            axes = tuple(axis + len(summed.steps) for axis in operation.equation.params["axes"])
            reduce = np.sum if operation.primitive == "reduce_sum" else np.max
            for words, of in _other_sums(summed.shape, axes, reduce):
                read = lambda at, u=summed, of=of: of(sites.evidence.value_at(at, u))  # noqa: E731
                yield "recompute", f"as if {operation} were taken over {words}", 1.7, [(spread, read)]


def _spread(flow: Any, use: Use) -> Use | None:
    """The use that reads a reduced value after it was broadcast."""
    operation = use.operation
    while operation is not None and operation.primitive in ("broadcast_in_dim", "reshape", "copy", "stop_gradient"):
        result = operation.results[0]
        readers = [each for each in flow.uses if each.value is result]
        if len(readers) != 1:
            return None
        use, operation = readers[0], readers[0].operation
    return use


def _other_sums(shape: tuple[int, ...], axes: tuple[int, ...], reduce: Callable) -> Iterator[tuple[str, Callable]]:
    for axis in axes:
        size = shape[axis]
        for count in (n for n in (2, 3, 4) if size % n == 0 and size > n):

            def blocks(a: np.ndarray, axis: int = axis, count: int = count) -> np.ndarray:
                parts = np.split(a, count, axis)
                each = [np.broadcast_to(reduce(part, axes, keepdims=True), part.shape) for part in parts]
                return np.concatenate(each, axis)

            yield f"each of {count} blocks (shards) of axis {axis} alone", blocks
    yield "all elements", lambda a: np.broadcast_to(reduce(a, keepdims=True), a.shape)


def _others(sites: Sites) -> Iterator[Change]:
    """Another value of the same shape in place of an operand."""
    flow, first = sites.evidence.flow, sites.first
    floats = [v for v in flow.values if v.is_float and v.number in first.values and len(v.shape)]
    for use in flow.uses:
        if use.operation is None or not use.value.is_float or use.literal is not None or not len(use.shape):
            continue
        if use.operation.primitive in ("broadcast_in_dim", "reshape", "copy", "stop_gradient", "convert_element_type"):
            continue
        own = first.values[use.value.number]
        for value in floats:
            array = first.values[value.number]
            alike = value.shape == use.shape or (array.size == own.size and not use.value.active and not use.steps)
            if value is use.value or not alike or np.array_equal(array.reshape(own.shape), own):
                continue
            text = f"as if {use.operation} read {value.name} instead of {use.value.name}"
            read = lambda at, v=value, u=use: at.values[v.number].reshape(u.shape)  # noqa: E731
            yield "recompute", text, 2.4, [(use, read)]
            if use.value.active and len(use.operation.uses) == 1:
                restored = _restored(sites, use, read)
                if restored:
                    yield "recompute", f"{text}, in the derivative alone", 2.3, [(use, read), *restored]
        if use.value.entry == "carry":
            continue
        for axis, size in enumerate(use.shape):
            if size > 1 and use.operation.primitive in ("mul", "dot_general"):
                for by in (1, -1):
                    text = f"as if {use.operation} read {use.value.name} shifted by {by} along axis {axis}"
                    read = lambda at, u=use, a=axis, b=by: shifted(sites.evidence.value_at(at, u), a, b, True)  # noqa: E731
                    yield "shifted", text, 2.5, [(use, read)]


def _restored(sites: Sites, use: Use, read: Callable[[At], np.ndarray]) -> list[tuple[Use, Callable[[At], np.ndarray]]]:
    """Keeps what comes after right where an operation of one operand reads another value: the taps that undo it.

    Only what is made of the operation's result at once is changed, as where a backward pass computes it again.
    """
    operation = use.operation
    assert operation is not None
    undone: list[tuple[Use, Callable[[At], np.ndarray]]] = []
    for reader in (each for each in sites.evidence.flow.uses if each.value is operation.results[0]):
        by = reader.operation
        if by is None or len(by.results) != 1 or "jaxpr" in by.equation.params:
            return []

        def kept(at: At, reader: Use = reader, by: Operation = by) -> np.ndarray:
            wrong, right = _bind(operation, [read(at)]), at.values[by.results[0].number]
            operands = [wrong if each is reader else sites.evidence.value_at(at, each) for each in by.uses]
            return right + (right - _bind(by, operands))

        undone += [(each, kept) for each in sites.evidence.flow.uses if each.value is by.results[0]]
    return undone


def _bind(operation: Operation, operands: list[np.ndarray]) -> np.ndarray:
    primitive, parameters = operation.equation.primitive, operation.equation.params
    results = primitive.bind(*map(jnp.asarray, operands), **primitive.get_bind_params(parameters))
    return np.asarray(results[0] if primitive.multiple_results else results)
