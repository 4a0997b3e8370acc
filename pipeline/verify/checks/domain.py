"""Where a rule must hold: arguments that only a check chose prove nothing outside of the function's domain."""

from typing import Any

import numpy as np

from ..faults import raise_if_own
from ..measure import difference
from ..programs import code, jaxprs
from ..trial import Observation, Trial

_SMALLEST_TILE = 4
"""Fewer rows at a time are not a kernel's tile but a window, whose remainder must be dealt with."""


def proves_nothing(trial: Trial, observation: Observation) -> str:
    """Why a difference at arguments that only a check chose proves nothing; "" where it proves the rule wrong."""
    probe = observation.probe
    values = ((observation.manual_y.get(name), y) for name, y in observation.y.items())
    values_agree = all(manual is None or _close(manual, y) for manual, y in values)
    if probe.kind == "sizes" and (tiles := _of_tiles(trial, observation, values_agree)):
        return tiles
    if probe.kind == "broadcast":
        return "the rule does not hold where an argument is broadcast"
    if probe.kind == "signs" and not (probe.by_chance and values_agree):
        return "the rule is made for numbers of one sign, as those of the example are"
    if probe.kind == "zeros" and not (probe.by_chance and values_agree):
        return "the rule is wrong at zero, which no number of the example is near"
    converges, _ = trial.convergence(probe)
    return "" if converges else "an iteration has not converged there, as it has at the example arguments"


def _of_tiles(trial: Trial, observation: Observation, values_agree: bool) -> str:
    """Where a kernel is written for whole tiles, and only the rest that fills none is wrong."""
    arrays, d_y = observation.probe.arrays, observation.probe.d_y
    fit = trial.traceable and _blocks_fit(trial.rule.define, arrays) and _blocks_fit(trial.manual_program, arrays, d_y)
    if trial.traceable and not fit:
        return "a kernel's blocks do not divide these sizes"
    constants = code.integers(trial.rule.forward, trial.rule.backward, modules=True)
    for tile in sorted(int(number) for number in constants if number >= (_SMALLEST_TILE if values_agree else 2)):
        if _only_the_rest_is_wrong(trial, observation, tile):
            return f"the rule works on whole tiles of {tile}, which these sizes are no multiple of"
    return ""


def _blocks_fit(program: Any, *arguments: Any) -> bool:
    """Whether every array of every Pallas kernel is made of whole blocks."""
    try:
        kernels = [e for e in jaxprs.operations(program, *arguments) if e.primitive.name == "pallas_call"]
        return all(
            not size % getattr(block, "block_size", block if isinstance(block, int) else 1)
            for kernel in kernels
            for mapping in kernel.params["grid_mapping"].block_mappings
            for block, size in zip(mapping.block_shape, mapping.array_aval.shape)
        )
    except Exception as error:  # a version of Pallas that describes its blocks in another way
        raise_if_own(error)
        return True


def _close(manual: np.ndarray, right: np.ndarray) -> bool:
    return manual.shape == right.shape and difference(manual, right, 0.0).relative_error <= 1e-9


def _only_the_rest_is_wrong(trial: Trial, observation: Observation, tile: int) -> bool:
    """Whether every wrong number lies beyond the last whole tile of an axis, or is a sum that lacks those."""
    sizes = {
        new
        for array, example in zip(observation.probe.arrays, trial.rule.arrays)
        for old, new in zip(np.shape(example), np.shape(array))
        if old % tile == 0 and new % tile
    }
    if not sizes:
        return False
    pairs = [(observation.manual_y.get(name), y) for name, y in observation.y.items()]
    pairs += [(observation.manual.get(leaf), observation.reference[leaf]) for leaf in trial.rule.floats]
    whole = False
    for manual, right in pairs:
        if manual is None or manual.shape != right.shape:
            return False
        if _close(manual, right):
            continue
        part = tuple(slice(0, size - size % tile) if size in sizes else slice(None) for size in right.shape)
        if not any(size in sizes for size in right.shape):
            continue  # a sum over the tiles; the arrays that have the axis decide
        if not _close(manual[part], right[part]):
            return False
        whole = True
    return whole
