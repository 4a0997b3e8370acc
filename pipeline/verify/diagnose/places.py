"""Mistakes at some elements only: at padding, in duplicate rows, at the ends of an axis."""

from collections.abc import Iterator

import numpy as np

from ..rule import is_float, is_key
from .numbers import describe_number
from .suspect import Hypothesis, Suspect, as_observed, constant_ratio, first_place, spread_over


def by_place(suspect: Suspect) -> Iterator[Hypothesis]:
    """Wrong at some elements only, where ids, masks or the numbers there explain why."""
    yield from (hypothesis for hypothesis in _places(suspect) if hypothesis.kind != "region" or _content(suspect))


def by_place_alone(suspect: Suspect) -> Iterator[Hypothesis]:
    """Wrong at some elements only, whether or not there is an explanation."""
    yield from _places(suspect)


def _places(suspect: Suspect) -> Iterator[Hypothesis]:
    predict, wrong, nonzero = as_observed(suspect), suspect.wrong_elements, suspect.nonzero
    if not wrong.any() or not (nonzero & ~wrong).any():
        return
    for name, array in suspect.arrays().items():
        if is_key(array) or is_float(array):
            continue
        if array.dtype == bool:
            yield from _masked(suspect, name, np.asarray(array))
        else:
            yield from _ids(suspect, name, np.asarray(array))
    for name, array in suspect.arrays().items():
        if is_float(array) and np.isin(array, (0, 1)).all() and np.unique(array).size == 2:
            yield from _masked(suspect, name, np.asarray(array) == 1)
    if wrong.sum() == 1 and sum(size > 1 for size in wrong.shape) > 1:
        yield Hypothesis("region", f"wrong at one element only, {first_place(wrong)}{_content(suspect)}", predict)
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        bad, could = np.asarray(wrong.any(others)), np.asarray(nonzero.any(others))
        if (could & ~bad).any() and bad.sum() <= max(1, 0.75 * could.sum()):
            at = np.flatnonzero(bad)
            yield Hypothesis(
                "region", f"wrong only at {_indices(at, len(bad))} of axis {axis}{_content(suspect)}", predict
            )
    if wrong.ndim >= 2 and wrong.shape[-1] == wrong.shape[-2]:
        diagonal = np.broadcast_to(np.eye(wrong.shape[-1], dtype=bool), wrong.shape)
        below = np.broadcast_to(np.tri(wrong.shape[-1], k=-1, dtype=bool), wrong.shape)
        for words, part in (
            ("on the diagonal", diagonal),
            ("above the diagonal", ~below & ~diagonal),
            ("below the diagonal", below),
            ("off the diagonal", ~diagonal),
        ):
            if not (wrong & ~part).any():
                yield Hypothesis("region", f"wrong only {words}{_content(suspect)}", predict)
    for name, array in suspect.arrays().items():
        if is_float(array) and np.shape(array) == wrong.shape and not np.iscomplexobj(array):
            for words in _conditions(np.asarray(array), wrong):
                yield Hypothesis("region", f"wrong only where `{name}` {words}{_content(suspect)}", predict)
    for name, y in suspect.observation.y.items():
        if y.shape == wrong.shape and y.ndim and not np.iscomplexobj(y):
            for words in _conditions(y, wrong):
                yield Hypothesis("region", f"wrong only where the output `{name}` {words}{_content(suspect)}", predict)


def _conditions(array: np.ndarray, wrong: np.ndarray) -> Iterator[str]:
    """Conditions on an array's numbers that separate the wrong elements from the right ones."""
    if not (array[wrong] < 0).any() and (array[~wrong] <= 0).all():
        yield "is positive"
    if not (array[wrong] > 0).any() and (array[~wrong] >= 0).all():
        yield "is negative"
    size = np.abs(array)
    if min(wrong.sum(), (~wrong).sum()) < 0.1 * wrong.size:
        return  # some threshold always separates a few from the rest
    if size[wrong].min() > size[~wrong].max():
        yield f"is large (|.| above {size[~wrong].max():.3g})"
    elif size[wrong].max() < size[~wrong].min():
        yield f"is small (|.| below {size[~wrong].min():.3g})"


