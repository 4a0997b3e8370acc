"""Recommendation: what a user will think of an item, or which items a user will choose next.

scripts/run recommendation                                        ratings of real wines by simulated tasters
scripts/run recommendation --data movielens-100k --folds 5        MovieLens 100K, its official five folds
scripts/run recommendation --data movielens-100k --objective ranking
scripts/run recommendation --data my_ratings.csv                  lines 'user item rating [timestamp]'
scripts/run recommendation predict runs/... --user 42
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table as Printed

from pipeline.data.baseline import Baseline
from pipeline.data.batches import Examples, batch_of, evaluation_batches, steps_per_epoch, train_batches
from pipeline.data.implicit_feedback import LeaveOneOut, NegativeSampling, Pairs, Rows, Table, table
from pipeline.data.ratings import UNSEEN, RatingData, Ratings, load
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.evaluation.metrics import no_metrics
from pipeline.evaluation.ranking import ranking_metrics
from pipeline.evaluation.recommender import Recommender, make_pair_scores, make_scorer, make_scores, make_table_scores
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.objective import Objective
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.ranking import PairwiseRanking, SampledSoftmax
from pipeline.losses.regression import MeanSquaredError
from pipeline.models import recommenders as models
from pipeline.options import require, require_at_least, require_shares
from pipeline.report import page
from pipeline.training import sparse_updates as rows
from pipeline.training.checkpoints import load_params
from pipeline.training.gradient_check import gradient_check
from pipeline.training.loop import fit
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.precision import in_precision
from pipeline.training.run import Run, read_config
from pipeline.training.state import init_params
from pipeline.training.stopping import StopConfig
from pipeline.verify import Report, verify
from tasks.framework import export as artifact
from tasks.framework import summary as summary_of_run
from tasks.framework.command_line import Predictions, Task, console, main, open_run
from tasks.framework.cross_validation import FoldsConfig, compiled_once, continued, means, together
from tasks.recommendation_report import report_of_folds, report_of_model

CHECKED, VERIFIED = 64, 8  # examples of a gradient check
LARGEST_TABLE = 100_000_000  # users times items that a model of the whole table may have
OF_PAIRS = ("factorization", "neural")
REASONS = 3


@dataclass(frozen=True)
class Config(FoldsConfig):
    """Trains a recommender and leaves a run folder with its report."""

    data: str = "wine"
    """wine (simulated tasters rate scikit-learn's real wines, by a stated model), movielens-100k; or a file of lines
    'user item rating [timestamp]' between tabs, commas, :: or spaces, or a folder with MovieLens' files."""
    objective: Literal["rating", "ranking"] = "rating"
    """Predict ratings (rmse, mae); or rank all items so that the ones a user chose come first (hr, ndcg, recall)."""
    model: Literal["factorization", "neural", "implicit", "autoencoder"] = "factorization"
    """Vectors of users and items, and biases; a network over both; SVD++: what a user rated, too; an autoencoder."""
    validation: float = 0.1
    """The share of the training ratings that is held out and chooses the checkpoint. A ranking holds out one item of
    every user instead."""
    scale: tuple[float, float] | None = None
    """The lowest and the highest rating. None: as they are found."""
    session_window: float = 0.0
    """Seconds over which a user's ratings share a mood: what they have in common then is part of the prediction.
    0: times do not count."""
    features: int = 16
    """Of the vector of each user and item."""
    hidden: int = 200
    """Units of the networks' hidden layers."""
    dropout: float = 0.0
    """The share of units that each training step leaves out."""
    ranking_loss: Literal["pairwise", "softmax"] = "softmax"
    """Of factorization and neural: each chosen item before each other, or before all others that are drawn."""
    negatives: int = 100
    """How many other items each chosen one is ranked with in training."""
    encoding: str = ""
    """Of the files. Nothing: UTF-8, and latin-1 for u.item and .dat files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, features=1, hidden=2, negatives=1, session_window=0)
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
            raise UserError(
                "--model autoencoder sees the whole table of ratings at every step: leave --batch-size and --accumulate"
            )


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
"""Ratings of MovieLens 100K. People gave most of them in one sitting, one after the other."""
RANKING: dict[str, dict[str, Any]] = {
    "factorization": {"epochs": 20, "features": 64, "optimizer": RANK, "stop": BEST},
    "neural": {"epochs": 20, "hidden": 64, "dropout": 0.2, "optimizer": RANK, "stop": BEST},
    "implicit": {"epochs": 20, "features": 64, "dropout": 0.5, "optimizer": RANK, "stop": BEST},
}


@dataclass(frozen=True)
class Recommend(Predictions):
    """Items for a user, the best first, and why: the items that the user knows and that are nearest to each."""

    user: str = ""
    """As the data name the user."""
    count: int = 10
    """How many items."""


class Trained(NamedTuple):
    """What is trained, or a run's: options, objective, its parameters, and what answers with them.

    known: of models of a whole table, what they see of each user, (users, items).
    """

    config: Config
    objective: Objective
    params: PyTree
    known: np.ndarray | None
    recommender: Recommender

    def having(self, params: PyTree) -> "Trained":
        """With these parameters of the objective."""
        return self._replace(params=params, recommender=dataclasses.replace(self.recommender, params=params["model"]))


class Outcome(NamedTuple):
    """What a run came to."""

    trained: Trained
    run: Run
    summary: Mapping[str, Any]


class Recommendation(Task[Config]):
    name = "recommendation"
    title = "Recommendation"
    config = Config
    predictions = Recommend
    chooses = ("objective", "model")

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
            encoding=config.encoding,
        )
        if config.session_window and data.train.times is None:
            raise UserError(f"{config.data} has no timestamps, which --session-window needs; leave it out")
        size = len(data.users) * len(data.items)
        if config.model not in OF_PAIRS and size > LARGEST_TABLE:
            raise UserError(
                f"--model {config.model} sees the whole table of {len(data.users):,} users and {len(data.items):,} "
                f"items, which may have {LARGEST_TABLE:,} places at most; choose factorization or neural"
            )
        return data

    def objective(self, config: Config, data: RatingData) -> Objective:
        users, items = len(data.users), len(data.items)
        if config.model == "factorization":
            model: Layer = models.biased(users, items, config.features)
        elif config.model == "neural":
            model = models.neural(users, items, config.features, config.hidden, config.dropout)
        elif config.model == "implicit":
            model = models.implicit(users, items, config.features, config.dropout)
        else:
            model = models.autoencoder(users, items, config.hidden, config.dropout)
        if config.objective == "rating":
            loss: Layer = MeanSquaredError()
        elif config.model == "implicit":
            loss = SoftmaxCrossEntropy()
        else:
            loss = PairwiseRanking() if config.ranking_loss == "pairwise" else SampledSoftmax()
        return Objective(in_precision(model, config.precision), loss)

    def train(self, config: Config) -> None:
        if config.is_whole:
            self._train_folds(config)
            return
        trained, run, summary = self.fitted(config)
        report = page.write(run.directory, report_of_model(self, config, trained.recommender, summary, run.metrics()))
        summary_of_run.tell(summary, report, *_told(summary["test"], summary["baselines"]))

    def fitted(self, config: Config) -> Outcome:
        """Trains, tests the best checkpoint and checks its gradients: all of a run but its report."""
        data = self.load(config)
        trained = self._untrained(config, data)
        recommender = trained.recommender
        examples = self._examples(trained, data.train, recommender.left - recommender.session_effects(data.train))
        steps = steps_per_epoch(examples, config.batch_size)
        run = open_run(self, config)
        _write_catalogue(run.directory, data)
        if not config.quiet:
            print(
                f"{config.model} with {summary_of_run.count(trained.params):,} parameters on {data.name} "
                f"({len(data.users) - 1:,} users, {len(data.items) - 1:,} items; {summary_of_run.sizes(data)} ratings)",
                *data.notes,
                sep="\n",
                flush=True,
            )
        result = fit(
            trained.objective,
            trained.params,
            train_batches(examples, config.batch_size, config.seed),
            config,
            run,
            steps_per_epoch=steps,
            evaluate=self._evaluation(trained),
            metrics=no_metrics,
            tables=tuple(rows.Table(paths, (ids,)) for paths, ids in models.tables(trained.objective.model)),
        )
        trained = trained.having(result.params)
        check = gradient_check(trained.objective, result.params, _batch(examples, CHECKED))
        summary = {
            **summary_of_run.summary(self, config, result, trained.recommender.scored(data.test), check),
            "objective": config.objective,
            "baselines": trained.recommender.without_training(),
        }
        run.finish(summary)
        return Outcome(trained, run, summary)

    def _untrained(self, config: Config, data: RatingData) -> Trained:
        """With fresh parameters."""
        objective, shape = self.objective(config, data), (len(data.users), len(data.items))
        baseline, known, one = None, None, None
        left = np.ones(len(data.train), np.float32)
        if config.objective == "rating":
            baseline = Baseline.of(data.train, *shape)
            left = data.train.values - baseline(data.train.users, data.train.items)
        if config.model == "autoencoder":
            known = table(data.train, left, shape)
            every = make_table_scores(objective.model, known)
        elif config.model == "implicit":
            known = table(data.train, np.ones(len(left), bool), shape)
            every = make_scores(objective.model, len(data.items), known)
        else:
            every, one = make_scores(objective.model, len(data.items)), make_pair_scores(objective.model)
        answers = make_scorer(every, one, are_ratings=baseline is not None)
        recommender = Recommender(objective.model, data, answers, baseline, left, config.session_window)
        trained = Trained(config, objective, None, known, recommender)
        batch = _batch(self._examples(trained, data.train, left), 1)
        return trained.having(init_params(objective, jax.tree.map(jnp.asarray, batch), config.seed))

    def _examples(self, trained: Trained, ratings: Ratings, targets: np.ndarray) -> Examples:
        """What is learnt: ``targets`` of ratings; or, in a ranking, which items were chosen."""
        config, data, known = trained.config, trained.recommender.data, trained.known
        if config.objective == "ranking":
            if known is not None:
                return LeaveOneOut(ratings, known)
            softmax = config.ranking_loss == "softmax"
            return NegativeSampling(ratings, data.train, len(data.items), config.negatives, config.seed, softmax)
        if known is None:
            return Pairs(ratings.users, ratings.items, targets)
        shape = trained.recommender.shape
        weights = table(ratings, np.ones(len(ratings), np.float32), shape)
        kind = Table if config.model == "autoencoder" else Rows
        return kind(known, table(ratings, targets, shape), weights)

    def _evaluation(self, trained: Trained) -> Callable[[PyTree], Mapping[str, float]]:
        """Judges parameters on the validation split."""
        recommender = trained.recommender
        held, answers = recommender.data.validation, recommender.answers
        if trained.config.objective == "rating":
            expected = recommender.expected(held)

            def rated(params: PyTree) -> Mapping[str, float]:
                added = answers.pairs(params["model"], held.users, held.items)
                loss = float(np.mean(np.square(held.values - expected - added)))
                return {"loss": loss, **recommender.errors(held, expected + added)}

            return rated
        known = held.at(np.flatnonzero(held.items != UNSEEN))
        examples = self._examples(trained, known, np.ones(len(known), np.float32))
        validate = make_evaluation(trained.objective, no_metrics)
        batches = evaluation_batches(examples, min(trained.config.batch_size, len(known)))

        def ranked(params: PyTree) -> Mapping[str, float]:
            places = recommender.ranks(answers.all(params["model"], held.users), held)
            return {**validate(params, batches), **ranking_metrics(places)}

        return ranked

    def _train_folds(self, config: Config) -> None:
        """A model for every fold, each a run in a folder of this one; goes on where it was interrupted."""
        self.load(dataclasses.replace(config, fold=1))  # complains now, rather than with a run begun
        run = open_run(self, config)
        with compiled_once():
            summaries = [self._fold(name, its) for name, its in config.parts(run.directory)]
        test = _means([its["test"] for its in summaries])
        baselines = {name: _means([its["baselines"][name] for its in summaries]) for name in summaries[0]["baselines"]}
        summary = {**together(config, summaries, test), "baselines": baselines}
        run.finish(summary)
        curves = Run.open(config.folders(run.directory)[0]).metrics()
        report = page.write(run.directory, report_of_folds(self, config, summaries, summary, curves))
        each = " ".join(f"{its['rmse']:.4f}" for its in summary["folds"])
        summary_of_run.tell(
            summary,
            report,
            (
                "test rmse",
                f"{test['rmse']:.4f} ± {test['rmse_deviation']:.4f}  (mean, deviation: {config.folds} folds)",
            ),
            ("test mae", f"{test['mae']:.4f} ± {test['mae_deviation']:.4f}"),
            ("fold by fold", each),
            *(("beside it", f"{its['rmse']:.4f} by {name} alone") for name, its in list(baselines.items())[1:]),
        )

    def _fold(self, name: str, config: Config) -> Mapping[str, Any]:
        """The summary of one fold's run, which begins here, goes on, or is done already."""
        folder = config.run_dir
        assert folder is not None
        if (folder / "summary.json").is_file():
            summary = Run.open(folder).summary()
        else:
            summary = self.fitted(continued(config)).summary
        print(f"{name}  test rmse {summary['test']['rmse']:.4f}", flush=True)
        return summary

    def evaluate(self, run: Path) -> Mapping[str, float]:
        Run.open(run)
        config = read_config(run, Config)
        if config.is_whole:
            return _means([self.evaluate(folder) for folder in config.folders(run)])
        trained = self.trained(run)
        return trained.recommender.scored(trained.recommender.data.test)

    def trained(self, run: Path) -> Trained:
        """Raises UserError where there is no run, or its data are no more what they were."""
        Run.open(run)
        config = read_config(run, Config)
        if config.is_whole:
            raise UserError(
                f"{run} is a cross-validation of {config.folds} models; give the folder of one of them, as in "
                f"{config.folders(run)[0]}"
            )
        data = self.load(config)
        if _catalogue(data) != _read_catalogue(run):
            raise UserError(f"{config.data} is not the data that {run} was trained on: its users or items differ")
        trained = self._untrained(config, data)
        return trained.having(load_params(run, trained.params))

    def predict(self, command: Recommend) -> None:
        if not command.user:
            raise UserError("predict needs a user: predict RUN --user 42")
        require_at_least(command, count=1)
        trained = self.trained(command.run)
        recommender = trained.recommender
        data = recommender.data
        user = data.users.index(command.user) if command.user in data.users else UNSEEN
        if user == UNSEEN:
            print(
                f"{command.user} is not among the {len(data.users) - 1:,} users of {data.name} (such as "
                f"{', '.join(data.users[1:4])}): what follows is for anybody"
            )
        answers = recommender.of_all_items(user)
        known = np.unique(np.concatenate([its.items[its.users == user] for its in (data.train, data.validation)]))
        if user == UNSEEN:
            known = known[:0]
        answers[[UNSEEN, *known]] = -np.inf
        vectors = recommender.item_vectors()
        seen = data.train.items[data.train.users == user]
        printed = Printed("item", "title")
        printed.add_column("rating" if recommender.baseline else "score", justify="right")
        printed.add_column("nearest of those that the user knows")
        for item in np.argsort(-answers, kind="stable")[: command.count]:
            if not np.isfinite(answers[item]):
                break
            reasons = "; ".join(data.title(its) for its in _reasons(vectors, int(item), seen))
            printed.add_row(data.items[item], data.titles.get(data.items[item], ""), f"{answers[item]:.2f}", reasons)
        console().print(printed)

    def verify(self, config: Config) -> Report:
        data = self.load(config)
        trained = self._untrained(config, data)
        examples = self._examples(trained, data.train, trained.recommender.left)
        context = Context(train=True, key=jax.random.key(config.seed))
        return verify(trained.objective, trained.params, _batch(examples, VERIFIED), context, precisions=(), checks=())

    def export(self, run: Path) -> None:
        """Users and items to ratings, or to scores that order items."""
        trained = self.trained(run)
        recommender, model, known = trained.recommender, trained.objective.model, trained.known
        baseline, data, params = recommender.baseline, recommender.data, recommender.params

        def answer(users: jax.Array, items: jax.Array) -> jax.Array:
            if known is None:
                added = model.apply(params, (users, items[:, None]), Context())[:, 0]
            elif trained.config.model == "autoencoder":
                added = model.apply(params, jnp.asarray(known), Context())[users, items]
            else:
                scores = model.apply(params, (users, jnp.asarray(known)[users]), Context())
                added = jnp.take_along_axis(scores, items[:, None], 1)[:, 0]
            if baseline is None:
                return added
            added = jnp.where((users == UNSEEN) | (items == UNSEEN), 0.0, added)
            expected = baseline.mean + jnp.asarray(baseline.users)[users] + jnp.asarray(baseline.items)[items]
            return jnp.clip(expected + added, *data.scale)

        ids = ((), jnp.int32)
        folder = artifact.write(
            run,
            answer,
            [ids, ids],
            lambda random, shape: random.integers(min(len(data.users), len(data.items)), size=shape, dtype=np.int32),
            takes="two int32 (batch,): places of users and of items in catalogue.json, 0 for those that are not there",
            gives=f"float32 (batch,): {'ratings' if baseline else 'scores, by which items of a user are ordered'}",
        )
        _write_catalogue(folder, data)


def _batch(examples: Examples, size: int) -> tuple[Any, Any]:
    return batch_of(*examples.take(np.arange(min(size, len(examples)))))


def _catalogue(data: RatingData) -> dict[str, Any]:
    return {"users": list(data.users), "items": list(data.items), "scale": list(data.scale)}


def _write_catalogue(folder: Path, data: RatingData) -> None:
    """``catalogue.json``: users and items at their places, titles of items, the scale."""
    content = _catalogue(data) | {"titles": {name: data.titles[name] for name in data.items if name in data.titles}}
    (folder / "catalogue.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_catalogue(run: Path) -> dict[str, Any]:
    """Without the titles."""
    try:
        stored = json.loads((run / "catalogue.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is not the folder of a run: its catalogue.json cannot be read ({error})") from error
    return {name: its for name, its in stored.items() if name != "titles"}


def _reasons(vectors: np.ndarray, item: int, known: np.ndarray) -> list[int]:
    """Of the items that a user knows, those whose vectors point most nearly where this one's does."""
    near = vectors[known] @ vectors[item]
    return [int(known[i]) for i in np.argsort(-near, kind="stable")[:REASONS]]


def _told(test: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """The last lines: test metrics, and those of the best that needs no training."""
    first = next(iter(test))
    name = list(baselines)[-1]
    return [
        (f"test {first}", f"{test[first]:.4f}  ({', '.join(f'{k} {v:.4f}' for k, v in list(test.items())[1:])})"),
        ("beside it", f"{baselines[name][first]:.4f} by {name} alone"),
    ]


def _means(tests: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the folds, and its standard deviation among them."""
    return means(tests, tuple(tests[0]))


if __name__ == "__main__":
    main(Recommendation())
