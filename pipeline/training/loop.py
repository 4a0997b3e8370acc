"""The training loop: steps, epoch after epoch, until a stop rule holds or the epochs are over."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import compiler
from ..data.batches import Batch
from ..evaluation.batch_statistics import make_batch_statistics
from ..evaluation.classification import accuracy_metric
from ..evaluation.metrics import Metrics, no_metrics
from ..layers.base import PyTree
from ..layers.objective import Objective
from ..parallel import Placement
from .arguments import (
    name_of,
    require_callbacks,
    require_count,
    require_evaluation,
    require_folder_for,
    require_metrics,
    require_objective_for,
    require_one_rule,
    require_params,
    require_position_for,
)
from .checkpoints import Checkpoints
from .config import TrainingConfig
from .gradient_check import make_comparison
from .loss_functions import LossFunction, require_loss
from .metric_logger import MetricLogger, PendingStep
from .nonfinite import NonFiniteError, locate, locate_in_step
from .optimizer import for_trained, make_optimizer, make_schedule
from .plain_batches import PlainBatches, pass_length
from .profiling import FOLDER, Profiler
from .progress import Display
from .run import Run
from .sparse_updates import SparseTable, with_sparse_updates
from .state import TrainState, init_state
from .step import Augment, make_train_step, prepare_batch, split
from .stopping import StopConfig, Stopping
from .tensorboard import Events
from .unsaved import Unsaved

if TYPE_CHECKING:
    import optax

_log = logging.getLogger(__name__)

RATES_AT_A_TIME = 2**16

Callback = Callable[[int, TrainState, Mapping[str, Any]], bool | None]
"""Called after each step with its number (from 1), the state after it, and the step's metrics. True stops training.

Metrics are "loss", those of the objective, and "gradient_norm" by layer, on the device: reading one waits for the step.
With callbacks the state's memory is not reused, so a callback may keep it.
"""


@runtime_checkable
class Batches(Protocol):
    """An endless iterator over training batches of one shape, whose state (as JSON) can be saved and restored."""

    def __next__(self) -> Batch: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any, /) -> None: ...


@dataclass(frozen=True)
class Result:
    """The result of training.

    params: the best parameters by the stop rules' metric, as they were evaluated: averaged, with batch statistics.
        Without evaluation, the last ones.
    state: the state after the last step.
    stopped_because: why training ended, as a phrase.
    train_seconds: wall-clock time, with compilation, evaluation and saving, over all parts of a resumed run.
    """

    params: PyTree
    state: TrainState
    steps: int
    epochs: int
    stopped_because: str
    train_seconds: float


class Interrupted(Exception):
    """Training was asked to stop, and its state is saved. step: the last one that was done."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


