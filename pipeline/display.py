"""Text of the user's files, shown in messages, terminals and reports."""

import re
import sys
from collections.abc import Iterable

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, characters that reverse the text after them, and lone surrogates.

A terminal obeys the first ones; lone surrogates, which stand for the bytes of a file name that is not UTF-8, cannot be
written to a file.
"""


_LEFT_OUT = " [...] "


def visible(text: str, longest: int = 200) -> str:
    r"""``text`` on one line and without hidden characters: each becomes its escape sequence.

    longest: number of characters of the result; the middle of a longer one is left out.

    >>> print(visible("caf\udce9 \x1b[31mred"))
    caf\udce9 \x1b[31mred
    >>> print(visible("path\ttext"))
    path\ttext
    >>> visible("the beginning of a text " * 100 + "and its end", longest=40)
    'the beginning of a tex [...] and its end'
    """
    text = _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    if len(text) <= longest:
        return text
    rest = max(0, longest - len(_LEFT_OUT))
    return text[: rest - rest // 3] + _LEFT_OUT + text[len(text) - rest // 3 :]


def visible_lines(text: str, longest: int = 5_000) -> str:
    r"""``text`` without hidden characters but the ends of its lines and tabs: see ``visible``.

    longest: number of characters of a line, or of a part between tabs.

    >>> visible_lines("first\n\tsecond \x1b[2J")
    'first\n\tsecond \\x1b[2J'
    """
    return "".join(part if part in "\n\t" else visible(part, longest) for part in re.split("([\n\t])", text))


def print_notes(notes: Iterable[str]) -> None:
    """Prints remarks on a command's inputs, one a line, on standard error: standard output has the answers alone."""
    for note in notes:
        print(visible(note, 500), file=sys.stderr)


def quoted(text: str, longest: int = 200) -> str:
    r"""``text`` in quotation marks, as Python writes it: see ``visible``.

    >>> print(quoted("it's\x1b"))
    "it's\x1b"
    """
    return visible(repr(text), longest)
