"""The training loop: steps, epoch after epoch, until a stop rule holds or the epochs are over."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..data.batches import Batch
from ..evaluation.batch_statistics import make_batch_statistics
from ..evaluation.classification import accuracy_metric
from ..evaluation.metrics import Metrics
from ..layers.base import PyTree
from ..layers.objective import Objective
from .checkpoints import Checkpoints
from .config import TrainingConfig
from .gradient_check import make_comparison
from .metric_logger import MetricLogger, PendingStep
from .nonfinite import NonFiniteError, locate
from .optimizer import make_optimizer, make_schedule
from .profiling import FOLDER, Profiler
from .progress import Display
from .run import Run
from .sparse_updates import SparseTable, with_sparse_updates
from .state import TrainState, init_state
from .step import Augment, make_train_step, prepare_batch, split
from .stopping import StopConfig, Stopping
from .tensorboard import Events

if TYPE_CHECKING:
    import optax

_log = logging.getLogger(__name__)

RATES_AT_A_TIME = 2**16


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
    objective: Objective,
    params: PyTree,
    batches: Batches,
    config: TrainingConfig,
    run: Run,
    *,
    steps_per_epoch: int,
    evaluate: Callable[[PyTree], Mapping[str, float]],
    augment: Augment | None = None,
    metrics: Metrics = accuracy_metric,
    statistics_batches: Sequence[Batch] = (),
    tables: tuple[SparseTable, ...] = (),
    stop_requested: Callable[[], bool] = lambda: False,
) -> Result:
    """Trains ``objective`` from ``params``, or resumes from the run's last checkpoint if it has one.

    params: initial parameters, see ``init_params``.
    batches: training batches (inputs, targets), see ``data.train_batches``.
    run: the run whose folder receives metrics.jsonl and the checkpoints.
    steps_per_epoch: number of batches after which an epoch ends.
    evaluate: computes metrics on the validation set, ``params -> {"loss": ..., ...}``; called at the end of each epoch.
    augment, metrics: see ``make_train_step``.
    statistics_batches: training batches for BatchNorm's statistics (see ``make_batch_statistics``); other models need
        none.
    tables: large tables of parameters, of which each step updates only the rows of its batch: see
        ``with_sparse_updates``.
    stop_requested: asked after every step; where it says so, the state is saved and ``Interrupted`` raised.

    Raises NonFiniteError at the first step whose loss, gradient or update is not finite.
    """
    total_steps = config.total_steps(steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, objective, params, total_steps)
    train_step = _compiled_step(objective, optimizer, config, augment, metrics, tables)
    compare = make_comparison(objective, config.seed, augment)
    batch_statistics = make_batch_statistics(objective)
    profiler = Profiler(run.directory / FOLDER, config.profile)
    train_step = profiler.traced(train_step)
    with Checkpoints(run, config.keep) as checkpoints, Events(run, config.tensorboard) as events, profiler:
        first = init_state(params, optimizer, config.average)
        state, stopping, seconds = _resumed(checkpoints, first, batches, config.stop, run)
        step = int(state.step)
        run.rewind(step)
        saved = time.monotonic()
        began = saved - seconds
        with Display(config.epochs, steps_per_epoch, step, config.quiet) as display:
            on_non_finite = partial(_raise_non_finite, objective, config, augment, checkpoints)
            logger = MetricLogger(
                run, display, _learning_rate(config, total_steps), steps_per_epoch, config.log_every, on_non_finite
            )
            while step < total_steps and stopping.reason is None:
                batch = next(batches)
                step += 1
                if config.verify_every and step % config.verify_every == 0:
                    run.log(_comparison(step, compare(state.params, batch, step - 1)))
                    logger.pause()
                state, step_metrics = train_step(state, batch)
                logger.add(PendingStep(step, batch, step_metrics), state)
                epoch, within = divmod(step, steps_per_epoch)
                if within == 0:
                    logger.catch_up(state)
                    evaluated = batch_statistics(state.evaluated, statistics_batches)
                    evaluation = evaluate(evaluated)
                    run.log({"kind": "evaluation", "step": step, "epoch": epoch, "split": "validation", **evaluation})
                    stopping = stopping.after(evaluation)
                    display.epoch(epoch, evaluation, f"{config.stop.metric} {stopping.best:.4g}")
                    if stopping.is_best:
                        checkpoints.save_best(step, evaluated)
                interrupted = stop_requested()
                if within == 0 or interrupted or 0 < config.save_seconds <= time.monotonic() - saved:
                    logger.catch_up(state)
                    saved = time.monotonic()
                    run.sync()
                    events.follow()
                    progress = {"batches": batches.get_state(), "stopping": stopping.state(), "seconds": saved - began}
                    checkpoints.save_last(state, progress)
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


def _compiled_step(
    objective: Objective,
    optimizer: "optax.GradientTransformation",
    config: TrainingConfig,
    augment: Augment | None,
    metrics: Metrics,
    tables: tuple[SparseTable, ...],
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]:
    step = make_train_step(
        objective,
        optimizer,
        config.gradient,
        seed=config.seed,
        accumulate=config.accumulate,
        average=config.average,
        augment=augment,
        metrics=metrics,
    )
    return compiler.jit(with_sparse_updates(step, tables) if tables else step, donate_argnums=0)


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
    checkpoints: Checkpoints, first: TrainState, batches: Batches, config: StopConfig, run: Run
) -> tuple[TrainState, Stopping, float]:
    """The last checkpoint's state, stop rules and seconds of training, with the batches' state restored.

    first: the state to start from if there is no checkpoint.
    """
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
    objective: Objective,
    config: TrainingConfig,
    augment: Augment | None,
    checkpoints: Checkpoints,
    step: PendingStep,
    state: TrainState,
) -> None:
    """Raises NonFiniteError naming the first layer that produced a value that is not finite.

    The step is repeated layer by layer, from the state before it and with the same random numbers.
    """
    batch, context = prepare_batch(jax.tree.map(jnp.asarray, step.batch), config.seed, state.step, augment)
    parts = split(batch, config.accumulate)
    places = (
        locate(objective, state.params, jax.tree.map(itemgetter(i), parts), context.child(i))
        for i in range(config.accumulate)
    )
    place = next(filter(None, places), None)
    loss = float(step.metrics["loss"])
    what = "the loss" if not np.isfinite(loss) else "the gradient or the update"
    checkpoints.wait()
    last = checkpoints.directory / "last"
    is_saved = last.is_dir() and any(last.iterdir())
    checkpoint = f"the last checkpoint before it is in {last}" if is_saved else "there is no checkpoint yet"
    raise NonFiniteError(
        f"{what} of step {step.number} is not finite (loss {loss:.6g}). First not finite: "
        f"{place or 'what the optimiser makes of a finite gradient'}. The step was not applied; {checkpoint}. "
        "Correct the data if they are the cause; else lower --optimizer.learning-rate, or set --optimizer.clip",
        replace(state, finite=jnp.bool(True)),
    )
