"""The ratings and times of a file: texts that become numbers."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..display import quoted
from ..errors import UserError
from .delimited import is_number
from .limits import LARGEST

WORDS: dict[str, float] = {
    **dict.fromkeys(("like", "liked", "likes", "up", "thumbs up", "positive", "yes", "true"), 1.0),
    **dict.fromkeys(("dislike", "disliked", "dislikes", "down", "thumbs down", "negative", "no", "false"), 0.0),
}
"""Words for ratings, in lower case."""
MISSING = frozenset({"", "na", "n/a", "null", "none", "?", r"\n"})
"""Texts that stand for no rating, in lower case."""
_LATEST_SECOND = 1e11
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")


def ratings_of(path: Path, texts: Sequence[str], lines: Sequence[int], notes: list[str]) -> np.ndarray:
    """The ratings as numbers, float64; NaN where there is none. notes: are extended by how others were read."""
    missing = [line for text, line in zip(texts, lines) if text.lower() in MISSING]
    words = [(text, line) for text, line in zip(texts, lines) if text.lower() in WORDS]
    commas = [(text, line) for text, line in zip(texts, lines) if "," in text]
    if missing:
        notes.append(f"{len(missing):,} lines without a rating are left out (the first: line {missing[0]})")
    if words and len(words) + len(missing) == len(texts):
        kinds = ", ".join(f"{quoted(text)} as {WORDS[text.lower()]:g}" for text in sorted({text for text, _ in words}))
        notes.append(f"ratings are words (the first: line {words[0][1]}), read as numbers: {kinds}")
    elif words:
        raise UserError(
            f"{path}: line {words[0][1]} has the rating {quoted(words[0][0])}, and others are numbers; write numbers"
        )
    if commas and all(_THOUSANDS.fullmatch(text) for text, _ in commas):
        raise UserError(
            f"{path}: line {commas[0][1]} has the rating {quoted(commas[0][0])}: its comma may separate thousands or "
            "decimals; write a decimal point, or no separator"
        )
    if commas:
        notes.append(
            f"{len(commas)} ratings with a comma, the first in line {commas[0][1]}, are read with a decimal point "
            "instead"
        )
    return np.array(
        [
            np.nan
            if text.lower() in MISSING
            else WORDS[text.lower()]
            if words
            else _number(path, line, "rating", text.replace(",", ".") if commas else text)
            for text, line in zip(texts, lines)
        ],
        np.float64,
    )


def _number(path: Path, line: int, kind: str, text: str) -> float:
    place = f"{path}: line {line} has the {kind} {quoted(text)}"
    if not is_number(text):
        remedy = f", or name another column with --{kind}-column" if kind == "rating" else ""
        raise UserError(f"{place}, which is not a number; correct it{remedy}")
    if not abs(float(text)) <= LARGEST:
        raise UserError(f"{place}, which is not finite or beyond {LARGEST:g}; correct it")
    return float(text)


def time_of(path: Path, line: int, text: str) -> float:
    """Seconds: of a number, or of an ISO date, which is in UTC unless it says otherwise."""
    if is_number(text):
        return _number(path, line, "timestamp", text)
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: line {line} has the timestamp {quoted(text)}, which is neither a number of seconds nor an ISO "
            "date such as 2015-03-31; correct it, or use --time-column none"
        ) from error


def in_seconds(times: np.ndarray, notes: list[str]) -> np.ndarray:
    for unit, size in (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)):
        if _LATEST_SECOND < np.median(times) <= size * _LATEST_SECOND:
            notes.append(f"times such as {times[0]:.0f} are read as {unit}: as seconds they lie far ahead")
            return times / size
    return times
