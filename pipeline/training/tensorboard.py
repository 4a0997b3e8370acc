"""The metrics of a run as event files, which TensorBoard shows: written from metrics.jsonl, through tensorboardX."""

import json
import shutil
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from ..extras import extra
from .run import Run

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

EVENTS = "tensorboard"
"""The event files' folder in a run's."""


def require_tensorboard() -> None:
    """Raises MissingExtra where tensorboardX is not installed."""
    with extra("tensorboard"):
        import tensorboardX  # noqa: F401


class Events:
    """Event files with the lines of a run's metrics.jsonl, where they are ``wanted``. A context manager.

    They are written anew from its first line on, so that a resumed run has each step once: the first ``follow`` comes
    after ``Run.rewind``.
    """

    def __init__(self, run: Run, wanted: bool) -> None:
        self._run = run if wanted else None
        self._files: tuple[SummaryWriter, BinaryIO] | None = None

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._files is not None or error is None:
            self.follow()
        if self._files is not None:
            for file in self._files:
                file.close()

    def follow(self) -> None:
        """Writes what metrics.jsonl has more than before."""
        if self._run is None:
            return
        self._files = self._files or _begun(self._run)
        events, lines = self._files
        for line in map(json.loads, lines):
            for name, value in scalars(line):
                events.add_scalar(name, value, line["step"])
        events.flush()


def _begun(run: Run) -> "tuple[SummaryWriter, BinaryIO]":
    """A writer of new event files, and metrics.jsonl to read from its beginning."""
    require_tensorboard()
    from tensorboardX import SummaryWriter

    folder = run.directory / EVENTS
    shutil.rmtree(folder, ignore_errors=True)
    return SummaryWriter(str(folder)), (run.directory / "metrics.jsonl").open("rb")


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers in a line of metrics.jsonl, by names as TensorBoard groups them.

    >>> list(scalars({"kind": "evaluation", "step": 5, "epoch": 1, "split": "validation", "loss": 0.5}))
    [('validation/loss', 0.5)]
    """
    group = {"step": "training", "evaluation": line.get("split", "")}.get(line["kind"], line["kind"])
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", number) for inner, number in value.items())
        elif name not in ("step", "epoch") and isinstance(value, int | float):
            yield f"{group}/{name}", value
