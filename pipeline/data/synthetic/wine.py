"""Synthetic ratings: real wines, rated by simulated tasters."""

from typing import Any

import numpy as np

from ...extras import extra
from ..rating_files import RatingColumns, RatingSource


def wine_tasters() -> RatingSource:
    """15,000 ratings from 1 to 5, with timestamps, by 300 simulated tasters of scikit-learn's 178 wines.

    The wines and their 13 laboratory measurements are real (Forina et al. 1988). The tasters are simulated: taster u
    gives wine i the rating

        round(3.0 + 0.8 z_i1 + b_u + t_u . z_i + e),    clipped to 1 to 5,

    where z_i are the wine's four principal components, scaled to variance 1, and z_i1 is the first of them. The
    taster's bias b_u, taste t_u (four numbers) and noise e are normal with deviations 0.4, 0.5 and 0.5. Every taster
    rates 50 wines, drawn with weights exp(expected rating), and tends to rate the better ones later. Since the model is
    known, so is the lowest possible error, ``floor``.
    """
    with extra("train"):
        from sklearn.datasets import load_wine

    data: Any = load_wine()
    features = (data.data - data.data.mean(0)) / data.data.std(0)
    components = np.linalg.svd(features, full_matrices=False)[0][:, :4] * np.sqrt(len(features))
    components *= np.sign(components[np.abs(components).argmax(0), range(4)])  # the decomposition leaves signs open
    random = np.random.default_rng(0)
    tasters, each = 300, 50
    levels = random.normal(0, 0.4, tasters)[:, None]
    liking = 3.0 + 0.8 * components[:, 0] + levels + random.normal(0, 0.5, (tasters, 4)) @ components.T
    users = np.repeat(np.arange(tasters), each)
    chosen = np.argsort(-liking - random.gumbel(size=liking.shape), axis=1)[:, :each]
    items = np.take_along_axis(
        chosen, np.argsort(random.gumbel(size=chosen.shape) + np.take_along_axis(liking, chosen, 1)), 1
    )
    items = items.reshape(-1)
    expected = liking[users, items]
    values = np.clip(np.rint(expected + random.normal(0, 0.5, len(items))), 1, 5).astype(np.float32)
    times = np.tile(np.arange(each), tasters) * 86_400.0
    names = np.array([f"wine-{i + 1}" for i in range(len(features))], object)
    columns = RatingColumns(
        np.array([f"taster-{u + 1}" for u in users], object), names[items], values, times, np.arange(1, len(items) + 1)
    )
    titles = {
        name: f"cultivar {kind + 1}, {row[0]:.1f} % alcohol, colour {row[9]:.1f}"
        for name, kind, row in zip(names, data.target, data.data)
    }
    floor = float(np.sqrt(np.mean((np.clip(expected, 1, 5) - values) ** 2)))
    return RatingSource({"train": columns}, titles, floor=floor)
