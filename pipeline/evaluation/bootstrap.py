"""Bootstrap confidence intervals of metrics."""

from collections.abc import Callable, Mapping

import numpy as np

Metric = Callable[[np.ndarray], Mapping[str, float]]
"""A function of the rows of a sample (row numbers, repeated ones among them) to metrics by name."""


def intervals(
    metric: Metric, strata: np.ndarray, *, resamples: int, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13) of every metric that ``metric`` returns.

    Valid for means and areas, but not for a calibration error, which repeated examples increase.

    strata: the stratum of every row, such as its class, (rows,). Each resample has as many rows of each stratum as
        there are, so that no class is missing from it.
    level: probability that an interval covers the true value.

    >>> values = np.arange(100)
    >>> low, high = intervals(lambda rows: {"mean": values[rows].mean()}, np.zeros(100), resamples=200)["mean"]
    >>> 43 < low < values.mean() < high < 56
    True
    """
    random = np.random.default_rng(seed)
    parts = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    samples = [metric(np.concatenate([random.choice(part, len(part)) for part in parts])) for _ in range(resamples)]
    ends = 50 * (1 - level), 100 - 50 * (1 - level)
    return {
        name: tuple(np.percentile([sample[name] for sample in samples], ends).tolist())  # pyright: ignore[reportReturnType]
        for name in samples[0]
    }
