"""Labelled texts by name or path, ready for training: sentences, lines or whole files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from .batches import padded
from .dataset import Arrays, in_folds, with_held_out
from .delimited import named_rows
from .folder import labelled_files
from .known import folder_of
from .limits import TEXT_COST, list_folder, require_memory
from .text import read_encoded
from .vocabulary import UNKNOWN_WORD, Words

LEXICON_SIZES = {"train": 6_000, "validation": 600, "test": 600}
POLARITY = {"negative": "neg", "positive": "pos"}
"""Suffixes of the files of each class, which have one text in each line."""
MOVIE_REVIEW = {
    "rt-polarity.neg": "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
    "rt-polarity.pos": "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
}
MOVIE_REVIEW_MIRRORS = ("https://raw.githubusercontent.com/yoonkim/CNN_sentence/master/",)
KNOWN = ("lexicon", "movie-review")


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts of one split with their labels.

    texts: strings, an object array (examples,); ids: those of each text's words, int32, never empty; labels: int32,
    (examples,).
    """

    texts: np.ndarray
    ids: Sequence[np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of words of each text."""
        return np.asarray([len(ids) for ids in self.ids])

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Ids (rows, time), padded with 0 after the end of each text, and labels (rows,)."""
        chosen = np.arange(len(self))[rows]
        return padded([self.ids[row] for row in chosen]), self.labels[chosen]


@dataclass(frozen=True, eq=False)
class LabelledText:
    """Labelled texts in three splits. vocabulary: of the training split; notes: which texts were left out or cut."""

    name: str
    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...]
    vocabulary: Words
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSource:
    """Labelled texts as a reader returns them, before splits are held out.

    parts: texts (object arrays) and labels of "train", and of "validation" and "test" if the data have these splits.
    classes: their names; notes: what was left out.
    """

    parts: Mapping[str, Arrays]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load(
    name_or_path: str,
    *,
    seed: int,
    words: int,
    longest: int,
    encoding: str = "",
    folds: int = 0,
    fold: int = 1,
) -> LabelledText:
    """Loads known texts by their name, or the user's own texts from a path.

    name_or_path: "lexicon" or "movie-review"; a ``.tsv`` or ``.csv`` file with the columns ``label`` and ``text``; a
        folder of class-named folders of ``.txt`` files (or of folders train/, val/ and test/ with such folders in
        them); a folder with a file ``*.pos`` and a file ``*.neg``, with one text in each line.
    seed: random seed of the validation split, for data without one.
    words: largest size of the vocabulary; all other words become one unknown word.
    longest: number of words after which a text is cut off.
    encoding: of the files; "": UTF-8, and latin-1 for Movie Review.
    folds, fold: the test split is part ``fold`` of a cross-validation with ``folds`` parts; 0 folds: none.

    Raises UserError, with file and line, for data that cannot be trained on.
    """
    source = _read(name_or_path, encoding)
    parts = in_folds(name_or_path, source.parts, source.classes, folds, fold) if folds else source.parts
    parts = with_held_out(name_or_path, parts, source.classes, seed)
    vocabulary = Words.learn(parts["train"][0].tolist(), words)
    notes = list(source.notes)
    splits = {}
    for part in ("train", "validation", "test"):
        texts, labels = parts[part]
        ids = vocabulary.encode_all(texts.tolist())
        cut = sum(len(text) > longest for text in ids)
        if cut:
            notes.append(f"{cut} {part} texts have more than --longest {longest} words: their ends are cut off")
        splits[part] = Texts(texts, [text[:longest] for text in ids], labels.astype(np.int32))
    unknown = np.mean([id_ == UNKNOWN_WORD for ids in splits["train"].ids for id_ in ids])
    if unknown:
        notes.append(
            f"the training texts have more than --words {words} different words: {unknown:.1%} of all words are unknown"
        )
    return LabelledText(name_or_path, **splits, classes=source.classes, vocabulary=vocabulary, notes=tuple(notes))


def _read(name: str, encoding: str) -> TextSource:
    if name == "lexicon":
        return lexicon_sentences()
    if name == "movie-review":
        return movie_review(encoding or "latin-1")
    path, encoding = Path(name), encoding or "utf-8"
    if os.path.isdir(path):
        return read_folder(path, encoding)
    if path.suffix in (".tsv", ".csv") and os.path.exists(path):
        return read_table(path, encoding)
    what = "not a set of texts" if os.path.exists(path) else "neither a known set of texts nor an existing path"
    raise UserError(
        f"{path} is {what}; known ones are {', '.join(KNOWN)}, and a path may be a .tsv or .csv file with the columns "
        "label and text, a folder of class-named folders of .txt files, or a folder with a file *.pos and a file "
        "*.neg, one text a line"
    )


