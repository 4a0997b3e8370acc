"""The main check: values and cotangents, leaf by leaf, at every probe; and that cotangents are linear."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..faults import describe_error, raise_if_own
from ..measure import difference, largest
from ..programs import code, jaxprs
from ..report.results import Row, Verdict
from ..trial import Observation, Trial, Values, in_float64
from .domain import proves_nothing
from .probes import Probe, cotangents, other_sizes, same_sizes
from .tolerance import comparison_row, require_equal, size_around

_WRITES = {"scatter", "scatter-mul", "scatter_mul"}
_INVERTS = {"lu", "cholesky", "triangular_solve", "eigh", "eig", "qr", "svd", "geqrf", "custom_linear_solve", "schur"}


def _probes(trial: Trial, arrays: list[Any]) -> Iterator[Probe]:
    """The probes, those of the check's own choice within the domain that the author gives."""
    for probe in _every_probe(trial, arrays):
        inside = probe.arrays if probe.from_author else trial.domain.within(trial.rule, probe.arrays, arrays)
        if inside is None:
            trial.judgement.outside.append(probe.name)
        else:
            yield probe if inside is probe.arrays else dataclasses.replace(probe, arrays=inside)


def _every_probe(trial: Trial, arrays: list[Any]) -> Iterator[Probe]:
    operations = jaxprs.primitives(trial.rule.define, arrays)
    # Two writes to one id have no defined result; a matrix of zeros or ties has no inverse.
    left_out = {"equal ids", "sizes"} if _WRITES & operations else set()
    left_out |= {"ties", "sizes"} if _INVERTS & operations else set()
    for probe in same_sizes(trial.rule, arrays, trial.random):
        wanted = "edges" if probe.kind else "values"
        if probe.from_author or (wanted in trial.checks and probe.kind not in left_out):
            yield probe
    for i, edge in enumerate(trial.rule.edges):
        at_edge = [in_float64(array) for array in trial.rule.flatten(edge)]
        yield Probe(
            f"edge {i}", at_edge, cotangents(trial.rule, at_edge, trial.random), from_author=True, kind="author"
        )
    if "sizes" in trial.checks and "sizes" not in left_out and trial.traceable and not trial.judgement.wrong_leaves:
        smaller = lambda: trial.judgement.cache.get("smaller", False)  # noqa: E731
        yield from other_sizes(trial.rule, arrays, trial.random, trial.domain, smaller)


def gradients(trial: Trial, arrays: list[Any]) -> None:
    """Adds a row for every output's value and every leaf's cotangent, at the probe where it is worst."""
    worst: dict[tuple[str, str], Row] = {}
    try:
        _compare_at_probes(trial, arrays, worst)
    finally:  # what was found before a probe at which the rule raises
        trial.judgement.rows += sorted(worst.values(), key=lambda row: row.check != "value")


def _compare_at_probes(trial: Trial, arrays: list[Any], worst: dict[tuple[str, str], Row]) -> None:
    beyond: list[tuple[Observation, list[Row]]] = []
    for probe in _probes(trial, arrays):
        if trial.judgement.wrong_leaves and not probe.from_author and len(trial.judgement.observations) >= 5:
            break  # wrong at ordinary arguments: edges would add nothing
        trial.progress.at(f"gradients, {probe.name}")
        observation = _observe(trial, probe)
        if observation is None:
            continue
        if beyond and not _changed(trial, beyond[0][0].probe) <= _changed(trial, probe):
            _note_built_in(trial, beyond[0][0].probe)  # no smaller sizes of the same axes are possible
            beyond = []
        known = dict(trial.judgement.wrong_leaves)
        rows = [*_value_rows(trial, observation), *_gradient_rows(trial, observation)]
        if probe.kind == "sizes" and not all(row.ok for row in rows) and _has_size_built_in(trial, observation):
            trial.judgement.wrong_leaves = known
            if _is_wide(trial, probe) and not trial.judgement.cache.get("smaller"):
                trial.judgement.cache["smaller"] = True  # where the rule holds below 128, no size is built in
                beyond = [(observation, rows)]
                continue
            beyond = []
            _note_built_in(trial, probe)
            continue
        reason = "" if probe.from_author or all(row.ok for row in rows) else proves_nothing(trial, observation)
        if reason:
            trial.judgement.wrong_leaves = known
            trial.judgement.note(f"not checked at {probe.name}: {reason}")
            continue
        new = [*beyond, (observation, rows)] if probe.kind == "sizes" else [(observation, rows)]
        beyond = [] if probe.kind == "sizes" else beyond
        for observation, rows in new:
            trial.judgement.observations.append(observation)
            for row in rows:
                if row.check == "gradient" and row.verdict == "fail":
                    trial.judgement.wrong_leaves.setdefault(row.leaf, observation)
                before = worst.get((row.check, row.leaf))
                if before is None or _rank(row) > _rank(before):
                    worst[row.check, row.leaf] = row
    if beyond:
        _note_built_in(trial, beyond[0][0].probe)


