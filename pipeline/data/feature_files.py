"""Files of features: NumPy's ``.npy`` and ``.npz``, HTK's parameter files, Kaldi's ``.ark`` and ``.scp``.

Every reader gives matrices (frames, features) as float32, and never runs a command or unpickles an object.
"""

import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .kaldi import read_entries, read_entry
from .limits import default_limit, in_range, open_file, parsing, read_at_most, require_memory
from .npz import read_array, read_member

HTK = (".htk", ".mfc", ".mfcc", ".fea", ".feat", ".fbank", ".fbk", ".plp", ".lpc", ".usr")
"""Usual suffixes of HTK's parameter files."""
ARCHIVES = (".npz", ".ark", ".scp")
ENDINGS = (".npy", *HTK)
"""Suffixes of files with the features of one utterance."""

_HTK_HEADER = struct.Struct(">iihH")
_TICKS = 1e7
"""HTK's units of time in a second."""
_KINDS = (
    *("WAVEFORM", "LPC", "LPREFC", "LPCEPSTRA", "LPDELCEP", "IREFC", "MFCC", "FBANK", "MELSPEC", "USER", "DISCRETE"),
    *("PLP", "ANON"),
)
_COMPRESSED, _CHECKSUM = 0o2000, 0o10000
_HTK_REMEDY = "it must be a parameter file as HTK's HCopy writes it, with the most significant byte first"


class Features(NamedTuple):
    """A matrix (frames, features), float32, and the seconds from one frame to the next; None if the file is silent."""

    values: np.ndarray
    hop: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a matrix is: in a file of its own, or in an archive.

    key: name of the array in a ``.npz`` file. offset: position in a ``.ark`` file. rows, columns: the first and the
    last of those to take, counted from 0; None: all.
    """

    path: Path
    key: str | None = None
    offset: int | None = None
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None

    def __str__(self) -> str:
        inside = self.key if self.offset is None else f"position {self.offset}"
        return str(self.path) + ("" if inside is None else f": {inside}")


def read_features(path: Path, limit: int | None = None) -> Features:
    """The features in a file of one utterance: ``.npy``, or otherwise HTK's parameter file.

    limit: bytes of memory that they may take; None: half of the machine's memory.
    Raises UserError for a file that cannot be read, or holds something else than a matrix of finite numbers.
    """
    limit = default_limit() if limit is None else limit
    return _checked(str(path), _read_npy(path, limit) if path.suffix.lower() == ".npy" else _read_htk(path, limit))


def index(path: Path, folder: Path | None = None) -> dict[str, Place]:
    """The matrices of an archive by their names: a ``.npz``, ``.ark`` or ``.scp`` file.

    folder: where the paths in an ``.scp`` file may start, besides the current folder, its own and the two above it, in
        which Kaldi's scripts run.
    Raises UserError for a file that is none of these, is broken, or has a name twice.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        pairs = [(name, Place(path, key)) for name, key in _members(path)]
    elif suffix == ".ark":
        with open_file(path) as file:
            pairs = [(name, Place(path, offset=offset)) for name, offset in read_entries(file, str(path))]
    elif suffix == ".scp":
        pairs = list(_script(path, [folder or path.parent, *path.absolute().parents[:3]]))
    else:
        raise UserError(f"{path} is not an archive of features; give a {', '.join(ARCHIVES)} file")
    places = dict(pairs)
    if len(places) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has {quoted(double)} twice; name every utterance once")
    return places


def read_places(places: Sequence[Place], limit: int | None = None) -> Iterator[Features | UserError]:
    """The features at each of ``places``, in order, or the error that says why they cannot be used.

    An archive is opened once for neighbours. limit: bytes of memory that all of them may take.
    """
    rest = default_limit() if limit is None else limit
    for path, group in groupby(places, key=lambda place: place.path):
        for read in _readers(path, list(group)):
            try:
                features = read(rest)
            except UserError as error:
                yield error
            else:
                rest -= features.values.nbytes
                yield features


