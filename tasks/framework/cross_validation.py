"""Several models of one kind: one for each fold of the data, tested on it (cross-validation), or one for each seed.

``CrossValidated`` wraps any task: its run then holds a run for each model, ``fold_1`` or ``seed_0`` and so on.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline import compiler
from pipeline.errors import UserError
from pipeline.evaluation.cross_validation import means
from pipeline.report import page
from pipeline.training.checkpoints import extendable_step
from pipeline.training.config import FoldsConfig
from pipeline.training.run import Run, read_config
from tasks.framework import summary
from tasks.framework.signals import SIGNALS
from tasks.framework.stages import Evaluation, TaskModel
from tasks.framework.task import Task, open_run

F = TypeVar("F", bound=FoldsConfig)


class Part(NamedTuple):
    """One of the models: its name, its run's folder, its data, its test split as it answers it, its run's summary."""

    name: str
    folder: Path
    data: Any
    evaluation: Evaluation
    summary: Mapping[str, Any]


class CrossValidated(Task[F]):
    """A task whose run may be of several models, compared by the ``test_metrics`` of each."""

    def combine(self, config: F, parts: Sequence[Part]) -> Mapping[str, float]:
        """Means over the models, and standard deviations of the metrics that a report begins with."""
        del config
        tests = [part.summary["test"] for part in parts]
        return means(
            tests, [name for name in tests[0] if name in self.test_metrics and self.test_metrics[name].headline]
        )

    def extra_combined(self, parts: Sequence[Part]) -> Mapping[str, Any]:
        """Entries of the whole's ``summary.json`` that only this task has."""
        del parts
        return {}

    @abstractmethod
    def combined_sections(self, config: F, parts: Sequence[Part], content: Mapping[str, Any]) -> Sequence[page.Part]:
        """What the report shows of all test results together. content: of the whole's ``summary.json``."""

    def combined_lines(self, content: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """The task's own last lines for several models, after the test metrics."""
        del content
        return ()

    def train(self, config: F) -> None:
        _, first = config.parts(Path())[0] if config.is_several else ("", config)
        if config.dry_run or not config.is_several:
            super().train(first)
            return
        self.prepare(first)  # raises what is wrong now, before a run is begun
        with open_run(self, config) as run, SIGNALS.resumable(run.directory):
            self._extend_whole(config, run)
            self._train_parts(config, run)

    def _extend_whole(self, config: F, run: Run) -> None:
        """Gives a whole run that is resumed more epochs, where there are more; each model's own run follows later.

        Raises UserError where a stop rule ended one of them.
        """
        if config.epochs > read_config(run.directory, self.config).epochs:
            parts = [Run(folder) for folder in config.folders(run.directory)]
            run.extend(config.epochs, sum(map(extendable_step, parts)))

    def _train_parts(self, config: F, run: Run) -> None:
        with compiler.compiled_once():
            parts = [self._train_part(name, options) for name, options in config.parts(run.directory)]
        content = {
            **_combined_summary(config, [part.summary for part in parts], self.combine(config, parts)),
            **self.extra_combined(parts),
        }
        run.finish(content)
        report = page.write(run.directory, self._combined_page(config, parts, content))
        first = next(iter(self.test_metrics))
        each = " ".join(f"{part.summary['test'][first]:.4f}" for part in parts)
        summary.print_summary(
            content,
            report,
            *self.results(content["test"]),
            *self.combined_lines(content),
            (f"{config.part_name} by {config.part_name}", each),
        )

    def _train_part(self, name: str, config: F) -> Part:
        """Trains one model and tests it; or resumes it; or tests again what has been trained already."""
        folder = config.run_dir
        assert folder is not None
        if (folder / "summary.json").is_file() and read_config(folder, self.config).epochs == config.epochs:
            _, data, evaluation = self.tested(folder)
            part = Part(name, folder, data, evaluation, Run.open(folder).summary())
        else:
            outcome = self.fit(_continued(config))
            part = Part(name, folder, outcome.data, outcome.evaluation, outcome.summary)
        (title, value), *_ = self.results(part.summary["test"])
        print(f"{name}  {title} {value}", flush=True)
        return part

    def _combined_page(self, config: F, parts: Sequence[Part], content: Mapping[str, Any]) -> page.Page:
        data, kind = parts[0].data, config.part_name
        table = page.Table(
            f"{kind.capitalize()} by {kind}",
            f"Every {kind} is a run of its own, in a folder of this one.",
            (kind, *(title for title, _ in self.results(content["test"])), "epochs", "seconds"),
            [self._row(part) for part in parts],
        )
        curves = self.learning(Run.open(parts[0].folder).metrics(), config)
        plots = [
            dataclasses.replace(plot, title=f"{plot.title}, {parts[0].name}")
            for plot in curves
            if isinstance(plot, page.Plot)
        ]
        sections = [table, *self.combined_sections(config, parts, content), *plots]
        text = _story(config, parts, self.goal(data))
        return self.report_of(config, data, content, f", {config.description}", text, (), sections)

    def _row(self, part: Part) -> tuple[str, ...]:
        metrics = (value for _, value in self.results(part.summary["test"]))
        number = part.name.split()[-1]
        return (number, *metrics, f"{part.summary['epochs']}", f"{part.summary['train_seconds']:.1f}")

    def evaluate(self, run_directory: Path) -> Mapping[str, float]:
        Run.open(run_directory)
        config = read_config(run_directory, self.config)
        if not config.is_several:
            return super().evaluate(run_directory)
        parts = []
        for name, folder in zip(config.changes(), config.folders(run_directory)):
            _, data, evaluation = self.tested(folder)
            parts.append(Part(name, folder, data, evaluation, {"test": evaluation.metrics}))
        return self.combine(config, parts)

    def trained(self, run_directory: Path) -> TaskModel:
        Run.open(run_directory)
        if (config := read_config(run_directory, self.config)).is_several:
            raise UserError(
                f"{run_directory} is a run of several models ({config.description}); give the folder of one of them, "
                f"as in {config.folders(run_directory)[0]}"
            )
        return super().trained(run_directory)


def _continued(part: F) -> F:
    """The options of a model's run; where it has begun already, those by which it is resumed."""
    assert part.run_dir is not None
    if not (part.run_dir / "config.json").is_file():
        return part
    return dataclasses.replace(part, run_dir=None, resume=part.run_dir)


def _story(config: FoldsConfig, parts: Sequence[Part], goal: str) -> str:
    start = (
        f"{len(parts)} models of the kind {config.model} learned {goal}, each from its own random parameters, with "
        f"{summary.BY[config.gradient]}."
    )
    if config.part_name == "seed":
        return (
            f"{start} They differ only in their seed. Each checkpoint was chosen on the validation examples and is "
            f"tested on the same {len(parts[0].data.test):,} test examples. Results are means over the seeds; the "
            "deviation is the standard deviation among them."
        )
    return (
        f"{start} Each is tested on a fold of the data that it has not seen; its checkpoint was chosen on a share of "
        f"its own training examples. Each of the {sum(len(part.data.test) for part in parts):,} examples is a test "
        "example once. Results are means over the folds; the deviation is the standard deviation among them."
    )


def _combined_summary(
    config: FoldsConfig, summaries: Sequence[Mapping[str, Any]], test: Mapping[str, float]
) -> dict[str, Any]:
    """One summary of all models: the combined test metrics, sums of steps and time, the worst gradient check."""
    sums = {name: sum(content[name] for content in summaries) for name in ("steps", "epochs", "train_seconds")}
    check = max((content["gradient_check"] for content in summaries), key=lambda check: check["max_relative_error"])
    return {
        **summaries[0],
        **sums,
        "stopped_because": f"all {len(summaries)} {config.part_name}s are done",
        "test": dict(test),
        f"{config.part_name}s": [content["test"] for content in summaries],
        "gradient_check": check,
    }
