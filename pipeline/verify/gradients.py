"""The verdict itself: value and cotangents, leaf by leaf, at every probe; and that they are linear in the cotangent."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.verify import code, jaxprs
from pipeline.verify.measure import difference, largest
from pipeline.verify.probes import Probe, cotangents, other_sizes, same_sizes
from pipeline.verify.report import Row, Verdict
from pipeline.verify.tolerance import compared, held, size_around
from pipeline.verify.trial import Seen, Trial, account, in_float64

_WRITES = {"scatter", "scatter-mul", "scatter_mul"}
_INVERTS = {"lu", "cholesky", "triangular_solve", "eigh", "eig", "qr", "svd", "geqrf", "custom_linear_solve", "schur"}


def _probes(trial: Trial, given: list[Any]) -> Iterator[Probe]:
    operations = jaxprs.primitives(trial.rule.define, given)
    # Written twice at one id, the result is nobody's to say; a matrix of zeros or ties has no inverse.
    left_out = {"equal ids", "sizes"} if _WRITES & operations else set()
    left_out |= {"ties", "sizes"} if _INVERTS & operations else set()
    for probe in same_sizes(trial.rule, given, trial.random):
        wanted = "edges" if probe.kind else "values"
        if probe.given or (wanted in trial.checks and probe.kind not in left_out):
            yield probe
    for i, edge in enumerate(trial.rule.edges):
        arrays = [in_float64(array) for array in trial.rule.flatten(edge)]
        yield Probe(f"edge {i}", arrays, cotangents(trial.rule, arrays, trial.random), given=True, kind="given")
    if "sizes" in trial.checks and "sizes" not in left_out and trial.traceable and not trial.found.wrong:
        yield from other_sizes(trial.rule, given, trial.random)


def gradients(trial: Trial, given: list[Any]) -> None:
    worst: dict[tuple[str, str], Row] = {}
    for probe in _probes(trial, given):
        if trial.found.wrong and not probe.given and len(trial.found.seen) >= 5:
            break  # wrong at ordinary arguments: what edges would add is no news
        seen = _look(trial, probe)
        if seen is None:
            continue
        if probe.kind == "sizes" and _has_size_built_in(trial, seen):
            trial.found.note(f"not checked at {probe.name}: a size of the given arguments is a number in the rule")
            continue
        trial.found.seen.append(seen)
        for row in [*_value_rows(trial, seen), *_gradient_rows(trial, seen)]:
            before = worst.get((row.check, row.leaf))
            if before is None or _rank(row) > _rank(before):
                worst[row.check, row.leaf] = row
    trial.found.rows += sorted(worst.values(), key=lambda row: row.check != "value")


def _look(trial: Trial, probe: Probe) -> Seen | None:
    """Both derivatives; None where the definition is not finite or the rule was never meant for these sizes."""
    try:
        (y, reference), (manual_y, manual) = trial.both(probe.arrays, probe.d_y)
    except Exception as error:
        if probe.given:
            raise
        trial.found.note(f"not checked at {probe.name}: it {account(error)}")
        return None
    if probe.kind not in ("", "sizes") and "eager" in trial.checks:
        # A compiler may turn 0 * inf into 0: at edges the rule must be finite as it stands, too.
        eager_y, eager = trial.manual(probe.arrays, probe.d_y, eager=True)
        if not all(np.isfinite(leaf).all() for part in (eager_y, eager) for leaf in part.values()):
            manual_y, manual = eager_y, eager
    if probe.given:
        return Seen(probe, reference, manual, y, manual_y)
    finite = all(np.isfinite(leaf).all() for part in (y, reference) for leaf in part.values())
    if not finite:
        return None
    if probe.kind == "sizes" and any(
        leaf in manual and manual[leaf].shape != reference[leaf].shape for leaf in trial.rule.floats
    ):
        trial.found.note(f"not checked at {probe.name}: the rule is written for the given sizes")
        return None
    return Seen(probe, reference, manual, y, manual_y)


def _has_size_built_in(trial: Trial, seen: Seen) -> bool:
    """Whether the rule still computes with the size of a given axis where that axis has another size.

    As a number in its program, or as one in its code: the bounds of a loop in Python leave no other trace.
    """
    alike = all(
        leaf in seen.manual and difference(seen.manual[leaf], seen.reference[leaf], 0.0).relative_error < 1e-9
        for leaf in trial.rule.floats
    )
    if alike:
        return False
    sizes = {
        float(old)
        for array, given in zip(seen.probe.arrays, trial.rule.arrays)
        for old, new in zip(_counts(np.shape(given)), _counts(np.shape(array)))
        if old != new and old > 2
    }
    given = [in_float64(array) for array in trial.rule.arrays]
    built_in = set(jaxprs.numbers(trial.by_hand, given, trial.found.seen[0].probe.d_y))
    built_in &= set(jaxprs.numbers(trial.by_hand, seen.probe.arrays, seen.probe.d_y))
    built_in -= set(jaxprs.numbers(trial.rule.define, seen.probe.arrays))
    if sizes & code.integers(trial.rule.forward, trial.rule.backward):
        return True
    forms = {form for n in sizes for form in (n, 1 / n, n - 1, 1 / (n - 1), math.sqrt(n), 1 / math.sqrt(n), 2 / n)}
    return any(math.isclose(number, form, rel_tol=1e-6) for number in built_in for form in forms)


def _counts(shape: tuple[int, ...]) -> list[int]:
    """What a rule may count: the sizes of axes, of all of them, of all but the first, the last, or both."""
    return [*shape, *(math.prod(part) for part in (shape, shape[1:], shape[:-1], shape[1:-1]))]


def _value_rows(trial: Trial, seen: Seen) -> Iterator[Row]:
    for name, expected in seen.y.items():
        found = seen.manual_y.get(name)
        if found is not None and found.shape == expected.shape:
            yield compared(trial, "value", name, seen, found, expected, seen.y, "y")


def _gradient_rows(trial: Trial, seen: Seen) -> Iterator[Row]:
    for leaf in trial.rule.floats:
        found, expected = seen.manual.get(leaf), seen.reference[leaf]
        if found is None or found.shape != expected.shape:
            trial.found.wrong.setdefault(leaf, seen)
            continue  # said by the contract
        row = compared(trial, "gradient", leaf, seen, found, expected, seen.reference, "d")
        if row.verdict == "fail":
            trial.found.wrong.setdefault(leaf, seen)
        yield row


def linearity(trial: Trial, given: list[Any]) -> None:
    """Zero cotangents give zeros; those of a sum are the sum."""
    one, other = (seen.probe.d_y for seen in trial.found.seen[:2])
    zeros = trial.manual(given, [np.zeros_like(d) for d in one])[1]
    mixed = trial.manual(given, [0.75 * a - 1.5 * b for a, b in zip(one, other)])[1]
    found = [seen.manual for seen in trial.found.seen[:2]]
    for leaf in trial.rule.floats:
        apart = difference(zeros[leaf], np.zeros_like(zeros[leaf]), 0.0)
        verdict: Verdict = "pass" if apart.relative_error == 0 else "fail"
        message = "" if apart.distance == 0 else f"worst {apart}"
        trial.row(leaf, "zero cotangent", "float64", apart.relative_error, 0.0, verdict, message)
    for leaf in trial.rule.floats:
        summed = 0.75 * found[0][leaf] - 1.5 * found[1][leaf]
        # A leaf that is zero in theory is noise in practice: it is measured on its layer's scale, as everywhere.
        terms = [size_around(trial, leaf, seen.reference) for seen in trial.found.seen[:2]]
        terms += [largest(part[leaf]) for part in found]
        held(trial, "linearity", leaf, mixed[leaf], summed, max(terms))


def _rank(row: Row) -> tuple[int, float]:
    return (("pass", "inconclusive", "oracles disagree", "fail").index(row.verdict), row.relative_error)
