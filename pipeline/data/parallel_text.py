"""Parallel text: files with the same sentences in two languages, and their ids as training examples."""

import html
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from ..losses.base import Targets
from .batches import padded
from .delimited import delimiter_option, is_number, suffix_of
from .known import folder_of
from .limits import list_folder
from .named_columns import JSON, TABLES, Column, read_rows
from .parts import NAMES, notes_on_copies, part_of
from .sheet import WORKBOOKS, read_workbook_rows
from .text import read_encoded
from .vocabulary import BEGIN, END, Subwords

CLDR_SIZES = {"train": 20_000, "validation": 500, "test": 500}
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 1_000
PARTS = ("train", "validation", "test")
SIDES = ("src", "source"), ("tgt", "trg", "target")
"""Words that stand for a language in the names of files, as in src-train.txt and tgt-train.txt."""
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
FILES = (*TABLES, *JSON, *WORKBOOKS)
"""Suffixes of files with a pair in each row."""

Pairs = list[tuple[str, str]]

_SEGMENT = re.compile(r"<seg\b[^>]*>(.*)</seg>")
_MARKUP = re.compile(
    r"</?(doc|url|keywords|speaker|talkid|title|description|reviewer|translator|srcset|refset|mteval|hl|p)\b.*>|<[?!].*>"
)
"""A line of IWSLT's files that is no sentence."""


@dataclass(frozen=True, eq=False)
class ParallelText:
    """Sentences and their translations in three parts. notes: which pairs were left out, and why."""

    name: str
    train: Pairs
    validation: Pairs
    test: Pairs
    notes: tuple[str, ...] = ()


def load(
    name_or_path: str,
    source: str = "en",
    target: str = "de",
    seed: int = 0,
    encoding: str = "",
    delimiter: str = "",
) -> ParallelText:
    """Loads known sentences by their name, "cldr" or "multi30k", or the user's own from a folder of files or a table.

    source, target: language codes, which are the suffixes of the files, or the columns of a table. seed: random seed of
    the validation part, for data without one. encoding: of the files; "": see ``text.decoded``. delimiter: of tables;
    "": recognised.

    Raises UserError for files that are missing, are in another encoding, or have different numbers of lines.
    """
    if source == target:
        raise UserError(f"--source and --target are both {source!r}; choose two languages")
    notes: list[str] = []
    if name_or_path == "cldr":
        from .synthetic.cldr import sentences

        pairs = sentences(sum(CLDR_SIZES.values()), source, target, seed=0)
        train, validation = CLDR_SIZES["train"], CLDR_SIZES["train"] + CLDR_SIZES["validation"]
        return ParallelText("cldr", pairs[:train], pairs[train:validation], pairs[validation:])
    path = _multi30k() if name_or_path == "multi30k" else Path(name_or_path)
    if os.path.isdir(path):
        own_notes = notes if name_or_path != "multi30k" else []
        parts = _read_folder(path, _Options(source, target, encoding, delimiter), own_notes)
    elif suffix_of(path) in FILES and os.path.exists(path):
        parts = {"train": _read_table(path, _Options(source, target, encoding, delimiter), notes)}
    elif os.path.isfile(path):
        raise UserError(
            f"{visible(str(path))} is one file, and no table with a pair in each line ({', '.join(FILES)}): give the "
            f"folder with the files of both languages, such as train.{source} and train.{target}; convert formats such "
            "as .tmx to these"
        )
    else:
        raise UserError(
            f"{visible(str(path))} is neither a known set of sentences (cldr, multi30k) nor a folder of files such as "
            f"train.{source} and train.{target}, nor a .tsv file with the columns {source} and {target}"
        )
    for part in ("test", "validation"):
        if part not in parts:
            parts["train"], parts[part] = _held_out(parts["train"], path, part, seed if part != "test" else 0)
    same = sum(a == b for a, b in parts["train"])
    if same > 0.5 * len(parts["train"]):
        notes.append(f"{same:,} of {len(parts['train']):,} training pairs have the same text in both languages")
    notes += notes_on_copies(parts, "pairs")
    return ParallelText(name_or_path, parts["train"], parts["validation"], parts["test"], tuple(notes))


