"""Finite differences of a function's value, used only where they have converged."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..faults import run
from ..rule import Rule, outputs, paired, replaced
from .probes import Probe, meaning


@dataclass(frozen=True)
class Slope:
    """The derivative along one direction within one leaf, with an estimate of its error.

    value: d/dh <d_y, f(x + h v)> at h = 0. error: an estimate. direction: v, in the leaf's shape.
    """

    value: float
    error: float
    direction: np.ndarray

    def along(self, gradient: np.ndarray) -> float:
        """The same slope by a gradient: <gradient, v>."""
        return float(np.real(np.sum(np.asarray(gradient) * self.direction)))

    def scale(self, gradient: np.ndarray) -> float:
        """The size of the sum's terms, which may cancel."""
        return float(np.sqrt(np.sum(np.abs(np.asarray(gradient) * self.direction) ** 2)))

    def agrees(self, gradient: np.ndarray) -> bool | None:
        """Whether a gradient has this slope; None where the differences have not converged."""
        size = max(self.scale(gradient), abs(self.value))
        if not math.isfinite(self.value) or not np.isfinite(gradient).all() or self.error > 1e-5 * size:
            return None if size or not math.isfinite(self.value) else True
        return abs(self.value - self.along(gradient)) <= 1e-5 * size + 10 * self.error


class FiniteDifferences:
    """Slopes of a definition's value by central differences, extrapolated to step 0 (Ridders 1982)."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._value = rule.jit(lambda arrays, d_y: paired(list(outputs(rule.define(arrays)).values()), d_y))

    def slope(self, probe: Probe, place: int, random: np.random.Generator) -> Slope:
        """Along a random direction within the array at ``place``."""
        array = np.asarray(probe.arrays[place])
        direction = np.asarray(random.normal(size=array.shape))
        if (
            meaning(np.asarray(self.rule.arrays[place])) != "real"
        ):  # the meaning of the example arguments, not of an edge
            direction = np.asarray(direction * np.abs(array))  # a small step keeps its sign
        largest = float(np.abs(array).max(initial=0.0)) or 1.0

        def value(h: float) -> float:
            return float(run(self._value, replaced(probe.arrays, [place], [array + h * direction]), probe.d_y))

        unit = largest / (float(np.abs(direction).max(initial=0.0)) or 1.0)
        best, error = _ridders(value, 2e-2 * unit)
        # At a kink central differences converge, to neither side's slope: the sides must agree.
        small, here = 1e-5 * unit, value(0.0)
        bend = abs(value(small) + value(-small) - 2 * here) / small
        if bend > 1e-3 * max(abs(best), abs(here) / unit * 1e-3):
            error = math.inf
        return Slope(best, error, direction)


def _ridders(value: Callable[[float], float], h: float) -> tuple[float, float]:
    """The derivative at 0 and its error, by Neville's extrapolation of central differences in h^2."""
    table: list[list[float]] = []
    best, error = math.nan, math.inf
    for i in range(7):
        row = [(value(h) - value(-h)) / (2 * h)]
        for j in range(i):
            factor = 4.0 ** (j + 1)
            row.append((factor * row[j] - table[i - 1][j]) / (factor - 1))
            estimate = max(abs(row[-1] - row[j]), abs(row[-1] - table[i - 1][j]))
            if estimate < error:
                best, error = row[-1], estimate
        table.append(row)
        h /= 2
    return best, error
