"""What is wrong with a cotangent, in words.

A hypothesis predicts the cotangent that a particular mistake would give, from the right cotangents and the arguments.
It fits if it explains every element at several observations. Hypotheses are tried from the simplest to the most
particular; the first that fits is the diagnosis.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..faults import describe_error
from ..measure import difference
from ..report import Diagnosis
from ..report.results import Row
from ..rule import Breach
from ..trial import Judgement
from .chain_rule import chain_rule_terms, edits, mixups, stop_gradients
from .edges import edge_words, edges
from .functions import functions, options
from .inputs import inputs
from .numbers import describe_number
from .places import by_place, by_place_alone
from .relations import factors, rows, simple_relations
from .shapes import of_shapes
from .suspect import Suspect, constant_ratio, first_place, largest

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
    for leaf, observation in judgement.wrong_leaves.items():
        manual = observation.manual.get(leaf)
        if leaf not in explained and manual is not None and manual.shape == observation.reference[leaf].shape:
            result.append(_explained(Suspect(judgement, leaf, observation)))
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


def _explained(suspect: Suspect) -> Diagnosis:
    try:
        kind, text, exact = _explanation(suspect)
    except Exception as error:  # neither what a rule raises at other arguments nor our own faults may lose the verdict
        kind, text, exact = "unknown", f"wrong; the diagnosis {describe_error(error)}", False
    manual, right = suspect.manual, suspect.reference
    where = suspect.observation.probe.name
    return Diagnosis(suspect.leaf, kind, text, exact, where, difference(manual, right, 0.0), manual, right)


def _explanation(suspect: Suspect) -> tuple[str, str, bool]:
    manual = suspect.manual
    if not np.isfinite(manual).all():
        bad = ~np.isfinite(manual)
        where = edge_words(suspect)
        return (
            "not finite",
            f"{int(bad.sum())} of {manual.size} elements are not finite{where}, the first {first_place(bad)}",
            True,
        )
    if _is_coarse(suspect):
        size = largest(suspect.reference)
        error = f"{largest(manual - suspect.reference) / size:.1e} of the leaf's largest number"
        return (
            "precision",
            f"precision lost: the rule passes through {suspect.judgement.rule_dtype}, and its error is {error}",
            True,
        )
    for hypotheses in (
        edges,
        simple_relations,
        functions,
        by_place,
        stop_gradients,
        factors,
        chain_rule_terms,
        inputs,
        mixups,
        edits,
        options,
        rows,
        by_place_alone,
    ):
        for hypothesis in hypotheses(suspect):
            if suspect.holds(hypothesis.predict):
                return hypothesis.kind, hypothesis.text, hypotheses is not by_place_alone
    return _inexact(suspect)


def _is_coarse(suspect: Suspect) -> bool:
    """Whether the rounding of a dtype that the rule passes through explains the error, and no constant factor does."""
    narrow, right = suspect.judgement.rule_dtype, suspect.reference
    if narrow is None:
        return False
    apart = largest(suspect.manual - right)
    return apart <= 8 * float(jnp.finfo(narrow).eps) * largest(right) and constant_ratio(suspect.manual, right) is None


def _inexact(suspect: Suspect) -> tuple[str, str, bool]:
    manual, right, wrong = suspect.manual, suspect.reference, suspect.wrong_elements
    size, apart = largest(right), np.abs(manual - right)
    lost, added = (manual == 0) & (right != 0), (right == 0) & (manual != 0)
    elsewhere = wrong & ~lost & ~added
    if lost.any() and added.any() and not elsewhere.any() and manual.size > 3:
        text = (
            "as if another mask were drawn, as for dropout: zero where it must not be, not zero where it must be, and "
            "right elsewhere"
        )
        return "as if", text, True
    share = wrong.sum() / max(suspect.nonzero.sum(), 1)
    text = f"{'all' if share == 1 else f'{100 * share:.0f} % of the'} elements are wrong, by up to "
    text += f"{apart.max() / size if size else math.inf:.2g} of the leaf's largest number; "
    text += "they are linear in the incoming cotangent, so the local derivative is wrong"
    alike = float(np.real(np.vdot(manual, right))) / max(float(np.linalg.norm(manual) * np.linalg.norm(right)), 1e-300)
    return "unknown", f"{text}; cosine similarity with the right cotangent {alike:.3f}", False
