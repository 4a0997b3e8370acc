"""What the tasks share that put a class on an input, and those whose inputs are arrays: images, signals, tables."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.data.batches import Batch, Examples, evaluation_batches, first_batch
from pipeline.data.dataset import Dataset
from pipeline.data.folder import files_and_notes
from pipeline.data.image_files import SUFFIXES
from pipeline.display import print_notes
from pipeline.evaluation.classification import accuracy_metric, classification_metrics
from pipeline.evaluation.evaluate import all_outputs, make_evaluation
from pipeline.evaluation.metrics import Metrics
from pipeline.layers.base import Context, Layer
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.report import classification as report
from pipeline.report import page
from pipeline.training.config import FoldsConfig
from pipeline.training.precision import in_precision
from pipeline.training.signatures import ArraySignature, ClassifierSignature
from pipeline.training.step import Augment
from tasks.framework.answers import Answers, Predict, Table, likeliest, ranking, with_classes
from tasks.framework.cross_validation import CrossValidated, Part
from tasks.framework.export import Exported
from tasks.framework.stages import Evaluation, Metric, Outcome, Story, TaskModel, Training
from tasks.framework.summary import split_sizes
from tasks.framework.task import Config, Task

CHECKED_EXAMPLES, VERIFIED_EXAMPLES = 16, 5


class Labelled(Examples, Protocol):
    """Examples of one split, each with a label."""

    @property
    def labels(self) -> np.ndarray:
        """int32, (examples,)."""
        ...


S = TypeVar("S", bound=ClassifierSignature)
C = TypeVar("C", bound=FoldsConfig)


class Classification(Task[Config], Generic[Config, S]):
    """A task whose model gives logits over classes, trained with a loss over integer labels."""

    test_metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("test accuracy"),
        "macro_f1": Metric("test macro F1", headline=False),
    }

    @abstractmethod
    def model(self, config: Config, signature: S) -> Layer:
        """Inputs like the signature's to logits."""

    @abstractmethod
    def loss(self, config: Config) -> Layer: ...

    @abstractmethod
    def augment(self, config: Config) -> Augment | None:
        """A function ``(key, inputs) -> inputs`` that varies training examples, or None."""

    @abstractmethod
    def mistakes(self, splits: Sequence[Any], probabilities: np.ndarray, classes: Sequence[str]) -> page.Part:
        """The worst mistakes, for people to look at. splits: test splits, whose examples follow each other."""

    def pictures(self, model: TaskModel) -> Sequence[page.Plot]:
        """What there is to see of a trained model's own parameters."""
        del model
        return ()

    def examples(self, config: Config, data: Any, part: str) -> Examples:
        """What training sees of a part of the data ("train", "validation" or "test"): the part itself."""
        del config
        return getattr(data, part)

    def metrics(self, config: Config) -> Metrics:
        """What training and validation are judged by besides the loss."""
        del config
        return accuracy_metric

    def probabilities(self, model: TaskModel, run_directory: Path, examples: Labelled) -> np.ndarray:
        """The probability of every class for every example, in their order: (examples, classes)."""
        del run_directory
        logits = all_outputs(model.objective.model, model.params["model"], examples, model.config.batch_size)
        return np.asarray(jax.nn.softmax(logits.astype(np.float32)))

    def labels_of(self, run_directory: Path, probabilities: np.ndarray) -> np.ndarray:
        """The class that each example gets: the likeliest."""
        del run_directory
        return probabilities.argmax(-1)

    def scores(
        self, config: Config, run_directory: Path, labels: np.ndarray, probabilities: np.ndarray
    ) -> Mapping[str, float]:
        """The metrics of a split."""
        del config
        return classification_metrics(labels, self.labels_of(run_directory, probabilities))

    def objective(self, config: Config, signature: S) -> Objective:
        return Objective(in_precision(self.model(config, signature), config.precision), self.loss(config))

    def example(self, config: Config, signature: S) -> Batch:
        del config
        return signature.inputs, Targets(jax.ShapeDtypeStruct((1,), np.int32))

    def training(self, model: TaskModel, data: Any) -> Training:
        config = model.config
        augment, metrics = self.augment(config), self.metrics(config)
        if augment:  # which may not fit the data
            one = model.signature.inputs
            batch = jax.ShapeDtypeStruct((config.batch_size, *one.shape[1:]), one.dtype)
            jax.eval_shape(augment, jax.random.key(0), batch)
        validation = self.examples(config, data, "validation")
        validate = make_evaluation(model.objective, metrics)
        return Training(
            self.examples(config, data, "train"),
            lambda params: validate(params, evaluation_batches(validation, config.batch_size)),
            f"{data.name} ({split_sizes(data)} examples {model.signature.kind})",
            getattr(data, "notes", ()),
            augment,
            metrics,
        )

    def check_batch(self, model: TaskModel, data: Any) -> Batch:
        return self._first_tests(model, data, CHECKED_EXAMPLES)

    def verify_batch(self, model: TaskModel, data: Any) -> Batch:
        return self._first_tests(model, data, VERIFIED_EXAMPLES)

    def _first_tests(self, model: TaskModel, data: Any, count: int) -> Batch:
        return first_batch(self.examples(model.config, data, "test"), count)

    def test(self, model: TaskModel, data: Any, run_directory: Path) -> Evaluation:
        probabilities = self.probabilities(model, run_directory, data.test)
        scores = self.scores(model.config, run_directory, data.test.labels, probabilities)
        return Evaluation(scores, probabilities)

    def goal(self, data: Any) -> str:
        """What a model learns, after "learned"."""
        return f"to tell {len(data.classes)} classes apart"

    def story(self, outcome: Outcome) -> Story:
        data, kind = outcome.data, outcome.model.signature.kind
        learned = f"A {outcome.config.model} learned {self.goal(data)} from {len(data.train):,} examples {kind}"
        return Story(learned, f"{len(data.validation):,} validation examples", f"{len(data.test):,} test examples")

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        data, probabilities = outcome.data, outcome.evaluation.answers
        predictions = self.labels_of(outcome.run.directory, probabilities)
        return [
            *report.results(data.test.labels, predictions, data.classes),
            self.mistakes([data.test], probabilities, data.classes),
            *self.pictures(outcome.model),
        ]

    def result_lines(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        accuracy, size = outcome.summary["test"]["accuracy"], len(outcome.data.test)
        return [("test accuracy", f"{accuracy:.4f}  ({round(accuracy * size)} of {size})")]


class CrossValidatedClassification(CrossValidated[C], Classification[C, S]):
    """A classifier whose run may be of several models: folds, or seeds and their ensemble."""

    def combined_sections(self, config: C, parts: Sequence[Part], content: Mapping[str, Any]) -> Sequence[page.Part]:
        del config, content
        splits = [part.data.test for part in parts]
        labels = np.concatenate([split.labels for split in splits])
        predictions = np.concatenate([self.labels_of(part.folder, part.evaluation.answers) for part in parts])
        classes = parts[0].data.classes
        probabilities = np.concatenate([part.evaluation.answers for part in parts])
        return [
            *report.results(labels, predictions, classes),
            self.mistakes(splits, probabilities, classes),
        ]


class ArrayClassification(Classification[Config, ArraySignature]):
    """A task whose data are a ``Dataset``."""

    signature_class = ArraySignature
    predictions = Predict

    @abstractmethod
    def read(self, path: Path, signature: ArraySignature) -> np.ndarray:
        """The examples in one file of the user's, scaled for the model: (examples, *input_shape)."""

    def signature(self, config: Config, data: Dataset) -> ArraySignature:
        del config
        return ArraySignature(data.classes, data.input_shape, data.scaling, fit=data.fit, pixel_range=data.pixel_range)

    def predict(self, command: Predict) -> Answers:
        model = self.trained(command.run)
        records, rows, several = [], [], []
        forward = compiler.jit(model.objective.model.apply)
        suffixes = SUFFIXES if len(model.signature.input_shape) == 3 else (".npy",)
        files, notes = files_and_notes(command.inputs, suffixes)
        for path in files:
            logits = forward(model.params["model"], self.read(path, model.signature), Context())
            for row in np.asarray(jax.nn.softmax(logits)):
                ranked = likeliest(row, model.signature.classes, command.top)
                best, probability = ranked[0]
                records.append({"file": str(path), "class": best, "probability": probability, **ranking(ranked)})
                rows.append((str(path), best, f"{probability:.4f}"))
                several.append(ranked)
        print_notes(notes)
        table = Table(("file", "class", "probability"), rows, ("probability",))
        return Answers(records, with_classes(table, several))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Pixels as they are stored (floats; integer pixels divided by their largest value) to class probabilities."""
        del run_directory
        signature, network, scale = model.signature, model.objective.model, model.signature.scale

        def probabilities(pixels: jax.Array) -> jax.Array:
            return jax.nn.softmax(network.apply(model.params["model"], scale(pixels), Context()))

        shape = ", ".join(map(str, ("batch", *signature.input_shape)))
        takes = f"float32 ({shape}): pixels from 0 to 1, any batch"
        if signature.pixel_range:
            takes += "; {:g} of the training arrays is 0, {:g} is 1".format(*signature.pixel_range)
        if signature.fit:
            takes += f"; brought to this size by {signature.fit}"
        return Exported(
            probabilities,
            [(signature.input_shape, jnp.float32)],
            lambda random, shape: random.random(shape, np.float32),
            takes=takes,
            gives=f"float32 (batch, {len(signature.classes)}): probabilities, classes in signature.json",
        )
