"""Mistakes after which the rule is right for other arguments, or for another incoming cotangent."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import compiler
from ..rule import is_float, is_key, outputs, replaced
from ..trial import Observation
from .suspect import Hypothesis, Suspect, orders, shifted, without


def inputs(suspect: Suspect) -> Iterator[Hypothesis]:
    """The right rule with an argument or the cotangent changed: transposed, flipped, shifted, partly dropped."""
    leaf = suspect.leaf
    for name in suspect.rule.leaves:
        for words, change, kind in _changes(suspect, name):

            def predict(observation: Observation, name: str = name, change: Callable = change) -> np.ndarray | None:
                changed = {name: change(np.asarray(suspect.arrays(observation)[name]))}
                cotangents = suspect.derived(observation, changed)
                return None if cotangents is None else cotangents[leaf]

            if suspect.same(predict(suspect.observation)):
                yield Hypothesis(kind, f"as if `{name}` were {words}", predict)
    for place, d in enumerate(suspect.observation.probe.d_y):
        several = len(suspect.observation.probe.d_y) > 1
        name = f" of output `{list(suspect.observation.y)[place]}`" if several else ""
        ignored = [("0 everywhere: it is ignored", np.zeros_like, "missing term")] if several else []
        for words, change, kind in [*ignored, *_cotangent_changes(d)]:

            def predict_d(observation: Observation, place: int = place, change: Callable = change) -> np.ndarray | None:
                d_y = list(observation.probe.d_y)
                d_y[place] = change(d_y[place])
                cotangents = suspect.derived(observation, d_y=d_y)
                return None if cotangents is None else cotangents[leaf]

            if suspect.same(predict_d(suspect.observation)):
                yield Hypothesis(kind, f"as if the incoming cotangent{name} were {words}", predict_d)
    yield from _not_transposed(suspect)


def _not_transposed(suspect: Suspect) -> Iterator[Hypothesis]:
    """The function's linear map instead of its transpose: a convolution instead of a correlation."""
    place = suspect.rule.leaves.index(suspect.leaf)
    for number, (name, y) in enumerate(suspect.observation.y.items()):
        if y.shape == suspect.reference.shape and y.size > 1 and not np.iscomplexobj(y):

            def map_of(arrays: list, d: Any, name: str = name) -> Any:
                value = lambda leaf: outputs(suspect.rule.define(replaced(arrays, [place], [leaf])))[name]  # noqa: E731
                return jax.jvp(value, (arrays[place],), (d,))[1]

            function = compiler.jit(map_of)

            def predict(observation: Observation, function: Callable = function, number: int = number) -> np.ndarray:
                arrays = [jnp.asarray(array) if is_float(array) else array for array in observation.probe.arrays]
                return np.asarray(function(arrays, jnp.asarray(observation.probe.d_y[number], arrays[place].dtype)))

            text = f"the linear map from `{suspect.leaf}` to `{name}` is used instead of its transpose"
            yield Hypothesis("transposed", text, predict)


def _changes(suspect: Suspect, name: str) -> Iterator[tuple[str, Callable, str]]:
    array = suspect.arrays()[name]
    if is_key(array):
        return
    array = np.asarray(array)
    if array.dtype == bool or (is_float(array) and np.isin(array, (0, 1)).all() and array.ndim):
        yield "true everywhere: the mask is ignored", np.ones_like, "padding"
    if array.dtype.kind in "iu":
        yield "one more", lambda a: a + 1, "shifted"
        yield "one less", lambda a: a - 1, "shifted"
        yield "its largest number everywhere: lengths or ids are ignored", lambda a: np.full_like(a, a.max()), "padding"
    if np.iscomplexobj(array):
        yield "conjugated", np.conj, "as if"
    if is_float(array):
        yield "1 everywhere", np.ones_like, "missing factor"
        yield "0 everywhere", np.zeros_like, "as if"
        yield "negated", np.negative, "as if"
        yield "squared", np.square, "extra factor"
        yield "its absolute value", np.abs, "as if"
    for axes, order in orders(array.shape):
        yield f"transposed (axes {axes})", lambda a, order=order: a.transpose(order), "transposed"
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            yield f"flipped along axis {axis}", lambda a, axis=axis: np.flip(a, axis), "flipped"
            for by, fill in itertools.product((1, -1), (True, False)):
                words = f"shifted by {by} along axis {axis}"
                yield words, lambda a, axis=axis, by=by, fill=fill: shifted(a, axis, by, fill), "shifted"
            for index, which in ((0, "first"), (-1, "last")):
                yield (
                    f"zero at the {which} index of axis {axis}: dropped",
                    lambda a, axis=axis, i=index: without(a, axis, i),
                    "region",
                )
    if array.ndim >= 3:
        spatial = tuple(range(array.ndim - 2))
        yield f"flipped along axes {list(spatial)}", lambda a: np.flip(a, spatial), "flipped"


def _cotangent_changes(d: np.ndarray) -> Iterator[tuple[str, Callable, str]]:
    yield "1 everywhere: it is ignored", np.ones_like, "cotangent ignored"
    if np.iscomplexobj(d):
        yield "conjugated", np.conj, "as if"
    for axes, order in orders(d.shape):
        yield f"transposed (axes {axes})", lambda a, order=order: a.transpose(order), "transposed"
    for axis in range(d.ndim):
        if d.shape[axis] > 1:
            for index, which in ((0, "first"), (-1, "last")):
                yield (
                    f"zero at the {which} index of axis {axis}: dropped",
                    lambda a, axis=axis, i=index: without(a, axis, i),
                    "region",
                )
                yield (
                    f"zero except at the {which} index of axis {axis}",
                    lambda a, axis=axis, i=index: a - without(a, axis, i),
                    "region",
                )
            yield (
                f"averaged over axis {axis}",
                lambda a, axis=axis: np.broadcast_to(a.mean(axis, keepdims=True), a.shape),
                "extra sum",
            )
            yield (
                f"summed over axis {axis}",
                lambda a, axis=axis: np.broadcast_to(a.sum(axis, keepdims=True), a.shape),
                "extra sum",
            )
            yield f"flipped along axis {axis}", lambda a, axis=axis: np.flip(a, axis), "flipped"
            for by, fill in itertools.product((1, -1), (True, False)):
                yield (
                    f"shifted by {by} along axis {axis}",
                    lambda a, axis=axis, by=by, fill=fill: shifted(a, axis, by, fill),
                    "shifted",
                )