def _readers(path: Path, places: Sequence[Place]) -> Iterator[Callable[[int], Features]]:
    """For each place in one file a function ``limit -> features``; the file is open while they are used."""
    if places[0].key is None and places[0].offset is None:
        yield from (partial(_read_file, place) for place in places)
        return
    try:
        with open_file(path) as file:
            if places[0].key is None:
                yield from (partial(_read_entry, place, file) for place in places)
            else:
                archive = _opened(path, file)
                yield from (partial(_read_array, place, archive) for place in places)
    except UserError as error:
        yield from (partial(_fail, error) for _ in places)


def _fail(error: UserError, limit: int) -> Features:
    del limit
    raise error


def _read_file(place: Place, limit: int) -> Features:
    return _part(place, read_features(place.path, limit))


def _read_entry(place: Place, file: io.BufferedReader, limit: int) -> Features:
    file.seek(place.offset or 0)
    return _part(place, _checked(str(place), Features(read_entry(file, str(place), limit))))


def _read_array(place: Place, archive: zipfile.ZipFile, limit: int) -> Features:
    with parsing(f"{place} cannot be read", "write the archive with numpy.savez"):
        values = read_member(archive, archive.getinfo(f"{place.key}.npy"), str(place), limit)
    return _part(place, _checked(str(place), Features(values)))


def _part(place: Place, features: Features) -> Features:
    """The rows and columns that a place names."""
    values = features.values
    for axis, (what, span) in enumerate((("rows", place.rows), ("columns", place.columns))):
        if span is not None:
            first, last = span
            if not 0 <= first <= last < values.shape[axis]:
                raise UserError(
                    f"{place}: {what} {first} to {last} are asked for, and it has {values.shape[axis]}; correct the "
                    "numbers in brackets"
                )
            values = np.take(values, np.arange(first, last + 1), axis)
    return features._replace(values=values)


def _checked(name: str, features: Features) -> Features:
    values = features.values
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        kind = "" if values.dtype.kind in "fiu" else f" of {values.dtype}"
        raise UserError(
            f"{name} has an array{kind} of shape {values.shape}; features are numbers of shape (frames, features)"
        )
    if not values.size:
        raise UserError(f"{name} has no features: its shape is {values.shape}; remove it")
    if not in_range(values).all():
        frame, feature = np.argwhere(~in_range(values))[0]
        raise UserError(
            f"{name} has {values[frame, feature]} in frame {frame}, feature {feature}; features must be finite "
            "numbers, and no larger than 1e37: compute them again, or remove it"
        )
    return features._replace(values=np.ascontiguousarray(values, np.float32))


def _read_npy(path: Path, limit: int) -> Features:
    problem, remedy = f"{path} cannot be read as a NumPy array", "write it with numpy.save"
    with open_file(path) as file, parsing(problem, remedy):
        return Features(read_array(file, str(path), limit))


def _opened(path: Path, file: io.BufferedReader) -> zipfile.ZipFile:
    with parsing(f"{path} cannot be read as a NumPy archive", "write it with numpy.savez"):
        return zipfile.ZipFile(file)


def _members(path: Path) -> list[tuple[str, str]]:
    """The names of the arrays in an archive."""
    with open_file(path) as file:
        names = [member.removesuffix(".npy") for member in _opened(path, file).namelist()]
    if not names:
        raise UserError(f"{path} has no arrays; write one for each utterance, with numpy.savez")
    return [(name, name) for name in names]


