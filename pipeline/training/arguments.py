"""Checks of what ``fit`` is given: each error names the argument, says what it is, and what is needed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..layers.base import PyTree
from ..layers.objective import Objective
from .config import TrainingConfig
from .optimizer import OptimizerConfig, require_optimizer
from .stopping import StopConfig


def require_params(params: PyTree) -> None:
    """Raises ValueError if a leaf is no array, or if there is none."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError("params holds no array; give the initial parameters of the model")
    for path, leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray):
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"params holds a {type(leaf).__name__} at {place or 'its root'}; every leaf must be an array (of an "
                "Equinox model, give equinox.partition's first half)"
            )


def require_one_rule(objective: Any, config: TrainingConfig, optimizer: Any) -> None:
    """Raises ValueError unless there is one update rule: ``optimizer``, or ``config.optimizer`` of an Objective."""
    if optimizer is None:
        if not isinstance(objective, Objective):
            raise ValueError("optimizer is None; a function as objective needs one, as in optimizer=optax.adam(1e-3)")
        return
    require_optimizer(optimizer)
    if config.optimizer != OptimizerConfig():
        raise ValueError("optimizer and config.optimizer are both given; choose one of them")


def require_objective_for(objective: Any, **options: Any) -> None:
    """Raises ValueError if options are given that only an Objective has, and ``objective`` is a function."""
    given = [name for name, value in options.items() if value]
    if given and not isinstance(objective, Objective):
        raise ValueError(
            f"{', '.join(given)} can be given for an Objective only, and objective is a {type(objective).__name__}; "
            "leave it out"
        )


def require_evaluation(config: TrainingConfig, evaluate: Any) -> None:
    """Raises ValueError if there are stop rules, and no evaluation that they could judge."""
    if evaluate is None and config.stop != StopConfig():
        raise ValueError(f"evaluate is None, and config.stop ({config.stop}) needs validation metrics; give evaluate")


def require_folder_for(run: Any, **options: Any) -> None:
    """Raises ValueError if options are given that write into a run's folder, and there is none."""
    given = [name for name, value in options.items() if value]
    if given and run is None:
        raise ValueError(f"{', '.join(given)} is given, but run is None; give a run, whose folder receives the result")


def require_position_for(batches: Any, is_resumable: bool, **options: Any) -> None:
    """Raises ValueError if batches are no iterable, or have no position for the options that save it."""
    kind = type(batches).__name__
    if not is_resumable and not isinstance(batches, Iterable):
        raise ValueError(f"batches is a {kind}; it must be an iterable of batches, such as a list or a data loader")
    given = [name for name, value in options.items() if value]
    if given and not is_resumable:
        raise ValueError(
            f"{', '.join(given)} is given, but batches is a {kind}, whose position cannot be saved; give "
            "data.train_batches, or stop with a callback"
        )


def require_count(**counts: int) -> None:
    """Raises ValueError if a number is less than 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1")


def require_metrics(evaluation: Any, stop_metric: str) -> Mapping[str, float]:
    """The metrics of an evaluation. Raises ValueError if they are no dict of numbers, or lack the stop rules' one."""
    if not isinstance(evaluation, Mapping) or not evaluation:
        kind = type(evaluation).__name__
        raise ValueError(f'evaluate returned a {kind}; it must return a dict of numbers, such as {{"loss": 0.5}}')
    if stop_metric not in evaluation:
        names = ", ".join(map(str, evaluation))
        raise ValueError(
            f"evaluate returned {names}, but config.stop.metric is {stop_metric!r}, which chooses the best parameters; "
            f'return it, too, or name another, as in TrainingConfig(stop=StopConfig(metric="{next(iter(evaluation))}"))'
        )
    return {name: float(value) for name, value in evaluation.items()}


def require_callbacks(callbacks: Sequence[Any]) -> None:
    """Raises ValueError if a callback cannot be called."""
    for callback in callbacks:
        if not callable(callback):
            raise ValueError(
                f"callbacks holds a {type(callback).__name__}; each must be a function (step, state, metrics)"
            )


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, or of the class of what is called like one."""
    return getattr(function, "__name__", type(function).__name__)
