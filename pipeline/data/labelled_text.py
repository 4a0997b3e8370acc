"""Labelled texts by name or path, ready for training: sentences, lines or whole files."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tyro.conf import FlagCreatePairsOff

from ..display import quoted, visible
from ..errors import UserError
from .batches import padded
from .class_names import merge_spellings
from .dataset import Arrays, in_folds, with_held_out
from .delimited import suffix_of
from .folder import ClassFolders, find_class_folders
from .known import folder_of
from .limits import TEXT_COST, list_folder, require_memory
from .named_columns import JSON, TABLES, Column, Row, has_column, read_rows
from .parts import notes_on_copies, part_of
from .sheet import WORKBOOKS, read_workbook_rows
from .text import read_encoded
from .vocabulary import PADDING, UNKNOWN_WORD, SpelledWords, Words

DIFFERENT_WORDS = 1_000_000
"""Different words of a data set whose n-grams are looked at: the most frequent ones. Others are unknown words."""
LEXICON_SIZES = {"train": 20_000, "validation": 600, "test": 600}
POLARITY = {"negative": "neg", "positive": "pos"}
"""Suffixes of the files of each class, which have one text in each line."""
MOVIE_REVIEW = {
    "rt-polarity.neg": "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
    "rt-polarity.pos": "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
}
MOVIE_REVIEW_MIRRORS = ("https://raw.githubusercontent.com/yoonkim/CNN_sentence/master/",)
KNOWN = ("lexicon", "movie-review")
COLUMNS = (
    Column(
        "label",
        ("label", "sentiment", "target", "class", "polarity", "stars", "labels", "category", "emotion"),
        "--label-column",
    ),
    Column(
        "text",
        (
            *("text", "sentence", "review", "comment", "content", "tweet", "phrase", "message", "utterance"),
            *("document", "body"),
        ),
        "--text-column",
    ),
)
FILES = (*TABLES, *JSON, *WORKBOOKS)
"""Suffixes of files with a text in each row. A file without a suffix is read as a .tsv file."""
FASTTEXT = "__label__"
"""The beginning of a line with a label in fastText's files."""
UNLABELLED = "unsup"
"""The name of the folder that has aclImdb's texts without labels."""


@dataclass(frozen=True)
class TextOptions:
    """How files of labelled texts are read."""

    encoding: str = ""
    """Encoding of the files. Empty: UTF-8, or UTF-16 where a file shows it; and latin-1 for movie-review."""
    text_column: str = ""
    """Column with the texts: its name, or its number, from 1, where the first line names none. Empty: text, or another
    usual name, such as sentence or review."""
    label_column: str = ""
    """Column with the classes. Empty: label, or another usual name, such as sentiment or stars."""
    delimiter: str = ""
    """Delimiter of the fields: a character, or tab, semicolon, pipe or comma. Empty: recognised."""
    keep_spellings: FlagCreatePairsOff[bool] = False
    """Take spellings such as good and Good, or 1 and 1.0, for different classes."""

    def columns(self) -> tuple[Column, Column]:
        """``COLUMNS`` with the names that were chosen."""
        label, text = COLUMNS
        return replace(label, chosen=self.label_column), replace(text, chosen=self.text_column)


