"""Images that are decoded when a batch needs them: for folders whose pixels are too many to be held in memory."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError


class Moments(NamedTuple):
    """What standardising needs to know of pixels, exactly. number: of values in each channel.

    total, squares, largest: sum of the values, sum of their squares, and their maximum; one number a channel.
    """

    number: int
    total: Sequence[int]
    squares: Sequence[int]
    largest: Sequence[int]


@dataclass(frozen=True, eq=False)
class Streamed:
    """The pixels of image files, taken by rows as from an array (examples, height, width, channels), and never held.

    files: of the examples; decode: gives the pixels of one, of ``example_shape`` and ``dtype``.
    digests: of the pixels of each file when it was first read, uint8 (examples, 32).
    sums: ``sums_of`` the pixels of each file, uint64 (examples, 3, channels).
    """

    files: Sequence[Path] = field(compare=False)
    decode: Callable[[Path], np.ndarray] = field(compare=False)
    digests: np.ndarray
    sums: np.ndarray = field(compare=False)
    example_shape: tuple[int, ...]
    dtype: np.dtype = field(compare=False)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        """(examples, height, width, channels)."""
        return len(self), *self.example_shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """The pixels of the examples at ``rows``, decoded by a thread for each processor.

        Raises UserError for a file that cannot be read any more, or has other pixels than when it was first read.
        """
        numbers = np.arange(len(self))[rows]
        pixels = np.empty((len(numbers), *self.example_shape), self.dtype)

        def read(place: int) -> None:
            file, expected = self.files[numbers[place]], self.digests[numbers[place]]
            pixels[place] = self.decode(file)
            if digest(pixels[place]) != expected.tobytes():
                raise UserError(
                    f"{file} is not the image that it was when the data were read; restore it, or start a new run, and "
                    "leave the files as they are until it ends"
                )

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the interpreter's lock while it decodes
            list(pool.map(read, range(len(numbers))))
        return pixels

    def select(self, rows: np.ndarray | slice) -> "Streamed":
        """The examples at ``rows``, not decoded."""
        return replace(self, files=_at(self.files, rows), digests=self.digests[rows], sums=self.sums[rows])

    @property
    def moments(self) -> Moments:
        """Returns the moments of all pixels, without decoding them again."""
        total, squares = (self.sums[:, i].astype(object).sum(0).tolist() for i in range(2))  # which cannot overflow
        count = len(self) * self.example_shape[0] * self.example_shape[1]
        return Moments(count, total, squares, self.sums[:, 2].max(0).tolist())


def _at(files: Sequence[Path], rows: np.ndarray | slice) -> list[Path]:
    return [files[number] for number in np.arange(len(files))[rows]]


def digest(pixels: np.ndarray) -> bytes:
    """SHA-256 of an image's pixels."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


def sums_of(pixels: np.ndarray) -> np.ndarray:
    """The sum, the sum of squares and the maximum of unsigned integers (..., channels): uint64, (3, channels)."""
    columns = pixels.reshape(-1, pixels.shape[-1])
    squares = np.einsum("nc,nc->c", columns, columns, dtype=np.uint64)  # without a larger copy of the pixels
    return np.stack([columns.sum(0, dtype=np.uint64), squares, columns.max(0).astype(np.uint64)])


def moments_of(pixels: np.ndarray | Streamed) -> Moments:
    """The moments of unsigned integers (..., channels)."""
    if isinstance(pixels, Streamed):
        return pixels.moments
    return Moments(pixels.size // pixels.shape[-1], *sums_of(pixels).tolist())


def select(inputs: Any, rows: np.ndarray | slice) -> Any:
    """Some examples of an array, or of ``Streamed``, which stays so."""
    return inputs.select(rows) if isinstance(inputs, Streamed) else inputs[rows]


def concatenated(inputs: Sequence[Any]) -> Any:
    """The examples of several arrays, or of several ``Streamed`` of one folder."""
    if not isinstance(inputs[0], Streamed):
        return np.concatenate(inputs)
    digests, sums = (np.concatenate([getattr(one, name) for one in inputs]) for name in ("digests", "sums"))
    return replace(inputs[0], files=[file for one in inputs for file in one.files], digests=digests, sums=sums)


def digests_of(inputs: Any) -> list[bytes]:
    """SHA-256 of each example, by which those with equal pixels are found."""
    return [row.tobytes() for row in inputs.digests] if isinstance(inputs, Streamed) else [*map(digest, inputs)]
