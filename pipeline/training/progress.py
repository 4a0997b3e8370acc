"""Progress of training: a live bar on a terminal, elsewhere one line of text for each epoch."""

import math
import sys
from collections.abc import Mapping
from types import TracebackType

from ..display import visible


class Display:
    """Shows the progress over ``epochs`` epochs of ``steps_per_epoch`` steps.

    step: number of steps taken before, in a run that is resumed. quiet: show nothing.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, step: int = 0, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._epochs, self._steps_per_epoch, self._quiet = epochs, steps_per_epoch, quiet
        self._losses, self._steps, self._pace = 0.0, 0, ""
        self._console = Console(file=sys.stdout, soft_wrap=True, markup=False, highlight=False, emoji=False)
        self._live = self._console.is_terminal and not quiet
        # Whatever the terminal's width, epoch, bar and time left are there: the facts are cut first.
        cut = Column(overflow="ellipsis", no_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24, table_column=Column(min_width=12)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[best]}", markup=False, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[facts]}", markup=False, table_column=cut),
            console=self._console,
            refresh_per_second=4,
            disable=not self._live,
        )
        total = epochs * steps_per_epoch
        self._task = self._bar.add_task("training", total=total, completed=step, facts="compiling", best="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def compiling(self, shape: tuple[int, ...], programs: int) -> None:
        """Shows that a program is being compiled for batches whose first array has this shape.

        programs: how many there are, with this one. The first is a matter of course; later ones need an explanation,
        since steps wait for them.
        """
        sizes = "x".join(map(str, shape))
        if self._live:
            self._bar.update(self._task, facts=f"compiling for batches of {sizes}, program {programs}")
        elif programs > 1 and not self._quiet:
            self._console.print(f"compiling for batches of {sizes}, program {programs}")

    def step(self, step: int, loss: float, examples_per_second: float) -> None:
        """Shows a step that is over."""
        self._losses, self._steps = self._losses + loss, self._steps + 1
        self._pace = f"{examples_per_second:,.0f} examples/s"
        if self._live:
            epoch = min(step // self._steps_per_epoch + 1, self._epochs)
            facts = f"loss {loss:.4f}  {self._pace}"
            self._bar.update(self._task, completed=step, description=f"epoch {epoch}/{self._epochs}", facts=facts)

    def epoch(self, epoch: int, evaluation: Mapping[str, float], best: str = "") -> None:
        """Shows an epoch that is over: the mean loss of its steps, and its validation metrics, if any.

        best: the metric that chooses the checkpoint, with its best value so far.
        """
        values = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.items())
        loss = self._losses / self._steps if self._steps else math.nan
        self._losses, self._steps = 0.0, 0
        if not self._quiet:
            validation = f"validation {values}  " if values else ""
            line = f"epoch {epoch}/{self._epochs}  loss {loss:.4f}  {validation}{self._pace}"
            self._console.print(visible(line, len(line)))
            self._bar.update(self._task, best=visible(f"best {best}") if best else "")
