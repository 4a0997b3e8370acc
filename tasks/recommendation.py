"""Recommendation: predicts how a user will rate an item, or which items a user will choose next.

scripts/run recommendation                                        ratings of real wines by simulated tasters
scripts/run recommendation --data movielens-100k --folds 5        MovieLens 100K, its official five folds
scripts/run recommendation --data movielens-100k --objective ranking
scripts/run recommendation --data my_ratings.csv                  lines 'user item rating [timestamp]'
scripts/run recommendation predict runs/... --user 42
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from pipeline.data.batches import Batch, Examples, evaluation_batches, first_batch
from pipeline.data.implicit_feedback import Sees, example_batch
from pipeline.data.rating_files import RatingOptions
from pipeline.data.ratings import KNOWN, UNSEEN, RatingData, Ratings, load
from pipeline.display import print_notes
from pipeline.errors import UserError
from pipeline.evaluation.cross_validation import means
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.evaluation.metrics import no_metrics
from pipeline.evaluation.recommender import Recommender, make_recommender
from pipeline.layers.base import Layer, PyTree
from pipeline.layers.objective import Objective
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.ranking import PairwiseRanking, SampledSoftmax
from pipeline.losses.regression import MeanSquaredError
from pipeline.models import recommenders as models
from pipeline.options import LARGEST, require, require_between, require_shares
from pipeline.report import page
from pipeline.report import recommendation as report
from pipeline.report.training import gradient_sizes
from pipeline.training.config import FoldsConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.precision import in_precision
from pipeline.training.signatures import Catalogue
from pipeline.training.sparse_updates import SparseTable
from pipeline.training.stopping import StopConfig
from tasks.framework.answers import Answers, Predictions, Table
from tasks.framework.command_line import main
from tasks.framework.cross_validation import CrossValidated, Part
from tasks.framework.export import Exported
from tasks.framework.stages import Evaluation, Metric, Outcome, Story, TaskModel, Training
from tasks.framework.summary import split_sizes

CHECKED, VERIFIED = 64, 8  # examples of a gradient check
LARGEST_TABLE = 100_000_000  # users times items that a model of the whole table may have
SEES: dict[str, Sees] = {"factorization": "pairs", "neural": "pairs", "implicit": "users", "autoencoder": "table"}


@dataclass(frozen=True)
class Config(RatingOptions, FoldsConfig):
    """Train a recommender and write a run folder with its report."""

    data: str = "wine"
    """Data set: wine (simulated tasters rate scikit-learn's real wines), movielens-100k; or the path of a file of lines
    'user item rating [timestamp]', maybe after a line of names, or of a folder with MovieLens' files."""
    objective: Literal["rating", "ranking"] = "rating"
    """Objective: predict ratings (rmse, mae), or rank the items that a user chose before all others (hr, ndcg)."""
    model: Literal["factorization", "neural", "implicit", "autoencoder"] = "factorization"
    """Kind of model: factorization (vectors and biases of users and items), neural (a network over both), implicit
    (SVD++, which also sees what a user rated) or autoencoder (of the whole table of ratings)."""
    validation: float = 0.1
    """Share of the training ratings that is held out and chooses the checkpoint. A ranking holds out one item of every
    user instead."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating of the scale. None: of the data."""
    session_window: float = 0.0
    """Time scale of the session effect in seconds: what a user's ratings within about this time have in common is part
    of the prediction. 0: no session effect."""
    features: int = 16
    """Embedding size of users and items."""
    hidden: int = 200
    """Number of units of the networks' hidden layers."""
    dropout: float = 0.0
    """Dropout: share of units set to zero in each training step."""
    ranking_loss: Literal["pairwise", "softmax"] = "softmax"
    """Ranking loss of factorization and neural: pairwise (BPR) or softmax over the chosen item and sampled others."""
    negatives: int = 100
    """Number of sampled items that each chosen one is ranked with in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, features=(1, 10_000), hidden=(2, 10_000), negatives=(1, 10_000), session_window=(0, 1e10))
        require_shares(self, "dropout")
        require(0 < self.validation < 1, self, "validation", "more than 0 and less than 1")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise UserError(f"--scale is {self.scale[0]:g} {self.scale[1]:g}; give the lowest rating, then the highest")
        if self.objective == "ranking":
            if self.model == "autoencoder":
                raise UserError("--model autoencoder predicts ratings; to rank, choose factorization, neural, implicit")
            if self.folds:
                raise UserError("--folds is for ratings; a ranking tests every user's last item, all at once")
        if self.model == "autoencoder" and (self.batch_size != 1 or self.accumulate != 1):
            raise UserError("--model autoencoder takes the whole table in every step; leave --batch-size, --accumulate")


# What trains well; an option on the command line changes only itself.
PLAIN = Config(
    epochs=40,
    batch_size=512,
    features=16,
    optimizer=OptimizerConfig(learning_rate=2e-2, weight_decay=2.0, schedule="cosine"),
    stop=StopConfig(metric="rmse", patience=5),
)
RATING: dict[str, dict[str, Any]] = {
    "factorization": {},
    "neural": {
        "hidden": 64,
        "dropout": 0.3,
        "optimizer": OptimizerConfig(learning_rate=2e-3, weight_decay=1.0, schedule="cosine"),
    },
    "implicit": {
        "batch_size": 64,
        "dropout": 0.5,
        "optimizer": OptimizerConfig(learning_rate=5e-3, weight_decay=2.0, schedule="cosine"),
    },
    "autoencoder": {
        "epochs": 60,
        "batch_size": 1,
        "dropout": 0.7,
        "log_every": 1,
        "optimizer": OptimizerConfig(learning_rate=5e-3, weight_decay=5.0, schedule="one_cycle", warmup=0.1),
        "stop": StopConfig(metric="rmse"),
    },
}
RANK = OptimizerConfig(learning_rate=2e-3, weight_decay=0.5, schedule="cosine")
BEST = StopConfig(metric="ndcg@10", patience=5)
MOVIELENS: dict[str, Any] = {"session_window": 200.0, "validation": 0.02}
"""For ratings of MovieLens 100K, most of which people gave in one session, one after the other."""
RANKING: dict[str, dict[str, Any]] = {
    "factorization": {"epochs": 20, "features": 64, "optimizer": RANK, "stop": BEST},
    "neural": {"epochs": 20, "hidden": 64, "dropout": 0.2, "optimizer": RANK, "stop": BEST},
    "implicit": {"epochs": 20, "features": 64, "dropout": 0.5, "optimizer": RANK, "stop": BEST},
}


@dataclass(frozen=True)
class Recommend(Predictions):
    """Recommend items to a user, the best first, each with the most similar items that the user knows."""

    user: str = ""
    """Name of the user in the data."""
    top: int = 10
    """Number of items."""


class Recommendation(CrossValidated[Config]):
    name = "recommendation"
    title = "Recommendation"
    config = Config
    sizes = ("features", "hidden")
    predictions = Recommend
    known = KNOWN
    chooses = ("objective", "model")
    signature_class = Catalogue
    signature_parts = "users or items"
    test_metrics: ClassVar[Mapping[str, Metric]] = {
        "rmse": Metric("test RMSE"),
        "mae": Metric("test MAE"),
        "hr@10": Metric("test HR@10"),
        "ndcg@10": Metric("test NDCG@10"),
    }

    def recipe(self, data: str | None, objective: str | None = None, model: str | None = None) -> Config:
        data, objective = data or "wine", objective or "rating"
        model = model or ("autoencoder" if (data, objective) == ("movielens-100k", "rating") else "factorization")
        options = (RATING if objective == "rating" else RANKING).get(model, {})
        if data == "movielens-100k" and objective == "rating":
            options = options | MOVIELENS
        return dataclasses.replace(PLAIN, **{"data": data, "objective": objective, "model": model} | options)

    def load(self, config: Config) -> RatingData:
        data = load(
            config.data,
            seed=config.seed,
            ranking=config.objective == "ranking",
            scale=config.scale,
            validation=config.validation,
            folds=config.folds,
            fold=config.fold or 1,
            options=config,
        )
        if config.session_window and data.train.times is None:
            raise UserError(f"{config.data} has no timestamps, which --session-window needs; leave it out")
        size = len(data.users) * len(data.items)
        if SEES[config.model] != "pairs" and size > LARGEST_TABLE:
            raise UserError(
                f"--model {config.model} sees the whole table of {len(data.users):,} users and {len(data.items):,} "
                f"items, which may have {LARGEST_TABLE:,} entries at most; choose factorization or neural"
            )
        return data

    def signature(self, config: Config, data: RatingData) -> Catalogue:
        del config
        titles = {name: data.titles[name] for name in data.items if name in data.titles}
        return Catalogue(tuple(data.users), tuple(data.items), data.scale, titles)

    def objective(self, config: Config, signature: Catalogue) -> Objective:
        users, items = len(signature.users), len(signature.items)
        model = models.recommender(
            config.model, users, items, features=config.features, hidden=config.hidden, dropout=config.dropout
        )
        if config.objective == "rating":
            loss: Layer = MeanSquaredError()
        elif config.model == "implicit":
            loss = SoftmaxCrossEntropy()
        else:
            loss = PairwiseRanking() if config.ranking_loss == "pairwise" else SampledSoftmax()
        return Objective(in_precision(model, config.precision), loss)

    def example(self, config: Config, signature: Catalogue) -> Batch:
        shape, ranking = (len(signature.users), len(signature.items)), config.objective == "ranking"
        candidates = 1 + config.negatives if ranking else 1
        return example_batch(SEES[config.model], shape, ranking, candidates, config.ranking_loss == "softmax")

    def training(self, model: TaskModel, data: RatingData) -> Training:
        recommender = _recommender(model, data)
        config, validation = model.config, data.validation
        evaluate_loss = make_evaluation(model.objective, no_metrics)
        known = validation.at(np.flatnonzero(validation.items != UNSEEN))
        if config.objective == "ranking" and not len(known):
            raise UserError(f"no validation item of {data.name} occurs in its training ratings; give more ratings")

        def evaluate(params: PyTree) -> Mapping[str, float]:
            metrics = recommender.validation_metrics(params["model"])
            if "loss" not in metrics:
                batches = evaluation_batches(_examples(config, recommender, known), min(config.batch_size, len(known)))
                metrics = {**evaluate_loss(params, batches), **metrics}
            return metrics

        return Training(
            _examples(config, recommender, data.train),
            evaluate,
            f"{data.name} ({len(data.users) - 1:,} users, {len(data.items) - 1:,} items; {split_sizes(data)} ratings, "
            f"{data.scale[0]:g} to {data.scale[1]:g})",
            data.notes,
            tables=tuple(SparseTable(paths, (ids,)) for paths, ids in models.tables(model.objective.model)),
        )

    def check_batch(self, model: TaskModel, data: RatingData) -> Batch:
        return first_batch(_examples(model.config, _recommender(model, data), data.train), CHECKED)

    def verify_batch(self, model: TaskModel, data: RatingData) -> Batch:
        return first_batch(_examples(model.config, _recommender(model, data), data.train), VERIFIED)

    def test(self, model: TaskModel, data: RatingData, run_directory: Path) -> Evaluation:
        """The answer is the recommender."""
        del run_directory
        recommender = _recommender(model, data)
        return Evaluation(recommender.metrics(data.test), recommender)

    def extra_summary(self, model: TaskModel, data: RatingData) -> Mapping[str, Any]:
        return {"objective": model.config.objective, "baselines": _recommender(model, data).baseline_metrics()}

    def extra_combined(self, parts: Sequence[Part]) -> Mapping[str, Any]:
        baselines = [part.summary["baselines"] for part in parts]
        tests = {name: [each[name] for each in baselines] for name in baselines[0]}
        return {"baselines": {name: means(each, tuple(each[0])) for name, each in tests.items()}}

    def result_lines(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        metric = next(iter(outcome.summary["test"]))
        name, metrics = list(outcome.summary["baselines"].items())[-1]
        return [*super().result_lines(outcome), ("baseline", f"{metrics[metric]:.4f} by {name} alone")]

    def combined_lines(self, content: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        _, *baselines = content["baselines"].items()
        return [("baseline", f"{metrics['rmse']:.4f} by {name} alone") for name, metrics in baselines]

    def goal(self, data: RatingData) -> str:
        del data
        return "to predict ratings"

    def story(self, outcome: Outcome) -> Story:
        return Story(*report.story(outcome.config.model, outcome.evaluation.answers))

    def facts(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        metric, baselines = next(iter(outcome.summary["test"])), outcome.summary["baselines"].items()
        values = ((f"{metric}, {name}", f"{metrics[metric]:.4f}") for name, metrics in baselines)
        return [("objective", outcome.config.objective), *values]

    def learning(self, metrics: Sequence[Mapping[str, Any]], config: Config) -> Sequence[page.Part]:
        names = ("rmse", "mae") if config.objective == "rating" else ("hr@10", "ndcg@10")
        return [*report.learning(metrics, names), gradient_sizes(metrics)]

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        content, recommender, rates = outcome.summary, outcome.evaluation.answers, outcome.config.objective == "rating"
        floor = outcome.data.floor if rates else None
        return [
            report.baselines(content["test"], content["baselines"], outcome.config.model, floor),
            *(report.rating_errors(recommender) if rates else [report.ranking(recommender)]),
            report.item_map(recommender),
        ]

    def combined_sections(
        self, config: Config, parts: Sequence[Part], content: Mapping[str, Any]
    ) -> Sequence[page.Part]:
        test = {name: content["test"][name] for name in ("rmse", "mae")}
        return [report.baselines(test, content["baselines"], config.model, None)]

    def predict(self, command: Recommend) -> Answers:
        if not command.user:
            raise UserError("predict needs a user: predict RUN --user 42")
        require_between(command, top=(1, LARGEST))
        recommender = _recommender(*self.trained_with_data(command.run))
        data = recommender.data
        if command.user not in data.users[1:]:
            among = f"the {len(data.users) - 1:,} users of {data.name} (such as {', '.join(data.users[1:4])})"
            print_notes([f"{command.user} is not among {among}: what follows is for anybody"])
        names = "item", "title", "rating" if recommender.baseline else "score", "similar"
        answers = [(i, data.titles.get(i, ""), x, y) for i, x, y in recommender.recommend(command.user, command.top)]
        rows = [(item, title, f"{value:.2f}", "; ".join(similar)) for item, title, value, similar in answers]
        columns = *names[:3], "most similar items that the user knows"
        records = [{"user": command.user, **dict(zip(names, answer))} for answer in answers]
        return Answers(records, Table(columns, rows, names[2:3]))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Users and items to ratings, or to scores that order items."""
        _, data = self.trained_with_data(run_directory)
        recommender = _recommender(model, data)
        ids = ((), jnp.int32)
        return Exported(
            recommender.answer,
            [ids, ids],
            lambda random, shape: random.integers(min(len(data.users), len(data.items)), size=shape, dtype=np.int32),
            takes="two int32 (batch,): places of users and of items in catalogue.json, 0 for those that are not there",
            gives=f"float32 (batch,): {'ratings' if recommender.baseline else 'scores that order the items of a user'}",
        )


def _recommender(model: TaskModel, data: RatingData) -> Recommender:
    config = model.config
    params = None if model.params is None else model.params["model"]
    options = SEES[config.model], config.objective == "rating", config.session_window
    return dataclasses.replace(make_recommender(model.objective.model, data, *options), params=params)


def _examples(config: Config, recommender: Recommender, ratings: Ratings) -> Examples:
    softmax = config.ranking_loss == "softmax"
    return recommender.examples(ratings, negatives=config.negatives, seed=config.seed, sampled_softmax=softmax)


if __name__ == "__main__":
    main(Recommendation())
