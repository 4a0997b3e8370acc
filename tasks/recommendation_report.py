"""The report of a recommender: of one model, or of a cross-validation."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.ranking import ranking_metrics
from pipeline.evaluation.recommender import Recommender
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.report import recommendation as told
from tasks.framework import summary as summary_of_run
from tasks.framework.command_line import Task, command

CUTOFFS = (1, 2, 3, 5, 10, 20, 30, 50, 100)
ERRORS = ("rmse", "mae")


def report_of_model(
    task: Task,
    config: Any,
    recommender: Recommender,
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
) -> page.Page:
    """summary: the run's; metrics: the lines of its ``metrics.jsonl``."""
    data, test, baselines = recommender.data, summary["test"], summary["baselines"]
    is_rating = recommender.baseline is not None
    first = next(iter(test))
    what = (
        "predict ratings: it learnt what they are beside the mean and the levels of user and item"
        if is_rating
        else "rank items: it learnt which ones users choose"
    )
    judged = (
        f"{len(data.test):,} test ratings"
        if is_rating
        else f"the last items of {len(data.test):,} users, each among all that its user had not chosen before,"
    )
    return _page(
        task,
        config,
        summary,
        headline=[(f"{test[it]:.4f}", f"test {it}") for it in list(test)[:2]],
        text=(
            f"A model of the kind {config.model} learnt to {what}, from {len(data.train):,} ratings of "
            f"{len(data.items) - 1:,} items by {len(data.users) - 1:,} users, with "
            f"{summary_of_run.BY[config.gradient]}. It stopped after {summary['epochs']} epochs "
            f"({summary['stopped_because']}); the checkpoint that was best on {len(data.validation):,} held-out "
            f"validation ratings is judged on {judged} that neither training nor that choice has seen."
        ),
        facts=[(f"{first}, {its}", f"{values[first]:.4f}") for its, values in baselines.items()],
        sections=[
            told.beside(test, baselines, config.model, data.floor if is_rating else None),
            *(_errors(recommender) if is_rating else [_ranking(recommender)]),
            _map(recommender),
            *told.learning(metrics, ERRORS if is_rating else ("hr@10", "ndcg@10")),
            shown.gradient_sizes(metrics),
        ],
    )


def report_of_folds(
    task: Task,
    config: Any,
    folds: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
) -> page.Page:
    """folds: their summaries; summary: of all of them; metrics: of the first."""
    test = summary["test"]
    return _page(
        task,
        config,
        summary,
        headline=[(f"{test[it]:.4f} ± {test[f'{it}_deviation']:.4f}", f"test {it}") for it in ERRORS],
        text=(
            f"{config.folds} models of the kind {config.model} learnt to predict ratings, each from random "
            f"parameters and with {summary_of_run.BY[config.gradient]}. Each is tested on a fold of the ratings "
            "that it has not seen, and chosen among its checkpoints by a share of its own training ratings. The "
            "result is the mean over the folds, and its standard deviation among them."
        ),
        sections=[
            told.folds([its["test"] for its in folds], [its["train_seconds"] for its in folds]),
            told.beside({it: test[it] for it in ERRORS}, summary["baselines"], config.model, None),
            *(dataclasses.replace(plot, title=f"{plot.title}, fold 1") for plot in told.learning(metrics, ERRORS)),
        ],
    )


def _page(
    task: Task,
    config: Any,
    summary: Mapping[str, Any],
    *,
    headline: Sequence[tuple[str, str]],
    text: str,
    sections: Sequence[page.Plot | page.Table],
    facts: Sequence[tuple[str, str]] = (),
) -> page.Page:
    """What both have in common. facts: besides the data, the model and the test metrics."""
    name, kind = Path(config.data).name, f", {config.folds} folds" if config.is_whole else ""
    return page.Page(
        title=f"{task.title}: {config.model} on {name}{kind}",
        headline=summary_of_run.headline(summary, *headline),
        summary=text + _about(config),
        facts=summary_of_run.facts(
            config,
            summary,
            ("data", name),
            ("model", config.model),
            ("objective", config.objective),
            *((f"test {it}", f"{value:.4f}") for it, value in summary["test"].items()),
            *facts,
        ),
        sections=[*sections, *shown.gradients(summary["gradient_check"]["relative_error"])],
        reproduce=command(task, config),
        environment=summary_of_run.environment(config, summary),
    )


def _about(config: Any) -> str:
    """What else to know of a run's data and prediction."""
    said = ""
    if config.data == "wine":
        said += " The wines and what was measured in them are real; the tasters who rate them are simulated."
    if config.objective == "rating" and config.session_window:
        said += (
            f" A prediction uses the time of the rating: what its user's other training ratings within about "
            f"{config.session_window:g} seconds, before it and after, have in common."
        )
    return said


def _errors(recommender: Recommender) -> Sequence[page.Plot | page.Table]:
    """Of the ratings of the test split."""
    data, test, baseline = recommender.data, recommender.data.test, recommender.baseline
    assert baseline is not None
    amounts = [
        np.bincount(of, minlength=size)[asked]
        for of, asked, size in zip((data.train.users, data.train.items), (test.users, test.items), recommender.shape)
    ]
    predicted = np.clip(recommender.predicted(test), *data.scale)
    plain = np.clip(baseline(test.users, test.items), *data.scale)
    return told.errors(amounts, predicted - test.values, plain - test.values, test.values, predicted)


def _ranking(recommender: Recommender) -> page.Plot:
    """Of the items that users chose last."""
    test = recommender.data.test
    by = {"model": recommender.answers.all(recommender.params, test.users), "popularity": recommender.popularity}
    found = {name: ranking_metrics(recommender.ranks(scores, test), CUTOFFS) for name, scores in by.items()}
    return told.ranking(CUTOFFS, found, len(recommender.data.items) - 1)


def _map(recommender: Recommender) -> page.Plot:
    """Of the items, coloured by their mean rating or, in a ranking, by how often they were chosen."""
    data, counts = recommender.data, recommender.popularity.astype(int)
    rated = np.flatnonzero(counts)
    if recommender.baseline is not None:
        values, scale = recommender.baseline.mean + recommender.baseline.items, "mean rating"
    else:
        values, scale = np.log10(np.maximum(counts, 1)), "log10 of how often it was chosen"
    names = [data.title(int(i)) for i in rated]
    return told.item_map(recommender.item_vectors()[rated], values[rated], counts[rated], names, scale)
