"""SIGTERM, which schedulers send, and Ctrl-C: the first one ends training with everything saved, the second at once."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)
WORDS = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


class Signals:
    """The signals that ask this process to stop, and what it answers.

    Python runs a signal's handler between two of its own instructions, which can be a minute away while XLA compiles. A
    thread reads the signals from a pipe instead, and can end the process whatever the main thread is doing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._can_save = False
        self._resumable: Path | None = None
        self._command = ""

    @contextmanager
    def watched(self, command: str) -> Iterator[None]:
        """Watches for signals in the block. command: which goes on with a run: the user adds the run's folder."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may change what signals do
            return
        self.received, self._resumable, self._command = None, None, command
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = {number: signal.signal(number, _nothing) for number in STOPPING}
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._watch, args=(reading,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writing)
            thread.join()
            os.close(reading)

    @contextmanager
    def resumable(self, run: Path) -> Iterator[None]:
        """A block that may be stopped and its run resumed: the outermost run, where several are nested."""
        before, self._resumable = self._resumable, self._resumable or run
        yield
        self._resumable = before  # not after an exception: it may be one that says goodbye

    @contextmanager
    def saving(self) -> Iterator[None]:
        """In the block the first signal is only noted: it is asked for it after every step, and saves."""
        self._can_save = True
        try:
            yield
        finally:
            self._can_save = False

    def stop_requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    @property
    def code(self) -> int:
        """The exit code of a process that a signal ends: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + (self.received or signal.SIGINT)

    def farewell(self) -> str:
        """What the user is told at the end."""
        lines = [WORDS.get(signal.Signals(self.received or signal.SIGINT), "stopped")]
        if self._resumable:
            lines += [
                f"saved           {self._resumable}",
                f"go on with      {self._command} --resume {shlex.quote(str(self._resumable))}",
            ]
        return "\n".join(lines)

    def _watch(self, reading: int) -> None:
        while numbers := os.read(reading, 1):
            number = numbers[0]
            if number not in STOPPING:
                continue
            again, self.received = self.received is not None, number
            if again or not self._can_save:
                _say(self.farewell())
                os._exit(128 + number)
            _say("the step in flight is finished and saved; a second signal ends at once")


def _say(text: str) -> None:
    """Writes to standard error, past its buffer, which the main thread may be using."""
    cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
    os.write(2, f"{cursor}\n{text}\n".encode("utf-8", "backslashreplace"))


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing: with one the signal comes to the pipe, and does not end the process."""


SIGNALS = Signals()
"""Those of this process."""