USUAL = TextOptions()


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts of one split with their labels.

    texts: strings, an object array (examples,); words: places of each text's words in ``bags``, int32, never empty;
    labels: int32, (examples,); bags: the ids of every different word, int32, (words, bag), see ``SpelledWords``, with
    padding at place 0.
    """

    texts: np.ndarray
    words: Sequence[np.ndarray]
    labels: np.ndarray
    bags: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of words of each text."""
        return np.asarray([len(words) for words in self.words])

    @property
    def unknown(self) -> float:
        """Share of the words that are not in the vocabulary."""
        return float(np.mean(self.bags[np.concatenate(self.words), 0] == UNKNOWN_WORD))

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Ids (rows, time, bag), padded with 0 after the end of each text, and labels (rows,)."""
        chosen = np.arange(len(self))[rows]
        return self.bags[padded([self.words[row] for row in chosen])], self.labels[chosen]


@dataclass(frozen=True, eq=False)
class LabelledText:
    """Labelled texts in three splits. vocabulary: of the training split; notes: which texts were left out or cut."""

    name: str
    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...]
    vocabulary: SpelledWords
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
    ngrams: int = 20_000,
    options: TextOptions = USUAL,
    folds: int = 0,
    fold: int = 1,
) -> LabelledText:
    """Loads known texts by their name, or the user's own texts from a path.

    name_or_path: "lexicon" or "movie-review"; a file of ``FILES`` with the columns ``label`` and ``text``, or a folder
        with train.csv, test.csv and the like; a folder of class-named folders of files (or of folders train/, val/ and
        test/ with such folders in them), whose suffix is ``.txt`` unless none has that; a folder with a file ``*.pos``
        and a file ``*.neg``, with one text in each line, or with train.pos, train.neg, test.pos and test.neg.
    seed: random seed of the validation split, for data without one.
    words: largest number of words in the vocabulary; all others become one unknown word, with their n-grams.
    longest: number of words after which a text is cut off.
    ngrams: largest number of character n-grams in the vocabulary.
    options: how files are read.
    folds, fold: the test split is part ``fold`` of a cross-validation with ``folds`` parts; 0 folds: none.

    Raises UserError, with file and line, for data that cannot be trained on.
    """
    source = _read(name_or_path, options)
    parts = in_folds(name_or_path, source.parts, source.classes, folds, fold) if folds else source.parts
    parts = with_held_out(name_or_path, parts, source.classes, seed)
    vocabulary = SpelledWords.learn(parts["train"][0].tolist(), words, ngrams)
    forms = Words.learn([text for texts, _ in parts.values() for text in texts], DIFFERENT_WORDS)
    bags = vocabulary.bags(forms.tokens(np.arange(len(forms))))
    bags[0] = PADDING
    notes = list(source.notes)
    splits = {}
    for part in ("train", "validation", "test"):
        texts, labels = parts[part]
        found = forms.encode_all(texts.tolist())
        cut = sum(len(text) > longest for text in found)
        if cut:
            notes.append(f"{cut} {part} texts have more than --longest {longest} words: their ends are cut off")
        splits[part] = Texts(texts, [text[:longest] for text in found], labels.astype(np.int32), bags)
    unknown = splits["train"].unknown
    if unknown:
        notes.append(
            f"the training texts have more than --words {words} different words: {unknown:.1%} of all words are unknown"
        )
    if splits["test"].unknown > 0.5:
        notes.append(
            f"{splits['test'].unknown:.0%} of the words of the test texts are unknown; they are judged by their "
            "character n-grams: words are what stands between spaces, so put spaces between them, or raise --words"
        )
    notes += notes_on_copies({part: split.texts for part, split in splits.items()}, "texts")
    return LabelledText(name_or_path, **splits, classes=source.classes, vocabulary=vocabulary, notes=tuple(notes))


def _read(name: str, options: TextOptions) -> TextSource:
    if name == "lexicon":
        return lexicon_sentences()
    if name == "movie-review":
        return movie_review(options.encoding or "latin-1")
    path = Path(name)
    if os.path.isdir(path):
        return read_folder(path, options)
    if suffix_of(path) in (*FILES, "") and os.path.exists(path):
        return read_tables({"train": path}, options)
    what = "not a set of texts" if os.path.exists(path) else "neither a known set of texts nor an existing path"
    raise UserError(
        f"{visible(str(path))} is {what}; known ones are {', '.join(KNOWN)}, and a path may be a file "
        f"({', '.join(FILES)}) with the columns label and text, a folder of class-named folders of .txt files, or a "
        "folder with a file *.pos and a file *.neg, one text a line"
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
    return read_folder(folder, TextOptions(encoding))


def read_folder(path: Path, options: TextOptions = USUAL) -> TextSource:
    """The texts of tables of each part, of ``*.pos`` and ``*.neg`` files, or of the files in class-named folders."""
    inside = [file for file in list_folder(path) if not file.name.startswith(".")]
    tables = [file for file in inside if suffix_of(file) in FILES and part_of(file.name)]
    if any(part_of(file.name) == "train" for file in tables):
        return _read_part_tables(path, inside, options)
    folders = [child for child in inside if os.path.isdir(child)]
    if len(folders) == 1 and any(suffix_of(file) in FILES and part_of(file.name) for file in list_folder(folders[0])):
        source = read_folder(folders[0], options)
        return replace(source, notes=(*source.notes, f"the texts are those in {visible(folders[0].name)}"))
    files = {name: [file for file in inside if file.suffix.lower() == f".{end}"] for name, end in POLARITY.items()}
    if all(files.values()):
        return _read_lines(path, inside, files, options.encoding)
    if any(files.values()):
        has, lacks = sorted(POLARITY, key=lambda name: not files[name])
        raise UserError(f"{path} has {files[has][0].name} but no file *.{POLARITY[lacks]}; both classes need one")
    suffixes = _suffixes_below(path)
    folders = find_class_folders(path, suffixes, "text")
    if not folders.classes:
        raise UserError(
            f"{path} has no folders in it, and no files *.pos and *.neg; put the texts of each class into a folder "
            "with its name, as .txt files, or the texts of all into a .tsv file with the columns label and text"
        )
    source = _read_class_folders(path, folders, options.encoding)
    if suffixes == (".txt",):
        return source
    note = f"no file of {visible(path.name)} has the suffix .txt: those with any suffix or none are read as texts"
    return replace(source, notes=(*source.notes, note))


def _suffixes_below(path: Path) -> tuple[str, ...]:
    """The suffixes of the texts in a folder and below it: .txt, or all that there are if no file has that."""
    suffixes = {os.path.splitext(name)[1].lower() for _, _, names in os.walk(path) for name in names}
    return (".txt",) if ".txt" in suffixes else tuple(sorted(suffixes))


def _read_part_tables(path: Path, inside: Sequence[Path], options: TextOptions) -> TextSource:
    """The texts of train.csv, test.csv and the like; of test files without labels none, as competitions give them."""
    tables: dict[str, Path] = {}
    for file in inside:
        part = part_of(file.name)
        if part and suffix_of(file) in FILES:
            if part in tables:
                raise UserError(
                    f"{path} has {tables[part].name} and {file.name}, both of the {part} part; put them into one file, "
                    "or move one elsewhere"
                )
            tables[part] = file
    label, notes, looked_at = options.columns()[0], [], [*tables.items()]
    for part, file in looked_at:
        if part == "train" or suffix_of(file) in WORKBOOKS:
            continue
        content = read_encoded(file, options.encoding)
        if not content.startswith(FASTTEXT) and not has_column(file, content, label, options.delimiter):
            notes.append(f"{visible(file.name)} is not read: it has no column of classes, as competitions give them")
            del tables[part]
    source = read_tables(tables, options)
    return replace(source, notes=(*source.notes, *notes, *_unused(path, inside, [file for _, file in looked_at])))


def _read_class_folders(path: Path, folders: ClassFolders, encoding: str) -> TextSource:
    files_of, classes, notes = folders.files, folders.classes, list(folders.notes)
    if UNLABELLED in classes and len(classes) > 2:
        unlabelled, classes = classes.index(UNLABELLED), tuple(name for name in classes if name != UNLABELLED)
        left_out = sum(label == unlabelled for pairs in files_of.values() for _, label in pairs)
        notes.append(f"{left_out} texts in folders {UNLABELLED} left out: as in aclImdb, they have no label")
        files_of = {
            part: [(file, label - (label > unlabelled)) for file, label in pairs if label != unlabelled]
            for part, pairs in files_of.items()
        }
    size = sum(os.path.getsize(file) for pairs in files_of.values() for file, _ in pairs)
    require_memory(f"the set of files in {path}", TEXT_COST * size)
    guesses: list[str] = []
    texts = {
        part: [(read_encoded(file, encoding, notes=guesses), label) for file, label in pairs]
        for part, pairs in files_of.items()
    }
    notes += [f"{len(guesses)} files are in a guessed encoding; the first: {guesses[0]}"] if guesses else []
    return _without_empty(path, texts, classes, "files", notes=notes)


def _read_lines(path: Path, inside: Sequence[Path], files: Mapping[str, Sequence[Path]], encoding: str) -> TextSource:
    """The lines of ``*.pos`` and ``*.neg`` files, in parts if names such as train.pos and test.neg say so."""
    notes = _unused(path, inside, [file for of_class in files.values() for file in of_class])
    parts = {file: part_of(file.name) for of_class in files.values() for file in of_class}
    if "train" not in parts.values() or None in parts.values():
        parts = dict.fromkeys(parts, "train")
        if len(parts) > len(files):
            notes.append(f"the lines of all files are put together: {visible(', '.join(file.name for file in parts))}")
    pairs: dict[str, list[tuple[str, int]]] = {}
    for label, files_of_class in enumerate(files.values()):
        for file in files_of_class:
            # A line may contain control characters, at which str.splitlines would break it.
            lines = read_encoded(file, encoding, notes=notes).removesuffix("\n").split("\n")
            pairs.setdefault(parts[file] or "train", []).extend((line, label) for line in lines)
    for part, of_part in pairs.items():
        if len({label for _, label in of_part}) < len(files):
            raise UserError(f"the {part} part of {path} has one of *.pos and *.neg; both classes need a file")
    return _without_empty(path, pairs, tuple(files), "lines", notes=notes)


def _unused(path: Path, inside: Iterable[Path], used: Collection[Path]) -> list[str]:
    """A note on the files of a folder that nothing is read from."""
    others = [file for file in inside if file not in used and not file.name.startswith(".") and not os.path.isdir(file)]
    return [f"{len(others)} files of {visible(str(path))} are not used: {_first(others)}"] if others else []


def _first(files: Sequence[Path]) -> str:
    return visible(", ".join(file.name for file in files[:3])) + (", ..." if len(files) > 3 else "")


def read_tables(files: Mapping[str, Path], options: TextOptions = USUAL) -> TextSource:
    """The texts in a file of each part: a table, see ``read_rows``, or lines such as ``__label__good Fine.``"""
    texts: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    numbers: dict[str, list[int]] = {}
    notes, blank = [], 0
    for part, path in files.items():
        place = visible(str(path))
        texts[part], names[place], numbers[place] = [], [], []
        for line, fields in _fields(path, options, notes):
            if not fields:
                blank += 1
                continue
            if not fields["label"].strip():
                raise UserError(f"{path}: line {line} has no label; give it one, or remove the line")
            texts[part].append(fields["text"])
            names[place].append(fields["label"])
            numbers[place].append(line)
    if options.keep_spellings:
        names = {place: [name.strip() for name in column] for place, column in names.items()}
    else:
        names, merged = merge_spellings(names, numbers, "--keep-spellings")
        notes += merged
    parts = {part: list(zip(texts[part], names[place])) for part, place in zip(texts, names)}
    labels = {name: label for label, name in enumerate(sorted({name for _, name in parts["train"]}))}
    for part, pairs in parts.items():
        unknown = next((name for _, name in pairs if name not in labels), None)
        if unknown is not None:
            raise UserError(f"{files[part]} has the label {quoted(unknown)}, which no training text has; correct it")
    numbered = {part: [(text, labels[name]) for text, name in pairs] for part, pairs in parts.items()}
    path = files["train"] if len(files) == 1 else files["train"].parent
    return _without_empty(path, numbered, tuple(labels), "lines", blank, notes)


def _fields(path: Path, options: TextOptions, notes: list[str]) -> Iterable[Row]:
    if suffix_of(path) in WORKBOOKS:
        return read_workbook_rows(path, options.columns(), notes)
    content = read_encoded(path, options.encoding, notes=notes)
    if not content.startswith(FASTTEXT):
        return read_rows(path, content, options.columns(), notes, options.delimiter)
    rows: list[Row] = []
    for line, text in enumerate(content.removesuffix("\n").split("\n"), 1):
        label, _, rest = text.removeprefix(FASTTEXT).partition(" ")
        if text and (not text.startswith(FASTTEXT) or rest.startswith(FASTTEXT)):
            raise UserError(f"{path}: line {line} must have one {FASTTEXT}NAME, at its beginning; correct it")
        rows.append((line, {"label": label, "text": rest} if text else {}))
    return rows


def _without_empty(
    path: Path,
    parts: Mapping[str, Sequence[tuple[str, int]]],
    classes: tuple[str, ...],
    what: str,
    blank: int = 0,
    notes: Sequence[str] = (),
) -> TextSource:
    """The texts that are not empty, and a note on the others.

    what: the unit in which the texts were read, for the note; blank: number of empty ones that ``parts`` does not have;
    notes: those on other things.
    """
    texts = {part: [(text.strip(), label) for text, label in pairs if text.strip()] for part, pairs in parts.items()}
    for part, pairs in texts.items():
        if not pairs:
            raise UserError(f"{path} has no {part} texts: it is empty")
    left_out = blank + sum(len(pairs) - len(texts[part]) for part, pairs in parts.items())
    empty = (f"{left_out} {what} of {visible(str(path))} left out: they are empty",) if left_out else ()
    return TextSource({part: _arrays(pairs) for part, pairs in texts.items()}, classes, (*empty, *notes))


def _arrays(pairs: Sequence[tuple[str, int]]) -> Arrays:
    texts = np.empty(len(pairs), object)
    texts[:] = [text for text, _ in pairs]
    return texts, np.asarray([label for _, label in pairs], np.int32)
