"""What the tasks that put a class on an input share: what ``train`` and the other commands do with data and a model."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from pipeline.data.batches import (
    Examples,
    Sequences,
    batch_of,
    by_length,
    evaluation_batches,
    steps_per_epoch,
    train_batches,
)
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import make_evaluation, predict
from pipeline.evaluation.metrics import Metrics, accuracy_metric
from pipeline.layers.base import Context, Layer, PyTree, leaves
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.training.checkpoints import load_params
from pipeline.training.gradient_check import gradient_check
from pipeline.training.loop import fit
from pipeline.training.precision import in_precision
from pipeline.training.run import Run, read_config
from pipeline.training.state import init_params
from pipeline.verify import Report, verify
from tasks.framework import summary as summary_of_run
from tasks.framework.command_line import Config, Task, command, open_run

CALIBRATION_BATCHES = 16
CHECKED_EXAMPLES = 16  # in a gradient check: float64 autodiff of the whole model
VERIFIED_EXAMPLES = 5
DRIVERS = 4  # parts of an input that predict names


class Labelled(Examples, Protocol):
    """Examples of one split, each with a label."""

    @property
    def labels(self) -> np.ndarray:
        """int32, (examples,)."""
        ...


class LabelledData(Protocol):
    """What is learnt from: three splits, and the classes that labels are positions of."""

    @property
    def name(self) -> str: ...
    @property
    def train(self) -> Labelled: ...
    @property
    def validation(self) -> Labelled: ...
    @property
    def test(self) -> Labelled: ...
    @property
    def classes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Signature(ABC):
    """What a trained classifier takes and gives; ``signature.json`` in its run. A task's own says what its inputs are.

    classes: the names of its outputs.
    """

    classes: tuple[str, ...]

    @property
    @abstractmethod
    def inputs(self) -> jax.ShapeDtypeStruct:
        """One example's inputs, as the model sees them, in a batch of one."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the examples are, in a few words that follow "examples"."""

    @abstractmethod
    def write(self, folder: Path) -> None: ...


S = TypeVar("S", bound=Signature)


