"""What every task says when a run is over: its summary, and what its report and its last lines have in common."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from pipeline.layers.base import PyTree
from pipeline.training.loop import Result
from tasks.framework.command_line import Task, TaskConfig

BY = {
    "manual": "the gradient written by hand, layer by layer",
    "autodiff": "the gradient that jax.grad derives",
    "attached": "jax.grad through the hand-written rules of its layers",
}
"""Who differentiated, in a report's words."""


def count(params: PyTree) -> int:
    """How many numbers a model has."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def sizes(data: Any) -> str:
    """How many examples each split has."""
    return ", ".join(f"{len(getattr(data, part)):,} {part}" for part in ("train", "validation", "test"))


def summary(
    task: Task[Any], config: TaskConfig, result: Result, test: Mapping[str, float], check: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``summary.json`` says. test: the metrics of the test set; check: of ``gradient_check``."""
    return {
        "task": task.name,
        "data": config.data,
        "model": config.model,
        "gradient": config.gradient,
        "precision": config.precision,
        "seed": config.seed,
        "parameters": count(result.params),
        "steps": result.steps,
        "epochs": result.epochs,
        "stopped_because": result.stopped_because,
        "train_seconds": round(result.train_seconds, 3),
        "test": dict(test),
        "gradient_check": check,
        "device": jax.devices()[0].device_kind,
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("jax", "jaxlib", "optax")},
    }


def headline(summary: Mapping[str, Any], *first: tuple[str, str]) -> list[tuple[str, str]]:
    """The few numbers that matter, after the task's own."""
    return [
        *first,
        (f"{summary['gradient_check']['max_relative_error']:.1e}", "largest difference from autodiff"),
        (f"{summary['train_seconds']:.1f} s", "training"),
        (f"{summary['parameters']:,}", "parameters"),
    ]


def facts(config: TaskConfig, summary: Mapping[str, Any], *first: tuple[str, str]) -> list[tuple[str, str]]:
    """Everything else about a run, after the task's own."""
    check, optimizer = summary["gradient_check"], config.optimizer
    return [
        *first,
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
    ]


def environment(config: TaskConfig, summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return [("seed", str(config.seed)), ("device", summary["device"]), *summary["versions"].items()]


def tell(summary: Mapping[str, Any], report: Path, *first: tuple[str, str]) -> None:
    """Prints a run's last lines: the task's own results, then what every run ends with."""
    check = summary["gradient_check"]
    lines = [
        *first,
        ("training", f"{summary['train_seconds']:.1f} s, {summary['epochs']} epochs: {summary['stopped_because']}"),
        (
            "gradients",
            f"within {check['max_relative_error']:.1e} of autodiff in float64 ({check['leaves']} leaves, worst "
            f"{check['worst_leaf']})",
        ),
        ("report", str(report)),
    ]
    print("\n".join(f"{name:<15} {value}" for name, value in lines))