def _changed(trial: Trial, probe: Probe) -> set[tuple[int, int]]:
    """The axes, each by its array, that have another size than among the example arguments."""
    shapes = [(np.shape(new), np.shape(old)) for new, old in zip(probe.arrays, trial.rule.arrays)]
    return {(i, n) for i, pair in enumerate(shapes) for n, (new, old) in enumerate(zip(*pair)) if new != old}


def _note_built_in(trial: Trial, probe: Probe) -> None:
    trial.judgement.note(f"not checked at {probe.name}: a size of the example arguments is a number in the rule")


def _is_wide(trial: Trial, probe: Probe) -> bool:
    """Whether an axis is longer than 128 that is not so among the example arguments."""
    longest = lambda arrays: max((size for array in arrays for size in np.shape(array)), default=0)  # noqa: E731
    return longest(probe.arrays) > 128 >= longest(trial.rule.arrays)


def _observe(trial: Trial, probe: Probe) -> Observation | None:
    """Both derivatives; None where the definition is not finite or the rule was never meant for these sizes."""
    try:
        (y, reference), (manual_y, manual) = trial.both(probe.arrays, probe.d_y)
    except Exception as error:
        raise_if_own(error)
        if probe.from_author:
            raise
        trial.judgement.note(f"not checked at {probe.name}: it {describe_error(error)}")
        return None
    if not probe.from_author and not _all_finite(y, reference):
        trial.judgement.not_finite.append(probe.name)
        return None
    if probe.kind not in ("", "sizes", "broadcast") and "eager" in trial.checks and _all_finite(manual_y, manual):
        # A compiler may turn 0 * inf into 0: at edges the rule must be finite without it, too.
        eager_y, eager = trial.manual(probe.arrays, probe.d_y, eager=True)
        if not _all_finite(eager_y, eager):
            manual_y, manual = eager_y, eager
    if probe.from_author:
        return Observation(probe, reference, manual, y, manual_y)
    if probe.kind in ("sizes", "broadcast") and any(
        leaf in manual and manual[leaf].shape != reference[leaf].shape for leaf in trial.rule.floats
    ):
        trial.judgement.note(f"not checked at {probe.name}: the rule is written for the sizes of the example arguments")
        return None
    return Observation(probe, reference, manual, y, manual_y)


def _all_finite(*parts: Values) -> bool:
    return all(np.isfinite(leaf).all() for part in parts for leaf in part.values())


