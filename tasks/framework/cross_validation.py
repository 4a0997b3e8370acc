"""Several models of one kind: one for each part of the data, tested on it (cross-validation), or one for each seed."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from pipeline.errors import UserError
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.training.run import Run, read_config
from tasks.framework import summary as summary_of_run
from tasks.framework.classification import Classification, S, Trained
from tasks.framework.command_line import TaskConfig, command, open_run


@dataclass(frozen=True)
class FoldsConfig(TaskConfig):
    """The options of a task that can be cross-validated."""

    folds: int = 0
    """Parts of a cross-validation, each the test set of a model trained on the others. 0: the data's own test set."""
    fold: int = 0
    """The one part to test on, counted from 1. 0: all of them, one after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1 or self.folds < 0:
            raise UserError(f"--folds is {self.folds}; it must be at least 2, or 0 for none")
        if not 0 <= self.fold <= self.folds:
            raise UserError(f"--fold is {self.fold}; it must be from 0 to --folds, which is {self.folds}")

    @property
    def is_whole(self) -> bool:
        """Whether several models are meant."""
        return self.folds > 0 and self.fold == 0

    @property
    def what(self) -> str:
        """What each of them is called."""
        return "fold"

    def changes(self) -> dict[str, dict[str, int]]:
        """The name of each of them, and the options in which it differs."""
        return {f"fold {fold}": {"fold": fold} for fold in range(1, self.folds + 1)}

    def parts(self: "F", run: Path) -> list[tuple[str, "F"]]:
        """The name of each of them, and its options: those of a run of its own, in a folder of ``run``."""
        return [
            (name, dataclasses.replace(self, **change, run_dir=folder, resume=None))
            for (name, change), folder in zip(self.changes().items(), self.folders(run))
        ]

    def folders(self, run: Path) -> list[Path]:
        """Of each of them in ``run``."""
        return [run / name.replace(" ", "_") for name in self.changes()]


@dataclass(frozen=True)
class SeedsConfig(FoldsConfig):
    """The options of a task that can train a model for each of several seeds, too."""

    seeds: int = 0
    """Models that differ in their seed alone, counted from --seed: how much is chance, and an ensemble. 0: one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds == 1 or self.seeds < 0:
            raise UserError(f"--seeds is {self.seeds}; it must be at least 2, or 0 for one model")
        if self.seeds and self.folds:
            raise UserError(f"--seeds is {self.seeds} and --folds {self.folds}; choose one of them")

    @property
    def is_whole(self) -> bool:
        return self.seeds > 0 or super().is_whole

    @property
    def what(self) -> str:
        return "seed" if self.seeds else super().what

    def changes(self) -> dict[str, dict[str, int]]:
        if not self.seeds:
            return super().changes()
        return {f"seed {seed}": {"seed": seed, "seeds": 0} for seed in range(self.seed, self.seed + self.seeds)}


F = TypeVar("F", bound=FoldsConfig)
C = TypeVar("C", bound=SeedsConfig)

CACHE = "jax_compilation_cache_dir"
ALL_PROGRAMS = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
"""Settings by which small programs are kept, too."""


class Part(NamedTuple):
    """What one model came to.

    folder: of its run; probabilities: of every class for every example of its test split; summary: its run's.
    """

    name: str
    folder: Path
    data: Any
    probabilities: np.ndarray
    summary: Mapping[str, Any]


def ensemble(parts: Sequence[Part]) -> np.ndarray:
    """The mean of the models' probabilities: a deep ensemble (Lakshminarayanan, Pritzel & Blundell 2017)."""
    return np.mean([part.probabilities for part in parts], axis=0)


