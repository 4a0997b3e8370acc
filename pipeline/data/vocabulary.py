"""Vocabularies of characters, subwords or words, learnt from text through the package ``tokenizers``."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import storage
from ..errors import UserError
from ..extras import extra
from .limits import TEXT_COST, parsing, read_content, require_unicode

if TYPE_CHECKING:
    import tokenizers

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
PADDING, BEGIN, END = 0, 1, 2
"""The first ids of ``Subwords``. In ``Words``, id 0 is padding too."""
UNKNOWN_WORD = 1
"""The id in ``Words`` of every word that is not in the vocabulary."""
_PIECES = "[\\s\\S]{1,64}(?![\u0122-\u0143\u00a1-\u00ac\u00ae-\u00bf])"
"""Pieces of at most 64 bytes, which end where a character does: learning from longer ones takes quadratic time.

The second part excludes UTF-8's continuation bytes as tokenizers writes them.
"""


@dataclass(frozen=True)
class Characters:
    """A vocabulary of characters: a character's id is its place. Id 0 stands for all unknown characters.

    >>> vocabulary = Characters.of("hello")
    >>> vocabulary.encode("hole"), vocabulary.decode(np.array([2, 1]))
    (array([2, 4, 3, 1], dtype=int32), 'he')
    """

    characters: str
    special_ids: ClassVar[tuple[int, ...]] = (0,)

    @classmethod
    def of(cls, text: str) -> "Characters":
        """The characters of a text, in the order of their code points."""
        return cls(UNKNOWN + "".join(sorted(set(text) - {UNKNOWN})))

    def __len__(self) -> int:
        return len(self.characters)

    @cached_property
    def _ids(self) -> np.ndarray:
        """The id of every code point up to the largest one."""
        points = np.frombuffer(self.characters.encode("utf-32-le"), np.uint32)
        ids = np.zeros(int(points.max()) + 1, np.int32)
        ids[points] = np.arange(len(points))
        return ids

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text's characters: int32, (characters,). Raises UserError for a text that is not Unicode."""
        points = np.frombuffer(require_unicode(text).encode("utf-32-le"), np.uint32)
        return np.where(points < len(self._ids), self._ids[np.minimum(points, len(self._ids) - 1)], 0)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids."""
        return "".join(self.characters[i] for i in ids)

    def unknown(self, text: str) -> str:
        """The characters of a text that are not in the vocabulary, each once."""
        return "".join(c for c in dict.fromkeys(text) if c not in self.characters)


@dataclass(frozen=True)
class _Learnt:
    """A vocabulary of ``tokenizers``. definition: its tokenizer as JSON.

    special: the texts that have the first ids.
    """

    definition: str
    special: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def _tokenizer(self) -> "tokenizers.Tokenizer":
        with extra("text"):
            from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def check(self) -> None:
        """Raises an exception unless the ids are 0, 1, 2, ..., the first ones special, and any text can be encoded."""
        ids = self._tokenizer.get_vocab()
        if sorted(ids.values()) != list(range(len(ids))):
            raise ValueError("its ids are not 0, 1, 2, ..., each once")
        if [ids.get(text) for text in self.special] != list(range(len(self.special))):
            raise ValueError(f"its first ids are not those of {', '.join(self.special)}")
        self.encode(f"a text with {UNKNOWN}")

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text: int32, (tokens,). Raises UserError for a text that is not Unicode."""
        return np.asarray(self._tokenizer.encode(require_unicode(text)).ids, np.int32)

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each of many texts, computed on all cores. Raises UserError for a text that is not Unicode."""
        texts = [require_unicode(text) for text in texts]
        return [np.asarray(encoding.ids, np.int32) for encoding in self._tokenizer.encode_batch(texts)]

    def tokens(self, ids: np.ndarray) -> list[str]:
        """The text of each id."""
        return [self._tokenizer.id_to_token(i) or "" for i in ids.tolist()]


@dataclass(frozen=True)
class Subwords(_Learnt):
    """Byte-pair encoding (Sennrich et al. 2016) of UTF-8 bytes, which can represent any text.

    A word includes the space before it; one of more than 64 bytes is cut. Each digit is a subword of
    its own, so that numbers are read and written digit by digit. Ids 0, 1 and 2 are PADDING, BEGIN and END.
    """

    special = ("<padding>", "<begin>", "<end>")
    special_ids: ClassVar[tuple[int, ...]] = (PADDING, BEGIN, END)

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Subwords":
        """Learns a vocabulary of at most ``size`` ids, which include all bytes and the three special ids."""
        with extra("text"):
            from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(cls.special),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, without special ids; bytes that are not UTF-8 become replacement characters."""
        return self._tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=True)

    def tokens(self, ids: np.ndarray) -> list[str]:
        """The text of each id, with the space before a word."""
        return [self.special[i] if i < len(self.special) else self._tokenizer.decode([i]) for i in ids.tolist()]

    def unknown(self, text: str) -> str:
        """The characters of a text that are in no subword as a whole, each once: their bytes stand for them."""

        def pieces(text: str) -> int:
            return len(self._tokenizer.encode(text).ids)

        rare = (c for c in dict.fromkeys(text) if not c.isascii())
        return "".join(c for c in rare if pieces(c) > 1 and pieces(f" {c}") > 1)


@dataclass(frozen=True)
class Words(_Learnt):
    """Frequent words, in lower case, and punctuation marks. Ids 0 and 1 are PADDING and UNKNOWN_WORD."""

    special = ("<padding>", "<unknown>")

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, least: int = 1) -> "Words":
        """Learns the most frequent words, at most ``size`` ids, of those that occur at least ``least`` times."""
        with extra("text"):
            from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.WordLevel(unk_token="<unknown>"))
        tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, min_frequency=least, special_tokens=list(cls.special), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary."""
        encoding = self._tokenizer.encode(text)
        return [text[start:end] for id_, (start, end) in zip(encoding.ids, encoding.offsets) if id_ == UNKNOWN_WORD]


KINDS: dict[str, Any] = {"characters": Characters, "subwords": Subwords, "words": Words}


def write(folder: Path, vocabulary: Characters | Subwords | Words) -> None:
    """Writes ``vocabulary.json`` into a run's folder."""
    kind = next(name for name, class_ in KINDS.items() if type(vocabulary) is class_)
    content = vocabulary.characters if isinstance(vocabulary, Characters) else json.loads(vocabulary.definition)
    storage.write(folder / "vocabulary.json", json.dumps({kind: content}, ensure_ascii=False) + "\n")


def read(run_directory: Path) -> Any:
    """The vocabulary that ``write`` wrote. Raises UserError if it cannot be read, or is not one that was learnt."""
    with extra("text"):
        from tokenizers import Tokenizer

    path = run_directory / "vocabulary.json"
    if not os.path.isfile(path):
        raise UserError(f"{run_directory} is not the folder of a run: it has no vocabulary.json; name another folder")
    problem = f"{run_directory} is not the folder of a run: its vocabulary.json cannot be read"
    with parsing(problem, "name another folder, or train again"):
        ((kind, content),) = json.loads(read_content(path, cost=TEXT_COST)).items()
        if kind == "characters":
            content.encode()  # which raises where half of a character is among them
            if content != Characters.of(content).characters:
                raise ValueError("its characters are not in order, each once")
            return Characters(content)
        vocabulary = KINDS[kind](Tokenizer.from_str(json.dumps(content)).to_str())
        vocabulary.check()
        return vocabulary
