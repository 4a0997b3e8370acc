"""Text for a language model: a file, and the windows of it that are training examples."""

import codecs
import os
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from .delimited import suffix_of
from .known import folder_of
from .limits import TEXT_COST, list_folder, read_content, require_unicode
from .named_columns import JSON, Column, read_rows
from .parts import NAMES
from .vocabulary import Characters, Subwords

KNOWN = ("python", "shakespeare")
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.05
EMBEDDED_CHARACTERS = 2_000_000
MOST_NAMED = 20
"""Number of unknown characters that a note names."""
SHAKESPEARE = {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"}
SHAKESPEARE_MIRRORS = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",)

TEXTS = (".txt", ".text", ".md", ".tokens", ".raw", "")
MARKED = (".csv", ".tsv", ".html", ".htm", ".xml", ".tex", ".ipynb", ".srt", ".vtt")

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_SAMPLE = 1 << 12
_EXAMINED, _FEW_LETTERS = 1 << 20, 8
_OTHER_ENCODINGS = (
    "name its encoding with --encoding, such as cp1251 or koi8-r (Cyrillic), shift_jis or euc_jp (Japanese), gb18030 "
    "or big5 (Chinese), euc_kr (Korean), or convert it to UTF-8"
)
_NOT_TEXTS = {
    b"PK\x03\x04": "a zip archive or an Office document",
    b"%PDF": "a PDF file",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"{\\rtf": "an RTF document",
    b"\x89PNG": "an image",
    b"RIFF": "a recording or a film",
    b"7z\xbc\xaf": "a 7z archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"SQLite format 3": "a database",
}
"""What a file is that begins so."""


@dataclass(frozen=True, eq=False)
class Windows:
    """A text cut into adjacent windows of ``length`` positions, without the incomplete one at its end.

    ids: int32, (tokens,). An example is a window's ids; its labels are the ids one position later.

    >>> inputs, labels = Windows(np.arange(7), length=3).take(np.array([1]))
    >>> inputs.tolist(), labels.tolist()
    ([[3, 4, 5]], [[4, 5, 6]])
    """

    ids: np.ndarray
    length: int

    def __len__(self) -> int:
        return max(0, len(self.ids) - 1) // self.length

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Ids, and the ids one position later, each int32, (rows, length)."""
        starts = np.arange(len(self))[rows, None] * self.length
        places = starts + np.arange(self.length)
        return self.ids[places], self.ids[places + 1]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text in three consecutive parts, as ids of a vocabulary that is learnt from the first part.

    test_characters: number of characters in the last part, whatever the number of its ids. notes: what was guessed, and
    which characters are unknown.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: Characters | Subwords
    test_characters: int
    notes: tuple[str, ...] = ()

    def windows(self, part: str, length: int) -> Windows:
        """The windows of a part, "train", "validation" or "test". Raises UserError if it is shorter than one window."""
        windows = Windows(getattr(self, part), length)
        if not len(windows):
            raise UserError(
                f"the {part} part of {self.name} has {len(windows.ids)} tokens, fewer than one window of {length} and "
                "the token after it; give a longer text, or choose a smaller --context"
            )
        return windows


def load(name_or_path: str, subwords: int = 0, encoding: str = "") -> Corpus:
    """Loads a known text by its name, "python" or "shakespeare", or the user's own text file, or a folder of such.

    The last tenth of the text is the test part, the twentieth before it the validation part, and the rest the training
    part; unless a folder has files of parts, such as wiki.train.txt, wiki.valid.txt and wiki.test.txt.

    subwords: largest size of a vocabulary of subwords, learnt from the training part. 0: a vocabulary of characters.
    encoding: of the file; "": see ``decoded``.

    Raises UserError for a file that is missing, empty or in another encoding.
    """
    notes: list[str] = []
    if name_or_path in KNOWN:
        text = python_library() if name_or_path == "python" else shakespeare()
    elif os.path.isdir(name_or_path):
        text = _read_folder(Path(name_or_path), encoding, notes)
    else:
        text = read_text(Path(name_or_path), encoding, notes)
    parts = _in_parts(text) if isinstance(text, str) else text
    vocabulary = Subwords.learn(parts[:1], subwords) if subwords else Characters.of(parts[0])
    train, validation, test = (vocabulary.encode(part) for part in parts)
    for part, text, ids in (("validation", parts[1], validation), ("test", parts[2], test)):
        unknown = vocabulary.unknown(text) if isinstance(vocabulary, Characters) else ""
        if unknown:
            count = int((ids == 0).sum())
            notes.append(
                f"{count:,} of {len(text):,} {part} characters ({count / len(text):.1%}) are unknown: the training "
                f"part does not have {visible(' '.join(map(repr, unknown[:MOST_NAMED])))}"
            )
    return Corpus(name_or_path, train, validation, test, vocabulary, len(parts[2]), tuple(notes))


def _in_parts(text: str, last: str = "") -> tuple[str, str, str]:
    """A text's beginning, middle and end; with a ``last`` part of its own, the first two are of the text alone."""
    end = len(text) if last else round(len(text) * (1 - TEST_SHARE))
    train_end = round(len(text) * (1 - VALIDATION_SHARE - (0 if last else TEST_SHARE)))
    return text[:train_end], text[train_end:end], last or text[end:]


def _read_folder(folder: Path, encoding: str, notes: list[str]) -> str | tuple[str, str, str]:
    """The texts of a folder's files, one after the other, or in three parts if the names of files say so."""
    files = [file for file in list_folder(folder) if not file.name.startswith(".") and not os.path.isdir(file)]
    texts = [file for file in files if suffix_of(file) in (*TEXTS, *JSON)]
    if not texts:
        below = [file for file in sorted(folder.rglob("*")) if suffix_of(file) in (*TEXTS, *JSON)]
        below = [file for file in below if os.path.isfile(file) and not file.name.startswith(".")]
        files, texts = [*files, *below], below
    if not texts:
        known = ", ".join(filter(None, (*TEXTS, *JSON)))
        raise UserError(f"{folder} has no text files ({known}, or no suffix); give a file, or name the files so")
    words = {file: set(re.split(r"[^a-z]+", file.name.lower())) for file in texts}
    found = {part: [file for file in texts if words[file] & set(names)] for part, names in NAMES.items()}
    used = [file for of_part in found.values() for file in of_part] if found["train"] and found["test"] else texts
    others = [file.name for file in files if file not in used]
    if others:
        notes.append(f"{len(others)} files of {visible(folder.name)} are not read, such as {visible(others[0])}")
    content = {file: read_text(file, encoding, notes) for file in used}
    if used is texts:
        names = ", ".join(file.name for file in texts[:3]) + (", ..." if len(texts) > 3 else "")
        notes.append(f"{len(texts)} files are put together in the order of their names: {visible(names)}")
        return "\n".join(content.values())
    joined = {part: "\n".join(content[file] for file in of_part) for part, of_part in found.items()}
    which = "; ".join(
        f"{part}: {', '.join(file.name for file in of_part)}" for part, of_part in found.items() if of_part
    )
    notes.append(f"the parts are those that the names of files say: {visible(which)}")
    if not joined["validation"]:
        return _in_parts(joined["train"], joined["test"])
    return joined["train"], joined["validation"], joined["test"]


def read_text(path: Path, encoding: str = "", notes: list[str] | None = None) -> str:
    """The content of a text file, see ``decoded``, with "\\n" at the ends of all lines."""
    if not os.path.exists(path):
        raise UserError(
            f"{visible(str(path))} is neither a known text (python, shakespeare) nor the path of a text file"
        )
    text = read_encoded(path, encoding, notes=notes)
    if suffix_of(path) in JSON:
        found_notes: list[str] = []
        rows = read_rows(path, text, (Column("text", ("text", "content", "body", "sentence")),), found_notes)
        text = "\n".join(fields["text"] for _, fields in rows if fields)
        if notes is not None:
            notes += [
                *found_notes,
                f"{visible(path.name)}: of {len(rows):,} JSON objects the text is read, a line each",
            ]
    elif suffix_of(path) in MARKED and notes is not None:
        notes.append(f"{visible(path.name)} is read as plain text, with its marks and delimiters")
    if not text.strip():
        raise UserError(f"{path} has no text in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(
    path: Path, content: bytes | bytearray, encoding: str = "", remedy: str = "", notes: list[str] | None = None
) -> str:
    """The text of a file's content in an encoding, without a byte order mark or lone surrogates.

    encoding: UTF-8 includes UTF-16 and UTF-32 where a byte order mark says so, and "" also UTF-16 where every second
    byte is zero. remedy: the end of the message, what to do if it is in another encoding; "": to name it. notes: are
    extended where the encoding is a guess.

    Raises UserError for another encoding.
    """
    what = next((what for start, what in _NOT_TEXTS.items() if content.startswith(start)), None)
    if what:
        raise UserError(f"{path} is {what}, not a text; unpack it, or save its text as a plain text file")
    is_guess, encoding = not encoding, encoding or "UTF-8"
    is_utf8 = encoding.lower() in ("utf-8", "utf8")
    marked = ""
    if is_utf8:
        marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "")
        encoding = marked or (is_guess and _unmarked_utf16(content)) or encoding
        is_utf8 = encoding.lower() in ("utf-8", "utf8")
        if not is_utf8 and not marked and notes is not None:
            notes.append(
                f"{visible(path.name)} is read as {encoding}: every second byte is 0 (--encoding names another)"
            )
    if marked or not (is_utf8 or remedy):
        remedy = "it is cut off or damaged: copy it again, or name its encoding with --encoding"
    elif not remedy:
        single = _single_byte_encoding(content)
        remedy = f"it may be {single}: name its encoding, as in --encoding {single}, or convert it to UTF-8"
        remedy = remedy if single else _OTHER_ENCODINGS
    try:
        text = content.decode("utf-8-sig" if is_utf8 else encoding)
    except UnicodeDecodeError as error:
        undecoded = error.object  # without a byte order mark
        line = undecoded[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} is not {encoding}: line {line} has the byte {undecoded[error.start]:#04x} at position "
            f"{len(content) - len(undecoded) + error.start}; {remedy}"
        ) from error
    except UnicodeError as error:
        raise UserError(f"{path} is not {encoding} ({visible(str(error))}); {remedy}") from error
    if "\0" in text and notes is not None:
        line = text.count("\n", 0, text.index("\0")) + 1
        notes.append(
            f"{visible(path.name)} has {text.count(chr(0)):,} NUL characters (the first: line {line}), which are read "
            "as text; a text has none: look whether it is damaged, or in another encoding (--encoding)"
        )
    return text if is_utf8 else require_unicode(text, str(path))


