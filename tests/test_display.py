"""Text of the user's files in messages: nothing a terminal obeys, nothing that cannot be written, nothing endless."""

import os
import pickle

import pytest

from pipeline.display import visible
from pipeline.errors import LONGEST_LINE, UserError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("plain, ünïcödé, 日本語, 👍🏽, a\\b", "plain, ünïcödé, 日本語, 👍🏽, a\\b"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("one\ntwo\r\n\tthree\0", "one\\ntwo\\r\\n\\tthree\\x00"),
        ("\x9b2J\x7f\x85", "\\x9b2J\\x7f\\x85"),
        ("gpj.\u202eexe\u2066\u2028", "gpj.\\u202eexe\\u2066\\u2028"),
        (os.fsdecode(b"caf\xe9"), "caf\\udce9"),
        ("half \ud83d of a pair", "half \\ud83d of a pair"),
        ("", ""),
    ],
)
def test_hidden_characters_are_escaped(text, expected):
    assert visible(text) == expected
    assert visible(text).encode("utf-8").decode("utf-8") == expected


def test_a_long_text_loses_its_middle():
    text = "a" * 5_000 + "b" * 5_000
    assert visible(text, 10_000) == text
    short = visible(text)
    assert short == "a" * 129 + " [...] " + "b" * 64 and visible(short) == short
    assert len(visible("\x1b" * 1_000)) == 200
    assert visible("abc", 0) == " [...] "


def test_a_message_has_lines_but_nothing_hidden():
    error = UserError("two lines\nof \x1b[2J, \udcff and \t" + "x" * 100_000)
    first, second = str(error).split("\n")
    assert first == "two lines"
    assert second.startswith("of \\x1b[2J, \\udcff and \\txxx") and len(second) == LONGEST_LINE
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
