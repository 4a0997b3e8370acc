"""Wrong only at edges: kinks, ties, duplicate ids, masks, other sizes, large and tiny numbers."""

import itertools
from collections.abc import Iterator

import numpy as np

from pipeline.verify.diagnose.numbers import described
from pipeline.verify.diagnose.places import located
from pipeline.verify.diagnose.relations import simple
from pipeline.verify.diagnose.suspect import Hypothesis, Suspect, as_found, constant_ratio, largest, sample
from pipeline.verify.rule import is_float


def edge_words(suspect: Suspect) -> str:
    """At which edge the leaf was seen to be wrong, in brackets; "" at ordinary arguments."""
    return f" ({suspect.seen.probe.name})" if suspect.seen.probe.kind else ""


def edges(suspect: Suspect) -> Iterator[Hypothesis]:
    """What is wrong only at an edge, and right at ordinary arguments."""
    probe, found = suspect.seen.probe, as_found(suspect)
    if (probe.given or probe.kind == "ties") and _holds_nearby(suspect):
        yield from _kinks(suspect)
    if probe.kind == "equal ids":
        text = "wrong only where ids occur more than once (duplicate ids): overwritten instead of accumulated"
        yield Hypothesis("duplicates", text, found)
    if probe.kind == "mask":
        which = {"one row wholly masked": "where a row is wholly masked (all padding)"}
        text = f"wrong only {which.get(probe.name, f'with padding ({probe.name}): the mask does not decide there')}"
        yield Hypothesis("padding", text, found)
    if probe.kind == "sizes":
        yield from _sizes(suspect)
    if probe.kind in ("large", "tiny"):
        yield Hypothesis("edge", f"right at ordinary sizes of number, and wrong at {probe.kind} ones", found)


def _kinks(suspect: Suspect) -> Iterator[Hypothesis]:
    own, wrong = np.asarray(suspect.arrays()[suspect.leaf]), suspect.wrong
    values = f"there it gives {sample(suspect.manual[wrong])}, and the function's own derivative under JAX is "
    values += sample(suspect.reference[wrong])
    if (own[wrong] == 0).all() and not (own.ndim > 1 and wrong.mean() > 0.5):  # so many zeros are ties as well
        text = f"wrong only at a kink, where `{suspect.leaf}` is 0; {values}"
        yield Hypothesis("kink", text, as_found(suspect))
    whole = (np.abs(suspect.manual) >= np.abs(suspect.reference) * (1 - 1e-9)).all()
    more = whole and largest(suspect.manual.sum()) > largest(suspect.reference.sum()) * (1 + 1e-7)
    text = "wrong only at ties (and zeros), where a small change of the arguments decides"
    text += f"{': every tie takes the whole gradient' if more else ''}; {values}"
    yield Hypothesis("ties", text, as_found(suspect))


def _sizes(suspect: Suspect) -> Iterator[Hypothesis]:
    name, ratio = suspect.seen.probe.name, constant_ratio(suspect.manual, suspect.reference)
    if ratio is not None:
        factor = described(ratio, suspect.rule, suspect.seen)
        text = f"right at the given sizes, and off by the factor {factor} at others ({name}): two sizes were only equal"
        yield Hypothesis("factor", text, as_found(suspect))
    for hypothesis in itertools.chain(simple(suspect), located(suspect)):
        if suspect.holds(hypothesis.predict):
            yield hypothesis._replace(text=f"{hypothesis.text}; at {name}, while right at the given ones")
    yield Hypothesis("edge", f"right at the given sizes, and wrong at {name}", as_found(suspect))


def _holds_nearby(suspect: Suspect) -> bool:
    """Whether the rule is right at generic inputs close by."""
    random = np.random.default_rng(5)
    here = largest(suspect.manual - suspect.reference)
    for _ in range(2):
        arrays = [
            array + 1e-3 * random.normal(size=np.shape(array)) * (largest(array) or 1.0) if is_float(array) else array
            for array in suspect.seen.probe.arrays
        ]
        (_, right), (_, manual) = suspect.found.both(arrays, suspect.seen.probe.d_y)
        apart = np.abs(manual[suspect.leaf] - right[suspect.leaf]).max(initial=0.0)
        if not apart <= min(1e-8 * largest(right[suspect.leaf]), 0.01 * here):
            return False
    return True
