"""One training story for every task: data, model, training, test, gradient check, summary and report.

``Task`` tells it once. A task adds what is particular to it: its options and recipes, its data, its model and loss, how
a test split is judged, what its report shows, and how it predicts.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import jax

from pipeline import storage
from pipeline.data.account import account, class_line
from pipeline.data.batches import Batch, steps_per_epoch, train_batches
from pipeline.data.fingerprint import differences, fingerprint
from pipeline.display import visible, visible_lines
from pipeline.errors import UserError
from pipeline.layers.base import Context, leaves
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.report import page
from pipeline.report.training import data_sections, gradient_sections, learning_sections
from pipeline.training.checkpoints import check_run_files, extendable_step, load_params
from pipeline.training.config import TaskConfig
from pipeline.training.gradient_check import gradient_check
from pipeline.training.loop import fit
from pipeline.training.run import Run, read_config
from pipeline.training.state import init_params, require_model_fits
from pipeline.training.tensorboard import require_tensorboard
from pipeline.verify import Report, verify
from tasks.framework import summary
from tasks.framework.answers import Answers
from tasks.framework.export import Exported, Format, write_export, write_parameters, write_readme
from tasks.framework.signals import SIGNALS
from tasks.framework.stages import Evaluation, Metric, Outcome, Story, TaskModel, Training

DATA = "data.json"
"""The file of a run with the fingerprint of its data."""
STATISTICS_BATCHES = 16  # training batches that the statistics of BatchNorm are computed on


Config = TypeVar("Config", bound=TaskConfig)


class Task(ABC, Generic[Config]):
    """What a task's commands do; ``tasks.framework.command_line.main`` runs them.

    name: of the module in ``tasks``; title: for people; config, predictions: the classes of ``train``'s and
    ``predict``'s options; known: names of data sets, any other being a path; chooses: options that, like ``--data``,
    choose among the recipes; sizes: options that the number of the model's parameters depends on.
    signature_class: has ``write(folder)`` and ``read(folder)``; signature_parts: what two data sets with different
    signatures differ in, for a message. test_metrics: those that terminal and report show, the most important first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config: type[Config]
    predictions: type[Any]
    known: ClassVar[Collection[str]]
    chooses: ClassVar[tuple[str, ...]] = ()
    sizes: ClassVar[tuple[str, ...]]
    signature_class: type[Any]
    signature_parts: ClassVar[str] = "classes or inputs"
    test_metrics: ClassVar[Mapping[str, Metric]]

    # What a task supplies.

    @abstractmethod
    def recipe(self, data: str | None) -> Config:
        """The defaults of ``train`` for this data set, or for the task's default one.

        A task whose other options choose a recipe too takes them as keywords: strings, or None where not given.
        """

    @abstractmethod
    def load(self, config: Config) -> Any:
        """The data that the options name, in three splits: ``train``, ``validation``, ``test``; with a ``name``."""

    @abstractmethod
    def signature(self, config: Config, data: Any) -> Any:
        """The signature of a model trained on these data: hashable or comparable, and the same for the same data."""

    def write_signature(self, folder: Path, signature: Any) -> None:
        """Writes the signature's files into a folder."""
        signature.write(folder)

    def read_signature(self, run_directory: Path) -> Any:
        """The signature that a run has written. Raises UserError where it cannot be read."""
        return self.signature_class.read(run_directory)

    @abstractmethod
    def objective(self, config: Config, signature: Any) -> Objective:
        """The model under its loss, computing in ``config.precision``."""

    @abstractmethod
    def example(self, config: Config, signature: Any) -> Batch:
        """The shapes of a batch of one, for the parameters' initialisation: a tree of ShapeDtypeStructs."""

    @abstractmethod
    def training(self, model: TaskModel, data: Any) -> Training:
        """Raises UserError where something does not fit, so that no run is begun. The model has no parameters yet."""

    @abstractmethod
    def check_batch(self, model: TaskModel, data: Any) -> Batch:
        """A few examples for the gradient check at the end of a run: float64 autodiff of the whole model."""

    def verify_batch(self, model: TaskModel, data: Any) -> Batch:
        """Fewer or shorter examples for ``verify``, which looks at every layer."""
        return self.check_batch(model, data)

    def choose_on_validation(self, model: TaskModel, data: Any, run_directory: Path) -> None:
        """Chooses on the validation split what training did not (a threshold, a temperature), and writes it."""
        del model, data, run_directory

    @abstractmethod
    def test(self, model: TaskModel, data: Any, run_directory: Path) -> Evaluation:
        """The test split as the model answers it."""

    def extra_summary(self, model: TaskModel, data: Any) -> Mapping[str, Any]:
        """Entries of ``summary.json`` that only this task has."""
        del model, data
        return {}

    def write_results(self, outcome: Outcome) -> None:
        """Writes the answers to the test split into the run's folder, where people will read them."""
        del outcome

    def result_lines(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        """The task's own last lines on the terminal: a name and a value, each."""
        return self.results(outcome.summary["test"])

    def goal(self, data: Any) -> str:
        """What several models learn, after "learned"."""
        raise NotImplementedError(f"{self.title} has no runs of several models")

    @abstractmethod
    def story(self, outcome: Outcome) -> Story: ...

    def subtitle(self, config: Config) -> str:
        """What follows the data's name in a report's title."""
        del config
        return ""

    def facts(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        """The task's own facts about a run, after data, model and test metrics."""
        del outcome
        return ()

    def learning(self, metrics: Sequence[Mapping[str, Any]], config: Config) -> Sequence[page.Part]:
        """How training went. metrics: the lines of ``metrics.jsonl``."""
        del config
        return learning_sections(metrics)

    @abstractmethod
    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        """The task's own part of a report: what the model gets right and wrong."""

    @abstractmethod
    def predict(self, command: Any) -> Answers:
        """Answers for the user's own input. command: an instance of ``predictions``."""

    @abstractmethod
    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """The trained forward pass."""

    def write_export_files(self, folder: Path, model: TaskModel, run_directory: Path) -> None:
        """Writes what a user of the exported model needs beside it."""
        del run_directory
        self.write_signature(folder, model.signature)

    # What every task does.

    def results(self, test: Mapping[str, float], headline: bool = False) -> list[tuple[str, str]]:
        """Title and value of the test metrics; headline: of those that a report begins with alone."""
        return [
            (metric.title, metric.text(test, name))
            for name, metric in self.test_metrics.items()
            if name in test and (metric.headline or not headline)
        ]

    def train(self, config: Config) -> None:
        """Trains, tests and reports: the command ``train``."""
        if config.dry_run:
            model, data, training, _ = self.prepare(config)
            self._tell(self.initialized(model), training, account(data, training.notes))
            print("dry run: nothing is trained")
            return
        outcome = self.fit(config)
        self.write_results(outcome)
        report = page.write(outcome.run.directory, self.report(outcome))
        summary.print_summary(outcome.summary, report, *self.result_lines(outcome))

    def prepare(self, config: Config) -> tuple[TaskModel, Any, Training, int]:
        """Model, data, training and steps an epoch. Raises UserError where they do not fit, before a run is begun."""
        if config.tensorboard:
            require_tensorboard()
        data = self.load(config)
        signature = self.signature(config, data)
        model = TaskModel(config, signature, self.objective(config, signature))
        require_model_fits(model.objective, self.example(config, signature), self.sizes)
        training = self.training(model, data)
        if size := self._smaller_batch(config, len(training.examples)):
            note = (
                f"batches of {size} examples: training has {len(training.examples)}, and by default "
                f"{config.batch_size} are in each; --batch-size says otherwise"
            )
            config = dataclasses.replace(config, batch_size=size)
            model = model._replace(config=config)
            training = self.training(model, data)
            training = training._replace(notes=(*training.notes, note))
        steps = steps_per_epoch(training.examples, config.batch_size)
        config.total_steps(steps)  # raises where these are too many
        if not config.resume and config.stop.metric != self._recipe_of(config).stop.metric:
            config.stop.require_metric_among(training.evaluate(self.initialized(model).params))
        return model, data, training, steps

    def _recipe_of(self, config: Config) -> Config:
        """The defaults of the options that do not choose among the recipes."""
        return self.recipe(config.data, **{option: getattr(config, option) for option in self.chooses})

    def _smaller_batch(self, config: Config, examples: int) -> int:
        """A batch size for two steps an epoch, where the recipe's is too large; 0 where it fits or was given."""
        is_default = config.batch_size == self._recipe_of(config).batch_size
        if examples < 2 * config.accumulate or config.batch_size <= examples or not is_default:
            return 0
        return config.accumulate * 2 ** ((examples // (2 * config.accumulate)).bit_length() - 1)

    def fit(self, config: Config) -> Outcome:
        """Trains, tests the best checkpoint and checks its gradients: all of a run but its report."""
        model, data, training, steps = self.prepare(config)
        with open_run(self, config) as run, SIGNALS.resumable(run.directory):
            self._record(run, model, data)
            if config.resume:
                self._extend(run, model.config, steps)
            return self._fit(run, self.initialized(model), data, training, steps)

    def _extend(self, run: Run, config: Config, steps_per_epoch: int) -> None:
        """Gives a run that is resumed more epochs, where there are more, and says what that does to its learning rate.

        Raises UserError where there are fewer, or where a stop rule ended the run.
        """
        before = read_config(run.directory, self.config).epochs
        if config.epochs == before:
            return
        if config.epochs < before:
            raise UserError(
                f"{run.directory} has {before} epochs, and cannot be resumed with {config.epochs}; give --epochs "
                f"{before} or more"
            )
        step = extendable_step(run)
        run.extend(config.epochs, step)
        if not config.quiet:
            print(summary.extension(config.optimizer, step, before * steps_per_epoch, config.epochs * steps_per_epoch))

    def _fit(self, run: Run, model: TaskModel, data: Any, training: Training, steps: int) -> Outcome:
        config, read = model.config, account(data, training.notes)
        if not config.quiet:
            self._tell(model, training, read)
            print(f"run in {visible(str(run.directory))}", flush=True)
        statistics_batches = _statistics_batches(model.objective, training, config)
        with SIGNALS.saving():
            result = fit(
                model.objective,
                model.params,
                train_batches(training.examples, config.batch_size, config.seed),
                config,
                run,
                steps_per_epoch=steps,
                evaluate=training.evaluate,
                augment=training.augment,
                metrics=training.metrics,
                statistics_batches=statistics_batches,
                tables=training.tables,
                stop_requested=SIGNALS.stop_requested,
            )
        model = model._replace(params=result.params)

        self.choose_on_validation(model, data, run.directory)
        evaluation = self.test(model, data, run.directory)
        check = gradient_check(model.objective, model.params, self.check_batch(model, data))
        content = summary.run_summary(self, config, result, evaluation.metrics, check)
        content |= {"account": read, "extensions": run.extensions(), **self.extra_summary(model, data)}
        run.finish(content)
        return Outcome(model, data, run, content, evaluation)

    def _tell(self, model: TaskModel, training: Training, read: Mapping[str, Any]) -> None:
        """Prints what was read, as what, and what of it is not used as it is. read: see ``account``."""
        size = f"{model.config.model} with {summary.parameter_count(model.params):,} parameters"
        lines = [f"{size} on {training.description}", class_line(read), *training.notes]
        print(visible_lines("\n".join(filter(None, lines))), flush=True)

    def _record(self, run: Run, model: TaskModel, data: Any) -> None:
        """Writes what is trained on what into a new run's folder; of one that is resumed, compares it with that."""
        path = run.directory / DATA
        if path.exists():
            self.require_same_data(run.directory, model, data)
            return
        self.write_signature(run.directory, model.signature)
        storage.write_json(path, fingerprint(data))  # the last one: where it is there, all are

    def require_same_data(self, run_directory: Path, model: TaskModel, data: Any) -> None:
        """Raises UserError where the data are not those that a run was trained on. model: one for these data."""
        named = f"{model.config.data} is not the data that {run_directory} was trained on: "
        if model.signature != self.read_signature(run_directory):
            raise UserError(f"{named}its {self.signature_parts} differ")
        remedy = "restore it, or start a new run"
        found = storage.read_json(run_directory / DATA, partial(differences, present=fingerprint(data)), remedy)
        if found:
            raise UserError(f"{named}{'; '.join(found)}")

    def report(self, outcome: Outcome) -> page.Page:
        """The report of a run."""
        config, content, story = outcome.config, outcome.summary, self.story(outcome)
        text = (
            f"{story.learned}, with {summary.BY[config.gradient]}. Training stopped after "
            f"{summary.counted(content['epochs'], 'epoch')} ({content['stopped_because']}). The checkpoint that was "
            f"best on {story.validation} is tested on {story.test}, which neither training nor that choice has "
            f"seen.{story.more}"
        )
        learning = self.learning(outcome.run.metrics(), config)
        sections = [*data_sections(content["account"]), *learning, *self.sections(outcome)]
        return self.report_of(config, outcome.data, content, self.subtitle(config), text, self.facts(outcome), sections)

    def report_of(
        self,
        config: Config,
        data: Any,
        content: Mapping[str, Any],
        subtitle: str,
        text: str,
        facts: Sequence[tuple[str, str]],
        sections: Sequence[page.Part],
    ) -> page.Page:
        """A report with what all of them have. content: of ``summary.json``; text: its first paragraph."""
        results = self.results(content["test"], headline=True)
        return page.Page(
            title=f"{self.title}: {config.model} on {Path(data.name).name}{subtitle}",
            headline=[*((value, title) for title, value in results), *summary.headline(content)],
            summary=text,
            facts=[
                ("data", data.name),
                ("model", config.model),
                *self.results(content["test"]),
                *facts,
                *summary.facts(config, content),
            ],
            sections=[*sections, *gradient_sections(content["gradient_check"]["relative_error"])],
            reproduce=summary.command(self, config),
            environment=summary.environment(config, content),
        )

    def evaluate(self, run_directory: Path) -> Mapping[str, float]:
        """The test metrics of a run's best checkpoint: the command ``evaluate``."""
        return self.tested(run_directory)[2].metrics

    def tested(self, run_directory: Path) -> tuple[TaskModel, Any, Evaluation]:
        """A run's model, its data, and the test split as its best checkpoint answers it."""
        model, data = self.trained_with_data(run_directory)
        return model, data, self.test(model, data, run_directory)

    def verify(self, config: Config) -> Report:
        """Every gradient of the task's model, layer by layer, manual against autodiff: the command ``verify``."""
        config = dataclasses.replace(config, precision="float32")
        data = self.load(config)
        signature = self.signature(config, data)
        model = self.initialized(TaskModel(config, signature, self.objective(config, signature)))
        context = Context(train=True, key=jax.random.key(config.seed))
        batch = self.verify_batch(model, data)
        # In float32 rounding moves a few of so many units across their kinks, whoever differentiates.
        return verify(model.objective, model.params, batch, context, precisions=(), checks=())

    def export(self, run_directory: Path, kind: Format = "jax") -> None:
        """Writes the trained forward pass, or its parameters: the command ``export``."""
        model = self.trained(run_directory)
        exported = self.exported(model, run_directory)
        if kind == "jax":
            folder = write_export(run_directory, exported)
        else:
            names = {"task": self.name, "model": model.config.model, "data": model.config.data}
            folder = write_parameters(run_directory, model.params, names)
        self.write_export_files(folder, model, run_directory)
        write_readme(folder, exported)

    def initialized(self, model: TaskModel) -> TaskModel:
        """The model with fresh parameters."""
        example = self.example(model.config, model.signature)
        return model._replace(params=init_params(model.objective, example, model.config.seed))

    def trained(self, run_directory: Path) -> TaskModel:
        """A run's model with the parameters of its best checkpoint.

        Raises UserError where there is no run, or one of another task.
        """
        check_run_files(Run.open(run_directory))
        config, signature = read_config(run_directory, self.config), self.read_signature(run_directory)
        model = self.initialized(TaskModel(config, signature, self.objective(config, signature)))
        return model._replace(params=load_params(run_directory, model.params))

    def trained_with_data(self, run_directory: Path) -> tuple[TaskModel, Any]:
        """A run's model, and the data it was trained on. Raises UserError where the data are others by now."""
        model = self.trained(run_directory)
        data = self.load(model.config)
        self.require_same_data(run_directory, model._replace(signature=self.signature(model.config, data)), data)
        return model, data


def open_run(task: Task[Any], config: Any) -> Run:
    """The folder of a run that begins, or of the one that is resumed."""
    if config.resume:
        return Run.resume(config.resume)
    when = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "_", Path(config.data).stem)[:40]
    directory = config.run_dir or Path("runs") / f"{task.name}-{name}-{when}"
    return Run.create(directory, task.name, config)


def _statistics_batches(objective: Objective, training: Training, config: TaskConfig) -> Sequence[Batch]:
    if not any(isinstance(layer, BatchNorm) for _, layer in leaves(objective)):
        return ()
    batches = train_batches(training.examples, config.batch_size, config.seed + 1)
    return list(islice(batches, STATISTICS_BATCHES))
