"""What every task's command line shares: commands, defaults, the folder of a run, and how mistakes are told."""

import argparse
import dataclasses
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, get_type_hints

import jax
import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, subcommand

from pipeline import compiler
from pipeline.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.run import Run, read_config
from pipeline.verify import Report


@dataclass(frozen=True)
class TaskConfig(TrainingConfig):
    """The options of ``train`` that every task has; a task narrows ``model`` to a Literal, and adds its own."""

    data: str = ""
    """A known data set, or the path to your own."""
    model: str = ""
    """The kind of model."""


Config = TypeVar("Config", bound=TaskConfig)
Model = TypeVar("Model")


@dataclass(frozen=True)
class Evaluate:
    """The test metrics of a run's best checkpoint."""

    run: Positional[Path]
    """The run's folder."""
    json: FlagCreatePairsOff[bool] = False
    """Prints them as JSON."""


@dataclass(frozen=True)
class Predictions:
    """What every task's ``predict`` is given; a task adds its own."""

    run: Positional[Path]
    """The run's folder."""


@dataclass(frozen=True)
class Predict(Predictions):
    """Scorer for your own files."""

    inputs: Positional[tuple[Path, ...]]
    """Files, or folders of them."""


@dataclass(frozen=True)
class Verify(Generic[Model]):
    """Every gradient of the task's model, layer by layer, by hand against autodiff. Exits with 1 where one is wrong."""

    data: str
    """The data set whose examples the model is given."""
    model: Model
    """The kind of model."""
    seed: int = 0
    """Of the parameters and of what is held out of the data."""


@dataclass(frozen=True)
class Export:
    """The trained forward pass as a portable jax.export artifact for cpu, cuda and tpu, in RUN/export."""

    run: Positional[Path]
    """The run's folder."""


