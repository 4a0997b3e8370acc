"""The command line of every task: its commands, their options, and how mistakes are reported."""

import argparse
import dataclasses
import glob
import json
import logging
import os
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union, get_type_hints

import jax
import tyro
from tyro.conf import FlagCreatePairsOff, subcommand

from pipeline import compiler
from pipeline.display import visible
from pipeline.errors import UserError, explained
from pipeline.extras import MissingExtra
from pipeline.options import differences, flag
from pipeline.parallel import make_cpu_devices
from pipeline.training.checkpoints import check_run_files
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Interrupted
from pipeline.training.run import Run, read_config
from tasks.framework.answers import Predictions, RunFolder, console, print_answers
from tasks.framework.export import Format
from tasks.framework.signals import SIGNALS
from tasks.framework.summary import WITHOUT_EFFECT
from tasks.framework.task import Task

Model = TypeVar("Model")

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


@dataclass(frozen=True)
class Evaluate:
    """Print the test metrics of a run's best checkpoint."""

    run: RunFolder
    """Folder of the run."""
    json: FlagCreatePairsOff[bool] = False
    """Print the metrics as JSON."""


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
    """Write the trained model to RUN/export."""

    run: RunFolder
    """Folder of the run."""
    format: Format = "jax"
    """What is written: jax (the forward pass, as a portable jax.export artifact for cpu, cuda and tpu) or safetensors
    (the parameters by their paths)."""


def main(task: Task[Any], arguments: Sequence[str] | None = None) -> None:
    """Runs a command line (the process's own by default) and exits: with 2 where the user has to change something."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "train")
    _show_warnings()
    with SIGNALS.watched(f"scripts/run {task.name}"):
        try:
            code = _run(task, arguments)
        except Interrupted:
            print(SIGNALS.farewell(), file=sys.stderr)
            code = SIGNALS.code
        except BrokenPipeError:  # whoever reads the output has seen enough, as in ... | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except (UserError, MissingExtra, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            message = explained(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            code = 2
    sys.exit(code)


def _run(task: Task[Any], arguments: Sequence[str]) -> int:
    command = _parse(task, arguments)
    if isinstance(command, TrainingConfig):
        make_cpu_devices(command.devices)
    _check_device()
    compiler.keep_programs()
    match command:
        case Evaluate(run=run, json=as_json):
            metrics = task.evaluate(run)
            width = max(12, *map(len, metrics))
            print(json.dumps(metrics) if as_json else "\n".join(f"{k:{width}} {v:.4f}" for k, v in metrics.items()))
        case Predictions():
            print_answers(task.predict(command), command)
        case Verify(data=data, model=model, seed=seed):
            recipe = task.recipe(data, **({"model": model} if "model" in task.chooses else {}))
            report = task.verify(dataclasses.replace(recipe, model=model, seed=seed))
            console().print(report.leaf_table(), report)
            return 0 if report.ok else 1
        case Export(run=run, format=kind):
            task.export(run, kind)
        case config:
            task.train(config)
    return 0


class _Warnings(logging.Handler):
    """Shows warnings as errors are shown: one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"warning: {record.getMessage()}", file=sys.stderr)


def _show_warnings() -> None:
    logger = logging.getLogger("pipeline")
    logger.handlers, logger.propagate = [_Warnings(logging.WARNING)], False
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax's own account of what is raised anyway


def _parse(task: Task[Any], arguments: Sequence[str]) -> Any:
    given = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    types = get_type_hints(task.config, include_extras=True)
    for option in ("data", *task.chooses):
        is_flag = types[option] == FlagCreatePairsOff[bool]
        given.add_argument(f"--{flag(option)}", action="store_true" if is_flag else "store")
    arguments = _joined(arguments, [f"--{flag(name)}" for name, kind in types.items() if kind == tuple[str, ...]])
    given.add_argument("--resume", type=Path)
    first = given.parse_known_args(arguments)[0]
    recipe = task.recipe(first.data, **{option: getattr(first, option) for option in task.chooses})
    if arguments[0] == "train" and first.resume:
        check_run_files(Run.open(first.resume))
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
        prog=f"scripts/run {task.name}",
        description=f"{task.title}. Without a command: train.",
        args=arguments,
    )
    if isinstance(command, task.config):
        command = dataclasses.replace(command, data=_absolute(task, command.data))
        if command.resume:
            _check_resumable(command, recipe)
    return command


def _joined(arguments: Sequence[str], options: Container[str]) -> list[str]:
    """Arguments in which an option of any number of values stands once, with all its values: tyro keeps the last one's.

    >>> _joined(["--ignore", "a", "--seed", "1", "--ignore=b"], ["--ignore"])
    ['--ignore', 'a', 'b', '--seed', '1']
    """
    groups: list[list[str]] = [[]]
    for argument in arguments:
        name, mark, value = argument.partition("=")
        if argument.startswith("--"):
            groups.append([name, value] if mark and name in options else [argument])
        else:
            groups[-1].append(argument)
    joined: dict[str, list[str]] = {}
    for i, (name, *values) in enumerate(groups[1:], 1):
        if name in joined:
            joined[name] += values
            groups[i] = []
        elif name in options:
            joined[name] = groups[i]
    return [argument for group in groups for argument in group]


def _absolute(task: Task[Any], data: str) -> str:
    """A path of data (or of their names' beginning) as it is found from any folder; a known name as it is.

    Raises UserError for an empty name, and for an archive.
    """
    if not data.strip():
        raise UserError(f"--data is empty; it must be one of {', '.join(task.known)}, or the path of your data")
    if data.lower().endswith(ARCHIVES) and os.path.isfile(data):
        raise UserError(f"--data {visible(data)} is an archive; unpack it, and give the file or folder that was in it")
    is_path = data not in task.known and (os.path.exists(data) or bool(glob.glob(f"{glob.escape(data)}*")))
    return os.path.abspath(data) if is_path else data


def _check_resumable(config: TrainingConfig, stored: TrainingConfig) -> None:
    changed = dict(differences(config, stored))
    for name in WITHOUT_EFFECT:
        changed.pop(name, None)
    if config.epochs > stored.epochs:  # an extension, which the task makes when it has the data
        del changed["epochs"]
    if changed:
        pairs = ", ".join(f"--{flag(name)} was {old} and is now {new}" for name, (new, old) in changed.items())
        raise UserError(
            f"{config.resume} cannot be resumed with other options than more --epochs: {pairs}. Leave them out, or "
            "start a new run"
        )


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
