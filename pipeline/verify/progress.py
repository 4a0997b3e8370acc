"""Says on the terminal what a long verification is at."""

import sys
import time
from typing import Any

PATIENCE = 3.0
"""After so many seconds there is a line, and another after as many."""


class Progress:
    """Writes one line, over and over, where the stream is a terminal; nothing before ``PATIENCE`` seconds."""

    def __init__(self, subject: str, stream: Any = None) -> None:
        self.subject, self.stream = subject, sys.stderr if stream is None else stream
        self.began = self.last = time.monotonic()
        self.written = 0

    def at(self, what: str) -> None:
        """Says what is being looked at now."""
        now = time.monotonic()
        if now - self.last < PATIENCE or not self.stream.isatty():
            return
        self.last = now
        line = f"{self.subject}: {what} ({now - self.began:.0f} s)"[:100]
        self.stream.write(f"\r{line.ljust(self.written)}")
        self.stream.flush()
        self.written = len(line)

    def end(self) -> None:
        """Takes the line away."""
        if self.written:
            self.stream.write(f"\r{' ' * self.written}\r")
            self.stream.flush()
