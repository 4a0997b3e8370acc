"""Progress of training: a live bar on a terminal, elsewhere one line of text for each epoch."""

import sys
from collections.abc import Mapping
from types import TracebackType


class Display:
    """Shows the progress over ``epochs`` epochs of ``steps_per_epoch`` steps.

    step: number of steps taken before, in a run that is resumed. quiet: show nothing.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, step: int = 0, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._epochs, self._steps_per_epoch, self._quiet = epochs, steps_per_epoch, quiet
        self._loss, self._pace, self._validation = float("nan"), "", ""
        console = Console(file=sys.stdout)
        self._live = console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            disable=not self._live,
        )
        self._task = self._bar.add_task("training", total=epochs * steps_per_epoch, completed=step, facts="compiling")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, step: int, loss: float, examples_per_second: float) -> None:
        """Shows a step that is over."""
        self._loss, self._pace = loss, f"{examples_per_second:,.0f} examples/s"
        if self._live:
            epoch = min(step // self._steps_per_epoch + 1, self._epochs)
            facts = f"loss {loss:.4f}{self._validation}  {self._pace}"
            self._bar.update(self._task, completed=step, description=f"epoch {epoch}/{self._epochs}", facts=facts)

    def epoch(self, epoch: int, evaluation: Mapping[str, float]) -> None:
        """Shows an epoch that is over, with its validation metrics."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.items())
        self._validation = f"  validation {values}"
        if not self._live and not self._quiet:
            print(f"epoch {epoch}/{self._epochs}  loss {self._loss:.4f}{self._validation}  {self._pace}", flush=True)