class CrossValidated(Classification[C, S]):
    """A classifier whose run may be of several models: its folder then holds a run for each, fold_1 or seed_0 and on.

    columns: the metrics that its report shows model by model, by their names in ``test``, with what they are called.
    """

    columns: ClassVar[Mapping[str, str]] = {"accuracy": "test accuracy", "macro_f1": "macro F1"}

    @abstractmethod
    def load(self, config: C) -> Any:
        """As in ``Classification``; with ``--folds``, its part ``config.fold`` is the test split."""

    def together(self, config: C, parts: Sequence[Part]) -> dict[str, float]:
        """What all models' ``test`` come to: the mean of every metric, and the accuracy's standard deviation."""
        del config
        return means([part.summary["test"] for part in parts], ("accuracy",))

    def train(self, config: C) -> None:
        if not config.is_whole:
            super().train(config)
            return
        _, first = config.parts(Path())[0]
        self.prepared(first)  # complains now, rather than with a run begun
        run = open_run(self, config)
        with compiled_once():
            parts = [self._part(name, its) for name, its in config.parts(run.directory)]
        self._conclude(config, run, parts)

    def _part(self, name: str, config: C) -> Part:
        """Trains one model and tests it; or goes on with it, or tests again what is done already."""
        folder = config.run_dir
        assert folder is not None
        if (folder / "summary.json").is_file():
            data, probabilities = self.tested(folder)
            part = Part(name, folder, data, probabilities, Run.open(folder).summary())
        else:
            outcome = self.fitted(continued(config))
            part = Part(name, folder, outcome.data, outcome.probabilities, outcome.summary)
        print(f"{name}  test accuracy {part.summary['test']['accuracy']:.4f}", flush=True)
        return part

    def _conclude(self, config: C, run: Run, parts: Sequence[Part]) -> None:
        """Puts together what the models came to: summary.json, report.html, a few lines."""
        summaries = [part.summary for part in parts]
        summary = together(config, summaries, self.together(config, parts))
        run.finish(summary)
        test, spread = summary["test"], summary["test"]["accuracy_deviation"]
        name, count = parts[0].data.name, len(parts)
        kind = f"{count} seeds" if config.seeds else f"{count}-fold cross-validation"
        told = page.Page(
            title=f"{self.title}: {config.model} on {name}, {kind}",
            headline=summary_of_run.headline(
                summary, (f"{test['accuracy']:.2%} ± {spread:.2%}", "test accuracy"), *self.headline(test)
            ),
            summary=_summary(config, parts, spread),
            facts=summary_of_run.facts(
                config,
                summary,
                ("data", name),
                ("model", config.model),
                *((f"mean {told}", f"{test[metric]:.4f}") for metric, told in self.columns.items()),
                (f"accuracy's deviation among {config.what}s", f"{spread:.4f}"),
            ),
            sections=[
                page.Table(
                    f"{config.what.capitalize()} by {config.what}",
                    f"Every {config.what} is a run of its own, in a folder of this one.",
                    (config.what, *self.columns.values(), "epochs", "seconds"),
                    [self._row(part) for part in parts],
                ),
                *self.pooled(config, parts, test),
                *(
                    dataclasses.replace(plot, title=f"{plot.title}, {parts[0].name}")
                    for plot in shown.learning(Run.open(parts[0].folder).metrics())
                ),
                *shown.gradients(summary["gradient_check"]["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=summary_of_run.environment(config, summary),
        )
        report = page.write(run.directory, told)
        each = " ".join(f"{its['test']['accuracy']:.4f}" for its in summaries)
        summary_of_run.tell(
            summary,
            report,
            (
                "test accuracy",
                f"{test['accuracy']:.4f} ± {spread:.4f}  (mean and deviation of {count} {config.what}s)",
            ),
            *self.more_lines(summary),
            (f"{config.what} by {config.what}", each),
        )

    def more_lines(self, summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """What a task says of its own results when all is done, besides the accuracy."""
        del summary
        return ()

    def pooled(
        self, config: C, parts: Sequence[Part], test: Mapping[str, float]
    ) -> Sequence[page.Plot | page.Table | page.Section]:
        """What the report shows of all test results together. test: what they came to."""
        del config, test
        tests = [part.data.test for part in parts]
        labels = np.concatenate([its.labels for its in tests])
        called = np.concatenate([self.called(part.folder, part.probabilities) for part in parts])
        classes = parts[0].data.classes
        probabilities = np.concatenate([part.probabilities for part in parts])
        return [*shown.results(labels, called, classes), self.mistakes(tests, probabilities, classes)]

    def _row(self, part: Part) -> tuple[str, ...]:
        test = part.summary["test"]
        measured = (f"{test[metric]:.4f}" for metric in self.columns)
        number = part.name.split()[-1]
        return (number, *measured, f"{part.summary['epochs']}", f"{part.summary['train_seconds']:.1f}")

    def evaluate(self, run: Path) -> Mapping[str, float]:
        config = read_config(run, self.config)
        if not config.is_whole:
            return super().evaluate(run)
        return self.together(config, self.members(run, config))

    def members(self, run: Path, config: C) -> list[Part]:
        """The models of a run of several, tested again."""
        parts = []
        for name, its in config.parts(run):
            assert its.run_dir is not None
            data, probabilities = self.tested(its.run_dir)
            test = self.scores(its, its.run_dir, data.test.labels, probabilities)
            parts.append(Part(name, its.run_dir, data, probabilities, {"test": test}))
        return parts

    def trained(self, run: Path) -> Trained:
        if (config := read_config(run, self.config)).is_whole:
            what = f"{config.seeds} seeds" if config.seeds else f"a cross-validation of {config.folds} models"
            raise UserError(f"{run} is a run of {what}; give the folder of one of them, as in {config.folders(run)[0]}")
        return super().trained(run)


def continued(part: F) -> F:
    """The options of a part of a run; where it has begun already, those by which it goes on."""
    assert part.run_dir is not None
    if not (part.run_dir / "config.json").is_file():
        return part
    return dataclasses.replace(part, run_dir=None, resume=part.run_dir)


@contextmanager
def compiled_once() -> Iterator[None]:
    """The folds' programs are the same where their arrays have the same shapes: each is compiled for the first of them.

    They are kept in a folder for the time; where the user has one for all that is compiled, it is that.
    """
    if getattr(jax.config, CACHE):
        yield
        return
    with TemporaryDirectory() as folder:
        settings = {CACHE: folder, **ALL_PROGRAMS}
        before = {name: getattr(jax.config, name) for name in settings}
        try:
            _configure(settings)
            yield
        finally:
            _configure(before)


def _configure(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()  # whether there is a cache is else found out once a process


def _summary(config: SeedsConfig, parts: Sequence[Part], spread: float) -> str:
    classes, count = len(parts[0].data.classes), len(parts)
    learnt = f"{count} models of the kind {config.model} learnt {classes} classes, each from random parameters"
    by = f"with {summary_of_run.BY[config.gradient]}"
    if config.seeds:
        return (
            f"{learnt} of its own and {by}. They differ in their seed alone; each is chosen among its checkpoints by "
            f"the validation examples and tested on the same {len(parts[0].data.test):,} test examples. The accuracy "
            f"is the mean over the seeds, and {spread:.2%} is its standard deviation among them."
        )
    return (
        f"{learnt} and {by}. Each is tested on a part of the data that it has not seen, and chosen among its "
        "checkpoints by a share of its own training examples: every one of the "
        f"{sum(len(part.data.test) for part in parts):,} examples is a test example once. The accuracy is the mean "
        f"over the parts, and {spread:.2%} is its standard deviation among them."
    )


def means(tests: Sequence[Mapping[str, float]], deviating: Sequence[str]) -> dict[str, float]:
    """The mean of every metric over models, and of those named the standard deviation among them."""
    found = {name: float(np.mean([test[name] for test in tests])) for name in tests[0]}
    return found | {f"{name}_deviation": float(np.std([test[name] for test in tests], ddof=1)) for name in deviating}


def together(config: FoldsConfig, summaries: Sequence[Mapping[str, Any]], test: Mapping[str, float]) -> dict[str, Any]:
    """One summary of all models': what was tested, sums of what it took, the worst of the gradient checks."""
    sums = {name: sum(its[name] for its in summaries) for name in ("steps", "epochs", "train_seconds")}
    check = max((its["gradient_check"] for its in summaries), key=lambda check: check["max_relative_error"])
    return {
        **summaries[0],
        **sums,
        "stopped_because": f"all {len(summaries)} {config.what}s are done",
        "test": dict(test),
        f"{config.what}s": [its["test"] for its in summaries],
        "gradient_check": check,
    }