def _multi30k() -> Path:
    """The folder of Multi30k (Elliott et al. 2016): descriptions of images, tokenised and in lower case.

    29,000 training, 1,014 validation and 1,000 test pairs. Read from ``$PIPELINE_DATA/multi30k-en-de/tok`` or the
    user's cache; otherwise downloaded into the cache.
    """
    return folder_of(MULTI30K, MULTI30K_MIRRORS, shared="multi30k-en-de/tok", cached="multi30k")


@dataclass(frozen=True)
class _Options:
    """How files are read: see ``load``."""

    source: str
    target: str
    encoding: str
    delimiter: str


def _read_folder(folder: Path, options: _Options, notes: list[str]) -> dict[str, Pairs]:
    """The pairs of each part; notes are extended by what is left out, and by files that are not used."""
    languages = {name.lower() for name in (options.source, options.target, *SIDES[0], *SIDES[1])}
    inside = list_folder(folder)
    for child in inside[:]:
        is_inner = os.path.isdir(child) and (child.name.lower() in languages or part_of(child.name))
        inside += list_folder(child) if is_inner else []
    files = [file for file in inside if not file.name.startswith(".") and not os.path.isdir(file)]
    found = _find(files, options.source, options.target, folder)
    tables = {part_of(file.name): file for file in reversed(files) if suffix_of(file) in FILES}
    if not found["train"] and "train" in tables:
        used = {file for part, file in tables.items() if part}
        parts = {part: _read_table(file, options, notes) for part, file in tables.items() if part}
    else:
        if not found["train"]:
            if len(found[""]) != 1:
                raise _no_training_files(folder, files, found[""], options.source, options.target)
            found["train"] = found[""]
            notes.append(f"{visible(found[''][0][0].name)} is taken for the training part, which its name does not say")
        parts, used = {}, set()
        for part in PARTS:
            pairs_of_files = _different(found[part]) if part == "train" else found[part][:1]
            if len(pairs_of_files) > 1:
                names = visible(", ".join(file.name for file, _ in pairs_of_files))
                notes.append(f"the pairs of {len(pairs_of_files)} files are put together: {names}")
            for pair in pairs_of_files:
                parts.setdefault(part, []).extend(_read_pairs(*pair, options.encoding, notes))
                used.update(pair)
        by_side = [file for file in used if _split(file, folder)[1] in SIDES[0]]
        if by_side and options.source not in SIDES[0]:
            notes.append(
                f"{visible(by_side[0].name)} is taken for {options.source} (--source), the files of the other side "
                f"for {options.target} (--target)"
            )
    others = [file.name for file in files if file not in used]
    if others:
        names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        notes.append(f"{len(others)} files of {visible(str(folder))} are not used: {visible(names)}")
    return parts


def _no_training_files(
    folder: Path, files: Sequence[Path], others: Sequence[tuple[Path, Path]], source: str, target: str
) -> UserError:
    languages = sorted({_split(file, folder)[1] for file in files if part_of(file.name) == "train"})
    if others:
        names = visible(", ".join(file.name for file, _ in others[:5]))
        has = f"it has {names}, whose names do not begin with train, val or test: rename them"
    elif languages:
        has = f"it has training files in {visible(', '.join(languages))}. Name two languages with --source and --target"
    else:
        names = visible(", ".join(file.name for file in files[:5])) or "no files"
        has = f"it has {names}. Name two languages with --source and --target"
    return UserError(
        f"{folder} has no pair of files train.{source} and train.{target} (plain or .gz, or with more in between, "
        f"as in train.tok.{source}); {has}"
    )


