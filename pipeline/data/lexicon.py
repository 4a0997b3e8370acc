"""Lexicons: the words that a recogniser may write, and how each is spelled in its units."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .limits import require_unicode
from .text import read_encoded
from .vocabulary import Characters, Tokens

Spelling = tuple[str, ...]

_ALTERNATIVE = re.compile(r"(?<=.)\(\d+\)$")
"""What follows a word's further spellings in CMU's dictionaries: READ(2)."""


@dataclass(frozen=True)
class Lexicon:
    """Words in lower case, each with one or more spellings: sequences of units, such as letters or phones.

    >>> lexicon = Lexicon.of_words(["on", "off"])
    >>> lexicon.spellings["off"], lexicon.spell("on off"), lexicon.unknown("on air")
    ((('o', 'f', 'f'),), 'o n o f f', ['air'])
    """

    spellings: Mapping[str, tuple[Spelling, ...]]

    @classmethod
    def of_words(cls, words: Iterable[str]) -> "Lexicon":
        """Words that are spelled by their characters."""
        return cls({word: (tuple(word),) for word in sorted(set(words))})

    @classmethod
    def parse(cls, content: Any) -> "Lexicon":
        """The lexicon that ``content`` returned. Raises an exception for what is none."""
        return cls({word: tuple(tuple(spelling.split()) for spelling in its) for word, its in content.items()})

    def content(self) -> dict[str, list[str]]:
        """The lexicon as JSON."""
        return {word: [" ".join(spelling) for spelling in its] for word, its in self.spellings.items()}

    def __len__(self) -> int:
        return len(self.spellings)

    def spell(self, text: str) -> str:
        """The units of a text's words, each by its first spelling, with spaces between; unknown words have none."""
        known = (self.spellings[word][0] for word in text.split() if word in self.spellings)
        return " ".join(unit for spelling in known for unit in spelling)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the lexicon, each once."""
        return [word for word in dict.fromkeys(text.split()) if word not in self.spellings]


def read_lexicon(path: Path, encoding: str = "", notes: list[str] | None = None) -> Lexicon:
    """The lexicon in a file of Kaldi's or CMU's form: in each line a word and, after a tab or space, its units.

    Further spellings of a word are in lines of their own; in CMU's form, these have READ(2) in place of READ. Lines
    that begin with ";;;", and what follows " #", are comments. In Kaldi's lexiconp.txt, a probability stands before the
    units and is left out. In a file with nothing but words, these are spelled by their characters.

    notes: are extended by what was guessed.
    Raises UserError, with the line, for a word without units, and for a file without words.
    """
    lines: list[tuple[int, list[str]]] = []
    for number, line in enumerate(read_encoded(path, encoding, notes=notes).split("\n"), 1):
        fields = [] if line.startswith(";;;") else line.partition(" #")[0].split()
        if fields:
            lines.append((number, fields))
    if not lines:
        raise UserError(f"{path} has no words; write a word and its units in each line, as in: hello HH AH L OW")
    if all(len(fields) == 1 for _, fields in lines):
        return Lexicon.of_words(fields[0].lower() for _, fields in lines)
    with_p = all(len(fields) > 2 and _is_probability(fields[1]) for _, fields in lines)
    if with_p and notes is not None:
        notes.append(f"{visible(path.name)}: the probabilities of spellings are not used")
    spellings: dict[str, dict[Spelling, None]] = {}
    for number, (word, *units) in lines:
        units = units[with_p:]
        if not units:
            raise UserError(f"{path}: line {number} has the word {quoted(word)} and no units; add them, or remove it")
        spellings.setdefault(_ALTERNATIVE.sub("", word).lower(), {})[tuple(units)] = None
    return Lexicon({word: tuple(its) for word, its in spellings.items()})


def _is_probability(field: str) -> bool:
    return re.fullmatch(r"[01]?\.\d+(e-\d+)?|[01]|1\.0*", field) is not None


@dataclass(frozen=True)
class Pronunciations:
    """An alphabet whose labels are a lexicon's units, for transcripts that consist of its words.

    >>> lexicon = Lexicon({"hi": (("HH", "AY"),)})
    >>> Pronunciations(Tokens.of(["HH AY"]), lexicon).encode("hi hi").tolist()
    [2, 1, 2, 1]
    """

    units: Tokens
    lexicon: Lexicon

    def __len__(self) -> int:
        return len(self.units)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The text of each id."""
        return self.units.symbols

    def encode(self, text: str) -> np.ndarray:
        """The ids of the units of a text's words, by their first spellings: int32, (units,)."""
        return self.units.encode(self.lexicon.spell(require_unicode(text)))

    def decode(self, ids: np.ndarray) -> str:
        """The units of ids, with spaces between them."""
        return self.units.decode(ids)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the lexicon does not have, each once."""
        return self.lexicon.unknown(text)


def spelled_words(
    lexicon: Lexicon, alphabet: Characters | Tokens | Pronunciations
) -> list[tuple[int, tuple[int, ...]]]:
    """The spellings of a lexicon's words as labels, each with the word's id: its place, from 1 on.

    Spellings with units that the alphabet does not have are left out; the units of characters are single ones, in lower
    case.
    """
    lower = isinstance(alphabet, Characters)
    labels = {symbol: label for label, symbol in enumerate(alphabet.symbols) if label and symbol != " "}
    found = []
    for word, spellings in enumerate(lexicon.spellings.values(), 1):
        for spelling in spellings:
            units = [unit.lower() for unit in spelling] if lower else spelling
            if all(unit in labels for unit in units):
                found.append((word, tuple(labels[unit] for unit in units)))
    return found
