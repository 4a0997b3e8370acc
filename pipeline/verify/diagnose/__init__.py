"""What is wrong with a cotangent, in the author's own terms.

A hypothesis predicts what a particular mistake would give, from the right cotangents and the arguments, and is believed
where it explains every element at several probes. They are tried from the simplest to the most particular; the first
that fits is the diagnosis.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from pipeline.verify.diagnose.edges import edge_words, edges
from pipeline.verify.diagnose.functions import functions, options
from pipeline.verify.diagnose.inputs import inputs
from pipeline.verify.diagnose.numbers import described
from pipeline.verify.diagnose.places import located, weakly_located
from pipeline.verify.diagnose.programs import edits, mixups, programs, stopped
from pipeline.verify.diagnose.relations import factors, rows, simple
from pipeline.verify.diagnose.shapes import of_shapes
from pipeline.verify.diagnose.suspect import Suspect, constant_ratio, largest, place
from pipeline.verify.measure import difference
from pipeline.verify.report import Diagnosis, Row
from pipeline.verify.rule import Breach
from pipeline.verify.trial import Judgement, account

KINDS = {
    "missing": "the cotangent is zero or None where it should not be",
    "sign": "minus what it must be",
    "factor": "off by one constant",
    "transposed": "axes swapped",
    "missing sum": "a broadcast axis is not summed",
    "extra sum": "summed over an axis that must be kept",
    "flipped": "reversed along an axis",
    "shifted": "off by some positions along an axis",
    "swapped": "two leaves' cotangents swapped",
    "other leaf": "the cotangent of another leaf",
    "permuted": "the right values at wrong places",
    "region": "right but for some indices, or some values of an argument",
    "duplicates": "wrong where an id occurs more than once",
    "padding": "wrong at padded positions, or the mask ignored",
    "ties": "wrong where values tie",
    "kink": "wrong at a kink, such as 0",
    "missing term": "one way of the chain rule is lost",
    "doubled term": "one way of the chain rule counts twice, negated, or by another factor",
    "missing factor": "a known array should multiply it and does not",
    "extra factor": "a known array multiplies it and should not",
    "cotangent ignored": "the same whatever cotangent comes in",
    "cotangent": "not linear in the incoming cotangent",
    "as if": "right for other arguments",
    "other function": "the derivative of another function, or of other options",
    "stop_gradient": "stop_gradient ignored",
    "precision": "rounded to a lower precision on the way",
    "not finite": "NaN or infinity",
    "not deterministic": "depends on the run",
    "state": "depends on an earlier call",
    "shape": "another shape than its argument",
    "dtype": "another dtype than its argument",
    "structure": "leaves or containers missing or too many",
    "exception": "the rule raised",
    "value": "the forward pass gives another value",
    "transform": "right, but not under a transformation",
    "edge": "wrong at certain inputs only",
    "reference": "the function's own rule is at fault",
    "unknown": "nothing that is known explains it",
}
"""Every kind of mistake that a diagnosis may name."""


def diagnose(found: Judgement) -> tuple[Diagnosis, ...]:
    """One diagnosis for each leaf that is wrong, or for the rule as a whole where it could not be measured."""
    result: list[Diagnosis] = []
    if found.behaviour:
        row = next(row for row in found.rows if row.check == "determinism")
        result.append(Diagnosis("", found.behaviour, f"{_BEHAVIOUR[found.behaviour]}: {row.message}", exact=True))
    result += [_of_breach(found, breach) for breach in _one_each(found.breaches)]
    said = {diagnosis.leaf for diagnosis in result}
    result += [
        _of_value(found, row)
        for row in found.rows
        if row.check == "value" and row.verdict == "fail" and row.leaf not in said
    ]
    for leaf, seen in found.wrong.items():
        if leaf not in said and leaf in seen.manual and seen.manual[leaf].shape == seen.reference[leaf].shape:
            result.append(_explained(Suspect(found, leaf, seen)))
    said = {diagnosis.leaf for diagnosis in result}
    result += [
        _of_row(row)
        for row in _one_each(sorted(found.rows, key=_is_an_oracles))
        if not row.ok and row.leaf not in said and not found.behaviour
    ]
    return tuple(result)


_BEHAVIOUR = {
    "not deterministic": "depends on the run",
    "state": "depends on state left by an earlier call",
}


def _one_each(items: Sequence[Any]) -> list[Any]:
    """The first item of every leaf; of rows, the first that does not pass."""
    first: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, Row) or not item.ok:
            first.setdefault(item.leaf, item)
    return list(first.values())


def _is_an_oracles(row: Row) -> bool:
    """Sorts first what oracles say: where they disagree, the other rows only follow."""
    return row.check not in ("finite differences", "forward mode")


def _of_value(found: Judgement, row: Row) -> Diagnosis:
    seen = next((seen for seen in found.seen if seen.probe.name == row.probe), found.seen[0])
    manual, expected = seen.manual_y[row.leaf], seen.y[row.leaf]
    text = "the forward pass gives another value than the function"
    ratio = constant_ratio(manual, expected)
    if ratio is not None:
        text += f": {described(ratio, found.rule, seen)} times it"
    if not np.isfinite(manual).all():
        text += ": it is not finite"
    return Diagnosis(
        row.leaf, "value", text, ratio is not None, row.probe, difference(manual, expected, 0.0), manual, expected
    )


def _of_breach(found: Judgement, breach: Breach) -> Diagnosis:
    seen = found.seen[0] if found.seen else None
    if seen is not None and breach.kind == "shape" and breach.leaf in seen.manual:
        manual, right = seen.manual[breach.leaf], seen.reference[breach.leaf]
        kind, text = of_shapes(manual, right)
        return Diagnosis(
            breach.leaf,
            kind,
            f"{text}: {breach.message}" if text else breach.message,
            bool(text),
            seen.probe.name,
            None,
            manual,
            right,
        )
    return Diagnosis(breach.leaf, breach.kind, breach.message, exact=True)


def _of_row(row: Row) -> Diagnosis:
    """Where the gradient is right at ordinary inputs, and something else does not hold."""
    kinds = {
        "zero cotangent": ("cotangent", "a zero cotangent does not give zero: something is added whatever comes in"),
        "linearity": ("cotangent", "it is not linear in the incoming cotangent"),
        "eager": ("transform", "right under jit, and wrong without"),
        "vmap": ("transform", "right for one example, and wrong under vmap"),
        "devices": ("transform", "right on one device, and wrong on several"),
        "value": ("precision", f"precision lost: the forward pass is worse in {row.dtype} than the function"),
        "finite differences": ("reference", ""),
        "forward mode": ("reference", ""),
        "sensitivity": ("unknown", ""),
        "determinism": ("not deterministic", ""),
    }
    kind, text = kinds.get(row.check, ("unknown", ""))
    if row.check == "gradient" and row.dtype != "float64":
        kind, text = "precision", f"precision lost: in {row.dtype} it is off by more than twice autodiff's own error"
    if row.verdict == "oracles disagree":
        kind = "reference"
    if "raised" in row.message:
        kind = "exception" if row.check not in ("vmap", "eager", "devices") else kind
    message = row.message if not text else f"{text}; {row.message}" if row.message else text
    return Diagnosis(row.leaf, kind, message, probe=row.probe)


def _explained(suspect: Suspect) -> Diagnosis:
    try:
        kind, text, exact = _explanation(suspect)
    except Exception as error:  # a rule that raises at other arguments must not take the verdict with it
        kind, text, exact = "unknown", f"wrong, and looking closer {account(error)}", False
    manual, right = suspect.manual, suspect.reference
    where = suspect.seen.probe.name
    return Diagnosis(suspect.leaf, kind, text, exact, where, difference(manual, right, 0.0), manual, right)


def _explanation(suspect: Suspect) -> tuple[str, str, bool]:
    manual = suspect.manual
    if not np.isfinite(manual).all():
        bad = ~np.isfinite(manual)
        where = edge_words(suspect)
        return (
            "not finite",
            f"{int(bad.sum())} of {manual.size} elements are not finite{where}, the first {place(bad)}",
            True,
        )
    if _is_coarse(suspect):
        size = largest(suspect.reference)
        error = f"{largest(manual - suspect.reference) / size:.1e} of the leaf's largest"
        return (
            "precision",
            f"precision lost: the rule passes through {suspect.found.narrow}, and is off by {error}",
            True,
        )
    for hypotheses in (
        edges,
        simple,
        functions,
        located,
        stopped,
        factors,
        programs,
        inputs,
        mixups,
        edits,
        options,
        rows,
        weakly_located,
    ):
        for hypothesis in hypotheses(suspect):
            if suspect.holds(hypothesis.predict):
                return hypothesis.kind, hypothesis.text, hypotheses is not weakly_located
    return _inexact(suspect)


def _is_coarse(suspect: Suspect) -> bool:
    """Whether the rounding of a dtype that the rule passes through is all there is, and no constant factor."""
    narrow, right = suspect.found.narrow, suspect.reference
    if narrow is None:
        return False
    apart = largest(suspect.manual - right)
    return apart <= 8 * float(jnp.finfo(narrow).eps) * largest(right) and constant_ratio(suspect.manual, right) is None


def _inexact(suspect: Suspect) -> tuple[str, str, bool]:
    manual, right, wrong = suspect.manual, suspect.reference, suspect.wrong
    size, apart = largest(right), np.abs(manual - right)
    lost, added = (manual == 0) & (right != 0), (right == 0) & (manual != 0)
    elsewhere = wrong & ~lost & ~added
    if lost.any() and added.any() and not elsewhere.any() and manual.size > 3:
        text = (
            "another mask: zero where it must not be and the reverse, and right elsewhere, as if dropout's mask were "
        )
        return "as if", f"{text}drawn afresh", True
    share = wrong.sum() / max(suspect.counted.sum(), 1)
    text = f"{'all' if share == 1 else f'{100 * share:.0f} % of the'} elements are wrong, by up to "
    text += f"{apart.max() / size if size else math.inf:.2g} of the leaf's largest; "
    text += "in proportion to the incoming cotangent, so the local derivative is wrong"
    alike = float(np.real(np.vdot(manual, right))) / max(float(np.linalg.norm(manual) * np.linalg.norm(right)), 1e-300)
    return "unknown", f"{text}; cosine with the right one {alike:.3f}", False