def _has_size_built_in(trial: Trial, observation: Observation) -> bool:
    """Whether the rule computes with the size of an example argument's axis where that axis has another size.

    The size may be a number in the rule's program, or in its code: a bound of a Python loop leaves no other trace.
    """
    alike = all(
        leaf in observation.manual
        and difference(observation.manual[leaf], observation.reference[leaf], 0.0).relative_error < 1e-9
        for leaf in trial.rule.floats
    )
    if alike:
        return False
    sizes = {
        float(old)
        for array, example in zip(observation.probe.arrays, trial.rule.arrays)
        for old, new in zip(_counts(np.shape(example)), _counts(np.shape(array)))
        if old != new and old > 2
    }
    examples = [in_float64(array) for array in trial.rule.arrays]
    built_in = set(jaxprs.numbers(trial.manual_program, examples, trial.judgement.observations[0].probe.d_y))
    built_in &= set(jaxprs.numbers(trial.manual_program, observation.probe.arrays, observation.probe.d_y))
    built_in -= set(jaxprs.numbers(trial.rule.define, observation.probe.arrays))
    if sizes & code.integers(trial.rule.forward, trial.rule.backward):
        return True
    forms = {form for n in sizes for form in (n, 1 / n, n - 1, 1 / (n - 1), math.sqrt(n), 1 / math.sqrt(n), 2 / n)}
    return any(math.isclose(number, form, rel_tol=1e-6) for number in built_in for form in forms)


def _counts(shape: tuple[int, ...]) -> list[int]:
    """Numbers of elements that a rule may divide by: of each axis, of all, of all but the first, the last, or both."""
    return [*shape, *(math.prod(part) for part in (shape, shape[1:], shape[:-1], shape[1:-1]))]


def _value_rows(trial: Trial, observation: Observation) -> Iterator[Row]:
    for name, expected in observation.y.items():
        manual = observation.manual_y.get(name)
        if manual is not None and manual.shape == expected.shape:
            yield comparison_row(trial, "value", name, observation, manual, expected, observation.y, "y")


def _gradient_rows(trial: Trial, observation: Observation) -> Iterator[Row]:
    for leaf in trial.rule.floats:
        manual, expected = observation.manual.get(leaf), observation.reference[leaf]
        if manual is None or manual.shape != expected.shape:
            trial.judgement.wrong_leaves.setdefault(leaf, observation)
            continue  # a breach of the contract says so
        row = comparison_row(trial, "gradient", leaf, observation, manual, expected, observation.reference, "d")
        if row.verdict == "fail":
            trial.judgement.wrong_leaves.setdefault(leaf, observation)
        yield row


def linearity(trial: Trial, arrays: list[Any]) -> None:
    """A zero cotangent must give zeros, a sum of cotangents the sum, and a large or a small one as much."""
    one, other = (observation.probe.d_y for observation in trial.judgement.observations[:2])
    zeros = trial.manual(arrays, [np.zeros_like(d) for d in one])[1]
    mixed = trial.manual(arrays, [0.75 * a - 1.5 * b for a, b in zip(one, other)])[1]
    manual = [observation.manual for observation in trial.judgement.observations[:2]]
    for leaf in trial.rule.floats:
        apart = difference(zeros[leaf], np.zeros_like(zeros[leaf]), 0.0)
        verdict: Verdict = "pass" if apart.relative_error == 0 else "fail"
        message = "" if apart.distance == 0 else f"worst {apart}"
        trial.row(leaf, "zero cotangent", "float64", apart.relative_error, 0.0, verdict, message)
    for leaf in trial.rule.floats:
        summed = 0.75 * manual[0][leaf] - 1.5 * manual[1][leaf]
        # A leaf that is zero in theory is noise in practice, and is measured on its layer's scale.
        terms = [size_around(trial, leaf, observation.reference) for observation in trial.judgement.observations[:2]]
        terms += [largest(part[leaf]) for part in manual]
        require_equal(trial, "linearity", leaf, mixed[leaf], summed, max(terms))
    if trial.shown_precision() == "float16":
        return  # which 2^15 overflows
    for factor, name in ((2.0**15, "cotangents of 2^15, as of a scaled loss"), (2.0**-15, "cotangents of 2^-15")):
        scaled = trial.manual(arrays, [factor * d for d in one])[1]
        for leaf in trial.rule.floats:
            around = factor * size_around(trial, leaf, trial.judgement.observations[0].reference)
            require_equal(trial, "linearity", leaf, scaled[leaf], factor * manual[0][leaf], around, probe=name)


def _rank(row: Row) -> tuple[int, float]:
    return (("pass", "inconclusive", "oracles disagree", "fail").index(row.verdict), row.relative_error)