def _single_byte_encoding(content: bytes | bytearray) -> str:
    """The likely encoding of a Western text that is not UTF-8; "" for another, whose words have no ASCII letters."""
    sample = content[:_EXAMINED]
    letters, others = (len(re.findall(pattern, sample)) for pattern in (rb"[A-Za-z]", rb"[\x80-\xff]"))
    in_words = sum(map(len, re.findall(rb"[\x80-\xff]{4,}", sample)))
    if 2 * in_words > others or others > max(_FEW_LETTERS, letters / 2):
        return ""
    return "cp1252" if re.search(rb"[\x80-\x9f]", content) else "latin-1"


def read_guessed(path: Path, encoding: str, notes: list[str]) -> str:
    """The text of a file as ``read_encoded`` reads it; one that is not UTF-8 is taken for latin-1 or cp1252.

    Most of its letters must be ASCII then. notes: are extended by a guess. It is for files whose texts are names: a
    wrong guess changes letters of these.
    """
    try:
        return read_encoded(path, encoding, notes=notes)
    except UserError as error:
        cause = error.__cause__
        if not isinstance(cause, UnicodeDecodeError) or encoding or cause.encoding != "utf-8":
            raise
        content = cause.object
        replaced = content.decode("utf-8", "replace")
        if sum(mark > "\x7f" for mark in replaced) > 2 * replaced.count("\ufffd"):
            raise  # most of it is UTF-8: it is damaged
        single = _single_byte_encoding(content)
        if not single:
            raise
        notes.append(f"{visible(path.name)} is read as {single}: it is not UTF-8 (--encoding names another)")
        return content.decode(single, "replace")


