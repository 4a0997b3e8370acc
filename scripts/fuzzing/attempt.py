"""One attempt to read a damaged input, and what is judged of it.

Only two ends are right: the reader refuses the input with a UserError, or returns finite numbers. It must not raise
anything else, warn, take a second more than it is given, or take a gigabyte of memory.
"""

import contextlib
import dataclasses
import resource
import shutil
import signal
import sys
import traceback
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fuzzing.mutations import Mutator
from fuzzing.readers import Reader
from pipeline.errors import UserError

MEMORY = 1 << 30
"""Bytes by which the process may grow in one attempt."""


class Outcome(NamedTuple):
    """What a reader did. kind: "accepted", "refused", "exception" or "not finite"; details: of a failure."""

    kind: str
    details: str = ""

    @property
    def ok(self) -> bool:
        return self.kind in ("accepted", "refused")


class TimedOutError(BaseException):
    """Raised by the alarm, as something that no reader catches."""


def attempts(
    reader: Reader, files: Mapping[str, bytes], numbers: range, seed: int, folder: Path, seconds: float
) -> Iterator[Outcome]:
    """The outcome of each attempt: the reader reads its input, damaged as a function of the attempt's number.

    The first outcome is that of the undamaged input. Raises ValueError if the reader does not accept it.

    files: the undamaged input; folder: an empty one to write it into; seconds: those that an attempt may take.
    """
    outcome = attempt(reader, files, folder, seconds)
    if outcome.kind != "accepted":
        raise ValueError(f"{reader.name} does not accept its undamaged input: {outcome.details}")
    yield outcome
    for number in numbers:
        yield attempt(reader, damaged(reader, files, seed, number), folder, seconds)


def damaged(reader: Reader, files: Mapping[str, bytes], seed: int, number: int) -> dict[str, bytes]:
    """The files of an input, one of them damaged: half of the time what is packed in it, if anything is."""
    mutator = Mutator(seed, number, zlib.crc32(reader.name.encode()))
    names = [name for name in files if not (reader.spare and name.endswith(reader.spare))]
    name = names[mutator.below(len(names))]
    if reader.inside and mutator.below(2):
        return {**files, name: reader.inside(files[name], mutator)}
    return {**files, name: mutator(files[name])}


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes files into a folder, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def attempt(reader: Reader, files: Mapping[str, bytes], folder: Path, seconds: float) -> Outcome:
    """Writes the files into a folder, and reads them."""
    write(files, folder)
    try:
        with warnings.catch_warnings(), limited_memory(), alarm(seconds):
            warnings.simplefilter("error")
            data = reader.read(folder)
    except UserError as error:
        if any(isinstance(cause, MemoryError) for cause in causes(error)):
            return Outcome("exception", f"took more than {MEMORY >> 20} MiB:\n{traceback.format_exc()}")
        return Outcome("refused", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # such as a panic in Rust, or the alarm
        return Outcome("exception", traceback.format_exc())
    place = not_finite(data)
    return Outcome("not finite", f"{place} is not finite") if place else Outcome("accepted")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those in whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def not_finite(data: Any, place: str = "data") -> str:
    """The place of a number that is not finite, as in "data[0].values"; "" if all are."""
    if isinstance(data, np.ndarray) and data.dtype.kind == "f":
        return "" if np.isfinite(data).all() else place
    if isinstance(data, float):
        return "" if np.isfinite(data) else place
    if dataclasses.is_dataclass(data):
        parts = {f"{place}.{field.name}": getattr(data, field.name) for field in dataclasses.fields(data)}
    elif isinstance(data, (list, tuple)):
        parts = {f"{place}[{i}]": part for i, part in enumerate(data)}
    else:
        return ""
    return next(filter(None, (not_finite(part, name) for name, part in parts.items())), "")


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises ``TimedOutError`` within the block after so many seconds."""

    def ring(*_: object) -> None:
        raise TimedOutError(f"took more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Lets the process grow by ``MEMORY`` within the block; more is a MemoryError. On Linux alone."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
