"""Mistakes at several places at once: some of a value's uses, two terms, every division by one value."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..programs.flow import Use, Value
from .evidence import At
from .sites import Finding, Site, Sites, describe_gain, turns

_MOST = 48
"""The most places of which pairs are tried."""


def some_uses(sites: Sites) -> Iterator[Finding]:
    """A value that is used several times, as in unrolled steps: the gradient of some uses alone, or each scaled."""
    evidence = sites.evidence
    uses: dict[int, list[Use]] = {}
    for use in evidence.flow.uses:
        if use.value.active and use.operation is not None:
            uses.setdefault(use.value.number, []).append(use)
    for number, readers in uses.items():
        alike = len({use.operation.primitive for use in readers if use.operation}) == 1
        if not 3 <= len(readers) <= 64 or not alike:
            continue
        value = evidence.flow.values[number]
        by_use = lambda at, v=value, r=readers: np.stack(  # noqa: E731
            [evidence.response(at, v, at.through[u.number]) for u in r], 1
        )
        gains = _solved(sites, [by_use(at) for at in evidence.at])
        if gains is None:
            continue
        factors = 1 + gains
        kept = [u for u, factor in zip(readers, factors) if abs(factor - 1) < 1e-6]
        lost = [u for u, factor in zip(readers, factors) if abs(factor) < 1e-6]
        if len(kept) + len(lost) != len(readers) or not kept or not lost:
            continue
        last = kept == readers[-len(kept) :]
        which = "the last" if last else "the first" if kept == readers[: len(kept)] else "some"
        text = (
            f"of the {len(readers)} uses of {value.name} only {which} {len(kept)} count: the gradient of one step or "
        )
        text += f"block alone, through {kept[-1].operation}"
        yield from sites.finding("partial sum", text, 1.9, lambda at, b=by_use, g=gains: b(at) @ g)


def _solved(sites: Sites, responses: list[np.ndarray], slack: int = 3) -> np.ndarray | None:
    """The factors with which responses (rows, count) of each observation add up to the wrong leaves' errors."""
    evidence = sites.evidence
    for group in [tuple(evidence.wrong), *((leaf,) for leaf in evidence.wrong if len(evidence.wrong) > 1)]:
        rows = np.isin(evidence.row_leaf, [evidence.leaves.index(leaf) for leaf in group])
        system = np.concatenate([each[rows] for each in responses])
        errors = np.concatenate([at.error[rows] for at in evidence.at])
        if len(errors) < system.shape[1] + slack or not np.isfinite(system).all():
            continue
        gains, *_ = np.linalg.lstsq(system, errors, rcond=1e-10)
        if np.abs(system @ gains - errors).max() <= 1e-7 * np.abs(errors).max():
            return gains
    return None


def pairs(sites: Sites) -> Iterator[Finding]:
    """Two terms at once: both lost, or each scaled, or both turned in the same way."""
    places = sites.distinct[:_MOST]
    responses = [
        [sites.response(at, site, site.gradient(at)) for site in places] for at in sites.evidence.at
    ]  # [observation][site]
    for i, j in itertools.combinations(range(len(places)), 2):
        both = [np.stack([each[i], each[j]], 1) for each in responses]
        first = sites.first
        rows = np.isin(sites.evidence.row_leaf, [sites.evidence.leaves.index(leaf) for leaf in sites.evidence.wrong])
        quick, *_ = np.linalg.lstsq(both[0][rows], first.error[rows], rcond=1e-10)
        apart = np.abs(both[0][rows] @ quick - first.error[rows]).max()
        gains = quick if apart <= 1e-7 * np.abs(first.error[rows]).max() else None
        gains = gains if gains is None else _solved(sites, both)
        if gains is None or np.abs(gains).min() < 1e-7:
            continue
        parts = [describe_gain(sites, places[n], 1 + gain, alone=False) for n, gain in ((i, gains[0]), (j, gains[1]))]
        kind, text = parts[0][0], "; and ".join(part[1] for part in parts)
        if np.abs(gains + 1).max() < 1e-6:
            lost = (places[n].words.removeprefix("the gradient ") for n in (i, j))
            text = f"two terms of the chain rule are lost: {' and '.join(lost)}"
        unusual = sum(min(abs(gain - usual) for usual in (-1, 1, -2)) > 1e-6 for gain in gains)
        predict = lambda at, i=i, j=j, g=gains: (  # noqa: E731
            g[0] * sites.response(at, places[i], places[i].gradient(at))
            + g[1] * sites.response(at, places[j], places[j].gradient(at))
        )
        yield from sites.finding(kind, text, 2.2 + 1.2 * unusual - 0.6 * text.count("as if the constant"), predict)
    yield from _turned_alike(sites)


def _turned_alike(sites: Sites) -> Iterator[Finding]:
    known: dict[tuple, list[tuple[Site, str, str, Callable, float]]] = {}
    for site in sites.places[: 2 * _MOST]:
        for kind, words, turn, cost in turns(site.value.shape, np.iscomplexobj(site.gradient(sites.first))):
            known.setdefault((site.value.shape, words), []).append((site, kind, words, turn, cost))
    change = lambda at, site, turn: sites.response(at, site, turn(site.gradient(at)) - site.gradient(at))  # noqa: E731
    for group in known.values():
        first = [change(sites.first, site, turn) for site, _, _, turn, _ in group]
        for i, j in itertools.combinations(range(len(group)), 2):
            if not sites.evidence.fits(sites.first, first[i] + first[j]).any():
                continue
            (one, kind, words, turn, cost), other = group[i], group[j][0]
            text = f"{one.words} and {other.words} are {words}"
            predict = lambda at, a=one, b=other, t=turn: change(at, a, t) + change(at, b, t)  # noqa: E731
            yield from sites.finding(kind, text, cost + 0.6, predict)


