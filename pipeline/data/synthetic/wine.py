"""Ratings of real wines by simulated tasters."""

from typing import Any

import numpy as np

from ...extras import extra
from ..rating_files import RatingColumns, RatingSource


def wine_tasters() -> RatingSource:
    """Ratings from 1 to 5 by 300 simulated tasters of scikit-learn's 178 real wines: 15,000, with timestamps.

    The wines and what a laboratory found in them (13 measurements: Forina et al. 1988) are real. The tasters are not:
    each has a level and a taste, a direction among the wines' four principal components, and rates

        round(3.0 + 0.8 z_q + b_u + t_u . z_i + e),    between 1 and 5,

    where z_i are a wine's four components, each of variance 1, z_q is the first of them, b_u and t_u are normal with
    deviations 0.4 and 0.5, and e with 0.5. Everyone has 50 wines, drawn with weights exp(what they would rate them),
    and drinks what they like best rather late. As the tasters are known, so is the least possible error.
    """
    with extra("train"):
        from sklearn.datasets import load_wine

    data: Any = load_wine()
    measured = (data.data - data.data.mean(0)) / data.data.std(0)
    components = np.linalg.svd(measured, full_matrices=False)[0][:, :4] * np.sqrt(len(measured))
    components *= np.sign(components[np.abs(components).argmax(0), range(4)])  # a decomposition leaves signs open
    random = np.random.default_rng(0)
    tasters, each = 300, 50
    levels = random.normal(0, 0.4, tasters)[:, None]
    liking = 3.0 + 0.8 * components[:, 0] + levels + random.normal(0, 0.5, (tasters, 4)) @ components.T
    users = np.repeat(np.arange(tasters), each)
    drawn = np.argsort(-liking - random.gumbel(size=liking.shape), axis=1)[:, :each]
    items = np.take_along_axis(
        drawn, np.argsort(random.gumbel(size=drawn.shape) + np.take_along_axis(liking, drawn, 1)), 1
    )
    items = items.reshape(-1)
    expected = liking[users, items]
    values = np.clip(np.rint(expected + random.normal(0, 0.5, len(items))), 1, 5).astype(np.float32)
    times = np.tile(np.arange(each), tasters) * 86_400.0
    names = np.array([f"wine-{i + 1}" for i in range(len(measured))], object)
    read = RatingColumns(
        np.array([f"taster-{u + 1}" for u in users], object), names[items], values, times, np.arange(1, len(items) + 1)
    )
    titles = {
        name: f"cultivar {kind + 1}, {row[0]:.1f} % alcohol, colour {row[9]:.1f}"
        for name, kind, row in zip(names, data.target, data.data)
    }
    floor = float(np.sqrt(np.mean((np.clip(expected, 1, 5) - values) ** 2)))
    return RatingSource({"train": read}, titles, floor=floor)
