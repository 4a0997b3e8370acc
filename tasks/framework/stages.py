"""What the stages of a run hand to each other: model, training, evaluation, outcome; and how a report tells of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.data.batches import Examples, PerEpochExamples
from pipeline.evaluation.metrics import Metrics, no_metrics
from pipeline.layers.base import PyTree
from pipeline.layers.objective import Objective
from pipeline.training.run import Run
from pipeline.training.sparse_updates import SparseTable
from pipeline.training.step import Augment


class TaskModel(NamedTuple):
    """A task's model.

    signature: what the model takes and gives (classes, shapes, a vocabulary, ...), written into the run's folder.
    params: of the objective: fresh ones, or those of a run's best checkpoint; None where none are needed yet.
    """

    config: Any
    signature: Any
    objective: Objective
    params: PyTree = None


class Training(NamedTuple):
    """What a run trains on and how it is judged while it trains.

    examples: of the training split. evaluate: ``params -> {"loss": ..., ...}`` on the validation split.
    description: the data, in words that follow "a model with so many parameters on".
    notes: what a user should know about the data before training begins, line by line.
    augment, metrics, tables: see ``pipeline.training.fit``.
    """

    examples: Examples | PerEpochExamples
    evaluate: Callable[[PyTree], Mapping[str, float]]
    description: str
    notes: Sequence[str] = ()
    augment: Augment | None = None
    metrics: Metrics = no_metrics
    tables: tuple[SparseTable, ...] = ()


class Evaluation(NamedTuple):
    """The test split as a model answers it.

    metrics: by their standard names. answers: the task's own (probabilities, texts, ...), for its report.
    """

    metrics: Mapping[str, float]
    answers: Any = None


class Outcome(NamedTuple):
    """A finished run."""

    model: TaskModel
    data: Any
    run: Run
    summary: Mapping[str, Any]
    evaluation: Evaluation

    @property
    def config(self) -> Any:
        return self.model.config


class Metric(NamedTuple):
    """How a test metric is shown. headline: whether a report begins with it."""

    title: str
    format: str = "{:.4f}"
    headline: bool = True

    def text(self, test: Mapping[str, float], name: str) -> str:
        """The value, with the deviation among several models where there is one."""
        texts = [self.format.format(test[key]) for key in (name, f"{name}_deviation") if key in test]
        return " ± ".join(texts)


class Story(NamedTuple):
    """The parts of a report's first paragraph that are the task's own.

    learned: a sentence without its full stop, "A convnet learned ... from ... examples". validation, test: the
    examples that chose the checkpoint, and those it is tested on, with their numbers. more: sentences at the end.
    """

    learned: str
    validation: str
    test: str
    more: str = ""
