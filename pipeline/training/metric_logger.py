"""What the host reads of the steps: one step late, so that the device never waits for it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pipeline.data.batches import Batch
from pipeline.training.progress import Display
from pipeline.training.run import Run
from pipeline.training.state import TrainState


class PendingStep(NamedTuple):
    """A step the device may still be busy with. number: of the step, the first is 1."""

    number: int
    batch: Batch
    measured: dict[str, Any]


class MetricLogger:
    """Writes steps into metrics.jsonl and onto the display, and notices when one is not finite.

    learning_rates: of every step of the run. log_every: steps between two lines.
    stop: called with the first step that is not finite and the state, which is the one before it; it raises.
    """

    def __init__(
        self,
        run: Run,
        display: Display,
        learning_rates: np.ndarray,
        steps_per_epoch: int,
        log_every: int,
        stop: Callable[[PendingStep, TrainState], None],
    ) -> None:
        self._run, self._display, self._stop = run, display, stop
        self._learning_rates, self._steps_per_epoch, self._log_every = learning_rates, steps_per_epoch, log_every
        self._unread: PendingStep | None = None
        self._examples, self._since, self._pace = 0, 0.0, 0.0

    def add(self, taken: PendingStep, state: TrainState) -> None:
        """Takes note of a step, and reads the one before. state: the newest."""
        late, self._unread = self._unread, taken
        if late is not None:
            self._read(late, state)

    def catch_up(self, state: TrainState) -> None:
        """Reads the step that is still unread. What comes next is not counted as time of steps."""
        if self._unread is not None:
            self._read(self._unread, state)
        self._unread = None
        self.pause()

    def pause(self) -> None:
        """Lets the clock of examples a second start anew when the next step is read."""
        self._since = 0.0

    def _read(self, taken: PendingStep, state: TrainState) -> None:
        loss, finite = jax.device_get((taken.measured["loss"], taken.measured["finite"]))
        if not finite:
            self._stop(taken, state)
        self._time(len(jax.tree.leaves(taken.batch)[0]))
        self._display.step(taken.number, float(loss), self._pace)
        if taken.number % self._log_every == 0:
            self._run.log(self._line(taken))

    def _time(self, examples: int) -> None:
        now = time.monotonic()
        if self._since:
            self._examples += examples
            self._pace = self._examples / (now - self._since)
        else:  # the first step after a pause, or the one that was compiled
            self._examples, self._since = 0, now

    def _line(self, taken: PendingStep) -> dict[str, Any]:
        measured = jax.tree.map(float, jax.device_get(taken.measured))
        del measured["finite"]
        norms = measured.pop("gradient_norm")
        return {
            "kind": "step",
            "step": taken.number,
            "epoch": (taken.number - 1) // self._steps_per_epoch + 1,
            **measured,
            "learning_rate": float(self._learning_rates[taken.number - 1]),
            "examples_per_second": round(self._pace, 1),
            "gradient_norm": {layer: norms[layer] for layer in sorted(norms, key=_in_order)},
        }


def _in_order(layer: str) -> list[tuple[int, str]]:
    """Sorts ``layers/10`` behind ``layers/9``: jit hands dicts back in the order of the alphabet."""
    return [(int(name), "") if name.isdigit() else (-1, name) for name in layer.split("/")]