def _unmarked_utf16(content: bytes | bytearray) -> str:
    """The name of UTF-16 if every second byte at the beginning of a content is zero, else ""."""
    first, second = (content[start:_SAMPLE:2] for start in (0, 1))
    zeros, others = second.count(0), first.count(0)
    if len(second) < 2 or max(zeros, others) < 0.8 * len(second) or min(zeros, others) > 0.1 * len(second):
        return ""
    return "UTF-16-LE" if zeros > others else "UTF-16-BE"


def read_encoded(
    path: Path,
    encoding: str = "",
    remedy: str = "",
    notes: list[str] | None = None,
    limit: int | None = None,
) -> str:
    """The text in a file with an encoding, plain or gzipped, without a byte order mark: see ``decoded``.

    limit: bytes of memory that the text may take; None: half of the machine's memory.
    Raises UserError if it cannot be read.
    """
    content = read_content(path, limit, cost=TEXT_COST)
    try:
        return decoded(path, content, encoding, remedy, notes)
    except LookupError as error:
        raise UserError(
            f"--encoding {visible(encoding)}: there is no such encoding; name one such as utf-8, latin-1"
        ) from error


def python_library() -> str:
    """The source of Python's standard library: its first two million characters, in the order of its modules."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = ""
    for file in sorted(folder.glob("[a-z]*.py")):
        text += file.read_text(encoding="utf-8") + "\n"
        if len(text) >= EMBEDDED_CHARACTERS:
            return text[:EMBEDDED_CHARACTERS]
    return text


def shakespeare() -> str:
    """Tiny Shakespeare (Karpathy 2015): 1,115,394 characters of plays.

    Read from ``$PIPELINE_DATA/tinyshakespeare`` or the user's cache; otherwise downloaded into the cache.
    """
    folder = folder_of(SHAKESPEARE, SHAKESPEARE_MIRRORS, shared="tinyshakespeare", cached="tinyshakespeare")
    return read_text(folder / "input.txt")