def _split(file: Path, folder: Path) -> tuple[str, str]:
    """A file's name without its language, and the language.

    It is the folder inside ``folder``, a suffix, one of ``SIDES`` at the beginning or end, or the last word. A folder
    that is called like a part stands before the name.
    """
    name = re.sub(r"\.gz$", "", file.name, flags=re.IGNORECASE)
    name = re.sub(r"\.(xml|sgm|txt)$", "", name, flags=re.IGNORECASE)
    words = re.split(r"[._-]", name.lower())
    if file.parent != folder and part_of(file.parent.name):
        stem, language = _split(file, file.parent)
        return f"{file.parent.name}.{stem}", language
    if file.parent != folder:
        language = file.parent.name
        return re.sub(rf"\.{re.escape(language)}$", "", name, flags=re.IGNORECASE), _side(language) or language
    for side in SIDES:
        if words == [name.lower()] and words[0] in side:
            return "", side[0]
        if len(words) > 1 and words[0] in side:
            return name[len(words[0]) + 1 :], side[0]
        if len(words) > 1 and words[-1] in side and not name.lower().endswith(f".{words[-1]}"):
            return name[: -len(words[-1]) - 1], side[0]
    stem, _, language = name.rpartition("." if "." in name else "_" if "_" in name else "-")
    return stem, language


def _side(name: str) -> str:
    return next((side[0] for side in SIDES if name.lower() in side), "")


def _part(stem: str) -> str:
    """The part that a name means: by its first word, or any other; "" if it says none.

    >>> _part("train-clean"), _part("IWSLT16.TED.dev2010.en-de"), _part("newstest2014"), _part("europarl-v7")
    ('train', 'validation', 'test', '')
    """
    words = [word.removeprefix("news") for word in re.split(r"[^a-z]+", stem.lower())]
    return part_of(stem) or next(
        (part for word in words for part, names in NAMES.items() if word in names and len(word) > 2), ""
    )


