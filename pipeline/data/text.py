"""Running text for a language model: its files, and the windows that a model is trained on."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from .known import folder_of
from .vocabulary import Characters, Subwords

TEST_SHARE, VALIDATION_SHARE = 0.1, 0.05
EMBEDDED_CHARACTERS = 2_000_000
SHAKESPEARE = {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"}
SHAKESPEARE_MIRRORS = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",)


@dataclass(frozen=True, eq=False)
class Windows:
    """A text cut into windows of ``length`` positions, side by side; what is left at its end is not seen.

    ids: int32, (characters,). An example is a window's ids and, as its labels, the ids that follow each of them.
    """

    ids: np.ndarray
    length: int

    def __len__(self) -> int:
        return max(0, len(self.ids) - 1) // self.length

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Ids and the ids that follow them, each int32, (rows, length)."""
        starts = np.arange(len(self))[rows, None] * self.length
        places = starts + np.arange(self.length)
        return self.ids[places], self.ids[places + 1]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text in three parts, from its beginning to its end, in ids of a vocabulary that its first part made.

    test_characters: how many the last part has, however many ids they are.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: Characters | Subwords
    test_characters: int

    def windows(self, part: str, length: int) -> Windows:
        """Raises UserError where the part has no window of that length."""
        windows = Windows(getattr(self, part), length)
        if not len(windows):
            raise UserError(
                f"the {part} part of {self.name} has {len(windows.ids)} tokens, fewer than one window of {length} and "
                "the token after it; give a longer text, or choose a smaller --context"
            )
        return windows


def load(name_or_path: str, subwords: int = 0) -> Corpus:
    """The text of that name, or the user's own file: "python", "shakespeare", or the path of a text file.

    The last tenth is the test part, the twentieth before it the validation part; the rest is trained on.

    subwords: how many there are at most, learnt from what is trained on. 0: ids are of characters.

    Raises UserError for a file that is not there, is empty, or is not UTF-8.
    """
    known = {"python": python_library, "shakespeare": shakespeare}
    text = known[name_or_path]() if name_or_path in known else read_text(Path(name_or_path))
    test = round(len(text) * (1 - TEST_SHARE))
    validation = round(len(text) * (1 - TEST_SHARE - VALIDATION_SHARE))
    parts = text[:validation], text[validation:test], text[test:]
    vocabulary = Subwords.learn(parts[:1], subwords) if subwords else Characters.of(parts[0])
    train, held, tested = (vocabulary.encode(part) for part in parts)
    return Corpus(name_or_path, train, held, tested, vocabulary, len(parts[2]))


def read_text(path: Path) -> str:
    """A UTF-8 file as it stands, but for line ends, which all become "\\n"; a byte order mark is left out."""
    if not path.is_file():
        raise UserError(f"{path} is neither a known text (python, shakespeare) nor the path of a text file")
    convert = f"convert it first, as with: iconv -f latin1 -t utf-8 {path.name} > utf8.txt"
    text = decoded(path, path.read_bytes(), "UTF-8", convert)
    if not text.strip():
        raise UserError(f"{path} has no text in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(path: Path, content: bytes, encoding: str, remedy: str) -> str:
    """The text of a file's content; a byte order mark is left out. Raises UserError where it is not in that encoding.

    remedy: what to do then: the end of the message.
    """
    try:
        return content.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} is not {encoding}: line {line} has the byte {content[error.start]:#04x} at position "
            f"{error.start}; {remedy}"
        ) from error


def read_encoded(
    path: Path, encoding: str, remedy: str = "name its encoding, as in --encoding latin-1, or convert it"
) -> str:
    """What a file has, in an encoding that it must be in. A byte order mark is left out.

    remedy: what to do where it is in another. Raises UserError for a file that cannot be read.
    """
    try:
        return decoded(path, path.read_bytes(), encoding, remedy)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except LookupError as error:
        raise UserError(f"--encoding {encoding}: there is no such encoding; name one such as utf-8, latin-1") from error


def python_library() -> str:
    """Python's own standard library, which is on every machine: two million characters of its modules, by name."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = ""
    for file in sorted(folder.glob("[a-z]*.py")):
        text += file.read_text(encoding="utf-8") + "\n"
        if len(text) >= EMBEDDED_CHARACTERS:
            return text[:EMBEDDED_CHARACTERS]
    return text


def shakespeare() -> str:
    """Tiny Shakespeare (Karpathy 2015): 1,115,394 characters of plays.

    Read from ``$PIPELINE_DATA/tinyshakespeare`` or the user's cache; where it is in neither, downloaded into the cache.
    """
    folder = folder_of(SHAKESPEARE, SHAKESPEARE_MIRRORS, shared="tinyshakespeare", cached="tinyshakespeare")
    return read_text(folder / "input.txt")