def divisors(sites: Sites) -> Iterator[Finding]:
    """Every division by one value, or by a count, done by another: by all for those that count, or by nothing."""
    flow, evidence = sites.evidence.flow, sites.evidence
    quotients: dict[int, list[Use]] = {}
    for use in flow.uses:
        operation = use.operation
        if operation and operation.primitive == "div" and use.place == 1 and operation.uses[0].value.active:
            origin = _unspread(use.value)
            quotients.setdefault(origin.number, []).append(use)
    counts = {float(size) for value in flow.inputs for size in value.shape if size > 1}
    for number, uses in quotients.items():
        origin = flow.values[number]
        varies = np.prod(origin.shape) > 1  # a single number may equal a size by chance
        others: list[tuple[str, Callable[[At], np.ndarray]]] = [
            (f"{count:g}, the number of all", lambda at, n=count: np.asarray(n))
            for count in (sorted(counts) if varies else ())
            if np.prod(origin.shape) > 1
        ]
        others.append(("nothing", lambda at: np.asarray(1.0)))
        for value in flow.values:
            alike = value.is_float and value.number in sites.first.values and value.shape == origin.shape
            if alike and value is not origin:
                others.append((value.name, lambda at, v=value: at.values[v.number]))
        groups = [uses] if len(uses) == 1 else [uses, *([use] for use in uses)]
        for group, (words, other) in itertools.product(groups, others):

            def predict(at: At, group: list[Use] = group, other: Any = other, origin: Value = origin) -> np.ndarray:
                total = np.zeros_like(at.error)
                for use in group:
                    assert use.operation is not None
                    above = use.operation.uses[0]
                    right = evidence.value_at(at, use)
                    new = np.broadcast_to(_as_wide(other(at), right), right.shape)
                    with np.errstate(all="ignore"):
                        change = at.through[above.number] * (right / new - 1)
                    total = total + evidence.response(at, above.value, change)
                return total

            text = f"divided by {words} instead of {origin.name}: in {group[0].operation}"
            text += " and wherever else it divides" if len(group) > 1 else ""
            yield from sites.finding("missing factor" if words == "nothing" else "other function", text, 1.9, predict)


def _as_wide(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The array with axes of 1 at its end until it spreads over the other."""
    if array.ndim and array.ndim < like.ndim and array.shape == like.shape[: array.ndim]:
        return array.reshape(*array.shape, *(1,) * (like.ndim - array.ndim))
    return array if np.broadcast_shapes(array.shape, like.shape) == like.shape else np.full_like(like, np.nan)


def _unspread(value: Value) -> Value:
    """The value before it was broadcast."""
    while value.made_by is not None and value.made_by.primitive in ("broadcast_in_dim", "reshape", "copy", "squeeze"):
        value = value.made_by.uses[0].value
    return value


def weighted(sites: Sites) -> Iterator[Finding]:
    """A sum over more than its own group, of terms that a value of the program weighs: over all segments, say."""
    evidence, first = sites.evidence, sites.first
    values = [v for v in evidence.flow.values if v.is_float and v.number in first.values and 1 <= len(v.shape) <= 3]
    for site in sites.places:
        if not 1 <= len(site.value.shape) <= 3:
            continue
        for value in values:
            weight = first.values[value.number]
            if value.shape != site.value.shape or not weight.all() or not np.isfinite(weight).all():
                continue
            for axis, size in enumerate(value.shape):
                if size < 2:
                    continue

                def predict(at: At, site: Site = site, value: Value = value, axis: int = axis) -> np.ndarray:
                    weight, gradient = at.values[value.number], site.gradient(at)
                    with np.errstate(all="ignore"):
                        new = (gradient * weight).sum(axis, keepdims=True) / weight
                    return sites.response(at, site, new - gradient)

                text = f"{site.words} is summed over all of axis {axis} instead of each group alone"
                yield from sites.finding("extra sum", f"{text} (weighed by {value.name})", 2.1, predict)


def own_rows(sites: Sites) -> Iterator[Finding]:
    """A gradient with another factor at each index of an axis that depends on the arguments: a wrong normaliser."""
    evidence = sites.evidence
    for site in sites.places:
        for axis, size in enumerate(site.value.shape):
            if not 2 <= size <= 64 or axis < len(site.value.steps) or np.prod(site.value.shape) < 2 * size:
                continue  # of one axis alone, any change is a factor of its own at each index

            def fitted(at: At, site: Site = site, axis: int = axis, size: int = size) -> np.ndarray | None:
                others = tuple(i + 1 for i in range(len(site.value.shape)) if i != axis)
                system = np.real((at.jacobian[site.value.number] * site.gradient(at)).sum(others))
                rows = np.isin(evidence.row_leaf, [evidence.leaves.index(leaf) for leaf in evidence.wrong])
                if rows.sum() < size + 6 or not np.isfinite(system).all():
                    return None
                gains, *_ = np.linalg.lstsq(system[rows], at.error[rows], rcond=1e-10)
                return system @ gains

            text = f"{site.words} is off by a factor of its own at each index of axis {axis}, which depends on the "
            text += "arguments: as if it were normalised by another number (another sum, norm, scale or log-sum-exp)"
            yield from sites.finding("missing factor", text, 6.0, fitted)