def fit(
    objective: Objective | LossFunction,
    params: PyTree,
    batches: Batches | Iterable[Any],
    config: TrainingConfig | None = None,
    run: Run | None = None,
    *,
    optimizer: "optax.GradientTransformation | None" = None,
    steps_per_epoch: int | None = None,
    evaluate: Callable[[PyTree], Mapping[str, float]] | None = None,
    callbacks: Sequence[Callback] = (),
    augment: Augment | None = None,
    metrics: Metrics | None = None,
    statistics_batches: Sequence[Batch] = (),
    tables: tuple[SparseTable, ...] = (),
    stop_requested: Callable[[], bool] | None = None,
) -> Result:
    """Trains ``objective`` from ``params``, or resumes from the run's last checkpoint if it has one.

    objective: an Objective, or a function ``(params, batch, context) -> (loss, aux)``, which is differentiated by
        ``jax.value_and_grad``, or ``-> ((loss, aux), d_params)`` with its own gradient; see ``LossFunction``.
    params: initial parameters, a tree of arrays; of an Objective, see ``init_params``.
    batches: a list, a data loader or another iterable of batches, which is begun again as often as epochs need it; its
        position cannot be saved, so the run cannot be resumed. One that can save it: see ``data.train_batches``.
    config: how to train. A function has no use for ``gradient``, which is about an Objective.
    run: the run whose folder receives metrics.jsonl and the checkpoints. None: nothing is written.
    optimizer: any of optax, in place of ``config.optimizer``. A function needs one.
    steps_per_epoch: number of batches after which an epoch ends. None: those in a pass, if ``len(batches)`` is known.
    evaluate: computes metrics on the validation set, ``params -> {"loss": ..., ...}``; called at the end of each epoch.
        None: no evaluation, and the last parameters are the result.
    callbacks: called after each step, see ``Callback``.
    augment, metrics: for an Objective, see ``make_train_step``. metrics: None: accuracy, where targets are classes.
    statistics_batches: training batches for BatchNorm's statistics (see ``make_batch_statistics``); other models need
        none.
    tables: large tables of parameters, of which each step updates only the rows of its batch: see
        ``with_sparse_updates``.
    stop_requested: asked after every step; where it says so, the state is saved and ``Interrupted`` raised. It needs a
        run, and batches that can be resumed.

    Raises NonFiniteError at the first step whose loss, gradient or update is not finite, and ValueError where an
    argument is not of its kind or does not go with another.

    A model of Flax, with a loss of its own:

    >>> import flax.linen as nn, optax
    >>> model, x, y = nn.Dense(1), jnp.ones((8, 3)), jnp.ones((8, 1))
    >>> def loss(params, batch, context):
    ...     outputs = model.apply(params, batch["x"])
    ...     return jnp.square(outputs - batch["y"]).mean(), {"largest": outputs.max()}
    >>> params = model.init(jax.random.key(0), x)
    >>> config = TrainingConfig(epochs=50, quiet=True)
    >>> result = fit(loss, params, [{"x": x, "y": y}], config, optimizer=optax.sgd(0.1))
    >>> result.steps, bool(jnp.allclose(model.apply(result.params, x), y, atol=1e-2))
    (50, True)
    """
    config = config or TrainingConfig()
    is_objective = isinstance(objective, Objective)
    require_loss(objective)
    require_params(params)
    require_one_rule(objective, config, optimizer)
    require_objective_for(
        objective,
        augment=augment,
        metrics=metrics,
        statistics_batches=statistics_batches,
        verify_every=config.verify_every,
    )
    require_evaluation(config, evaluate)
    require_callbacks(callbacks)
    require_folder_for(run, profile=config.profile, tensorboard=config.tensorboard, stop_requested=stop_requested)
    require_position_for(batches, isinstance(batches, Batches), stop_requested=stop_requested)
    steps_per_epoch = pass_length(batches) if steps_per_epoch is None else steps_per_epoch
    require_count(steps_per_epoch=steps_per_epoch)
    total_steps = config.total_steps(steps_per_epoch)
    source = batches if isinstance(batches, Batches) else PlainBatches(batches, total_steps)
    rate = _learning_rate(config, total_steps) if optimizer is None else None
    optimizer = _update_rule(objective, params, config, optimizer, total_steps)
    placement = Placement(config.devices, config.sharding)
    train_step = _compiled_step(objective, optimizer, config, augment, metrics, tables, placement, donate=not callbacks)
    compare = make_comparison(objective, config.seed, augment) if is_objective else None
    batch_statistics = make_batch_statistics(objective) if is_objective else lambda params, _: params
    profiler = Profiler(run.directory / FOLDER if run else Path(), config.profile)
    train_step = profiler.traced(train_step)
    folder = run or Unsaved()
    checkpoints = Checkpoints(run, config.keep) if run else Unsaved()
    with checkpoints, Events(run, config.tensorboard) if run else Unsaved() as events, profiler:
        first = placement.state(init_state(params, optimizer, config.average))
        state, stopping, seconds = _resumed(checkpoints, first, source, config.stop, run)
        step = int(state.step)
        if run:
            run.rewind(step)
        saved = time.monotonic()
        began = saved - seconds
        with Display(config.epochs, steps_per_epoch, step, config.quiet) as display:
            on_non_finite = partial(_raise_non_finite, objective, config, augment, checkpoints)
            shapes: set[Any] = set()
            logger = MetricLogger(folder, display, rate, steps_per_epoch, config.log_every, on_non_finite)
            while step < total_steps and stopping.reason is None:
                batch = placement.batch(next(source))
                step += 1
                if compare and config.verify_every and step % config.verify_every == 0:
                    folder.log(_comparison(step, compare(state.params, batch, step - 1)))
                    logger.pause()
                if (shape := _shapes(batch)) not in shapes:
                    shapes.add(shape)
                    display.compiling(shape[0] if shape else (), len(shapes))
                state, step_metrics = train_step(state, batch)
                logger.add(PendingStep(step, batch, step_metrics), state)
                ends_epoch, reason = step % steps_per_epoch == 0, _reason_to_stop(callbacks, step, state, step_metrics)
                if ends_epoch or reason:
                    logger.catch_up(state)
                    epoch = math.ceil(step / steps_per_epoch)
                    evaluated = batch_statistics(state.evaluated, statistics_batches)
                    evaluation = require_metrics(evaluate(evaluated), config.stop.metric) if evaluate else {}
                    if evaluation:
                        line = {"kind": "evaluation", "step": step, "epoch": epoch, "split": "validation"}
                        folder.log({**line, **evaluation})
                        stopping = stopping.after(evaluation)
                    stopping = replace(stopping, reason=reason or stopping.reason)
                    display.epoch(epoch, evaluation, _best(stopping))
                    if stopping.is_best or not evaluate:
                        checkpoints.save_best(step, evaluated)
                interrupted = stop_requested is not None and stop_requested()
                is_due = 0 < config.save_seconds <= time.monotonic() - saved
                if ends_epoch or reason or interrupted or is_due:
                    logger.catch_up(state)
                    saved = time.monotonic()
                    folder.sync()
                    events.follow()
                    if isinstance(source, Batches):
                        at = {"batches": source.get_state(), "stopping": stopping.state(), "seconds": saved - began}
                        checkpoints.save_last(state, at)
                if interrupted:
                    checkpoints.wait()
                    raise Interrupted(step)
        return Result(
            params=checkpoints.best(params),
            state=state,
            steps=step,
            epochs=step // steps_per_epoch,
            stopped_because=stopping.reason or "epochs over",
            train_seconds=time.monotonic() - began,
        )