def write_signature(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / "signature.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_signature(run: Path, parsed: Callable[[Mapping[str, Any]], S]) -> S:
    """What ``parsed`` makes of a run's. Raises UserError where it cannot."""
    try:
        return parsed(json.loads((run / "signature.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run} is not the folder of a run: its signature.json cannot be read ({error})") from error


class Prepared(NamedTuple):
    """What a run begins with."""

    data: Any
    signature: Any
    objective: Objective
    augment: Callable[[Any, Any], Any] | None
    steps_per_epoch: int


class Trained(NamedTuple):
    """Of a run: its options, signature, objective and the parameters of its best checkpoint."""

    config: Any
    signature: Any
    objective: Objective
    params: PyTree


class Outcome(NamedTuple):
    """What a run came to. probabilities: of every class for every test example."""

    data: Any
    signature: Any
    params: PyTree
    run: Run
    summary: Mapping[str, Any]
    probabilities: np.ndarray


class Classification(Task[Config], Generic[Config, S]):
    """A task whose model gives logits over classes, trained with a loss over integer labels."""

    @abstractmethod
    def load(self, config: Config) -> Any:
        """The data that the options name: ``LabelledData``."""

    @abstractmethod
    def signature(self, config: Config, data: Any) -> S:
        """Of what is trained on these data."""

    @abstractmethod
    def read_signature(self, run: Path) -> S:
        """The one that a run has written. Raises UserError where it cannot be read."""

    @abstractmethod
    def model(self, config: Config, signature: S) -> Layer:
        """Inputs like the signature's to logits."""

    @abstractmethod
    def loss(self, config: Config) -> Layer: ...

    @abstractmethod
    def augment(self, config: Config) -> Callable[[Any, Any], Any] | None:
        """A function (key, inputs) -> inputs that varies training examples, or None."""

    @abstractmethod
    def mistakes(
        self, tests: Sequence[Any], probabilities: np.ndarray, classes: Sequence[str]
    ) -> page.Plot | page.Table:
        """The worst mistakes, for people to look at. tests: test splits, whose examples follow each other."""

    def pictures(self, params: PyTree, signature: S) -> Sequence[page.Plot]:
        """What there is to see of a trained model's own parameters in the report."""
        del params, signature
        return ()

    def examples(self, config: Config, data: Any, part: str) -> Examples:
        """What training sees of a part of the data: "train", "validation" or "test", as they are."""
        del config
        return getattr(data, part)

    def metrics(self, config: Config) -> Metrics:
        """What training and validation are judged by besides the loss."""
        del config
        return accuracy_metric

    def settle(self, config: Config, run: Path, objective: Objective, params: PyTree, data: Any) -> None:
        """What else is chosen on the validation split when training is over, and kept in the folder ``run``."""
        del config, run, objective, params, data

    def probabilities(
        self, config: Config, run: Path, objective: Objective, params: PyTree, examples: Labelled
    ) -> np.ndarray:
        """Of every class for every example, in their order: (examples, classes)."""
        del run
        logits = all_outputs(objective.model, params["model"], examples, config.batch_size)
        return np.asarray(jax.nn.softmax(logits.astype(np.float32)))

    def called(self, run: Path, probabilities: np.ndarray) -> np.ndarray:
        """The class that each example gets: the likeliest."""
        del run
        return probabilities.argmax(-1)

    def scores(self, config: Config, run: Path, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """The metrics of a split."""
        from sklearn.metrics import accuracy_score, f1_score

        del config
        predictions = self.called(run, probabilities)
        return {
            "accuracy": float(accuracy_score(labels, predictions)),
            "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),  # pyright: ignore[reportArgumentType]
        }

    def findings(self, config: Config, outcome: "Outcome") -> Sequence[page.Plot | page.Table | page.Section]:
        """What the report shows of a run's test results."""
        data, probabilities = outcome.data, outcome.probabilities
        del config
        return [
            *shown.results(data.test.labels, self.called(outcome.run.directory, probabilities), data.classes),
            self.mistakes([data.test], probabilities, data.classes),
            *self.pictures(outcome.params["model"], outcome.signature),
        ]

    def headline(self, test: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """What a report begins with besides the accuracy: a value and what it is, each."""
        del test
        return ()

    def notes(self, data: Any) -> Sequence[str]:
        """What a user should know about the data before training begins, line by line."""
        del data
        return ()

    def objective(self, config: Config, signature: S) -> Objective:
        return Objective(in_precision(self.model(config, signature), config.precision), self.loss(config))

    def prepared(self, config: Config) -> Prepared:
        """Raises UserError where something does not fit, so that no run is begun."""
        data = self.load(config)
        signature = self.signature(config, data)
        steps = steps_per_epoch(self.examples(config, data, "train"), config.batch_size)
        objective, augment = self.objective(config, signature), self.augment(config)
        if augment:
            one = signature.inputs
            batch = jax.ShapeDtypeStruct((config.batch_size, *one.shape[1:]), one.dtype)
            jax.eval_shape(augment, jax.random.key(0), batch)
        return Prepared(data, signature, objective, augment, steps)

    def train(self, config: Config) -> None:
        outcome = self.fitted(config)
        report = page.write(outcome.run.directory, self._page(config, outcome))
        accuracy, size = outcome.summary["test"]["accuracy"], len(outcome.data.test)
        tested = f"{accuracy:.4f}  ({round(accuracy * size)} of {size})"
        summary_of_run.tell(outcome.summary, report, ("test accuracy", tested))

    def fitted(self, config: Config) -> Outcome:
        """Trains, tests the best checkpoint and checks its gradients: all of a run but its report."""
        data, signature, objective, augment, steps = self.prepared(config)
        run = open_run(self, config)
        signature.write(run.directory)

        params = initial_params(objective, signature, config.seed)
        if not config.quiet:
            print(
                f"{config.model} with {summary_of_run.count(params):,} parameters on {data.name} "
                f"({summary_of_run.sizes(data)} examples)",
                *self.notes(data),
                sep="\n",
                flush=True,
            )

        train, validation = (self.examples(config, data, part) for part in ("train", "validation"))
        metrics, held_out = self.metrics(config), evaluation_batches(validation, config.batch_size)
        validate = make_evaluation(objective, metrics)
        calibrated = any(isinstance(layer, BatchNorm) for _, layer in leaves(objective))
        spare = train_batches(train, config.batch_size, config.seed + 1)
        result = fit(
            objective,
            params,
            train_batches(train, config.batch_size, config.seed),
            config,
            run,
            steps_per_epoch=steps,
            evaluate=lambda params: validate(params, held_out),
            augment=augment,
            metrics=metrics,
            calibration=list(islice(spare, CALIBRATION_BATCHES)) if calibrated else (),
        )
        self.settle(config, run.directory, objective, result.params, data)
        probabilities = self.probabilities(config, run.directory, objective, result.params, data.test)
        test = self.scores(config, run.directory, data.test.labels, probabilities)
        checked = batch_of(*self.examples(config, data, "test").take(np.arange(min(CHECKED_EXAMPLES, len(data.test)))))
        check = gradient_check(objective, result.params, checked)
        summary = summary_of_run.summary(self, config, result, test, check)
        run.finish(summary)
        return Outcome(data, signature, result.params, run, summary, probabilities)

    def _page(self, config: Config, outcome: Outcome) -> page.Page:
        data, signature, run, summary = outcome.data, outcome.signature, outcome.run, outcome.summary
        check, test = summary["gradient_check"], summary["test"]
        return page.Page(
            title=f"{self.title}: {config.model} on {data.name}",
            headline=summary_of_run.headline(
                summary, (f"{test['accuracy']:.2%}", "test accuracy"), *self.headline(test)
            ),
            summary=(
                f"A {config.model} learnt {len(data.classes)} classes from {len(data.train):,} examples "
                f"{signature.kind}, with {summary_of_run.BY[config.gradient]}. It stopped after {summary['epochs']} epochs "
                f"({summary['stopped_because']}); the checkpoint that was best on {len(data.validation):,} "
                f"validation examples is judged here on {len(data.test):,} test examples that neither training nor "
                "that choice has seen."
            ),
            facts=summary_of_run.facts(
                config,
                summary,
                ("data", data.name),
                ("model", config.model),
                ("test accuracy", f"{test['accuracy']:.4f}"),
                ("test macro F1", f"{test['macro_f1']:.4f}"),
            ),
            sections=[
                *shown.learning(run.metrics()),
                *self.findings(config, outcome),
                *shown.gradients(check["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=summary_of_run.environment(config, summary),
        )

    def evaluate(self, run: Path) -> Mapping[str, float]:
        data, probabilities = self.tested(run)
        return self.scores(read_config(run, self.config), run, data.test.labels, probabilities)

    def tested(self, run: Path) -> tuple[Any, np.ndarray]:
        """The data that a run is about, and what its best checkpoint says of the test split's examples."""
        config, signature, objective, params = self.trained(run)
        data = self.load(config)
        if self.signature(config, data) != signature:
            raise UserError(f"{config.data} is not the data that {run} was trained on: its classes or inputs differ")
        return data, self.probabilities(config, run, objective, params, data.test)

    def verify(self, config: Config) -> Report:
        data = self.load(config)
        signature = self.signature(config, data)
        objective = Objective(self.model(config, signature), self.loss(config))
        params = initial_params(objective, signature, config.seed)
        batch = batch_of(*self.examples(config, data, "test").take(np.arange(VERIFIED_EXAMPLES)))
        context = Context(train=True, key=jax.random.key(config.seed))
        # In float32 rounding moves a few of so many units across their kinks, whoever differentiates.
        return verify(objective, params, batch, context, precisions=(), checks=())

    def trained(self, run: Path) -> Trained:
        """Raises UserError where there is no run, or one of another task."""
        Run.open(run)
        config, signature = read_config(run, self.config), self.read_signature(run)
        objective = self.objective(config, signature)
        params = load_params(run, initial_params(objective, signature, config.seed))
        return Trained(config, signature, objective, params)


def initial_params(objective: Objective, signature: Signature, seed: int) -> PyTree:
    """Untrained parameters, or the shapes that a run's are restored into."""
    targets = Targets(jax.ShapeDtypeStruct((1,), np.int32))
    return init_params(objective, (signature.inputs, targets), seed)


def all_outputs(model: Layer, params: PyTree, examples: Examples, batch_size: int) -> np.ndarray:
    """The model's outputs for every example, in their order: (examples, ...)."""
    outputs = predict(model, params, evaluation_batches(examples, batch_size))
    return outputs[np.argsort(by_length(examples))] if isinstance(examples, Sequences) else outputs


def drivers(names: Sequence[str], added: np.ndarray) -> str:
    """The parts of an input that move the answer most, the strongest first, each with its sign. added: (names,)."""
    order = np.argsort(-np.abs(added), kind="stable")[:DRIVERS]
    return "  ".join(f"{'+' if added[i] >= 0 else '-'}{names[i]}" for i in order)