def lexicon_sentences() -> TextSource:
    """The sentences of ``synthetic.lexicon``, whose labels follow from people's ratings of single words."""
    from .synthetic import lexicon

    parts = {}
    for part, sentences in lexicon.sentences(LEXICON_SIZES, seed=0).items():
        parts[part] = _arrays([(sentence.text, int(sentence.valence > 0)) for sentence in sentences])
    return TextSource(parts, tuple(POLARITY))


def movie_review(encoding: str) -> TextSource:
    """Movie Review, sentence polarity 1.0 (Pang & Lee 2005): 10,662 snippets in latin-1, without splits.

    Read from ``$PIPELINE_DATA/mr-polarity`` or the user's cache; otherwise downloaded into the cache.
    """
    folder = folder_of(MOVIE_REVIEW, MOVIE_REVIEW_MIRRORS, shared="mr-polarity", cached="mr-polarity")
    return read_folder(folder, encoding)


def read_folder(path: Path, encoding: str) -> TextSource:
    """The texts of ``*.pos`` and ``*.neg`` files, one in each line, or of class-named folders, one in each file."""
    inside = list_folder(path)
    files = {name: [file for file in inside if file.suffix == f".{ending}"] for name, ending in POLARITY.items()}
    if all(files.values()):
        return _read_lines(files, encoding)
    if any(files.values()):
        has, lacks = sorted(POLARITY, key=lambda name: not files[name])
        raise UserError(f"{path} has {files[has][0].name} but no file *.{POLARITY[lacks]}; both classes need one")
    files_of, classes = labelled_files(path, (".txt",))
    if not classes:
        raise UserError(
            f"{path} has no folders in it, and no files *.pos and *.neg; put the texts of each class into a folder "
            "with its name, as .txt files, or the texts of all into a .tsv file with the columns label and text"
        )
    size = sum(os.path.getsize(file) for pairs in files_of.values() for file, _ in pairs)
    require_memory(f"the set of files in {path}", TEXT_COST * size)
    parts = {part: [(read_encoded(file, encoding), label) for file, label in pairs] for part, pairs in files_of.items()}
    return _without_empty(path, parts, classes, "files")


def _read_lines(files: Mapping[str, Sequence[Path]], encoding: str) -> TextSource:
    pairs = []
    for label, files_of_class in enumerate(files.values()):
        for file in files_of_class:
            # A line may contain control characters, at which str.splitlines would break it.
            lines = read_encoded(file, encoding).removesuffix("\n").split("\n")
            pairs += [(line, label) for line in lines]
    folder = next(iter(files.values()))[0].parent
    return _without_empty(folder, {"train": pairs}, tuple(files), "lines")


def read_table(path: Path, encoding: str) -> TextSource:
    """The texts in a ``.tsv`` or ``.csv`` file whose first line has the columns ``label`` and ``text``."""
    pairs, blank = [], 0
    for line, fields in named_rows(path, read_encoded(path, encoding), ("label", "text")):
        if not fields:
            blank += 1
            continue
        if not fields["label"].strip():
            raise UserError(f"{path}: line {line} has no label; give it one, or remove the line")
        pairs.append((fields["text"], fields["label"].strip()))
    labels = {name: label for label, name in enumerate(sorted({name for _, name in pairs}))}
    numbered = [(text, labels[name]) for text, name in pairs]
    return _without_empty(path, {"train": numbered}, tuple(labels), "lines", blank)


def _without_empty(
    path: Path, parts: Mapping[str, Sequence[tuple[str, int]]], classes: tuple[str, ...], what: str, blank: int = 0
) -> TextSource:
    """The texts that are not empty, and a note on the others.

    what: the unit in which the texts were read, for the note; blank: number of empty ones that ``parts`` does not have.
    """
    texts = {part: [(text.strip(), label) for text, label in pairs if text.strip()] for part, pairs in parts.items()}
    for part, pairs in texts.items():
        if not pairs:
            raise UserError(f"{path} has no {part} texts: it is empty")
    left_out = blank + sum(len(pairs) - len(texts[part]) for part, pairs in parts.items())
    notes = (f"{left_out} {what} of {visible(str(path))} left out: they are empty",) if left_out else ()
    return TextSource({part: _arrays(pairs) for part, pairs in texts.items()}, classes, notes)


def _arrays(pairs: Sequence[tuple[str, int]]) -> Arrays:
    texts = np.empty(len(pairs), object)
    texts[:] = [text for text, _ in pairs]
    return texts, np.asarray([label for _, label in pairs], np.int32)
