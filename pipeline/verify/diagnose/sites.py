"""Changes of the gradient at one place of the function's program: lost, scaled, cut, turned, of another value.

Each function yields findings: a mistake, and the leaves whose error it explains at every observation.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..programs.flow import Operation, Use, Value
from ..trial import Observation
from .evidence import At, Evidence
from .numbers import describe_number
from .suspect import largest, orders, shifted


class Finding(NamedTuple):
    """A mistake that explains some leaves.

    cost: the less plausible, the larger. contradicted: how many other leaves would be wrong by it and are not, or are
        wrong in another way: the mistake was made on the way to ``leaves`` only.
    """

    leaves: tuple[str, ...]
    kind: str
    text: str
    cost: float
    contradicted: int


@dataclass(eq=False)
class Site:
    """A gradient in the program: through one use of a value, or of a value through all its uses.

    words: "the gradient through `mul` in ..." operation: what reads the value, or makes it.
    """

    value: Value
    number: int
    words: str
    operation: Operation | None
    use: Use | None

    def gradient(self, at: At) -> np.ndarray:
        if self.use is None:
            return at.total[self.value.number]
        if self.operation is None:
            return at.through[self.number]
        # x * x reads x twice, and is one use of it.
        return np.sum([at.through[use.number] for use in self.operation.uses if use.value is self.value], 0)


class Sites:
    """All places of a program, with what a change there does."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.first = evidence.at[0]
        flow = evidence.flow
        self.all: list[Site] = []
        for use in flow.uses:
            if use.value.active and use.operation is not None and _is_first(use, use.operation):
                self.all.append(
                    Site(use.value, use.number, f"the gradient through {use.operation}", use.operation, use)
                )
        several = len(evidence.output_names) > 1
        for name, use in zip(evidence.output_names, evidence.outputs):
            if several and use.value.active:
                words = f"the incoming cotangent of the output `{name}`"
                self.all.append(Site(use.value, use.number, words, None, use))
        for value in flow.values:
            if value.active and value.made_by is not None:
                words = f"the gradient of the result of {value.made_by}"
                self.all.append(Site(value, ~value.number, words, value.made_by, None))

    @cached_property
    def distinct(self) -> list[Site]:
        """Places whose gradients count, and differ in the leaves: of equal ones the first."""
        return self._different(False)

    @cached_property
    def places(self) -> list[Site]:
        """The same, with places of equal gradients but other shapes: what happens to their axes differs."""
        return self._different(True)

    def _different(self, by_shape: bool) -> list[Site]:
        result: list[Site] = []
        responses: list[np.ndarray] = []
        wrong = np.isin(self.evidence.row_leaf, [self.evidence.leaves.index(leaf) for leaf in self.evidence.wrong])
        for site in self.all:
            response = self.response(self.first, site, site.gradient(self.first))
            scale = np.maximum(self.first.scale, 1e-300)
            if not np.isfinite(response).all() or largest((response / scale)[wrong]) < 1e-9:
                continue
            equal = (
                largest((response - other) / scale) < 1e-9 and not (by_shape and before.value.shape != site.value.shape)
                for other, before in zip(responses, result)
            )
            if any(equal):
                continue
            responses.append(response)
            result.append(site)
        return result

    def response(self, at: At, site: Site, change: np.ndarray) -> np.ndarray:
        return self.evidence.response(at, site.value, change)

    def finding(
        self, kind: str, text: str | Callable[[], str], cost: float, responses: Callable[[At], np.ndarray | None]
    ) -> Iterator[Finding]:
        """The finding, where the errors that ``responses`` predicts explain a leaf."""
        try:
            leaves, contradicted = self.evidence.explained(responses)
        except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError):  # of other shapes, or singular
            return
        if leaves:
            yield Finding(leaves, kind, text() if callable(text) else text, float(cost), contradicted)

    def rows(self, leaf: str) -> np.ndarray:
        return self.evidence.row_leaf == self.evidence.leaves.index(leaf)


def _is_first(use: Use, operation: Operation) -> bool:
    return next(other for other in operation.uses if other.value is use.value) is use


def scaled(sites: Sites) -> Iterator[Finding]:
    """The gradient at one place lost, doubled, negated or scaled by a constant."""
    first = sites.first
    for site in sites.distinct:
        response = sites.response(first, site, site.gradient(first))
        gains: list[float] = []
        for leaf in sites.evidence.wrong:
            here = sites.rows(leaf)
            norm = float(response[here] @ response[here])
            gain = float(response[here] @ first.error[here]) / norm if norm else 0.0
            if gain and not any(abs(gain - other) <= 1e-7 * abs(gain) for other in gains):
                gains.append(gain)
        for gain in gains:
            kind, text, cost = describe_gain(sites, site, 1 + gain)
            predict = lambda at, site=site, gain=gain: gain * sites.response(at, site, site.gradient(at))  # noqa: E731
            yield from sites.finding(kind, text, cost, predict)


