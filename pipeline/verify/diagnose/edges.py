"""Mistakes at edges only: kinks, ties, duplicate ids, masks, other sizes, large and tiny numbers."""

import itertools
from collections.abc import Iterator

import numpy as np

from ..rule import is_float
from .numbers import describe_number
from .places import by_place
from .relations import simple_relations
from .suspect import Hypothesis, Suspect, as_observed, constant_ratio, largest, sample


def edge_words(suspect: Suspect) -> str:
    """The edge at which the leaf is wrong, in brackets; "" at ordinary arguments."""
    return f" ({suspect.observation.probe.name})" if suspect.observation.probe.kind else ""


def edges(suspect: Suspect) -> Iterator[Hypothesis]:
    """Mistakes that show only at an edge, not at ordinary arguments."""
    probe, predict = suspect.observation.probe, as_observed(suspect)
    if (probe.from_author or probe.kind == "ties") and _holds_nearby(suspect):
        yield from _kinks(suspect)
    if probe.kind == "equal ids":
        text = "wrong only where ids occur more than once (duplicate ids): overwritten instead of accumulated"
        yield Hypothesis("duplicates", text, predict)
    if probe.kind == "mask":
        which = {"one row wholly masked": "where a whole row is masked (all padding)"}
        text = f"wrong only {which.get(probe.name, f'with padding ({probe.name}): the mask is ignored there')}"
        yield Hypothesis("padding", text, predict)
    if probe.kind == "sizes":
        yield from _sizes(suspect)
    if probe.kind in ("large", "tiny"):
        yield Hypothesis("edge", f"right at ordinary numbers, and wrong at {probe.kind} ones", predict)


def _kinks(suspect: Suspect) -> Iterator[Hypothesis]:
    own, wrong = np.asarray(suspect.arrays()[suspect.leaf]), suspect.wrong_elements
    values = f"it gives {sample(suspect.manual[wrong])} there, and JAX's derivative of the function is "
    values += sample(suspect.reference[wrong])
    if (own[wrong] == 0).all() and not (own.ndim > 1 and wrong.mean() > 0.5):  # so many zeros are ties, too
        text = f"wrong only at a kink, where `{suspect.leaf}` is 0; {values}"
        yield Hypothesis("kink", text, as_observed(suspect))
    whole = (np.abs(suspect.manual) >= np.abs(suspect.reference) * (1 - 1e-9)).all()
    more = whole and largest(suspect.manual.sum()) > largest(suspect.reference.sum()) * (1 + 1e-7)
    text = "wrong only at ties (and zeros)"
    text += f"{': every tie takes the whole gradient' if more else ''}; {values}"
    yield Hypothesis("ties", text, as_observed(suspect))


def _sizes(suspect: Suspect) -> Iterator[Hypothesis]:
    name, ratio = suspect.observation.probe.name, constant_ratio(suspect.manual, suspect.reference)
    if ratio is not None:
        factor = describe_number(ratio, suspect.rule, suspect.observation)
        text = f"right at the sizes of the arguments, and off by the factor {factor} at others ({name}): one size is "
        text += "taken for another that is equal"
        yield Hypothesis("factor", text, as_observed(suspect))
    for hypothesis in itertools.chain(simple_relations(suspect), by_place(suspect)):
        if suspect.holds(hypothesis.predict):
            yield hypothesis._replace(text=f"{hypothesis.text}; at {name}, while right at the sizes of the arguments")
    yield Hypothesis("edge", f"right at the sizes of the arguments, and wrong at {name}", as_observed(suspect))


def _holds_nearby(suspect: Suspect) -> bool:
    """Whether the rule is right at random inputs close by."""
    random = np.random.default_rng(5)
    here = largest(suspect.manual - suspect.reference)
    for _ in range(2):
        arrays = [
            array + 1e-3 * random.normal(size=np.shape(array)) * (largest(array) or 1.0) if is_float(array) else array
            for array in suspect.observation.probe.arrays
        ]
        (_, right), (_, manual) = suspect.judgement.both(arrays, suspect.observation.probe.d_y)
        apart = np.abs(manual[suspect.leaf] - right[suspect.leaf]).max(initial=0.0)
        if not apart <= min(1e-8 * largest(right[suspect.leaf]), 0.01 * here):
            return False
    return True
