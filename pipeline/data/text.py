"""Text for a language model: a file, and the windows of it that are training examples."""

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from .known import folder_of
from .limits import TEXT_COST, read_content, require_unicode
from .vocabulary import Characters, Subwords

KNOWN = ("python", "shakespeare")
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.05
EMBEDDED_CHARACTERS = 2_000_000
SHAKESPEARE = {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"}
SHAKESPEARE_MIRRORS = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",)


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

    test_characters: number of characters in the last part, whatever the number of its ids.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: Characters | Subwords
    test_characters: int

    def windows(self, part: str, length: int) -> Windows:
        """The windows of a part, "train", "validation" or "test". Raises UserError if it is shorter than one window."""
        windows = Windows(getattr(self, part), length)
        if not len(windows):
            raise UserError(
                f"the {part} part of {self.name} has {len(windows.ids)} tokens, fewer than one window of {length} and "
                "the token after it; give a longer text, or choose a smaller --context"
            )
        return windows


def load(name_or_path: str, subwords: int = 0) -> Corpus:
    """Loads a known text by its name, "python" or "shakespeare", or the user's own text file.

    The last tenth of the text is the test part, the twentieth before it the validation part, and the rest the training
    part.

    subwords: largest size of a vocabulary of subwords, learnt from the training part. 0: a vocabulary of characters.

    Raises UserError for a file that is missing, empty or not UTF-8.
    """
    if name_or_path in KNOWN:
        text = python_library() if name_or_path == "python" else shakespeare()
    else:
        text = read_text(Path(name_or_path))
    end = round(len(text) * (1 - TEST_SHARE))
    train_end = round(len(text) * (1 - TEST_SHARE - VALIDATION_SHARE))
    parts = text[:train_end], text[train_end:end], text[end:]
    vocabulary = Subwords.learn(parts[:1], subwords) if subwords else Characters.of(parts[0])
    train, validation, test = (vocabulary.encode(part) for part in parts)
    return Corpus(name_or_path, train, validation, test, vocabulary, len(parts[2]))


def read_text(path: Path) -> str:
    """The content of a UTF-8 text file, without a byte order mark and with "\\n" at the ends of all lines."""
    if not os.path.exists(path):
        raise UserError(f"{path} is neither a known text (python, shakespeare) nor the path of a text file")
    convert = f"convert it first, as with: iconv -f latin1 -t utf-8 {path.name} > utf8.txt"
    text = decoded(path, read_content(path, cost=TEXT_COST), "UTF-8", convert)
    if not text.strip():
        raise UserError(f"{path} has no text in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(path: Path, content: bytes | bytearray, encoding: str, remedy: str) -> str:
    """The text of a file's content in an encoding, without a byte order mark or lone surrogates.

    remedy: the end of the message, what to do if it is in another encoding. Raises UserError in that case.
    """
    is_utf8 = encoding.lower() in ("utf-8", "utf8")
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
    return text if is_utf8 else require_unicode(text, str(path))


def read_encoded(
    path: Path, encoding: str, remedy: str = "name its encoding, as in --encoding latin-1, or convert it"
) -> str:
    """The text in a file with an encoding, without a byte order mark.

    remedy: the end of the message, what to do if it is in another encoding. Raises UserError if it cannot be read.
    """
    content = read_content(path, cost=TEXT_COST)
    try:
        return decoded(path, content, encoding, remedy)
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
