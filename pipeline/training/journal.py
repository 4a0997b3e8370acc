"""What the host reads of the steps: one step late, so that the device never waits for it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pipeline.training.progress import Display
from pipeline.training.run import Run
from pipeline.training.state import TrainState
from pipeline.training.step import Batch


class Taken(NamedTuple):
    """A step the device may still be busy with. number: of the step, the first is 1."""

    number: int
    batch: Batch
    measured: dict[str, Any]


class Journal:
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
        stop: Callable[[Taken, TrainState], None],
    ) -> None:
        self._run, self._display, self._stop = run, display, stop
        self._learning_rates, self._steps_per_epoch, self._log_every = learning_rates, steps_per_epoch, log_every
        self._unread: Taken | None = None
        self._examples, self._since = 0, time.monotonic()

    def add(self, taken: Taken, state: TrainState) -> None:
        """Takes note of a step, and reads the one before. state: the newest."""
        late, self._unread = self._unread, taken
        if late is not None:
            self._read(late, state)

    def catch_up(self, state: TrainState) -> None:
        """Reads the step that is still unread, and starts a new clock: the next steps come after a pause."""
        if self._unread is not None:
            self._read(self._unread, state)
        self._unread = None
        self._examples, self._since = 0, time.monotonic()

    def _read(self, taken: Taken, state: TrainState) -> None:
        loss, finite = jax.device_get((taken.measured["loss"], taken.measured["finite"]))
        if not finite:
            self._stop(taken, state)
        self._examples += len(jax.tree.leaves(taken.batch)[0])
        pace = self._examples / max(time.monotonic() - self._since, 1e-9)
        self._display.step(taken.number, float(loss), pace)
        if taken.number % self._log_every == 0:
            self._run.log(self._line(taken, pace))

    def _line(self, taken: Taken, pace: float) -> dict[str, Any]:
        measured = jax.tree.map(float, jax.device_get(taken.measured))
        del measured["finite"]
        norms = measured.pop("gradient_norm")
        return {
            "kind": "step",
            "step": taken.number,
            "epoch": (taken.number - 1) // self._steps_per_epoch + 1,
            **measured,
            "learning_rate": float(self._learning_rates[taken.number - 1]),
            "examples_per_second": round(pace, 1),
            "gradient_norm": norms,
        }
