"""Logs the metrics of steps. It reads each step one step late, so that the device never waits for the host."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ..data.batches import Batch
from .progress import Display
from .run import Run
from .state import TrainState
from .unsaved import Unsaved


class PendingStep(NamedTuple):
    """A step that the device may still be computing. number: of the step, from 1; metrics: what it returns."""

    number: int
    batch: Batch
    metrics: dict[str, Any]


class MetricLogger:
    """Writes the metrics of steps into metrics.jsonl and onto the display, and detects a step that is not finite.

    run: with a method ``log`` for each line. learning_rate: of a step, by its number from 1; None if it is not known.
    log_every: number of steps between two lines. The first step and the
    last one of each epoch have a line in any case, so that the plots of a short run show something.
    on_non_finite: called with the first step that is not finite, and the state before it; raises an exception.
    """

    def __init__(
        self,
        run: Run | Unsaved,
        display: Display,
        learning_rate: Callable[[int], float] | None,
        steps_per_epoch: int,
        log_every: int,
        on_non_finite: Callable[[PendingStep, TrainState], None],
    ) -> None:
        self._run, self._display, self._on_non_finite = run, display, on_non_finite
        self._learning_rate, self._steps_per_epoch, self._log_every = learning_rate, steps_per_epoch, log_every
        self._unread: PendingStep | None = None
        self._examples, self._since, self._pace = 0, 0.0, 0.0

    def add(self, step: PendingStep, state: TrainState) -> None:
        """Adds a step, and reads the one before it. state: the state after ``step``."""
        previous, self._unread = self._unread, step
        if previous is not None:
            self._read(previous, state)

    def catch_up(self, state: TrainState) -> None:
        """Reads the step that is still unread, and pauses."""
        if self._unread is not None:
            self._read(self._unread, state)
        self._unread = None
        self.pause()

    def pause(self) -> None:
        """Stops the clock that measures examples per second, until the next step is read."""
        self._since = 0.0

    def _read(self, step: PendingStep, state: TrainState) -> None:
        loss, finite = jax.device_get((step.metrics["loss"], step.metrics["finite"]))
        if not finite:
            self._on_non_finite(step, state)
        self._time(_examples(step.batch))
        self._display.step(step.number, float(loss), self._pace)
        ends_epoch = step.number % self._steps_per_epoch == 0
        if step.number == 1 or ends_epoch or step.number % self._log_every == 0:
            self._run.log(self._line(step))

    def _time(self, examples: int) -> None:
        now = time.monotonic()
        if self._since:
            self._examples += examples
            self._pace = self._examples / (now - self._since)
        else:  # the first step after a pause: its time includes what happened in between, such as compilation
            self._examples, self._since = 0, now

    def _line(self, step: PendingStep) -> dict[str, Any]:
        metrics = jax.tree.map(float, jax.device_get(step.metrics))
        del metrics["finite"]
        norms = metrics.pop("gradient_norm")
        return {
            "kind": "step",
            "step": step.number,
            "epoch": (step.number - 1) // self._steps_per_epoch + 1,
            **metrics,
            **({} if self._learning_rate is None else {"learning_rate": self._learning_rate(step.number)}),
            "examples_per_second": round(self._pace, 1),
            "gradient_norm": {layer: norms[layer] for layer in sorted(norms, key=_in_order)},
        }


def _examples(batch: Any) -> int:
    """The number of examples in a batch: the first axis of its first array."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if getattr(leaf, "shape", ())), 1)


def _in_order(layer: str) -> list[tuple[int, str]]:
    """A key that sorts ``layers/10`` after ``layers/9``: jit returns dicts in alphabetical order."""
    return [(int(name), "") if name.isdigit() else (-1, name) for name in layer.split("/")]
