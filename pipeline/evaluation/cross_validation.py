"""Metrics over several models, such as those of a cross-validation."""

from collections.abc import Mapping, Sequence

import numpy as np


def means(tests: Sequence[Mapping[str, float]], deviating: Sequence[str]) -> dict[str, float]:
    """The mean of every metric over models, and for each name in ``deviating`` the standard deviation among them.

    >>> means([{"auc": 0.5}, {"auc": 1.0}], ["auc"])
    {'auc': 0.75, 'auc_deviation': 0.3535533905932738}
    """
    mean = {name: float(np.mean([test[name] for test in tests])) for name in tests[0]}
    return mean | {f"{name}_deviation": float(np.std([test[name] for test in tests], ddof=1)) for name in deviating}