def _masked(suspect: Suspect, name: str, mask: np.ndarray) -> Iterator[Hypothesis]:
    spread = spread_over(mask, suspect.wrong_elements.shape)
    if spread is None or mask.all() or not mask.any():
        return
    if not (suspect.wrong_elements & spread).any():
        yield Hypothesis(
            "padding", f"wrong only at padded positions, where `{name}` is 0{_content(suspect)}", as_observed(suspect)
        )


def _ids(suspect: Suspect, name: str, ids: np.ndarray) -> Iterator[Hypothesis]:
    wrong = suspect.wrong_elements
    rows, counts = np.unique(ids, return_counts=True)
    if wrong.ndim and (counts > 1).any() and rows.min() >= 0:
        for axis in range(wrong.ndim):
            if rows.max() < wrong.shape[axis]:
                bad = np.flatnonzero(wrong.any(tuple(i for i in range(wrong.ndim) if i != axis)))
                if len(bad) == 1 and len(rows) > 1 and not np.take(suspect.reference, bad, axis).any():
                    text = f"wrong only in row {bad[0]} of axis {axis}, of the id {bad[0]} in `{name}`: "
                    text += "it must be zero there, as for the id of padding"
                    yield Hypothesis("padding", text, as_observed(suspect))
                if np.isin(bad, rows[counts > 1]).all():
                    text = (
                        f"wrong only in rows of axis {axis} whose id in `{name}` occurs more than once (duplicates): "
                    )
                    text += "overwritten instead of accumulated"
                    yield Hypothesis("duplicates", text, as_observed(suspect))
    spread = spread_over(ids, wrong.shape)
    if spread is None:
        return
    at = np.unique(spread[wrong])
    if len(at) == 1 and (spread[~wrong & suspect.nonzero] != at[0]).any():
        text = f"wrong only where `{name}` is {at[0]}{_content(suspect)}"
        yield Hypothesis("padding" if at[0] <= 0 else "region", text, as_observed(suspect))
    if ids.shape and ids.ndim + 1 == wrong.ndim and rows.max() < wrong.shape[-1]:
        chosen = np.arange(wrong.shape[-1]) == ids[..., None]
        for words, part in (("at the label's own position", chosen), ("away from the label's own position", ~chosen)):
            if not (wrong & ~part).any():
                yield Hypothesis(
                    "region",
                    f"wrong only {words} (`{name}`) along the last axis{_content(suspect)}",
                    as_observed(suspect),
                )
    if ids.ndim == 1 and wrong.ndim >= 2 and ids.shape[0] == wrong.shape[0] and ids.min() >= 0:
        beyond = np.arange(wrong.shape[1]) >= ids[:, None]  # lengths
        padded = np.broadcast_to(beyond.reshape(*beyond.shape, *(1,) * (wrong.ndim - 2)), wrong.shape)
        if padded.any() and (wrong == (padded & suspect.nonzero)).all():
            yield Hypothesis(
                "padding", f"wrong only at padded positions, beyond the lengths in `{name}`", as_observed(suspect)
            )


def _content(suspect: Suspect) -> str:
    """Words about the numbers at the wrong elements."""
    manual, right = suspect.manual[suspect.wrong_elements], suspect.reference[suspect.wrong_elements]
    if not manual.any():
        return ": dropped, it is zero there"
    if not right.any():
        return ": it must be zero there"
    ratio = constant_ratio(manual, right)
    if ratio is not None and abs(ratio - 1) > 1e-6:
        return f": off by the factor {describe_number(ratio, suspect.rule, suspect.observation)} there"
    return ""


def _indices(at: np.ndarray, size: int) -> str:
    if len(at) == 1:
        return "the first index" if at[0] == 0 else "the last index" if at[0] == size - 1 else f"index {at[0]}"
    if list(at) == [0, size - 1]:
        return "the first and the last index"
    if (np.diff(at) == 1).all():
        return (
            f"the first {len(at)} indices"
            if at[0] == 0
            else f"the last {len(at)} indices"
            if at[-1] == size - 1
            else f"indices {at[0]} to {at[-1]}"
        )
    steps = set(np.diff(at))
    if len(steps) == 1:
        return f"every {steps.pop()}th index, from {at[0]} on"
    return f"indices {', '.join(map(str, at[:6]))}{', ...' if len(at) > 6 else ''}"