def _read_htk(path: Path, limit: int) -> Features:
    """A parameter file of HTK (Young et al., The HTK Book, 5.10): a header of 12 bytes, and rows of float32.

    Compressed files have int16 and for each feature a factor A and a term B: x = (stored + B) / A. A checksum at the
    end is not compared.
    """
    size = path.stat().st_size if os.path.isfile(path) else 0
    with open_file(path) as file:
        header = file.read(_HTK_HEADER.size)
        if len(header) < _HTK_HEADER.size:
            raise UserError(f"{path} cannot be read as features: it has {len(header)} bytes; {_HTK_REMEDY}")
        frames, period, width, kind = _HTK_HEADER.unpack(header)
        base = kind & 0o77
        if base >= len(_KINDS) or frames < 1 or width < 1 or period < 0:
            raise UserError(f"{path} cannot be read as features: its header is none of HTK's; {_HTK_REMEDY}")
        if _KINDS[base] in ("WAVEFORM", "DISCRETE", "IREFC"):
            raise UserError(f"{path} has the kind {_KINDS[base]}, which is not vectors of floats; convert it by HCopy")
        compressed = bool(kind & _COMPRESSED)
        announced = frames * width + (2 if kind & _CHECKSUM else 0)
        if width % (2 if compressed else 4) or announced != size - _HTK_HEADER.size or (compressed and frames <= 4):
            raise UserError(
                f"{path} is not what its header says: {frames} frames of {width} bytes in a file of {size}; it is cut "
                f"off, or {_HTK_REMEDY}"
            )
        require_memory(str(path), frames * width * (4 if compressed else 2), limit)
        content = bytes(read_at_most(file, frames * width))
    if compressed:  # the factors and terms take the room of four frames
        columns = width // 2
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is refused below
            scale, term = np.frombuffer(content, ">f4", 2 * columns).reshape(2, columns).astype(np.float64)
        if not (np.isfinite(scale).all() and scale.all() and np.isfinite(term).all()):
            raise UserError(
                f"{path} has a factor of 0 or one that is not finite, and cannot be decompressed; {_HTK_REMEDY}"
            )
        values = (np.frombuffer(content, ">i2", offset=8 * columns).reshape(-1, columns) + term) / scale
    else:
        values = np.frombuffer(content, ">f4").reshape(frames, -1)
    return Features(values, period / _TICKS or None)


def _script(path: Path, folders: Sequence[Path]) -> Iterator[tuple[str, Place]]:
    """The lines of an ``.scp`` file, "NAME FILE:POSITION[ROWS,COLUMNS]"; a file may also be of one utterance."""
    with open_file(path) as file:
        content = bytes(read_at_most(file, default_limit()))
    with parsing(f"{path} is not UTF-8", "convert it"):
        lines = content.decode().split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, _, where = line.strip().partition(" ")
            yield name, parse_place(where.strip(), folders, f"{path}: line {number}")


def parse_place(text: str, folders: Sequence[Path], line: str) -> Place:
    """The place that Kaldi's "FILE:POSITION[FIRST:LAST]" names. line: file and line, for messages.

    folders: where the file's path may start, besides the current folder; or they have the file itself.

    Raises UserError for a command, which is never run, and for what names no file.
    """
    if text.endswith("|") or text.startswith("|") or text in ("", "-"):
        what = "a command, which is not run" if "|" in text else "no file"
        raise UserError(f"{line} names {what} ({quoted(text)}); write its output into an archive")
    text, rows, columns = _brackets(text, line)
    file, _, position = text.rpartition(":")
    is_archive = bool(file) and position.isdecimal() and len(position) < 19
    name = file if is_archive else text
    places = [*(folder / name for folder in folders), Path(name), *(folder / Path(name).name for folder in folders)]
    found = next((place for place in places if os.path.isfile(place)), None)
    if found is None:
        raise UserError(f"{line} names {visible(str(folders[0] / name))}, which is not a file; correct it")
    return Place(found, None, int(position) if is_archive else None, rows, columns)


def _brackets(text: str, line: str) -> tuple[str, tuple[int, int] | None, tuple[int, int] | None]:
    """What stands before "[0:99,0:12]", and the rows and columns in it."""
    before, mark, inside = text.partition("[")
    if not mark or not inside.endswith("]"):
        return text, None, None
    spans: list[tuple[int, int] | None] = []
    for span in inside[:-1].split(","):
        first, _, last = span.partition(":")
        if span and not (first.isdecimal() and last.isdecimal() and len(first + last) < 19):
            raise UserError(f"{line} has {quoted(f'[{inside}')}; brackets hold rows, as in [0:99], or [0:99,0:12]")
        spans.append((int(first), int(last)) if span else None)
    rows, columns, *_ = *spans, None
    return before, rows, columns


def same_widths(named: Mapping[str, np.ndarray]) -> int:
    """The number of features, which all matrices must share. Raises UserError where they differ."""
    widths = {name: values.shape[1] for name, values in named.items()}
    first, width = next(iter(widths.items()))
    other = next((name for name, its in widths.items() if its != width), None)
    if other is not None:
        raise UserError(
            f"{visible(first)} has {width} features and {visible(other)} {widths[other]}; all utterances must have the "
            "same"
        )
    return width
