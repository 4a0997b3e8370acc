"""What is wrong with a cotangent, in words.

A hypothesis predicts the cotangent that a particular mistake would give, from the right cotangents and the arguments.
It fits if it explains every element at several observations. Hypotheses are tried from the simplest to the most
particular; the first that fits is the diagnosis.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..measure import difference
from ..report import Diagnosis
from ..report.results import Row
from ..rule import Breach
from ..trial import Judgement
from .explain import explain
from .numbers import describe_number
from .shapes import of_shapes
from .suspect import Suspect, constant_ratio

KINDS = {
    "missing": "the cotangent is zero or None, and must not be",
    "sign": "the right cotangent times -1",
    "factor": "off by one constant",
    "transposed": "axes swapped",
    "missing sum": "a broadcast axis is not summed",
    "extra sum": "summed over an axis that must be kept",
    "flipped": "reversed along an axis",
    "shifted": "off by some positions along an axis",
    "swapped": "two leaves' cotangents swapped",
    "other leaf": "the cotangent of another leaf",
    "permuted": "the right values at wrong places",
    "region": "wrong only at some indices, or at some values of an argument",
    "duplicates": "wrong where an id occurs more than once",
    "padding": "wrong at padded positions, or the mask ignored",
    "ties": "wrong where values tie",
    "kink": "wrong at a kink, such as 0",
    "missing term": "one term of the chain rule is lost",
    "doubled term": "one term of the chain rule counts twice, negated, or by another factor",
    "partial sum": "only some blocks, steps or shards of a sum count",
    "recompute": "what the backward pass computes again differs from the forward pass",
    "other ids": "rows are read or written by other ids",
    "missing factor": "the multiplication by an array is missing",
    "extra factor": "a multiplication by an array is too many",
    "cotangent ignored": "the same for every incoming cotangent",
    "cotangent": "not linear in the incoming cotangent",
    "as if": "right for other arguments",
    "other function": "the derivative of another function, or of other options",
    "stop_gradient": "stop_gradient ignored",
    "precision": "rounded to a lower precision",
    "not finite": "NaN or infinity",
    "not deterministic": "different from call to call",
    "state": "depends on an earlier call",
    "shape": "another shape than its argument",
    "dtype": "another dtype than its argument",
    "structure": "leaves or containers missing or too many",
    "exception": "the rule raised an exception",
    "value": "the forward pass returns another value",
    "transform": "right, but not under a transformation",
    "second derivative": "the derivative of the rule itself is wrong",
    "edge": "wrong at certain inputs only",
    "reference": "a custom rule inside the function is wrong",
    "unknown": "no known mistake explains it",
}
"""Every kind of mistake that a diagnosis may name, with its meaning."""


def diagnose(judgement: Judgement) -> tuple[Diagnosis, ...]:
    """One diagnosis for each leaf that is wrong, or for the rule as a whole where nothing could be compared."""
    result: list[Diagnosis] = []
    if judgement.behaviour:
        row = next(row for row in judgement.rows if row.check == "determinism")
        text = f"{_BEHAVIOUR[judgement.behaviour]}: {row.message}"
        result.append(Diagnosis("", judgement.behaviour, text, exact=True))
    result += [_of_breach(judgement, breach) for breach in _one_each(judgement.breaches)]
    explained = {diagnosis.leaf for diagnosis in result}
    result += [
        _of_value(judgement, row)
        for row in judgement.rows
        if row.check == "value" and row.verdict == "fail" and row.leaf not in explained
    ]
    suspects = [
        Suspect(judgement, leaf, observation)
        for leaf, observation in judgement.wrong_leaves.items()
        if leaf not in explained
        and leaf in observation.manual
        and observation.manual[leaf].shape == observation.reference[leaf].shape
    ]
    result += explain(suspects)
    explained = {diagnosis.leaf for diagnosis in result}
    result += [
        _of_row(row)
        for row in _one_each(sorted(judgement.rows, key=_is_not_an_oracle))
        if not row.ok and row.leaf not in explained and not judgement.behaviour
    ]
    return tuple(result)


_BEHAVIOUR = {
    "not deterministic": "not deterministic",
    "state": "depends on state that an earlier call left",
}


def _one_each(items: Sequence[Any]) -> list[Any]:
    """The first item of every leaf; of rows, the first that does not pass."""
    first: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, Row) or not item.ok:
            first.setdefault(item.leaf, item)
    return list(first.values())


def _is_not_an_oracle(row: Row) -> bool:
    """Sorts the rows of oracles first: where they disagree, the other rows follow from it."""
    return row.check not in ("finite differences", "forward mode")


def _of_value(judgement: Judgement, row: Row) -> Diagnosis:
    observations = judgement.observations
    observation = next((each for each in observations if each.probe.name == row.probe), observations[0])
    manual, expected = observation.manual_y[row.leaf], observation.y[row.leaf]
    text = "the forward pass returns another value than the function"
    ratio = constant_ratio(manual, expected)
    if ratio is not None:
        text += f": {describe_number(ratio, judgement.rule, observation)} times it"
    if not np.isfinite(manual).all():
        text += ": it is not finite"
    return Diagnosis(
        row.leaf, "value", text, ratio is not None, row.probe, difference(manual, expected, 0.0), manual, expected
    )


def _of_breach(judgement: Judgement, breach: Breach) -> Diagnosis:
    observation = judgement.observations[0] if judgement.observations else None
    if observation is None or breach.kind != "shape" or breach.leaf not in observation.manual:
        return Diagnosis(breach.leaf, breach.kind, breach.message, exact=True)
    manual, right = observation.manual[breach.leaf], observation.reference[breach.leaf]
    kind, text = of_shapes(manual, right)
    message = f"{text}: {breach.message}" if text else breach.message
    return Diagnosis(breach.leaf, kind, message, bool(text), observation.probe.name, None, manual, right)


def _of_row(row: Row) -> Diagnosis:
    """The diagnosis where the gradient is right at ordinary inputs, and another check fails."""
    kinds = {
        "zero cotangent": ("cotangent", "a zero cotangent does not give zero: something is added to every result"),
        "linearity": ("cotangent", "it is not linear in the incoming cotangent"),
        "eager": ("transform", "right under jit, and wrong without it"),
        "vmap": ("transform", "right for one example, and wrong under vmap"),
        "devices": ("transform", "right on one device, and wrong on several"),
        "value": (
            "precision",
            f"precision lost: in {row.dtype} the error of the forward pass is larger than the function's own",
        ),
        "primal": ("value", ""),
        "unperturbed": ("transform", f"wrong with {row.probe}"),
        "accumulation": ("precision", "precision lost in a long sum"),
        "second derivative": ("second derivative", ""),
        "finite differences": ("reference", ""),
        "forward mode": ("reference", ""),
        "sensitivity": ("unknown", ""),
        "determinism": ("not deterministic", ""),
    }
    kind, text = kinds.get(row.check, ("unknown", ""))
    if row.check == "gradient" and row.dtype != "float64":
        kind, text = "precision", f"precision lost: in {row.dtype} the error is more than twice autodiff's own"
    if row.verdict == "oracles disagree":
        kind = "reference"
    if "raised" in row.message:
        kind = "exception" if row.check not in ("vmap", "eager", "devices") else kind
    message = row.message if not text else f"{text}; {row.message}" if row.message else text
    return Diagnosis(row.leaf, kind, message, probe=row.probe)
