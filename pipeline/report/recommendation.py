"""What the report of a recommender shows."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.report import plots
from pipeline.report.page import Plot, Table

NAMED = 18  # items of the map whose names stand in it


def learning(metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Plot]:
    """How training went. metrics: the lines of ``metrics.jsonl``; names: of the validation metrics."""
    return [
        Plot(
            "loss",
            "Loss",
            "Training as each step saw it (with dropout where the recipe has it), and validation after every epoch.",
            partial(plots.curves, metrics, None),
        ),
        Plot(
            "progress",
            "Validation",
            "What the checkpoint was chosen by: never the test split.",
            partial(plots.progress, metrics, names),
        ),
    ]


def beside(
    test: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], model: str, floor: float | None
) -> Table:
    """The model's test metrics and those of what needs no training."""
    rows = [(model, *(f"{value:.4f}" for value in test.values()))]
    rows += [(name, *(f"{its[metric]:.4f}" for metric in test)) for name, its in baselines.items()]
    if floor is not None:
        rows.append(("the least possible: the tasters' own noise", f"{floor:.4f}", *("" for _ in list(test)[1:])))
    caption = "On the same test ratings, all measured by this run."
    return Table("Beside what needs no training", caption, ("", *test), rows)


def errors(
    amounts: Sequence[np.ndarray], model: np.ndarray, baseline: np.ndarray, ratings: np.ndarray, predicted: np.ndarray
) -> list[Plot | Table]:
    """Where a model of ratings errs. amounts: training ratings of each test rating's user, and of its item."""
    every, counts = np.unique(ratings, return_counts=True)
    rows = [
        (
            f"{value:g}",
            f"{count:,}",
            f"{predicted[ratings == value].mean():.2f}",
            f"{_rms(model[ratings == value]):.3f}",
        )
        for value, count in zip(every, counts)
    ]
    few = Table(
        "By rating",
        "What is predicted where people gave this rating. Extremes are hardest: a prediction hedges.",
        ("rating", "test ratings", "mean prediction", "RMSE"),
        rows[:12],
    )
    return [
        Plot(
            "amounts",
            "Error by what is known",
            "RMSE on the test ratings, by how many training ratings their user has (left) and their item (right).",
            partial(
                plots.by_amount,
                amounts,
                {"model": model, "biases alone": baseline},
                ("training ratings of the user", "training ratings of the item"),
            ),
        ),
        few,
    ]


def ranking(cutoffs: Sequence[int], metrics: Mapping[str, Mapping[str, float]], items: int) -> Plot:
    """How early the items come that users chose last. metrics: by who ranks, "hr@K" and "ndcg@K" for every cutoff."""
    return Plot(
        "ranking",
        "How early the chosen item comes",
        f"Among all of the {items:,} items that its user had not chosen before, against always listing the most "
        "popular.",
        partial(plots.ranking, cutoffs, metrics),
    )


def item_map(vectors: np.ndarray, values: np.ndarray, counts: np.ndarray, names: Sequence[str], scale: str) -> Plot:
    """The items' vectors in the plane. values: their colours, named by scale; counts: training ratings of each."""
    from sklearn.decomposition import PCA

    places = PCA(2, svd_solver="full").fit_transform(vectors)
    named = {i: str(names[i])[:34] for i in _apart(places, np.argsort(-counts, kind="stable"))[:NAMED]}
    return Plot(
        "items",
        "Map of the items",
        "What the model has learnt of each item, in the two directions in which items differ most; large points have "
        "many ratings, and of those with most some have their names.",
        partial(plots.points, places, values, np.sqrt(counts), named, scale),
    )


def _apart(places: np.ndarray, order: np.ndarray) -> list[int]:
    """Of points in the plane, in this order, those that are far enough from all before them for a name beside each."""
    scaled = places / np.maximum(np.ptp(places, axis=0), 1e-12) / (0.3, 0.05)
    found: list[int] = []
    for i in order:
        if all(np.abs(scaled[i] - scaled[j]).max() > 1 for j in found):
            found.append(int(i))
    return found


def folds(tests: Sequence[Mapping[str, float]], seconds: Sequence[float]) -> Table:
    """Fold by fold."""
    rows = [
        (str(fold), *(f"{value:.4f}" for value in test.values()), f"{took:.1f}")
        for fold, (test, took) in enumerate(zip(tests, seconds), 1)
    ]
    caption = "Every fold is a run of its own, in a folder of this one."
    return Table("Fold by fold", caption, ("fold", *(f"test {name}" for name in tests[0]), "seconds"), rows)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
