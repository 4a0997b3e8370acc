"""Kaldi's archives of matrices, binary or text: float, double and the three compressed kinds.

An archive is a sequence of entries, "NAME", a space and a matrix. A binary matrix begins with a zero byte and "B", then
says what it is: FM (float32), DM (float64), CM, CM2 or CM3 (compressed; kaldi/src/matrix/compressed-matrix.h). A matrix
in text stands between "[" and "]", one row in each line.
"""

import io
import os
import struct
from collections.abc import Iterator

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .limits import read_at_most, require_memory

LONGEST_NAME = 4_096
"""Bytes of an entry's name; longer ones are in files that are no archives."""
_DTYPES = {"FM": "<f4", "DM": "<f8"}
_OTHERS = {
    "FV": "a vector",
    "DV": "a vector",
    "SM": "a sparse matrix",
    "SV": "a sparse vector",
    "T": "a posteriorgram",
}
_GLOBAL = struct.Struct("<ffii")
_REMEDY = "write it again, with copy-feats"


def read_entries(file: io.BufferedReader, name: str) -> Iterator[tuple[str, int]]:
    """The name of every entry of an archive, and the position where its matrix begins.

    name: of the archive, for messages. Raises UserError, with the position, for what is no archive of matrices.
    """
    size = os.fstat(file.fileno()).st_size
    while file.tell() < size:
        at = file.tell()
        key = _word(file, f"{name}: position {at}")
        if not key:
            if file.tell() < size:
                raise UserError(f"{name}: position {at} has no name before a matrix; {_REMEDY}")
            return
        offset = file.tell()
        _skip(file, f"{name}: {visible(key)}", size)
        yield key, offset


def read_entry(file: io.BufferedReader, name: str, limit: int) -> np.ndarray:
    """The matrix at the file's position. name: of the entry, for messages; limit: bytes that it may take.

    Raises UserError for what is no matrix, is cut off, or needs more memory.
    """
    if _is_binary(file):
        kind, rows, columns, least, span = _header(file, name)
        size = _size(kind, rows, columns)
        require_memory(name, max(size, 4 * rows * columns), limit)
        content = bytes(read_at_most(file, size))
        if len(content) < size:
            raise UserError(f"{name} is cut off: it needs {size:,} bytes, and the file has {len(content):,}; {_REMEDY}")
        return _matrix(kind, content, rows, columns, least, span)
    return _text_matrix(file, name, limit)


def _is_binary(file: io.BufferedReader) -> bool:
    """Whether a binary matrix begins here; its mark is then read."""
    start = file.tell()
    if file.read(2) == b"\0B":
        return True
    file.seek(start)
    return False


def _word(file: io.BufferedReader, place: str) -> str:
    """The text up to the next space or the file's end, without white space before it."""
    word = bytearray()
    while byte := file.read(1):
        if byte in b" \t\n\r":
            if word:
                break
            continue
        word += byte
        if len(word) > LONGEST_NAME:
            raise UserError(f"{place} is no archive of Kaldi's: it has no name of at most {LONGEST_NAME} bytes there")
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is no archive of Kaldi's: a name there is not UTF-8; {_REMEDY}") from error


def _header(file: io.BufferedReader, name: str) -> tuple[str, int, int, float, float]:
    """The kind of a binary matrix, its rows and columns, and of a compressed one the least value and the range."""
    kind = _word(file, name)
    if kind in ("CM", "CM2", "CM3"):
        content = file.read(_GLOBAL.size)
        if len(content) < _GLOBAL.size:
            raise UserError(f"{name} is cut off in its header; {_REMEDY}")
        least, span, rows, columns = _GLOBAL.unpack(content)
    elif kind in _DTYPES:
        content = file.read(10)
        if len(content) < 10 or content[0] != 4 or content[5] != 4:
            raise UserError(f"{name} has no numbers of rows and columns; {_REMEDY}")
        rows, columns = (int.from_bytes(content[at : at + 4], "little", signed=True) for at in (1, 6))
        least, span = 0.0, 0.0
    else:
        what = _OTHERS.get(kind, f"of the kind {quoted(visible(kind, 20))}, which is none of Kaldi's matrices")
        raise UserError(f"{name} is {what}; features are matrices (frames, features)")
    if rows < 0 or columns < 0:
        raise UserError(f"{name} announces {rows} rows and {columns} columns; {_REMEDY}")
    return kind, rows, columns, least, span


def _size(kind: str, rows: int, columns: int) -> int:
    """Bytes of a binary matrix after its header."""
    if kind == "CM":
        return columns * (8 + rows)
    return rows * columns * {"FM": 4, "DM": 8, "CM2": 2, "CM3": 1}[kind]


def _matrix(kind: str, content: bytes, rows: int, columns: int, least: float, span: float) -> np.ndarray:
    if kind in _DTYPES:
        return np.frombuffer(content, _DTYPES[kind]).reshape(rows, columns)
    if kind != "CM":
        dtype, most = ("<u2", 65535) if kind == "CM2" else ("u1", 255)
        codes = np.frombuffer(content, dtype).reshape(rows, columns).astype(np.float64)
        return (least + span / most * codes).astype(np.float32)
    # Each column has four values of its own, at the codes 0, 64, 192 and 255, and lines between them.
    corners = least + span / 65535 * np.frombuffer(content, "<u2", 4 * columns).reshape(columns, 4).astype(np.float64)
    codes = np.frombuffer(content, "u1", offset=8 * columns).reshape(columns, rows)
    values = np.zeros((columns, rows), np.float32)
    for row, column, its in zip(values, codes, corners):
        row[:] = np.interp(column, (0, 64, 192, 255), its)
    return values.T


def _text_matrix(file: io.BufferedReader, name: str, limit: int) -> np.ndarray:
    """A matrix in text: "[", rows of numbers in lines, "]"."""
    text = _text(file, name, limit)
    rows = [row for row in (line.split() for line in text.split("\n")) if row]
    try:
        matrix = np.asarray([[float(field) for field in row] for row in rows], np.float64)
    except ValueError as error:
        raise UserError(f"{name} is no matrix in text ({visible(str(error))}); {_REMEDY}") from error
    return matrix.reshape(len(rows), -1 if rows else 0)


def _text(file: io.BufferedReader, name: str, limit: int) -> str:
    """What stands between the brackets of a matrix in text, and the line's rest is read."""
    pieces, length = [], 0
    while line := file.readline(1 << 22):
        length += len(line)
        require_memory(name, 16 * length, limit)
        if not pieces:
            line = line.lstrip()
            if not line:
                continue
            if not line.startswith(b"["):
                raise UserError(f"{name} is no matrix: it begins with {quoted(line[:20].strip().decode('latin-1'))}")
            line = line[1:]
        inside, mark, _ = line.partition(b"]")
        pieces.append(inside)
        if mark:
            return b"".join(pieces).decode("latin-1")
    raise UserError(f"{name} is cut off: its matrix has no closing bracket; {_REMEDY}")


def _skip(file: io.BufferedReader, name: str, size: int) -> None:
    """Goes to the end of the matrix that begins here."""
    if _is_binary(file):
        kind, rows, columns, _, _ = _header(file, name)
        end = file.tell() + _size(kind, rows, columns)
        if end > size:
            raise UserError(f"{name} is cut off: it ends at position {end:,}, and the file at {size:,}; {_REMEDY}")
        file.seek(end)
    else:
        _text(file, name, size * 16 + 1)
