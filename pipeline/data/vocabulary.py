"""Vocabularies of characters, subwords or words, learnt from text through the package ``tokenizers``."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from .. import storage
from ..errors import UserError
from ..extras import extra
from .limits import TEXT_COST, parsing, read_content, require_unicode

if TYPE_CHECKING:
    import tokenizers

L = TypeVar("L", bound="_Learnt")

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
PADDING, BEGIN, END = 0, 1, 2
"""The first ids of ``Subwords``. In ``Words``, id 0 is padding too."""
UNKNOWN_WORD = 1
"""The id in ``Words`` of every word that is not in the vocabulary."""
BAG = 24
"""Ids of a word in ``SpelledWords``: its own, and those of at most 23 n-grams."""
NGRAMS = (5, 4, 3)
"""Lengths of n-grams in characters; the longest come first, since they say most about a word."""
_SPELLED = 32
"""Characters of a word whose n-grams are looked at."""
_FORMS = 200_000
"""Different words that n-grams are learnt from: the most frequent ones."""
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]\p{M}*"
"""A character, with its marks, of a script that does not separate words by spaces."""
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

    @classmethod
    def parse(cls, content: str) -> "Characters":
        """The vocabulary that ``content`` returned. Raises an exception for what is none."""
        content.encode()  # which raises where half of a character is among them
        if content != cls.of(content).characters:
            raise ValueError("its characters are not in order, each once")
        return cls(content)

    def content(self) -> str:
        """The vocabulary as JSON."""
        return self.characters

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

    @property
    def symbols(self) -> tuple[str, ...]:
        """The text of each id."""
        return tuple(self.characters)


@dataclass(frozen=True)
class Tokens:
    """A vocabulary of what stands between spaces, such as phones. Id 0 stands for all unknown tokens.

    >>> vocabulary = Tokens.of(["HH AH L OW", "AH"])
    >>> vocabulary.encode("OW HH T"), vocabulary.decode(np.array([4, 1]))
    (array([4, 2, 0], dtype=int32), 'OW AH')
    """

    symbols: tuple[str, ...]
    special_ids: ClassVar[tuple[int, ...]] = (0,)

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Tokens":
        """The tokens of texts, in the order of their code points."""
        return cls((UNKNOWN, *sorted({token for text in texts for token in text.split()} - {UNKNOWN})))

    @classmethod
    def parse(cls, content: Any) -> "Tokens":
        """The vocabulary that ``content`` returned. Raises an exception for what is none."""
        vocabulary = cls.of([require_unicode(token) for token in content])
        if list(vocabulary.symbols) != list(content):
            raise ValueError("its tokens are not in order, each once")
        return vocabulary

    def content(self) -> list[str]:
        """The vocabulary as JSON."""
        return list(self.symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: id_ for id_, token in enumerate(self.symbols)}

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text's tokens: int32, (tokens,). Raises UserError for a text that is not Unicode."""
        return np.asarray([self._ids.get(token, 0) for token in require_unicode(text).split()], np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """The tokens of ids, with spaces between them."""
        return " ".join(self.symbols[i] for i in ids)

    def unknown(self, text: str) -> list[str]:
        """The tokens of a text that are not in the vocabulary, each once."""
        return [token for token in dict.fromkeys(text.split()) if token not in self._ids]


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

    @classmethod
    def parse(cls: type[L], content: Any) -> L:
        """The vocabulary that ``content`` returned. Raises an exception for what is none."""
        with extra("text"):
            from tokenizers import Tokenizer

        vocabulary = cls(Tokenizer.from_str(json.dumps(content)).to_str())
        vocabulary._check()
        return vocabulary

    def content(self) -> Any:
        """The vocabulary as JSON."""
        return json.loads(self.definition)

    def _check(self) -> None:
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
    """Frequent words, in lower case, and punctuation marks. Ids 0 and 1 are PADDING and UNKNOWN_WORD.

    In scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) every character is
    a word of its own.
    """

    special = ("<padding>", "<unknown>")

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, least: int = 1) -> "Words":
        """Learns the most frequent words, at most ``size`` ids, of those that occur at least ``least`` times."""
        with extra("text"):
            from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.WordLevel(unk_token="<unknown>"))
        tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex(_UNSPACED), "isolated")]
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, min_frequency=least, special_tokens=list(cls.special), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @cached_property
    def _ids(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()

    def split(self, text: str) -> list[str]:
        """The words of a text, as ``encode`` takes them, in lower case."""
        normalized = self._tokenizer.normalizer.normalize_str(require_unicode(text))
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]

    def id_of(self, word: str) -> int:
        """The id of a word as ``split`` returns it."""
        return self._ids.get(word, UNKNOWN_WORD)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary."""
        encoding = self._tokenizer.encode(text)
        return [text[start:end] for id_, (start, end) in zip(encoding.ids, encoding.offsets) if id_ == UNKNOWN_WORD]


@dataclass(frozen=True)
class SpelledWords:
    """Words with their spelling: a word's ids are its own and those of its character n-grams (Bojanowski et al. 2017).

    So a word that no training text has, such as another form of one that they have, still says something. The ids of
    n-grams follow those of the words. An n-gram is one of ``NGRAMS`` characters of the word between "<" and ">".

    >>> vocabulary = SpelledWords.learn(["enjoy enjoyed", "play played"], words=100, ngrams=100)
    >>> vocabulary.unknown("enjoy playing"), vocabulary.ngrams_of("playing")
    (['playing'], ['<play', '<pla', 'play', '<pl', 'pla', 'lay'])
    """

    words: Words
    ngrams: tuple[str, ...]

    @classmethod
    def learn(cls, texts: Sequence[str], words: int, ngrams: int) -> "SpelledWords":
        """Learns the most frequent words, at most ``words`` ids, and n-grams, at most ``ngrams``.

        N-grams that only one word has would say the same as its own id: the most frequent ones are those in the
        largest number of different words, which are at least two.
        """
        forms = Words.learn(texts, _FORMS)
        counts = Counter(part for word in forms.tokens(np.arange(2, len(forms))) for part in set(_parts(word)))
        shared = sorted((part for part, count in counts.items() if count > 1), key=lambda part: (-counts[part], part))
        return cls(Words.learn(texts, words), tuple(shared[:ngrams]))

    @classmethod
    def parse(cls, content: Any) -> "SpelledWords":
        """The vocabulary that ``content`` returned. Raises an exception for what is none."""
        ngrams = tuple(content["ngrams"])
        if len(set(ngrams)) < len(ngrams) or not all(isinstance(part, str) and len(part) in NGRAMS for part in ngrams):
            raise ValueError(f"its n-grams are not different texts of {min(NGRAMS)} to {max(NGRAMS)} characters")
        return cls(Words.parse(content["tokenizer"]), ngrams)

    def content(self) -> Any:
        """The vocabulary as JSON."""
        return {"tokenizer": self.words.content(), "ngrams": self.ngrams}

    def __len__(self) -> int:
        return len(self.words) + len(self.ngrams)

    @cached_property
    def _ngram_ids(self) -> dict[str, int]:
        return {ngram: id_ for id_, ngram in enumerate(self.ngrams, len(self.words))}

    def ngrams_of(self, word: str) -> list[str]:
        """The n-grams of a word that are in the vocabulary, the longest first."""
        return [part for part in _parts(word) if part in self._ngram_ids][: BAG - 1]

    def bags(self, words: Sequence[str]) -> np.ndarray:
        """The ids of words as ``split`` returns them, padded with 0: int32, (words, BAG)."""
        bags = np.full((len(words), BAG), PADDING, np.int32)
        for bag, word in zip(bags, words):
            ids = [self.words.id_of(word), *(self._ngram_ids[part] for part in self.ngrams_of(word))]
            bag[: len(ids)] = ids
        return bags

    def split(self, text: str) -> list[str]:
        """The words of a text, in lower case."""
        return self.words.split(text)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text's words: int32, (words, BAG). Raises UserError for a text that is not Unicode."""
        return self.bags(self.split(text))

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary, whatever is known of their n-grams."""
        return self.words.unknown(text)


def _parts(word: str) -> list[str]:
    """The n-grams of a word, the longest first."""
    spelled = f"<{word[:_SPELLED]}>"
    return [spelled[i : i + n] for n in NGRAMS for i in range(len(spelled) - n + 1)]


KINDS: dict[str, Any] = {
    "characters": Characters,
    "tokens": Tokens,
    "subwords": Subwords,
    "words": SpelledWords,
}


def write(folder: Path, vocabulary: Characters | Tokens | Subwords | SpelledWords) -> None:
    """Writes ``vocabulary.json`` into a run's folder."""
    kind = next(name for name, class_ in KINDS.items() if type(vocabulary) is class_)
    storage.write(folder / "vocabulary.json", json.dumps({kind: vocabulary.content()}, ensure_ascii=False) + "\n")


def read(run_directory: Path) -> Any:
    """The vocabulary that ``write`` wrote. Raises UserError if it cannot be read, or is not one that was learnt."""
    path = run_directory / "vocabulary.json"
    if not os.path.isfile(path):
        raise UserError(f"{run_directory} is not the folder of a run: it has no vocabulary.json; name another folder")
    problem = f"{run_directory} is not the folder of a run: its vocabulary.json cannot be read"
    with parsing(problem, "name another folder, or train again"):
        ((kind, content),) = json.loads(read_content(path, cost=TEXT_COST)).items()
        return KINDS[kind].parse(content)
