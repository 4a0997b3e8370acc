"""Cross-validation of a classifier: as many models as there are parts of the data, each tested on its own part."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from pipeline.errors import UserError
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.training.run import Run, read_config
from tasks import conclusion
from tasks.classification import Classification, S, Trained
from tasks.command_line import TaskConfig, command, open_run


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
        """Whether all parts are meant."""
        return self.folds > 0 and self.fold == 0


C = TypeVar("C", bound=FoldsConfig)

CACHE = "jax_compilation_cache_dir"
ALL_PROGRAMS = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
"""Settings by which small programs are kept, too."""


class Part(NamedTuple):
    """What one fold came to. probabilities: of every class for every example of its test split."""

    data: Any
    probabilities: np.ndarray
    summary: Mapping[str, Any]


class CrossValidated(Classification[C, S]):
    """A classifier whose run may be a cross-validation: its folder then holds a run for every part, fold_1 and on."""

    @abstractmethod
    def load(self, config: C) -> Any:
        """As in ``Classification``; with ``--folds``, its part ``config.fold`` is the test split."""

    def train(self, config: C) -> None:
        if not config.is_whole:
            super().train(config)
            return
        self.prepared(dataclasses.replace(config, fold=1))  # complains now, rather than with a run begun
        run = open_run(self, config)
        with compiled_once():
            parts = [self._part(config, run, fold) for fold in range(1, config.folds + 1)]
        self._conclude(config, run, parts)

    def _part(self, config: C, run: Run, fold: int) -> Part:
        """Trains on all but one part and tests on that; or goes on with it, or tests again what is done already."""
        folder = fold_folder(run.directory, fold)
        config = dataclasses.replace(config, fold=fold, run_dir=folder, resume=None)
        if (folder / "summary.json").is_file():
            data, probabilities = self.tested(folder)
            part = Part(data, probabilities, Run.open(folder).summary())
        else:
            if (folder / "config.json").is_file():
                config = dataclasses.replace(config, run_dir=None, resume=folder)
            outcome = self.fitted(config)
            part = Part(outcome.data, outcome.probabilities, outcome.summary)
        print(f"fold {fold} of {config.folds}  test accuracy {part.summary['test']['accuracy']:.4f}", flush=True)
        return part

    def _conclude(self, config: C, run: Run, parts: Sequence[Part]) -> None:
        """Puts together what the folds came to: summary.json, report.html, a few lines."""
        summaries = [part.summary for part in parts]
        summary: dict[str, Any] = {**together(summaries), "test": _means([its["test"] for its in summaries])}
        run.finish(summary)
        test, spread = summary["test"], summary["test"]["accuracy_deviation"]
        name, classes = parts[0].data.name, parts[0].data.classes
        tests = [part.data.test for part in parts]
        pooled = np.concatenate([part.probabilities for part in parts])
        labels = np.concatenate([its.labels for its in tests])
        told = page.Page(
            title=f"{self.title}: {config.model} on {name}, {config.folds}-fold cross-validation",
            headline=conclusion.headline(summary, (f"{test['accuracy']:.2%} ± {spread:.2%}", "test accuracy")),
            summary=(
                f"{config.folds} models of the kind {config.model} learnt {len(classes)} classes, each from "
                f"random parameters and with {conclusion.BY[config.gradient]}. Each is tested on a part of the data "
                "that it has not seen, and chosen among its checkpoints by a share of its own training examples: every "
                f"one of the {len(labels):,} examples is a test example once. The accuracy is the mean over the parts, "
                f"and {spread:.2%} is its standard deviation among them."
            ),
            facts=conclusion.facts(
                config,
                summary,
                ("data", name),
                ("model", config.model),
                ("mean test accuracy", f"{test['accuracy']:.4f}"),
                ("its standard deviation among folds", f"{spread:.4f}"),
                ("mean test macro F1", f"{test['macro_f1']:.4f}"),
            ),
            sections=[
                page.Table(
                    "Fold by fold",
                    "Every fold is a run of its own, in a folder of this one.",
                    ("fold", "test accuracy", "macro F1", "epochs", "seconds"),
                    [_row(fold, its) for fold, its in enumerate(summaries, 1)],
                ),
                *shown.results(labels, pooled, classes),
                self.mistakes(tests, pooled, classes),
                *(
                    dataclasses.replace(plot, title=f"{plot.title}, fold 1")
                    for plot in shown.learning(Run.open(fold_folder(run.directory, 1)).metrics())
                ),
                *shown.gradients(summary["gradient_check"]["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=conclusion.environment(config, summary),
        )
        report = page.write(run.directory, told)
        each = " ".join(f"{its['test']['accuracy']:.4f}" for its in summaries)
        conclusion.tell(
            summary,
            report,
            ("test accuracy", f"{test['accuracy']:.4f} ± {spread:.4f}  (mean and deviation of {config.folds} folds)"),
            ("fold by fold", each),
        )

    def evaluate(self, run: Path) -> Mapping[str, float]:
        config = read_config(run, self.config)
        if not config.is_whole:
            return super().evaluate(run)
        return _means([self.evaluate(fold_folder(run, fold)) for fold in range(1, config.folds + 1)])

    def trained(self, run: Path) -> Trained:
        if (config := read_config(run, self.config)).is_whole:
            raise UserError(
                f"{run} is a cross-validation of {config.folds} models; give the folder of one of them, as in "
                f"{fold_folder(run, 1)}"
            )
        return super().trained(run)


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


def fold_folder(run: Path, fold: int) -> Path:
    return run / f"fold_{fold}"


def _row(fold: int, summary: Mapping[str, Any]) -> tuple[str, ...]:
    test = summary["test"]
    measured = (f"{test['accuracy']:.4f}", f"{test['macro_f1']:.4f}", f"{summary['epochs']}")
    return (str(fold), *measured, f"{summary['train_seconds']:.1f}")


def _means(tests: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the folds, and the standard deviation of the accuracy among them."""
    means = {name: float(np.mean([test[name] for test in tests])) for name in tests[0]}
    return means | {"accuracy_deviation": float(np.std([test["accuracy"] for test in tests], ddof=1))}


def together(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One summary of all folds': sums of what they took, the worst of the gradient checks; the mean is the task's."""
    sums = {name: sum(its[name] for its in summaries) for name in ("steps", "epochs", "train_seconds")}
    check = max((its["gradient_check"] for its in summaries), key=lambda check: check["max_relative_error"])
    return {
        **summaries[0],
        **sums,
        "stopped_because": f"all {len(summaries)} folds are done",
        "folds": [its["test"] for its in summaries],
        "gradient_check": check,
    }