def describe_gain(sites: Sites, site: Site, gain: float, alone: bool = True) -> tuple[str, str, float]:
    """Kind, words and cost of a gradient that counts with the factor ``gain``; alone: and no other is wrong."""
    if abs(gain) < 1e-7:
        if site.operation is None:
            return "missing term", f"{site.words} is ignored", 0.5
        return "missing term", f"a term is missing: {site.words} is lost", 1.0
    if abs(gain - 2) < 1e-7:
        return "doubled term", f"a term counts twice: {site.words}", 1.5
    if abs(gain + 1) < 1e-7:
        return "doubled term", f"a term has the wrong sign: {site.words}", 1.5
    evidence = sites.evidence
    elsewhere = lambda at: _gain_elsewhere(sites, site, at)  # noqa: E731
    number = f"{gain:.6g}"
    simple = any(abs(gain - usual) < 1e-7 for usual in (0.5, 3.0, 4.0, 0.25, -0.5, -2.0))
    if alone:
        number = describe_number(gain, evidence.rule, sites.first.observation, evidence.judgement, elsewhere)
    constant = _constant_beside(site)
    if constant is not None and abs(constant * gain - 1) < 1e-7:
        return "missing factor", f"the constant factor {constant:.6g} is missing: in {site.words}", 1.7
    text = f"a term is off by the factor {number}: {site.words}"
    if constant is not None and site.operation is not None:
        text += f": as if the constant {constant:.6g} in {site.operation.source} were {constant * gain:.6g}"
        return "doubled term", text, 2.2 + 2 * ("=" not in number)
    return "doubled term", text, 1.9 + 3 * ("=" not in number and not simple)


def _gain_elsewhere(sites: Sites, site: Site, observation: Observation) -> float | None:
    """The factor of the same gradient at other sizes."""
    cache = sites.evidence.judgement.cache
    if "elsewhere" not in cache:
        cache["elsewhere"] = None
        with contextlib.suppress(Exception):  # the program may be another one there
            evidence = Evidence(sites.evidence.judgement, [observation], sites.evidence.wrong)
            cache["elsewhere"] = Sites(evidence) if len(evidence.flow.uses) == len(sites.evidence.flow.uses) else None
    other: Sites | None = cache["elsewhere"]
    if other is None:
        return None
    there = next(each for each in other.all if each.number == site.number)
    response = other.response(other.first, there, there.gradient(other.first))
    gains = set()
    for leaf in other.evidence.wrong:
        here = other.rows(leaf)
        norm = float(response[here] @ response[here])
        gain = float(response[here] @ other.first.error[here]) / norm if norm else 0.0
        if norm and other.evidence.fits(other.first, gain * response)[other.evidence.leaves.index(leaf)]:
            gains.add(1 + gain)
    return min(gains, default=None)


def _constant_beside(site: Site) -> float | None:
    """The number that an operation multiplies by."""
    if site.operation is None or site.use is None or site.operation.primitive != "mul":
        return None
    other = site.operation.uses[1 - site.use.place].literal
    return None if other is None or np.ndim(other) else float(np.real(other))


def cut(sites: Sites) -> Iterator[Finding]:
    """The gradient at one place with a factor of its own at each index of an axis: partial sums, blocks, steps."""
    evidence = sites.evidence
    for site in sites.places:
        shape = site.value.shape
        for axis, size in enumerate(shape):
            if not 2 <= size <= 64:
                continue
            by_index = [_by_index(sites, site, at, axis) for at in evidence.at]
            groups = [tuple(evidence.wrong)] + [(leaf,) for leaf in evidence.wrong if len(evidence.wrong) > 1]
            for group in groups:
                rows = np.isin(evidence.row_leaf, [evidence.leaves.index(leaf) for leaf in group])
                system = np.concatenate([each[rows] for each in by_index])
                errors = np.concatenate([at.error[rows] for at in evidence.at])
                active = np.abs(system).max(0) > 1e-9 * np.abs(system).max()
                if active.sum() < 2 or len(errors) < active.sum() + 3:
                    continue
                gains = np.zeros(size)
                gains[active], *_ = np.linalg.lstsq(system[:, active], errors, rcond=1e-10)
                if np.abs(system @ gains - errors).max() > 1e-6 * np.abs(errors).max():
                    continue
                kind, text, cost = _describe_cut(sites, site, axis, 1 + gains, active)
                found = list(
                    sites.finding(kind, text, cost, lambda at, axis=axis, gains=gains, site=site: (
                        _by_index(sites, site, at, axis) @ gains
                    ))
                )  # fmt: skip
                yield from found
                if found:
                    break


def _by_index(sites: Sites, site: Site, at: At, axis: int) -> np.ndarray:
    """(rows, size): what the gradient at each index of an axis contributes."""
    product = at.jacobian[site.value.number] * site.gradient(at)
    others = tuple(i + 1 for i in range(len(site.value.shape)) if i != axis)
    return np.real(product.sum(others))