def _shapes(batch: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of a batch's arrays: a step is compiled once for each."""
    return tuple(np.shape(leaf) for leaf in jax.tree.leaves(batch))


def _best(stopping: Stopping) -> str:
    """The metric that chooses the checkpoint, with its best value so far."""
    return "" if stopping.best is None else f"{stopping.config.metric} {stopping.best:.4g}"


def _reason_to_stop(
    callbacks: Sequence[Callback], step: int, state: TrainState, metrics: Mapping[str, Any]
) -> str | None:
    """Calls every callback. Returns why training stops, as a phrase, if one returns True."""
    stopping = [name_of(callback) for callback in callbacks if callback(step, state, metrics)]
    return f"stopped by the callback {', '.join(stopping)}" if stopping else None


def _accuracy_of_classes(outputs: PyTree, targets: Any) -> dict[str, Array]:
    """Accuracy, if targets are labels of classes and outputs a score of each; else nothing."""
    labels = getattr(targets, "values", None)
    if not isinstance(labels, jax.Array) or not isinstance(outputs, jax.Array):
        return {}
    are_classes = jnp.issubdtype(labels.dtype, jnp.integer) and outputs.shape[:-1] == labels.shape
    return accuracy_metric(outputs, targets) if are_classes else {}


def _update_rule(
    objective: Objective | LossFunction,
    params: PyTree,
    config: TrainingConfig,
    optimizer: "optax.GradientTransformation | None",
    total_steps: int,
) -> "optax.GradientTransformation":
    """``optimizer``, or the config's where it is None, for the parameters that are no statistics."""
    if not isinstance(objective, Objective):
        assert optimizer is not None  # require_one_rule has seen to it
        return optimizer
    if optimizer is None:
        return make_optimizer(config.optimizer, objective, params, total_steps)
    return for_trained(optimizer, objective, params)


def _compiled_step(
    objective: Objective | LossFunction,
    optimizer: "optax.GradientTransformation",
    config: TrainingConfig,
    augment: Augment | None,
    metrics: Metrics | None,
    tables: tuple[SparseTable, ...],
    placement: Placement,
    donate: bool,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]:
    step = make_train_step(
        objective,
        optimizer,
        config.gradient,
        seed=config.seed,
        accumulate=config.accumulate,
        average=config.average,
        augment=augment,
        metrics=metrics or (_accuracy_of_classes if isinstance(objective, Objective) else no_metrics),
    )
    step = with_sparse_updates(step, tables) if tables else step

    def placed_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        state, step_metrics = step(state, batch)
        return placement.constrain(state), step_metrics

    return compiler.jit(placed_step, donate_argnums=0 if donate else ())


def _learning_rate(config: TrainingConfig, total_steps: int) -> Callable[[int], float]:
    """The learning rate of a step, counted from 1.

    Rates are computed for many steps at a time: the device then seldom waits for it, and a long run fits into memory.
    """
    rates = compiler.jit_once(jax.vmap(make_schedule(config.optimizer, total_steps)))

    @lru_cache(maxsize=1)
    def block(number: int) -> np.ndarray:
        steps = np.arange(number * RATES_AT_A_TIME, (number + 1) * RATES_AT_A_TIME)
        return np.asarray(rates(np.minimum(steps, total_steps - 1).astype(np.int32)))

    def rate(step: int) -> float:
        number, place = divmod(step - 1, RATES_AT_A_TIME)
        return float(block(number)[place])

    return rate


def _resumed(
    checkpoints: Checkpoints | Unsaved,
    first: TrainState,
    batches: Batches | PlainBatches,
    config: StopConfig,
    run: Run | None,
) -> tuple[TrainState, Stopping, float]:
    """The last checkpoint's state, stop rules and seconds of training, with the batches' state restored.

    first: the state to start from if there is no checkpoint.
    """
    if run is None or isinstance(checkpoints, Unsaved):
        return first, Stopping(config), 0.0
    if isinstance(batches, PlainBatches):
        if run.metrics():
            raise ValueError(
                f"{run.directory} holds a training already, and batches is {batches}, which cannot resume it; give a "
                "new run, or data.train_batches"
            )
        _log.warning("batches is %s, whose position cannot be saved: %s cannot be resumed", batches, run.directory)
        return first, Stopping(config), 0.0
    last = checkpoints.resume(first)
    if last is None:
        if run.metrics():
            _log.warning("%s has no checkpoint in checkpoints/last: training begins anew", run.directory)
        return first, Stopping(config), 0.0
    batches.set_state(last.progress["batches"])
    return last.state, Stopping(config, **last.progress["stopping"]), last.progress["seconds"]


def _comparison(step: int, errors: dict[str, float]) -> dict[str, Any]:
    return {
        "kind": "gradient_check",
        "step": step,
        "max_relative_error": max(errors.values()),
        "relative_error": errors,
    }


def _raise_non_finite(
    objective: Objective | LossFunction,
    config: TrainingConfig,
    augment: Augment | None,
    checkpoints: Checkpoints | Unsaved,
    step: PendingStep,
    state: TrainState,
) -> None:
    """Raises NonFiniteError naming the first layer that produced a value that is not finite.

    The step is repeated layer by layer, from the state before it and with the same random numbers. Of a function, whose
    layers are not known, it is the first array that is not finite, of the batch or of the gradient.
    """
    if isinstance(objective, Objective):
        place = _place(objective, config, augment, step, state)
        remedy = "lower --optimizer.learning-rate, or set --optimizer.clip"
    else:
        place = locate_in_step(step.batch, step.metrics)
        remedy = "lower the optimizer's learning rate, or clip its gradient (optax.clip_by_global_norm)"
    loss = float(step.metrics["loss"])
    what = "the loss" if not np.isfinite(loss) else "the gradient or the update"
    raise NonFiniteError(
        f"{what} of step {step.number} is not finite (loss {loss:.6g}). First not finite: "
        f"{place or 'what the optimiser makes of a finite gradient'}. The step was not applied; "
        f"{_last_checkpoint(checkpoints)}. Correct the data if they are the cause; else {remedy}",
        replace(state, finite=jnp.bool(True)),
    )


def _last_checkpoint(checkpoints: Checkpoints | Unsaved) -> str:
    """Where the last checkpoint is, in words."""
    if isinstance(checkpoints, Unsaved):
        return "there is no checkpoint, since run is None"
    checkpoints.wait()
    last = checkpoints.directory / "last"
    is_saved = last.is_dir() and any(last.iterdir())
    return f"the last checkpoint before it is in {last}" if is_saved else "there is no checkpoint yet"


def _place(
    objective: Objective, config: TrainingConfig, augment: Augment | None, step: PendingStep, state: TrainState
) -> str | None:
    """The first value of a step that is not finite, in words."""
    batch, context = prepare_batch(jax.tree.map(jnp.asarray, step.batch), config.seed, state.step, augment)
    parts = split(batch, config.accumulate)
    places = (
        locate(objective, state.params, jax.tree.map(itemgetter(i), parts), context.child(i))
        for i in range(config.accumulate)
    )
    return next(filter(None, places), None)
