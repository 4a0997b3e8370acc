"""The command line of every task: its commands, their options, and how mistakes are reported."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union, get_type_hints

import jax
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, Positional, subcommand

from pipeline import compiler
from pipeline.errors import UserError
from pipeline.options import differences, flag
from pipeline.training.config import TrainingConfig
from pipeline.training.run import read_config
from tasks.framework.summary import WITHOUT_EFFECT
from tasks.framework.task import Task

Model = TypeVar("Model")


@dataclass(frozen=True)
class Evaluate:
    """Print the test metrics of a run's best checkpoint."""

    run: Positional[Path]
    """Folder of the run."""
    json: FlagCreatePairsOff[bool] = False
    """Print the metrics as JSON."""


@dataclass(frozen=True)
class Predictions:
    """The options of every task's ``predict``; a task adds its own."""

    run: Positional[Path]
    """Folder of the run."""


@dataclass(frozen=True)
class Predict(Predictions):
    """Scorer for your own files."""

    inputs: Positional[tuple[Path, ...]]
    """Files, or folders of them."""


@dataclass(frozen=True)
class Verify(Generic[Model]):
    """Compare the manual gradient of every layer of the task's model with autodiff. Exit code 1 where one is wrong."""

    data: str
    """Data set whose examples the model is given."""
    model: Model
    """Kind of model."""
    seed: int = 0
    """Random seed of the parameters and of the split of the data."""


@dataclass(frozen=True)
class Export:
    """Write the trained forward pass to RUN/export, as a portable jax.export artifact for cpu, cuda and tpu."""

    run: Positional[Path]
    """Folder of the run."""


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
        given.add_argument(f"--{flag(option)}")
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


def _check_resumable(config: TrainingConfig, stored: TrainingConfig) -> None:
    changed = dict(differences(config, stored))
    for name in WITHOUT_EFFECT:
        changed.pop(name, None)
    if changed:
        pairs = ", ".join(f"--{flag(name)} was {old} and is now {new}" for name, (new, old) in changed.items())
        raise UserError(
            f"{config.resume} cannot be resumed with other options: {pairs}. Leave them out, or start a new run"
        )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Container[str] = ()) -> None:
    """Prints a table of the user's own texts, which are never taken for markup. numbers: columns aligned right."""
    table = Table()
    for column in columns:
        table.add_column(Text(column), justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)


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
