"""What every reader of the user's files holds to: which files it opens, and how much memory it takes for them.

A damaged or hostile file can announce more than a machine has: readers compare what a file needs with a limit before
they take the memory for it, and unpack a file in pieces.
"""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ..display import visible
from ..errors import UserError

LARGEST = 1e37
"""Numbers beyond this are refused: float32, in which models compute, holds sums and differences of smaller ones."""
LIMIT_SHARE = 0.5
"""Share of the machine's memory that a file may take, where a reader is given no other ``limit``."""
CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")
"""The file in which Linux says how much memory a container may take, or "max"."""
TEXT_COST = 8
"""Bytes of memory for each byte of a text file: its characters, lines, fields and ids."""

_PIECE = 1 << 22
_UNKNOWN_MEMORY = 8 << 30
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_GZIP = b"\x1f\x8b"


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """The next ``size`` bytes, or fewer at the file's end."""
        ...


@cache
def default_limit() -> int:
    """Bytes of memory that a file may take: half of the memory of the machine or the container."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # a system that does not say
        memory = _UNKNOWN_MEMORY
    with suppress(OSError, ValueError):  # no container, or one without a limit
        memory = min(memory, int(CONTAINER_MEMORY.read_text()))
    return int(LIMIT_SHARE * memory)


def require_memory(what: str, needed: int | float, limit: int | None = None) -> None:
    """Raises UserError if ``needed`` bytes are more than the limit.

    what: the beginning of the message, what needs them. limit: bytes; None: ``default_limit``.
    """
    limit = default_limit() if limit is None else limit
    if needed > limit:
        raise UserError(
            f"{what} needs at least {size_in_words(needed)} of memory, and the limit is {size_in_words(limit)} (by "
            f"default {LIMIT_SHARE:.0%} of a machine's memory): it is damaged, or too large for this machine; make it "
            "again, or a smaller one"
        )


def size_in_words(count: int | float) -> str:
    """A number of bytes, for a message."""
    count = min(count, 1e30)  # a header can announce more than a float holds
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if count < 1024 or unit == "PiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def open_file(path: Path) -> io.BufferedReader:
    """Opens a file for reading.

    Raises UserError if it cannot be opened, or is no regular file: reading a named pipe or a device may never end.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind == stat.S_IFREG:
            return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UserError(f"{path} cannot be opened ({_reason(error)}); give the path of a file") from error
    raise UserError(f"{path} is {_KINDS.get(kind, 'something else')}, not a file; give the path of a file")


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


@contextmanager
def open_unpacked(path: Path) -> Iterator[Readable]:
    """Opens a file, and unpacks it while it is read if it is gzipped: by its suffix or its first two bytes.

    Raises UserError for errors in opening and, within the block, in reading it.
    """
    with open_file(path) as file:
        try:
            is_packed = path.suffix == ".gz" or file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if is_packed else file
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} cannot be read ({error}); copy or download it again") from error


@contextmanager
def parsing(problem: str, remedy: str) -> Iterator[None]:
    """Turns every exception within the block into a UserError, "PROBLEM (the exception); REMEDY".

    It is for libraries that raise exceptions of many kinds for a broken file: let nothing else be in the block.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{problem} ({visible(str(error)) or type(error).__name__}); {remedy}") from error


def read_at_most(file: Readable, size: int) -> bytearray:
    """The next ``size`` bytes of a file, or as many as it has; memory is taken only for those."""
    content = bytearray()
    while len(content) < size:
        piece = file.read(min(_PIECE, size - len(content)))
        if not piece:
            break
        content += piece
    return content


def read_content(path: Path, limit: int | None = None, cost: int = 1) -> bytearray:
    """The content of a file, unpacked if it is gzipped.

    cost: bytes of memory that the reader needs for each byte of the content. limit: see ``require_memory``.
    Raises UserError if the file cannot be read, or needs more memory than the limit.
    """
    limit = default_limit() if limit is None else limit
    with open_unpacked(path) as file:
        require_memory(str(path), cost * path.stat().st_size, limit)
        content = read_at_most(file, limit // cost + 1)
    require_memory(str(path), cost * len(content), limit)
    return content


def list_folder(folder: Path) -> list[Path]:
    """The files and folders in a folder, in alphabetical order. Raises UserError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({_reason(error)}); give a folder that you may read") from error


def require_unicode(text: str, place: str = "the text") -> str:
    """``text``. Raises UserError if it has half of a surrogate pair: such are bytes of a terminal that are not UTF-8.

    place: the beginning of the message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = visible(text[error.start])
        raise UserError(
            f"{place} has {half} at position {error.start}: it is half of a character, or a byte that is not UTF-8; "
            "correct it, or convert it to UTF-8"
        ) from error
    return text


def in_range(numbers: np.ndarray) -> np.ndarray:
    """Which numbers are finite and no larger than ``LARGEST``: bool, of the same shape."""
    numbers = np.asarray(numbers)
    if numbers.dtype == np.float16:  # in which LARGEST is infinite
        return np.isfinite(numbers)
    return np.asarray(np.abs(numbers) <= LARGEST)
