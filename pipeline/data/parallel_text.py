"""Parallel text: files with the same sentences in two languages, and their ids as training examples."""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from ..losses.base import Targets
from .batches import padded
from .known import folder_of
from .limits import TEXT_COST, list_folder, read_content
from .text import decoded
from .vocabulary import BEGIN, END, Subwords

CLDR_SIZES = {"train": 20_000, "validation": 500, "test": 500}
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 1_000
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation", "dev"), "test": ("test",)}
"""Prefixes of the names of each part's files."""
MULTI30K = {
    "train.lc.norm.tok.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "train.lc.norm.tok.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "val.lc.norm.tok.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "val.lc.norm.tok.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "test_2016_flickr.lc.norm.tok.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2016_flickr.lc.norm.tok.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
}
MULTI30K_MIRRORS = ("https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/tok/",)

KNOWN = ("cldr", "multi30k")

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class ParallelText:
    """Sentences and their translations in three parts. notes: which pairs were left out, and why."""

    name: str
    train: Pairs
    validation: Pairs
    test: Pairs
    notes: tuple[str, ...] = ()


def load(name_or_path: str, source: str = "en", target: str = "de", seed: int = 0) -> ParallelText:
    """Loads known sentences by their name, "cldr" or "multi30k", or the user's own from a folder of files.

    source, target: language codes, which are the suffixes of the files. seed: random seed of the validation part, for a
    folder without one.

    Raises UserError for files that are missing, are not UTF-8, or have different numbers of lines.
    """
    if source == target:
        raise UserError(f"--source and --target are both {source!r}; choose two languages")
    if name_or_path == "cldr":
        from .synthetic.cldr import sentences

        pairs = sentences(sum(CLDR_SIZES.values()), source, target, seed=0)
        train, validation = CLDR_SIZES["train"], CLDR_SIZES["train"] + CLDR_SIZES["validation"]
        return ParallelText("cldr", pairs[:train], pairs[train:validation], pairs[validation:])
    folder = _multi30k() if name_or_path == "multi30k" else Path(name_or_path)
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder} is neither a known set of sentences (cldr, multi30k) nor a folder of files such as "
            f"train.{source} and train.{target}"
        )
    return _read_folder(folder, name_or_path, source, target, seed)


def _multi30k() -> Path:
    """The folder of Multi30k (Elliott et al. 2016): descriptions of images, tokenised and in lower case.

    29,000 training, 1,014 validation and 1,000 test pairs. Read from ``$PIPELINE_DATA/multi30k-en-de/tok`` or the
    user's cache; otherwise downloaded into the cache.
    """
    return folder_of(MULTI30K, MULTI30K_MIRRORS, shared="multi30k-en-de/tok", cached="multi30k")


def _read_folder(folder: Path, name: str, source: str, target: str, seed: int) -> ParallelText:
    files = {part: _find(folder, part, source, target) for part in PARTS}
    if files["train"] is None:
        languages = sorted({_language(file) for file in list_folder(folder) if file.name.startswith("train")})
        has = (
            f"it has training files in {visible(', '.join(languages))}" if languages else "it has no file named train.*"
        )
        raise UserError(
            f"{folder} has no pair of files train.{source} and train.{target} (plain or .gz, or with more in between, "
            f"as in train.tok.{source}); {has}. Name two languages with --source and --target"
        )
    notes: list[str] = []
    parts: dict[str, Pairs] = {}
    for part, pair in files.items():
        if pair is not None:
            parts[part] = _read_pairs(*pair, notes)
    for part in ("test", "validation"):
        if part not in parts:
            parts["train"], parts[part] = _held_out(parts["train"], folder, part, seed if part != "test" else 0)
    return ParallelText(name, parts["train"], parts["validation"], parts["test"], tuple(notes))


