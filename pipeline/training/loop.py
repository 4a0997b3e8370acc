"""Training: the five steps of backpropagation, epoch after epoch, until a stop rule holds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.data.batches import Batch
from pipeline.evaluation.batch_statistics import make_batch_statistics
from pipeline.evaluation.metrics import Metrics, accuracy_metric
from pipeline.layers.base import PyTree
from pipeline.layers.objective import Objective
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.config import TrainingConfig
from pipeline.training.gradient_check import make_comparison
from pipeline.training.metric_logger import MetricLogger, PendingStep
from pipeline.training.nonfinite import NonFiniteError, locate
from pipeline.training.optimizer import make_optimizer, make_schedule
from pipeline.training.progress import Display
from pipeline.training.run import Run
from pipeline.training.sparse_updates import SparseTable, with_sparse_updates
from pipeline.training.state import TrainState, init_state
from pipeline.training.step import Augment, make_train_step, prepare_batch, split
from pipeline.training.stopping import StopConfig, Stopping

if TYPE_CHECKING:
    import optax


@runtime_checkable
class Batches(Protocol):
    """Training batches without end, of one shape, that can say where they stand (as JSON) and go on from there."""

    def __next__(self) -> Batch: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any, /) -> None: ...


@dataclass(frozen=True)
class Result:
    """What training came to.

    params: the best ones by the stop rules' metric, averaged and calibrated as they were judged.
    state: as it was after the last step.
    train_seconds: with compilation, evaluation and saving, over all parts of a resumed run.
    """

    params: PyTree
    state: TrainState
    steps: int
    epochs: int
    stopped_because: str
    train_seconds: float


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
) -> Result:
    """Trains ``objective`` from ``params``, or goes on from the run's last checkpoint where there is one.

    batches: training batches (inputs, targets).
    run: its folder gets metrics.jsonl and the checkpoints.
    evaluate: judges parameters on the validation set: ``params -> {"loss": ..., ...}``; called where an epoch ends.
    augment, metrics: see ``make_train_step``.
    statistics_batches: a few training batches for BatchNorm's statistics; other models need none.
    tables: large ones, of which a step touches the rows of its batch alone; see ``with_sparse_updates`` for what that changes.

    Raises NonFiniteError at the first step whose loss, gradient or update is not finite.
    """
    total_steps = config.epochs * steps_per_epoch
    optimizer = make_optimizer(config.optimizer, objective, params, total_steps)
    train_step = _compiled_step(objective, optimizer, config, augment, metrics, tables)
    compare = make_comparison(objective, config.seed, augment)
    calibrate = make_batch_statistics(objective)
    with Checkpoints(run.checkpoints) as checkpoints:
        state, stopping, seconds = _resumed(
            checkpoints, init_state(params, optimizer, config.average), batches, config.stop
        )
        step = int(state.step)
        run.rewind(step)
        saved = time.monotonic()
        began = saved - seconds
        with Display(config.epochs, steps_per_epoch, step, config.quiet) as display:
            stop = partial(_stop, objective, config, augment, run)
            journal = MetricLogger(
                run, display, _learning_rates(config, total_steps), steps_per_epoch, config.log_every, stop
            )
            while step < total_steps and stopping.because is None:
                batch = next(batches)
                step += 1
                if config.verify_every and step % config.verify_every == 0:
                    run.log(_comparison(step, compare(state.params, batch, step - 1)))
                    journal.pause()
                state, measured = train_step(state, batch)
                journal.add(PendingStep(step, batch, measured), state)
                epoch, within = divmod(step, steps_per_epoch)
                if within == 0:
                    journal.catch_up(state)
                    judged = calibrate(state.evaluated, statistics_batches)
                    evaluation = evaluate(judged)
                    run.log({"kind": "evaluation", "step": step, "epoch": epoch, "split": "validation", **evaluation})
                    display.epoch(epoch, evaluation)
                    stopping = stopping.after(evaluation)
                    if stopping.is_best:
                        checkpoints.save_best(step, judged)
                if within == 0 or 0 < config.save_seconds <= time.monotonic() - saved:
                    journal.catch_up(state)
                    saved = time.monotonic()
                    progress = {"batches": batches.get_state(), "stopping": stopping.saved(), "seconds": saved - began}
                    checkpoints.save_last(state, progress)
        return Result(
            params=checkpoints.best(params),
            state=state,
            steps=step,
            epochs=step // steps_per_epoch,
            stopped_because=stopping.because or "epochs over",
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


def _learning_rates(config: TrainingConfig, total_steps: int) -> np.ndarray:
    """Of every step of the run."""
    rates = compiler.jit_once(jax.vmap(make_schedule(config.optimizer, total_steps)))
    return np.asarray(rates(jnp.arange(total_steps)))


def _resumed(
    checkpoints: Checkpoints, first: TrainState, batches: Batches, config: StopConfig
) -> tuple[TrainState, Stopping, float]:
    """State, stop rules and seconds so far, as in the last checkpoint, with the batches where they stood then."""
    last = checkpoints.last(first)
    if last is None:
        return first, Stopping(config), 0.0
    state, progress = last
    batches.set_state(progress["batches"])
    return state, Stopping(config, **progress["stopping"]), progress["seconds"]


def _comparison(step: int, errors: dict[str, float]) -> dict[str, Any]:
    return {
        "kind": "gradient_check",
        "step": step,
        "max_relative_error": max(errors.values()),
        "relative_error": errors,
    }


def _stop(
    objective: Objective,
    config: TrainingConfig,
    augment: Augment | None,
    run: Run,
    taken: PendingStep,
    state: TrainState,
) -> None:
    """Raises NonFiniteError, with the layer that began it. The step is taken again with the same random numbers."""
    batch, context = prepare_batch(jax.tree.map(jnp.asarray, taken.batch), config.seed, state.step, augment)
    parts = split(batch, config.accumulate)
    found = (
        locate(objective, state.params, jax.tree.map(itemgetter(i), parts), context.child(i))
        for i in range(config.accumulate)
    )
    where = next(filter(None, found), None)
    loss = float(taken.measured["loss"])
    what = "the loss" if not np.isfinite(loss) else "the gradient or the update"
    saved = any((run.checkpoints / "last").iterdir())
    kept = f"what was saved before it is in {run.checkpoints / 'last'}" if saved else "nothing had been saved before it"
    raise NonFiniteError(
        f"{what} of step {taken.number} is not finite (loss {loss}). First not finite: "
        f"{where or 'nothing, when the step is taken again layer by layer'}. The step was not applied; {kept}. "
        "Mend the data if it is to blame; else lower --optimizer.learning-rate, or set --optimizer.clip",
        replace(state, finite=jnp.bool(True)),
    )