def _describe_cut(
    sites: Sites, site: Site, axis: int, factors: np.ndarray, active: np.ndarray
) -> tuple[str, str, float]:
    lost = active & (np.abs(factors) < 1e-6)
    kept = active & (np.abs(factors - 1) < 1e-6)
    in_steps = axis < len(site.value.steps)
    where = lambda flags: _steps(flags) if in_steps else f"{_indices(flags)} of axis {axis}"  # noqa: E731
    if (lost | kept == active).all() and kept.any():
        few = lost if lost.sum() < kept.sum() else kept
        block = _is_block(kept) or _is_block(lost)
        if few is kept or lost.sum() == kept.sum():
            text = f"{site.words} counts only at {where(kept)}"
            if block:
                text += ": one block or step of the sum alone, the others are lost (overwritten instead of added up?)"
        else:
            text = f"{site.words} is lost at {where(lost)}"
            return "region", text, 1.6 if block else 2.6
        return "partial sum", text, 1.6 if block else 2.6
    rest = active & ~kept
    same = factors[rest]
    if rest.sum() < active.sum() and np.ptp(same) <= 1e-6 * np.abs(same).max():
        return "region", f"{site.words} is off by the factor {same[0]:.6g} at {where(rest)}", 3.5
    text = f"{site.words} is off by a factor of its own at each index of axis {axis}"
    return "missing factor", f"{text} ({factors[active].min():.4g} to {factors[active].max():.4g})", 7.5


def _is_block(flags: np.ndarray) -> bool:
    at = np.flatnonzero(flags)
    return bool(len(at) and (np.diff(at) == 1).all() and (at[0] == 0 or at[-1] == len(flags) - 1))


def _steps(flags: np.ndarray) -> str:
    return f"{_indices(flags).replace('index', 'step').replace('indices', 'steps')} of the scan's {len(flags)}"


def _indices(flags: np.ndarray) -> str:
    at = list(map(int, np.flatnonzero(flags)))
    size = len(flags)
    if len(at) == 1:
        return "the first index" if at[0] == 0 else "the last index" if at[0] == size - 1 else f"index {at[0]}"
    if at == list(range(at[0], at[-1] + 1)):
        if at[0] == 0:
            return f"the first {len(at)} of {size} indices"
        return f"the last {len(at)} of {size} indices" if at[-1] == size - 1 else f"indices {at[0]} to {at[-1]}"
    return f"indices {', '.join(map(str, at[:8]))}{', ...' if len(at) > 8 else ''}"


def turned(sites: Sites) -> Iterator[Finding]:
    """The gradient at one place transposed, reversed, shifted, summed, averaged, conjugated, or in another order."""
    for site in sites.places:
        for kind, words, turn, cost in turns(site.value.shape, np.iscomplexobj(site.gradient(sites.first))):

            def predict(at: At, site: Site = site, turn: Callable = turn) -> np.ndarray:
                gradient = site.gradient(at)
                return sites.response(at, site, turn(gradient) - gradient)

            yield from sites.finding(kind, f"{site.words} is {words}", cost, predict)


def turns(shape: tuple[int, ...], is_complex: bool) -> Iterator[tuple[str, str, Callable, float]]:
    """Kind, words, function and cost of everything that may happen to an array's axes."""
    if is_complex:
        yield "as if", "conjugated", np.conj, 1.2
    for axes, order in orders(shape):
        yield "transposed", f"transposed (axes {axes})", lambda a, o=order: a.transpose(o), 1.2
    for i, size in enumerate(shape):
        if size < 2:
            continue
        yield "flipped", f"reversed along axis {i}", lambda a, i=i: np.flip(a, i), 1.4
        spread = lambda reduce, i=i: lambda a: np.broadcast_to(reduce(a, i, keepdims=True), a.shape)  # noqa: E731
        yield "extra sum", f"summed over axis {i}, along which it must vary", spread(np.sum), 1.8
        yield "extra sum", f"averaged over axis {i}, along which it must vary", spread(np.mean), 1.8
        for by, fill in itertools.product((1, -1) if size > 2 else (), (True, False)):
            words = f"shifted by {by} along axis {i}{'' if fill else ', around the end'}"
            yield "shifted", words, lambda a, i=i, by=by, f=fill: shifted(a, i, by, f), 1.9
        yield "partial sum", f"the cumulative sum along axis {i} instead of itself", lambda a, i=i: a.cumsum(i), 2.2
        for few in (n for n in range(2, size) if size % n == 0):
            text = f"in another order along axis {i}: {few} groups of {size // few} are interleaved"
            yield "permuted", text, lambda a, i=i, n=few: _interleaved(a, i, n), 2.0


def _interleaved(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """The array whose index k of ``count`` groups of an axis comes from the other order of groups and members."""
    size = array.shape[axis]
    return np.take(array, np.arange(size).reshape(count, size // count).T.reshape(-1), axis)
