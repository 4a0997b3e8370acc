"""A trace of some steps of training: what host and device do when, through ``jax.profiler``."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from ..data.batches import Batch
from .state import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]

FOLDER = "profile"
"""The traces' folder in a run's."""
FIRST = 3
"""Number of steps before a trace, among them those in which programs are compiled and memory is first allocated."""

_log = logging.getLogger(__name__)


class Profiler:
    """Traces ``steps`` steps after the first few, into ``directory``; 0: none. A context manager around training.

    The trace has everything between these steps too: batches, metrics, evaluation. A trace that training ends in has
    fewer steps.
    """

    def __init__(self, directory: Path, steps: int) -> None:
        self._directory, self._steps = directory, steps
        self._done = 0
        self._tracing = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracing:
            self._stop()
        elif self._done < FIRST + self._steps and self._steps and error is None:
            _log.warning(
                "--profile %d: nothing is traced, since only %d steps were trained here and the first %d are left out",
                *(self._steps, self._done, FIRST),
            )

    def traced(self, step: Step) -> Step:
        """A step of training, traced when its turn comes."""
        return self._step_of(step) if self._steps else step

    def _step_of(self, step: Step) -> Step:
        def traced(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
            if self._done == FIRST:
                jax.block_until_ready(state)  # the steps before it are not in the trace
                jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
                self._tracing = True
            with jax.profiler.StepTraceAnnotation("train", step_num=self._done + 1):
                result = step(state, batch)
            self._done += 1
            if self._tracing and self._done == FIRST + self._steps:
                jax.block_until_ready(result)
                self._stop()
            return result

        return traced

    def _stop(self) -> None:
        self._tracing = False
        jax.profiler.stop_trace()
