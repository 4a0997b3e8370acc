"""What a run says of itself: summary, last lines, the parts of every report, and the command that repeats it."""

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from pipeline import compiler
from pipeline.display import visible_lines
from pipeline.layers.base import PyTree
from pipeline.options import differences, flag
from pipeline.training.loop import Result
from pipeline.training.optimizer import OptimizerConfig, make_schedule
from pipeline.training.profiling import FOLDER
from pipeline.training.tensorboard import EVENTS

if TYPE_CHECKING:
    from pipeline.training.config import TaskConfig
    from tasks.framework.task import Task

# How the gradient was computed, in a report's words.
BY = {
    "manual": "the manual gradient of each layer",
    "autodiff": "the gradient that jax.grad derives",
    "attached": "jax.grad through the manual gradients of its layers",
}

WITHOUT_EFFECT = (
    "resume",
    "quiet",
    "verify_every",
    "log_every",
    "save_seconds",
    "keep",
    "profile",
    "tensorboard",
    "dry_run",
    "devices",
    "sharding",
)
"""Options that change neither the parameters nor the result of a run (devices: but for the order in which they sum), so
that a resumed run may change them."""


def parameter_count(params: PyTree) -> int:
    """The number of trainable numbers in ``params``."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def split_sizes(data: Any) -> str:
    """How many examples each split has: "1,213 train, 135 validation, 449 test"."""
    return ", ".join(f"{len(getattr(data, part)):,} {part}" for part in ("train", "validation", "test"))


def run_summary(
    task: "Task[Any]", config: "TaskConfig", result: Result, test: Mapping[str, float], check: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``summary.json``. test: metrics of the test set; check: the result of ``gradient_check``."""
    return {
        "task": task.name,
        "data": config.data,
        "model": config.model,
        "gradient": config.gradient,
        "precision": config.precision,
        "seed": config.seed,
        "parameters": parameter_count(result.params),
        "steps": result.steps,
        "epochs": result.epochs,
        "stopped_because": result.stopped_because,
        "train_seconds": round(result.train_seconds, 3),
        "test": dict(test),
        "gradient_check": check,
        "device": jax.devices()[0].device_kind,
        "cores": cores(),
        "compiler_options": compiler.options(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("jax", "jaxlib", "optax")},
    }


def extension(config: OptimizerConfig, step: int, old_steps: int, new_steps: int) -> str:
    """What more epochs do to the learning rate after ``step`` steps. old_steps, new_steps: of all epochs."""
    old = np.asarray(make_schedule(config, old_steps)(max(step - 1, 0))).item()
    new = np.asarray(make_schedule(config, new_steps)(step)).item()
    rate = f"stays {new:.3g}" if old == new else f"goes from {old:.3g} to {new:.3g}"
    return (
        f"extended from {old_steps:,} to {new_steps:,} steps, which the schedule ({config.schedule}) spans: after step "
        f"{step:,} the learning rate {rate}"
    )


def cores() -> int:
    """The processor cores that this process may use: sums are split among them, and so rounded differently."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def counted(count: int, what: str) -> str:
    """How many there are of something, in words: "1 epoch", "2 epochs"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few numbers that every report begins with, after the task's own."""
    return [
        (f"{summary['gradient_check']['max_relative_error']:.2g}", "largest difference from autodiff"),
        (f"{summary['train_seconds']:.1f} s", "training"),
        (f"{summary['parameters']:,}", "parameters"),
    ]


def facts(config: "TaskConfig", summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything else about a run, after the task's own facts."""
    check, optimizer = summary["gradient_check"], config.optimizer
    return [
        ("gradient", config.gradient),
        ("epochs", str(summary["epochs"])),
        ("steps", f"{summary['steps']:,}"),
        ("batch size", str(config.batch_size)),
        ("optimiser", optimizer.name),
        ("learning rate", f"{optimizer.learning_rate:g}, {optimizer.schedule}"),
        ("weight decay", f"{optimizer.weight_decay:g}"),
        ("precision", config.precision),
        ("leaves checked", str(check["leaves"])),
        ("worst leaf", check["worst_leaf"]),
        *(("extended", _extended(extension)) for extension in summary.get("extensions", ())),
    ]


def _extended(extension: Mapping[str, Any]) -> str:
    return f"from {extension['old_epochs']} to {extension['new_epochs']} epochs after step {extension['step']:,}"


def environment(config: "TaskConfig", summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Seed, device and versions."""
    device = [("device", summary["device"]), ("processor cores", str(summary["cores"]))]
    return [("seed", str(config.seed)), *device, *summary["versions"].items()]


def print_summary(summary: Mapping[str, Any], report: Path, *results: tuple[str, str]) -> None:
    """Prints the last lines of a run: the task's own results, then what every run ends with."""
    check = summary["gradient_check"]
    lines = [
        *results,
        (
            "training",
            f"{summary['train_seconds']:.1f} s, {counted(summary['epochs'], 'epoch')}: {summary['stopped_because']}",
        ),
        (
            "gradients",
            f"within {check['max_relative_error']:.1e} of autodiff in float64 ({check['leaves']} leaves, worst "
            f"{check['worst_leaf']})",
        ),
        ("report", str(report)),
        *_opened(report.parent),
    ]
    width = max(15, *(len(name) for name, _ in lines))
    print(visible_lines("\n".join(f"{name:<{width}} {value}" for name, value in lines)))


def _opened(run_directory: Path) -> list[tuple[str, str]]:
    """How to open the traces and events of a run, or of the runs inside it."""
    trace = "open its perfetto_trace.json.gz on ui.perfetto.dev, or: pip install xprof; xprof"
    return [
        (name, f"{how} --logdir {shlex.quote(str(folder))}")
        for name, how in ((FOLDER, trace), (EVENTS, "pip install tensorboard; tensorboard"))
        for pattern in (name, f"*/{name}")
        for folder in sorted(run_directory.glob(pattern))
    ]


def command(task: "Task[Any]", config: Any) -> str:
    """The command that repeats a run, with the options that differ from the recipe's."""
    parts = ["scripts/run", task.name]
    chosen = {}
    for name in ("data", *task.chooses):
        value = getattr(config, name)
        if value != getattr(task.recipe(**({"data": None} | chosen)), name):
            parts += [f"--{flag(name)}", *(() if value is True else (str(value),))]
        chosen[name] = value
    for name, (value, _) in differences(config, task.recipe(**chosen)):
        if name in ("run_dir", *chosen, *WITHOUT_EFFECT):
            continue
        if isinstance(value, bool):
            path, _, last = flag(name).rpartition(".")
            parts.append(f"--{path}{'.' if path else ''}{'' if value else 'no-'}{last}")
        elif isinstance(value, tuple):
            parts += [f"--{flag(name)}", *map(str, value)]
        else:
            parts += [f"--{flag(name)}", str(value)]
    return shlex.join(parts)
