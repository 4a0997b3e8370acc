"""What the report of a recommender shows."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..evaluation.ranking import ranking_metrics
from ..evaluation.recommender import Recommender
from ..extras import extra
from . import plots
from .page import Plot, Table

CUTOFFS = (1, 2, 3, 5, 10, 20, 30, 50, 100)
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


def baselines(
    test: Mapping[str, float], metrics_of: Mapping[str, Mapping[str, float]], model: str, floor: float | None
) -> Table:
    """The model's test metrics and those of the baselines. floor: the least error that any model could have."""
    rows = [(model, *(f"{value:.4f}" for value in test.values()))]
    rows += [(name, *(f"{metrics[metric]:.4f}" for metric in test)) for name, metrics in metrics_of.items()]
    if floor is not None:
        rows.append(("the least possible: the tasters' own noise", f"{floor:.4f}", *("" for _ in list(test)[1:])))
    caption = "All on the same test ratings, measured by this run. The baselines need no training of a model."
    return Table("Model and baselines", caption, ("", *test), rows)


def _errors(
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


def _ranking(cutoffs: Sequence[int], metrics: Mapping[str, Mapping[str, float]], items: int) -> Plot:
    """How early the items come that users chose last. metrics: by who ranks, "hr@K" and "ndcg@K" for every cutoff."""
    return Plot(
        "ranking",
        "How early the chosen item comes",
        f"Among all of the {items:,} items that its user had not chosen before, against always listing the most "
        "popular.",
        partial(plots.ranking, cutoffs, metrics),
    )


def _item_map(vectors: np.ndarray, values: np.ndarray, counts: np.ndarray, names: Sequence[str], scale: str) -> Plot:
    """The items' vectors in the plane. values: their colours, named by scale; counts: training ratings of each."""
    with extra("train"):
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
    chosen: list[int] = []
    for i in order:
        if all(np.abs(scaled[i] - scaled[j]).max() > 1 for j in chosen):
            chosen.append(int(i))
    return chosen


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def story(model: str, recommender: Recommender) -> tuple[str, str, str, str]:
    """What was learned, validation, test, and what else to know of data and predictions. model: its kind."""
    data, rates = recommender.data, recommender.baseline is not None
    goal = "to predict how ratings deviate from the levels of user and item" if rates else "which items users choose"
    test = f"{len(data.test):,} test ratings"
    if not rates:
        test = f"the last items of {len(data.test):,} users, each among all that its user had not chosen before"
    more = ""
    if data.name == "wine":
        more += " The wines and their measurements are real; the tasters who rate them are simulated."
    if rates and recommender.session_window:
        more += (
            f" A prediction uses the time of the rating: what its user's other training ratings within about "
            f"{recommender.session_window:g} seconds, before and after it, have in common."
        )
    learned = (
        f"A model of the kind {model} learned {goal} from {len(data.train):,} ratings of {len(data.items) - 1:,} items "
        f"by {len(data.users) - 1:,} users"
    )
    return learned, f"{len(data.validation):,} held-out validation ratings", test, more


def rating_errors(recommender: Recommender) -> Sequence[Plot | Table]:
    """Where the predictions of the test ratings are wrong."""
    data, test, baseline = recommender.data, recommender.data.test, recommender.baseline
    assert baseline is not None
    amounts = [
        np.bincount(trained, minlength=size)[tested]
        for trained, tested, size in zip(
            (data.train.users, data.train.items), (test.users, test.items), recommender.shape
        )
    ]
    predicted = np.clip(recommender.predict(test), *data.scale)
    expected = np.clip(baseline(test.users, test.items), *data.scale)
    return _errors(amounts, predicted - test.values, expected - test.values, test.values, predicted)


def ranking(recommender: Recommender) -> Plot:
    """How early the items come that users chose last, by the model and by popularity."""
    test = recommender.data.test
    scores_by = {"model": recommender.scorer.all(recommender.params, test.users), "popularity": recommender.popularity}
    metrics = {name: ranking_metrics(recommender.ranks(scores, test), CUTOFFS) for name, scores in scores_by.items()}
    return _ranking(CUTOFFS, metrics, len(recommender.data.items) - 1)


def item_map(recommender: Recommender) -> Plot:
    """The items in the plane, coloured by mean rating or, in a ranking, by how often they were chosen."""
    data, counts = recommender.data, recommender.popularity.astype(int)
    rated = np.flatnonzero(counts)
    if recommender.baseline is not None:
        values, scale = recommender.baseline.mean + recommender.baseline.items, "mean rating"
    else:
        values, scale = np.log10(np.maximum(counts, 1)), "log10 of how often it was chosen"
    names = [data.title(int(i)) for i in rated]
    return _item_map(recommender.item_vectors()[rated], values[rated], counts[rated], names, scale)
