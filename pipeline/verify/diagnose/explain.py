"""The explanation of all wrong leaves together: as few mistakes as possible, each the simplest that fits."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from ..faults import describe_error
from ..measure import difference
from ..report import Diagnosis
from .chain_rule import chain_rule_terms, edits, mixups, stop_gradients
from .edges import edge_words, edges
from .functions import functions, options
from .inputs import inputs
from .joint import findings
from .places import by_place, by_place_alone
from .relations import factors, rows, simple_relations
from .sites import Finding
from .suspect import Hypothesis, Suspect, constant_ratio, first_place, largest

_COSTS = {
    "cotangent ignored": 0.3, "cotangent": 0.3, "swapped": 0.4, "missing": 0.6, "sign": 0.6, "transposed": 0.7,
    "other leaf": 0.8, "factor": 0.8, "flipped": 0.8, "shifted": 0.9, "extra sum": 0.9, "other function": 0.8,
    "stop_gradient": 0.5, "duplicates": 1.0, "padding": 1.65, "permuted": 2.5,
}  # fmt: skip
"""How plausible it is that a simple relation between a leaf and its right cotangent is all; others cost 3."""


_SECONDS = 5.0
"""The CPU time after which only quick searches are made."""


def explain(suspects: Sequence[Suspect]) -> list[Diagnosis]:
    """One diagnosis for each leaf; those of one mistake have the same words."""
    until = time.process_time() + _SECONDS
    texts: dict[str, tuple[str, str, float]] = {}
    candidates: list[Finding] = []
    for suspect in suspects:
        plain = _plain(suspect)
        if plain is not None:
            texts[suspect.leaf] = plain
        else:
            candidates += _simple(suspect)
    ordinary = [s for s in suspects if s.leaf not in texts and not s.observation.probe.kind]
    if ordinary and not _settled(candidates, ordinary):
        with contextlib.suppress(Exception):  # a program that cannot be taken apart explains nothing
            candidates += findings(ordinary[0].judgement, [s.leaf for s in ordinary])
    for suspect in ordinary:
        if min((f.cost for f in candidates if suspect.leaf in f.leaves), default=2.5) > 2.0:
            candidates += _of_inputs(suspect)
    for finding in _fewest(candidates, [s.leaf for s in suspects if s.leaf not in texts]):
        for leaf in finding.leaves:
            beside = [f"`{other}`" for other in finding.leaves if other != leaf]
            text = finding.text + (f"; the same mistake as in {', '.join(beside)}" if beside else "")
            texts[leaf] = finding.kind, text, finding.cost + finding.contradicted * 0.2
    result = []
    for suspect in suspects:
        kind, text, cost = texts.get(suspect.leaf) or _other(suspect, until)
        manual, right = suspect.manual, suspect.reference
        apart, where = difference(manual, right, 0.0), suspect.observation.probe.name
        confidence = "high" if cost < 2.5 else "medium" if cost < 5.5 else "low"
        result.append(Diagnosis(suspect.leaf, kind, text, cost < 9, where, apart, manual, right, confidence))
    return result


def _fewest(candidates: list[Finding], leaves: Sequence[str]) -> Iterator[Finding]:
    """Candidates that together explain the leaves: each time the one that explains most, of these the simplest."""
    merged: dict[tuple[str, str], Finding] = {}
    for finding in candidates:
        key = finding.kind, finding.text
        before = merged.get(key)
        leaves_of = finding.leaves if before is None else tuple(dict.fromkeys((*before.leaves, *finding.leaves)))
        merged[key] = finding._replace(leaves=leaves_of)
    rest = set(leaves)
    while True:
        useful = [finding for finding in merged.values() if rest & set(finding.leaves)]
        if not useful:
            return
        best = min(useful, key=lambda f: (-len(rest & set(f.leaves)), f.contradicted > 0, f.cost))
        yield best._replace(leaves=tuple(leaf for leaf in leaves if leaf in rest & set(best.leaves)))
        rest -= set(best.leaves)


def _settled(candidates: list[Finding], suspects: Sequence[Suspect]) -> bool:
    """Whether a simple relation explains all leaves already."""
    best = next(_fewest(candidates, [s.leaf for s in suspects]), None)
    return best is not None and len(best.leaves) == len(suspects) and best.cost < 1


def _plain(suspect: Suspect) -> tuple[str, str, float] | None:
    """What needs no hypothesis: numbers that are not finite, a lower precision."""
    manual = suspect.manual
    if not np.isfinite(manual).all():
        bad = ~np.isfinite(manual)
        count = f"{int(bad.sum())} of {manual.size} elements are not finite"
        return "not finite", f"{count}{edge_words(suspect)}, the first {first_place(bad)}", 0.0
    if _is_coarse(suspect):
        error = f"{largest(manual - suspect.reference) / largest(suspect.reference):.1e} of the leaf's largest number"
        through = suspect.judgement.rule_dtype
        return "precision", f"precision lost: the rule passes through {through}, and its error is {error}", 0.0
    return None


def _is_coarse(suspect: Suspect) -> bool:
    """Whether the rounding of a dtype that the rule passes through explains the error, and no constant factor does."""
    narrow, right = suspect.judgement.rule_dtype, suspect.reference
    if narrow is None:
        return False
    apart = largest(suspect.manual - right)
    return apart <= 8 * float(jnp.finfo(narrow).eps) * largest(right) and constant_ratio(suspect.manual, right) is None


def _simple(suspect: Suspect) -> Iterator[Finding]:
    """The first simple relation between the leaf and its right cotangent that holds."""
    try:
        found = False
        for hypotheses in (edges, simple_relations, functions, by_place, stop_gradients):
            for hypothesis in hypotheses(suspect) if not found or hypotheses is stop_gradients else ():
                if suspect.holds(hypothesis.predict):
                    found = True
                    cost = _COSTS.get(hypothesis.kind, 3.0)
                    if hypotheses is edges:
                        cost = 0.2
                    if hypothesis.kind == "factor" and "=" not in hypothesis.text:
                        cost = 1.45
                    if hypothesis.kind == "region" and ": " in hypothesis.text:
                        cost = 1.9
                    yield Finding((suspect.leaf,), hypothesis.kind, hypothesis.text, cost, 0)
                    break
    except Exception:  # what a rule raises at other arguments may not lose the verdict
        return


def _of_inputs(suspect: Suspect) -> Iterator[Finding]:
    """The first change of an argument or of the incoming cotangent that explains the leaf."""
    with contextlib.suppress(Exception):
        for hypothesis in inputs(suspect):
            if suspect.holds(hypothesis.predict):
                yield Finding((suspect.leaf,), hypothesis.kind, hypothesis.text, 1.95, 0)
                return


def _other(suspect: Suspect, until: float) -> tuple[str, str, float]:
    """The first of the particular hypotheses that holds, of the quick ones alone after ``until``."""
    searches: tuple[Callable[[Suspect], Iterator[Hypothesis]], ...]
    searches = factors, chain_rule_terms, mixups, edits, options, rows, by_place_alone
    if time.process_time() > until:
        searches = rows, by_place_alone
    try:
        for hypotheses in searches:
            for hypothesis in hypotheses(suspect):
                if suspect.holds(hypothesis.predict):
                    return hypothesis.kind, hypothesis.text, 9.0 if hypotheses is by_place_alone else 5.0
    except Exception as error:  # neither what a rule raises at other arguments nor our own faults may lose the verdict
        return "unknown", f"wrong; the diagnosis {describe_error(error)}", 10.0
    return _inexact(suspect)


def _inexact(suspect: Suspect) -> tuple[str, str, float]:
    manual, right, wrong = suspect.manual, suspect.reference, suspect.wrong_elements
    size, apart = largest(right), np.abs(manual - right)
    lost, added = (manual == 0) & (right != 0), (right == 0) & (manual != 0)
    elsewhere = wrong & ~lost & ~added
    if lost.any() and added.any() and not elsewhere.any() and manual.size > 3:
        text = (
            "as if another mask were drawn, as for dropout: zero where it must not be, not zero where it must be, and "
            "right elsewhere"
        )
        return "as if", text, 4.0
    share = wrong.sum() / max(suspect.nonzero.sum(), 1)
    text = f"{'all' if share == 1 else f'{100 * share:.0f} % of the'} elements are wrong, by up to "
    text += f"{apart.max() / size if size else math.inf:.2g} of the leaf's largest number; "
    text += "they are linear in the incoming cotangent, so the local derivative is wrong"
    wrong_leaves = suspect.judgement.wrong_leaves
    of_right = [f"`{leaf}`" for leaf in suspect.rule.floats if leaf not in wrong_leaves]
    text += f"; right: {', '.join(of_right)}" if of_right else ""
    alike = float(np.real(np.vdot(manual, right))) / max(float(np.linalg.norm(manual) * np.linalg.norm(right)), 1e-300)
    return "unknown", f"{text}; cosine similarity with the right cotangent {alike:.3f}", 10.0
