"""What the tasks that put a class on an input share: what ``train`` and the other commands do with data and a model."""

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from sklearn.metrics import accuracy_score, f1_score

from pipeline.data.batches import evaluation_batches, steps_per_epoch, train_batches
from pipeline.data.dataset import Dataset, Scaling
from pipeline.errors import UserError
from pipeline.layers.base import Context, Layer, PyTree, leaves
from pipeline.layers.combinators import Objective
from pipeline.layers.normalization import BatchNorm
from pipeline.losses.base import Targets
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.training.checkpoints import load_params
from pipeline.training.evaluation import make_evaluation, predict
from pipeline.training.gradient_check import gradient_check
from pipeline.training.loop import Result, fit
from pipeline.training.precision import in_precision
from pipeline.training.run import Run, read_config
from pipeline.verify import Report, verify
from tasks import artifact, conclusion
from tasks.command_line import Config, Predict, Task, command, console, open_run

CALIBRATION_BATCHES = 16
CHECKED_EXAMPLES = 16  # in a gradient check: float64 autodiff of the whole model


@dataclass(frozen=True)
class Signature:
    """What a trained classifier takes and gives; ``signature.json`` in its run.

    input_shape: of one example; scaling: from stored values to what the model sees; classes: the names of its outputs.
    """

    input_shape: tuple[int, ...]
    scaling: Scaling
    classes: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> "Signature":
        return cls(dataset.input_shape, dataset.scaling, dataset.classes)

    def write(self, run: Path) -> None:
        (run / "signature.json").write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, run: Path) -> "Signature":
        try:
            stored = json.loads((run / "signature.json").read_text(encoding="utf-8"))
            scaling = Scaling(**{name: tuple(values) for name, values in stored["scaling"].items()})
            return cls(tuple(stored["input_shape"]), scaling, tuple(stored["classes"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{run} is not the folder of a run: its signature.json cannot be read ({error})") from error


class Classification(Task[Config]):
    """A task whose model gives logits over classes, trained with a loss over integer labels."""

    @abstractmethod
    def load(self, data: str, seed: int) -> Dataset:
        """The data set of that name or path."""

    @abstractmethod
    def model(self, config: Config, signature: Signature) -> Layer:
        """Inputs like the signature's to logits."""

    @abstractmethod
    def loss(self, config: Config) -> Layer: ...

    @abstractmethod
    def augment(self, config: Config) -> Callable[[Any, Any], Any] | None:
        """A function (key, inputs) -> inputs that varies training examples, or None."""

    @abstractmethod
    def read(self, path: Path, signature: Signature) -> np.ndarray:
        """The examples in one file of the user's, scaled for the model: (examples, *input_shape)."""

    @abstractmethod
    def pictures(
        self, params: PyTree, signature: Signature, inputs: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
    ) -> Sequence[page.Plot]:
        """What there is to see of this kind of inputs in the report. inputs: the test set as it is stored."""

    def objective(self, config: Config, signature: Signature) -> Objective:
        return Objective(in_precision(self.model(config, signature), config.precision), self.loss(config))

    def train(self, config: Config) -> None:
        dataset = self.load(config.data, config.seed)
        signature = Signature.of(dataset)
        steps = steps_per_epoch(dataset.train, config.batch_size)
        objective, augment = self.objective(config, signature), self.augment(config)
        if augment:  # says so now, rather than with a run begun, where it does not fit the inputs
            batch = jax.ShapeDtypeStruct((config.batch_size, *signature.input_shape), jnp.float32)
            jax.eval_shape(augment, jax.random.key(0), batch)
        run = open_run(self, config)
        signature.write(run.directory)

        params = initial_params(objective, signature, config.seed)
        if not config.quiet:
            sizes = ", ".join(f"{len(getattr(dataset, n)):,} {n}" for n in ("train", "validation", "test"))
            print(
                f"{config.model} with {conclusion.count(params):,} parameters on {dataset.name} ({sizes} examples)",
                flush=True,
            )

        validate, validation = make_evaluation(objective), evaluation_batches(dataset.validation, config.batch_size)
        calibrated = any(isinstance(layer, BatchNorm) for _, layer in leaves(objective))
        spare = train_batches(dataset.train, config.batch_size, config.seed + 1)
        result = fit(
            objective,
            params,
            train_batches(dataset.train, config.batch_size, config.seed),
            config,
            run,
            steps_per_epoch=steps,
            evaluate=lambda params: validate(params, validation),
            augment=augment,
            calibration=list(islice(spare, CALIBRATION_BATCHES)) if calibrated else (),
        )
        self._conclude(config, dataset, signature, objective, run, result)

    def _conclude(
        self,
        config: Config,
        dataset: Dataset,
        signature: Signature,
        objective: Objective,
        run: Run,
        result: Result,
    ) -> None:
        """Tests the best checkpoint, checks its gradients, and tells: summary.json, report.html, a few lines."""
        probabilities = _probabilities(objective.model, result.params, dataset, config.batch_size)
        inputs, labels = dataset.test.take(slice(CHECKED_EXAMPLES))
        check = gradient_check(objective, result.params, (inputs, Targets(labels)))
        summary = conclusion.summary(self, config, result, _metrics(dataset.test.labels, probabilities), check)
        run.finish(summary)
        pictures = self.pictures(
            result.params["model"], signature, dataset.test.pixels, dataset.test.labels, probabilities
        )
        told = self._page(config, dataset, summary, run.metrics(), probabilities, pictures)
        report = page.write(run.directory, told)
        right = round(summary["test"]["accuracy"] * len(dataset.test))
        tested = f"{summary['test']['accuracy']:.4f}  ({right} of {len(dataset.test)})"
        conclusion.tell(summary, report, ("test accuracy", tested))

    def _page(
        self,
        config: Config,
        dataset: Dataset,
        summary: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]],
        probabilities: np.ndarray,
        pictures: Sequence[page.Plot],
    ) -> page.Page:
        check, test = summary["gradient_check"], summary["test"]
        kind = "x".join(map(str, dataset.input_shape))
        return page.Page(
            title=f"{self.title}: {config.model} on {dataset.name}",
            headline=conclusion.headline(summary, (f"{test['accuracy']:.2%}", "test accuracy")),
            summary=(
                f"A {config.model} learnt {len(dataset.classes)} classes from {len(dataset.train):,} examples of shape "
                f"{kind}, with {conclusion.BY[config.gradient]}. It stopped after {summary['epochs']} epochs "
                f"({summary['stopped_because']}); the checkpoint that was best on {len(dataset.validation):,} "
                f"validation examples is judged here on {len(dataset.test):,} test examples that neither training nor "
                "that choice has seen."
            ),
            facts=conclusion.facts(
                config,
                summary,
                ("data", dataset.name),
                ("model", config.model),
                ("test accuracy", f"{test['accuracy']:.4f}"),
                ("test macro F1", f"{test['macro_f1']:.4f}"),
            ),
            sections=[
                *shown.learning(metrics),
                *shown.results(dataset.test.labels, probabilities, dataset.classes),
                *pictures,
                *shown.gradients(check["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=conclusion.environment(config, summary),
        )

    def evaluate(self, run: Path) -> Mapping[str, float]:
        config, signature, objective, params = self._trained(run)
        dataset = self.load(config.data, config.seed)
        if Signature.of(dataset) != signature:
            raise UserError(f"{config.data} is not the data that {run} was trained on: its shape or classes differ")
        return _metrics(dataset.test.labels, _probabilities(objective.model, params, dataset, config.batch_size))

    def predict(self, command: Predict) -> None:
        if not command.inputs:
            raise UserError("predict needs the files to answer for: predict RUN FILE...")
        _, signature, objective, params = self._trained(command.run)
        table = Table("file", "class")
        table.add_column("probability", justify="right")
        forward = jax.jit(objective.model.apply)
        for path in _files(command.inputs):
            logits = forward(params["model"], self.read(path, signature), Context())
            for row in np.asarray(jax.nn.softmax(logits)):
                table.add_row(str(path), signature.classes[row.argmax()], f"{row.max():.4f}")
        console().print(table)

    def verify(self, config: Config) -> Report:
        dataset = self.load(config.data, config.seed)
        signature = Signature.of(dataset)
        objective = Objective(self.model(config, signature), self.loss(config))
        params = initial_params(objective, signature, config.seed)
        inputs, labels = dataset.test.take(slice(5))
        context = Context(train=True, key=jax.random.key(config.seed))
        # In float32 rounding moves a few of so many units across their kinks, whoever differentiates.
        return verify(objective, params, (inputs, Targets(labels)), context, precisions=(), checks=())

    def export(self, run: Path) -> None:
        """Pixels as they are stored (floats; integer pixels divided by their largest value) to class probabilities."""
        _, signature, objective, params = self._trained(run)
        mean, deviation = (
            jnp.asarray(values, jnp.float32) for values in (signature.scaling.mean, signature.scaling.deviation)
        )

        def probabilities(pixels: jax.Array) -> jax.Array:
            inputs = (pixels - mean) / deviation
            return jax.nn.softmax(objective.model.apply(params["model"], inputs, Context()))

        shape = ", ".join(map(str, ("batch", *signature.input_shape)))
        folder = artifact.write(
            run,
            probabilities,
            [(signature.input_shape, jnp.float32)],
            lambda random, shape: random.random(shape, np.float32),
            takes=f"float32 ({shape}): pixels from 0 to 1, any batch",
            gives=f"float32 (batch, {len(signature.classes)}): probabilities, classes in signature.json",
        )
        signature.write(folder)

    def _trained(self, run: Path) -> tuple[Config, Signature, Objective, PyTree]:
        """Of a run: its options, signature, objective and the parameters of its best checkpoint."""
        Run.open(run)
        config, signature = read_config(run, self.config), Signature.read(run)
        objective = self.objective(config, signature)
        return config, signature, objective, load_params(run, initial_params(objective, signature, config.seed))


def initial_params(objective: Objective, signature: Signature, seed: int) -> PyTree:
    """Untrained parameters, or the shapes that a run's are restored into."""
    inputs = jax.ShapeDtypeStruct((1, *signature.input_shape), jnp.float32)
    targets = Targets(jax.ShapeDtypeStruct((1,), jnp.int32))
    return objective.init(jax.random.key(seed), (inputs, targets))


def _probabilities(model: Layer, params: PyTree, dataset: Dataset, batch_size: int) -> np.ndarray:
    """Of every class for every test example."""
    logits = predict(model, params["model"], evaluation_batches(dataset.test, batch_size))
    return np.asarray(jax.nn.softmax(logits.astype(np.float32)))


def _metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    predictions = probabilities.argmax(-1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),  # pyright: ignore[reportArgumentType]
    }


def _files(inputs: Sequence[Path]) -> list[Path]:
    """The files among ``inputs`` and in the folders among them, in alphabetical order."""
    files = []
    for path in inputs:
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path} is an empty folder; give files, or a folder of them")
        files += inside
    return files