def _language(file: Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[2]


def _find(folder: Path, part: str, source: str, target: str) -> tuple[Path, Path] | None:
    """The first pair of files of a part, in alphabetical order; None if there is none."""
    names: Mapping[str, Path] = {file.name.removesuffix(".gz"): file for file in list_folder(folder)}
    for name, file in names.items():
        stem, _, language = name.rpartition(".")
        other = names.get(f"{stem}.{target}")
        if language == source and stem.split(".")[0].split("_")[0] in PARTS[part] and other:
            return file, other
    return None


def _read_pairs(source: Path, target: Path, notes: list[str]) -> Pairs:
    first, second = read_lines(source), read_lines(target)
    if len(first) != len(second):
        raise UserError(
            f"{source} has {len(first)} lines and {target} has {len(second)}; each line must be the translation of the "
            "same line in the other file: look for a sentence that is missing, or broken into two lines"
        )
    pairs = [(a, b) for a, b in zip(first, second) if a and b]
    if not pairs:
        raise UserError(f"{source} and {target} have no pair of lines in which both have text")
    if len(pairs) < len(first):
        notes.append(f"{len(first) - len(pairs)} pairs of {visible(source.name)} left out: a line is empty")
    return pairs


def read_lines(path: Path, limit: int | None = None) -> list[str]:
    """The lines of a UTF-8 file, plain or gzipped, without leading and trailing spaces; only "\\n" ends a line.

    limit: bytes of memory that the lines may take; None: half of the machine's memory.
    Raises UserError if the file cannot be read, or needs more memory than the limit.
    """
    content = read_content(path, limit, TEXT_COST)
    text = decoded(path, content, "UTF-8", f"convert it first, as with: iconv -f latin1 -t utf-8 {path.name}")
    if not text.strip():
        raise UserError(f"{path} is empty")
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def _held_out(pairs: Pairs, folder: Path, part: str, seed: int) -> tuple[Pairs, Pairs]:
    """The rest of the pairs, and a random tenth of them, at most 1,000."""
    size = min(round(HELD_OUT_SHARE * len(pairs)), HELD_OUT_MOST)
    if size < 1:
        raise UserError(
            f"{folder} has no {part} files, and its {len(pairs)} training pairs are too few to hold some out"
        )
    held_out = set(random.Random(seed).sample(range(len(pairs)), size))
    return [pair for i, pair in enumerate(pairs) if i not in held_out], [pairs[i] for i in sorted(held_out)]


@dataclass(frozen=True, eq=False)
class Sentences:
    """Pairs of sentences as ids: an example has the inputs (source, target), and as labels the target shifted by one.

    sources, targets: ids of each sentence, int32, without special ids.
    """

    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]

    @classmethod
    def of(cls, pairs: Pairs, vocabulary: Subwords) -> "Sentences":
        """Pairs of texts as ids of a vocabulary."""
        return cls(*(encode(texts, vocabulary) for texts in zip(*pairs)))

    def __len__(self) -> int:
        return len(self.sources)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of positions that each pair needs: of its longer sentence with its END."""
        pairs = zip(self.sources, self.targets)
        return np.asarray([max(len(source), len(target)) + 1 for source, target in pairs])

    def at_most(self, length: int) -> "Sentences":
        """The pairs that need at most ``length`` positions."""
        rows = np.flatnonzero(self.lengths <= length)
        return Sentences(*([side[row] for row in rows.tolist()] for side in (self.sources, self.targets)))

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Targets]:
        """Inputs ``source END`` and ``BEGIN target``, and labels ``target END``, each (rows, time).

        All three are padded to the same length, so that there are few different shapes; padding has weight 0.
        """
        width = int(self.lengths[rows].max())
        sources = padded([np.append(self.sources[row], np.int32(END)) for row in rows], width=width)
        targets = padded([np.append(np.int32(BEGIN), self.targets[row]) for row in rows], width=width)
        labels = padded([np.append(self.targets[row], np.int32(END)) for row in rows], width=width)
        return (sources, targets), Targets(labels, (labels != 0).astype(np.float32))


def encode(texts: Sequence[str], vocabulary: Subwords) -> list[np.ndarray]:
    """The ids of each text: int32. A space is put before it, so that its first word has the same ids as elsewhere."""
    return vocabulary.encode_all([f" {text}" for text in texts])


def decode(ids: np.ndarray, vocabulary: Subwords) -> str:
    """The text of ids up to the first END."""
    ends = np.flatnonzero(ids == END)
    return vocabulary.decode(ids[: ends[0]] if ends.size else ids).strip()