def _find(files: Sequence[Path], source: str, target: str, folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """The pairs of files of each part, in alphabetical order, and under "" those whose name says none."""
    names = {(stem, language.lower()): file for file in files for stem, language in [_split(file, folder)]}
    found: dict[str, list[tuple[Path, Path]]] = {part: [] for part in (*PARTS, "")}
    for (stem, language), file in names.items():
        for own, its_other in ((source.lower(), target.lower()), (SIDES[0][0], SIDES[1][0])):
            other = names.get((stem, its_other))
            if language == own and other and (file, other) not in found[_part(stem)]:
                found[_part(stem)].append((file, other))
    return found


def _different(pairs: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """The first of each group of files whose names are the same up to the first dot: others are versions of it."""
    groups: dict[str, tuple[Path, Path]] = {}
    for pair in pairs:
        groups.setdefault(pair[0].name.split(".")[0], pair)
    return list(groups.values())


def _read_pairs(source: Path, target: Path, encoding: str, notes: list[str]) -> Pairs:
    lines = [_sentences(file, read_lines(file, None, encoding, notes), notes) for file in (source, target)]
    if len(lines[0]) != len(lines[1]):
        lines = [_without_blank_end(file, of_file, notes) for file, of_file in zip((source, target), lines)]
    first, second = lines
    if len(first) != len(second):
        raise UserError(
            f"{source} has {len(first)} lines and {target} has {len(second)}; each line must be the translation of the "
            "same line in the other file: look for a sentence that is missing, or broken into two lines"
        )
    return _complete(list(zip(first, second)), f"{source} and {target}", source.name, notes)


def _sentences(file: Path, lines: list[str], notes: list[str]) -> list[str]:
    """The lines without the markup of IWSLT's and WMT's files, in which a sentence may stand between <seg> tags."""
    if not any(line.startswith("<") for line in lines):
        return lines
    segments = [_SEGMENT.fullmatch(line) for line in lines]
    if any(segments):
        kept = [html.unescape(segment[1].strip()) for segment in segments if segment]
        others = [i for i, segment in enumerate(segments, 1) if not segment]
    else:
        others = [i for i, line in enumerate(lines, 1) if _MARKUP.fullmatch(line)]
        kept = [line for line in lines if not _MARKUP.fullmatch(line)]
    if others:
        notes.append(
            f"{len(others)} lines of {visible(file.name)} left out: they are markup (the first: line {others[0]})"
        )
    return kept


def _without_blank_end(file: Path, lines: list[str], notes: list[str]) -> list[str]:
    count = len(lines)
    while lines and not lines[-1]:
        lines = lines[:-1]
    if len(lines) < count:
        notes.append(f"{count - len(lines)} blank lines at the end of {visible(file.name)} left out")
    return lines


def _complete(pairs: Pairs, where: str, name: str, notes: list[str]) -> Pairs:
    """The pairs in which both sides have text."""
    complete = [(a, b) for a, b in pairs if a and b]
    if not complete:
        raise UserError(f"{where} have no pair of lines in which both have text")
    if len(complete) < len(pairs):
        first = next(i for i, (a, b) in enumerate(pairs, 1) if not (a and b))
        count = len(pairs) - len(complete)
        notes.append(f"{count} pairs of {visible(name)} left out: a line is empty (the first: line {first})")
    return complete


def _read_table(path: Path, options: _Options, notes: list[str]) -> Pairs:
    """The pairs in a table with columns named by the languages, or without a heading: the first two of texts."""
    source, target = options.source, options.target
    columns = Column(source, (source.lower(),), "--source"), Column(target, (target.lower(),), "--target")
    if suffix_of(path) in WORKBOOKS:
        rows = [fields for _, fields in read_workbook_rows(path, columns, notes)]
        return _complete([(row[source].strip(), row[target].strip()) for row in rows], str(path), path.name, notes)
    content = read_encoded(path, options.encoding, notes=notes)
    if not content.strip():
        raise UserError(f"{path} is empty")
    line = content.split("\n", 1)[0]
    first = [name.strip().strip('"').lower() for name in re.split("[\t,;|]", line)]
    is_named = {source.lower(), target.lower()} <= set(first)
    mark = "|||" if "|||" in line else delimiter_option(options.delimiter) or "\t"
    if suffix_of(path) in JSON or (is_named and mark != "|||") or mark not in content:
        rows = [fields for _, fields in read_rows(path, content, columns, notes, options.delimiter)]
        pairs = [(fields.get(source, "").strip(), fields.get(target, "").strip()) for fields in rows]
    else:
        lines = [line.split(mark) for line in content.removesuffix("\n").split("\n")]
        first, second = _columns_of_texts(lines, source, target)
        wrong = next(
            (i for i, fields in enumerate(lines, 1) if len(fields) <= max(first, second) and any(fields)), None
        )
        if wrong:
            what = "tab" if mark == "\t" else repr(mark)
            raise UserError(f"{path}: line {wrong} has no {what} between two sentences; correct it")
        if not is_named:
            notes.append(
                f"{visible(path.name)} has no heading: column {first + 1} is taken for {source}, column {second + 1} "
                f"for {target} (--source 1 --target 2 and the like choose others)"
            )
        if len(lines[0]) > 2:
            other = next(field for place, field in enumerate(lines[0]) if place not in (first, second))
            notes.append(f"{visible(path.name)}: the other columns are not used, such as {quoted(other.strip())}")
        pairs = [(fields[first].strip(), fields[second].strip()) if any(fields) else ("", "") for fields in lines]
        pairs = pairs[1:] if is_named else pairs
    return _complete(pairs, str(path), path.name, notes)


def _columns_of_texts(lines: Sequence[Sequence[str]], source: str, target: str) -> tuple[int, int]:
    """The places of two columns without names: by their numbers, or the first two that do not have numbers alone."""
    if source.isdecimal() and target.isdecimal() and int(source) and int(target):
        return int(source[:9]) - 1, int(target[:9]) - 1
    rows, size = [fields for fields in lines if any(fields)], len(lines[0])
    texts = [i for i in range(size) if not all(is_number(row[i]) for row in rows if len(row) > i)]
    return (texts[0], texts[1]) if len(texts) > 1 else (0, 1)


def read_lines(path: Path, limit: int | None = None, encoding: str = "", notes: list[str] | None = None) -> list[str]:
    """The lines of a file, plain or gzipped, without leading and trailing spaces; only "\\n" ends a line.

    limit: bytes of memory that the lines may take; None: half of the machine's memory. encoding, notes: see
    ``text.decoded``. Raises UserError if the file cannot be read, or needs more memory than the limit.
    """
    text = read_encoded(path, encoding, notes=notes, limit=limit)
    if not text.strip():
        raise UserError(f"{path} is empty")
    if "\n" not in text:
        text = text.replace("\r", "\n")
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
