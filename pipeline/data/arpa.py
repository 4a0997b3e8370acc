"""Language models in ARPA's format: the tables of an n-gram model with back-off, as SRILM and KenLM write them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..display import quoted, visible
from ..errors import UserError
from .text import read_encoded

Gram = tuple[str, ...]

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
LOWEST = -1e4
"""The least logarithm that is told from 0 probability."""


@dataclass(frozen=True)
class Arpa:
    """An n-gram model with back-off: natural logarithms of probabilities and back-off weights, by n-gram.

    order: number of words of the longest n-grams. Words are in lower case, besides ``BEGIN``, ``END`` and ``UNKNOWN``.
    """

    order: int
    log_p: Mapping[Gram, float]
    backoffs: Mapping[Gram, float]

    @classmethod
    def parse(cls, content: Any) -> "Arpa":
        """The model that ``content`` returned. Raises an exception for what is none."""
        tables = [{tuple(gram.split(" ")): float(value) for gram, value in table.items()} for table in content[1:]]
        return cls(int(content[0]), *tables)

    def content(self) -> list[Any]:
        """The model as JSON."""
        tables = ({" ".join(gram): value for gram, value in table.items()} for table in (self.log_p, self.backoffs))
        return [self.order, *tables]


def read_arpa(path: Path, encoding: str = "") -> Arpa:
    """Reads a model in ARPA's format, plain or gzipped; its logarithms are decimal.

    Words in different case are one word, whose first entry counts.
    Raises UserError, with the line, for a file that is not of this format.
    """
    lines = enumerate(read_encoded(path, encoding).split("\n"), 1)
    counts = _header(path, lines)
    log_p: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    order, found = 0, [0] * (len(counts) + 1)
    for number, line in lines:
        fields = line.split()
        if not fields:
            continue
        if line.startswith("\\"):
            if line.strip() == "\\end\\":
                break
            order += 1
            if line.strip() != f"\\{order}-grams:" or order > len(counts):
                raise UserError(f"{path}: line {number} is {quoted(line.strip())}, and not the n-grams that come next")
            continue
        if not 1 <= order <= len(fields) - 1 <= order + 1:
            raise UserError(f"{path}: line {number} must have a logarithm and {order} words, and has {visible(line)}")
        gram = tuple(word if word in (BEGIN, END) else word.lower() for word in fields[1 : order + 1])
        found[order] += 1
        if gram not in log_p:
            log_p[gram] = _log(path, number, fields[0])
            if len(fields) > order + 1:
                backoffs[gram] = _log(path, number, fields[-1])
    else:
        raise UserError(f"{path} is cut off: it has no line \\end\\; copy it again")
    for length, count in enumerate(counts, 1):
        if found[length] != count:
            raise UserError(f"{path} announces {count} {length}-grams and has {found[length]}; make it again")
    return Arpa(len(counts), log_p, backoffs)


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> list[int]:
    """The numbers of n-grams that the header announces, for each order."""
    for _, line in lines:
        if line.strip() == "\\data\\":
            break
    else:
        raise UserError(f"{path} is no language model in ARPA's format: it has no line \\data\\")
    counts: list[int] = []
    for number, line in lines:
        if not line.strip():
            if counts:
                return counts
            continue
        name, _, count = line.strip().partition("=")
        order = name.removeprefix("ngram").strip()
        if not (name.startswith("ngram") and order == str(len(counts) + 1) and count.strip().isdecimal()):
            raise UserError(f"{path}: line {number} is {quoted(line.strip())}, and not of the form ngram 1=1000")
        counts.append(int(count))
    raise UserError(f"{path} is cut off in its header; copy it again")


def _log(path: Path, number: int, field: str) -> float:
    """A decimal logarithm as a natural one."""
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value == math.inf:
        raise UserError(f"{path}: line {number} has {quoted(field)} where a logarithm belongs; correct it")
    return max(value, LOWEST) * math.log(10)