class Task(ABC, Generic[Config]):
    """What a task's commands do. ``main`` runs them.

    name: of the module in ``tasks``; title: for people; config, predictions: the classes of ``train``'s and
    ``predict``'s options; chooses: options that, like ``--data``, choose among the recipes.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config: type[Config]
    predictions: type[Predictions] = Predict
    chooses: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recipe(self, data: str | None) -> Config:
        """The defaults of ``train`` for this data set, or for the task's own one.

        A task whose other options choose too takes them as keywords, each a string, or None where it is not given.
        """

    @abstractmethod
    def train(self, config: Config) -> None: ...

    @abstractmethod
    def evaluate(self, run: Path) -> Mapping[str, float]: ...

    @abstractmethod
    def predict(self, command: Any) -> None:
        """Scorer. command: of the class ``predictions``."""

    @abstractmethod
    def verify(self, config: Config) -> Report: ...

    @abstractmethod
    def export(self, run: Path) -> None: ...


def main(task: Task[Any], arguments: Sequence[str] | None = None) -> None:
    """Runs a command line (the process's own by default) and exits: with 2 where the user has to change something."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "train")
    try:
        sys.exit(_run(task, arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _run(task: Task[Any], arguments: Sequence[str]) -> int:
    command = _parse(task, arguments)
    _check_device()
    match command:
        case Evaluate(run=run, json=as_json):
            metrics = task.evaluate(run)
            width = max(12, *map(len, metrics))
            print(json.dumps(metrics) if as_json else "\n".join(f"{k:{width}} {v:.4f}" for k, v in metrics.items()))
        case Predictions():
            task.predict(command)
        case Verify(data=data, model=model, seed=seed):
            recipe = task.recipe(data, **({"model": model} if "model" in task.chooses else {}))
            report = task.verify(dataclasses.replace(recipe, model=model, seed=seed))
            console().print(report.leaf_table(), report)
            return 0 if report.ok else 1
        case Export(run=run):
            task.export(run)
        case config:
            task.train(config)
    return 0


def _parse(task: Task[Any], arguments: Sequence[str]) -> Any:
    given = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("data", *task.chooses):
        given.add_argument(f"--{_flag(option)}")
    given.add_argument("--resume", type=Path)
    first = given.parse_known_args(arguments)[0]
    recipe = task.recipe(first.data, **{option: getattr(first, option) for option in task.chooses})
    if arguments[0] == "train" and first.resume:
        recipe = dataclasses.replace(read_config(first.resume, task.config), run_dir=None, resume=None)
    model = get_type_hints(task.config)["model"]
    commands = {
        "train": (task.config, recipe),
        "evaluate": (Evaluate, None),
        "predict": (task.predictions, None),
        "verify": (Verify[model], Verify(recipe.data, recipe.model)),
        "export": (Export, None),
    }
    choices: Any = tuple(
        Annotated[kind, subcommand(name, **({"default": default} if default else {}))]
        for name, (kind, default) in commands.items()
    )
    command = tyro.cli(
        Union[choices],  # pyright: ignore[reportArgumentType, reportCallIssue]  # noqa: UP007  (made at run time)
        prog=f"python -m tasks.{task.name}",
        description=f"{task.title}. Without a command: train.",
        args=arguments,
    )
    if isinstance(command, task.config) and command.resume:
        _check_resumable(command, recipe)
    return command


FREE = ("resume", "quiet", "verify_every", "log_every", "save_seconds")


def _check_resumable(config: TrainingConfig, stored: TrainingConfig) -> None:
    changed = dict(_differences(config, stored))
    for name in FREE:
        changed.pop(name, None)
    if changed:
        pairs = ", ".join(f"--{_flag(name)} was {old} and is now {new}" for name, (new, old) in changed.items())
        raise UserError(
            f"{config.resume} cannot be resumed with other options: {pairs}. Leave them out, or start a new run"
        )


def _differences(config: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The options in which two configurations of one class differ, by their dotted names, with both values."""
    for entry in dataclasses.fields(config):
        mine, its = getattr(config, entry.name), getattr(other, entry.name)
        if dataclasses.is_dataclass(mine) and type(mine) is type(its):
            yield from _differences(mine, its, f"{prefix}{entry.name}.")
        elif mine != its:
            yield prefix + entry.name, (mine, its)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def command(task: Task[Any], config: Any) -> str:
    """The command that repeats a run: the options that are not the recipe's own."""
    parts = ["scripts/run", task.name]
    chosen = {}
    for name in ("data", *task.chooses):
        value = getattr(config, name)
        if value != getattr(task.recipe(**({"data": None} | chosen)), name):
            parts += [f"--{_flag(name)}", str(value)]
        chosen[name] = value
    for name, (value, _) in _differences(config, task.recipe(**chosen)):
        if name in ("run_dir", *FREE):
            continue
        if isinstance(value, bool):
            path, _, last = _flag(name).rpartition(".")
            parts.append(f"--{path}{'.' if path else ''}{'' if value else 'no-'}{last}")
        elif isinstance(value, tuple):
            parts += [f"--{_flag(name)}", *map(str, value)]
        else:
            parts += [f"--{_flag(name)}", str(value)]
    return " ".join(parts)


def open_run(task: Task[Any], config: Any) -> Run:
    """The folder of a run that begins, or of the one that is resumed."""
    if config.resume:
        return Run.open(config.resume)
    when = datetime.now().strftime("%Y%m%d-%H%M%S")
    directory = config.run_dir or Path("runs") / f"{task.name}-{Path(config.data).stem}-{when}"
    return Run.create(directory, task.name, config)


def console() -> Console:
    """For tables on standard output: as wide as the terminal, or as wide as they need to be in a file."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def _check_device() -> None:
    """Raises UserError where the device is not there, or its compiler is known to be wrong."""
    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"the device that JAX_PLATFORMS={asked} asks for is not here or not usable ({error}); unset JAX_PLATFORMS "
            "to use what is here, or set it to cpu"
        ) from error
    compiler.options()
