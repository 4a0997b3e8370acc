"""Running text: what comes out of files, and what is said about those that are wrong."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.text import Windows, load, read_text
from pipeline.data.vocabulary import UNKNOWN, Characters
from pipeline.errors import UserError

DATA = Path(os.environ.get("PIPELINE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_characters_there_and_back():
    vocabulary = Characters.of("hello wörld")
    assert vocabulary.characters == UNKNOWN + " dehlorwö"
    ids = vocabulary.encode("wörld\U0001f600z")
    assert ids.dtype == np.int32 and vocabulary.decode(ids) == f"wörld{UNKNOWN}{UNKNOWN}"
    assert vocabulary.unknown("a hello zebra") == "azb"


def test_windows_are_side_by_side_and_labels_follow():
    windows = Windows(np.arange(12, dtype=np.int32), 5)
    assert len(windows) == 2
    inputs, labels = windows.take(np.array([1, 0]))
    np.testing.assert_array_equal(inputs, [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(labels, inputs + 1)
    assert len(windows.take(slice(5))[0]) == 2


def test_a_text_is_cut_into_its_beginning_middle_and_end(tmp_path):
    file = tmp_path / "own.txt"
    file.write_bytes(b"\xef\xbb\xbf" + b"a" * 83 + b"\r\n" + b"b" * 5 + b"c" * 11)
    corpus = load(str(file))
    assert [len(part) for part in (corpus.train, corpus.validation, corpus.test)] == [85, 5, 10]
    assert (
        corpus.vocabulary.decode(corpus.train[-2:]) == "\nb"
    )  # a byte order mark is no text, a line end is one character
    assert corpus.vocabulary.decode(corpus.test) == UNKNOWN * 10  # "c" stands only where nothing is learnt from
    with pytest.raises(UserError, match=r"validation part of .*own.txt has 5 tokens.*--context"):
        corpus.windows("validation", 5)
    assert len(corpus.windows("validation", 4)) == 1


def test_python_is_on_every_machine():
    corpus = load("python")
    assert len(corpus.train) + len(corpus.validation) + len(corpus.test) == 2_000_000
    assert "import" in corpus.vocabulary.decode(corpus.test[:20_000])


@pytest.mark.skipif(not (DATA / "tinyshakespeare").exists(), reason=f"{DATA / 'tinyshakespeare'} is not there")
def test_shakespeare(monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(DATA))
    corpus = load("shakespeare")
    assert len(corpus.train) + len(corpus.validation) + len(corpus.test) == 1_115_394
    assert len(corpus.vocabulary) == 65 + 1


ENGLISH = "the cat sat on the mat.\n" * 9
CHINESE = "天地玄黄\n宇宙洪荒\n" * 9
NUL = (
    "text.txt has 9 NUL characters (the first: line 1), which are read as text; a text has none: look whether it is "
    "damaged, or in another encoding (--encoding)"
)
GUESS = "text.txt is read as UTF-16-{}: every second byte is 0 (--encoding names another)"


@pytest.mark.parametrize(
    "content, encoding, text, notes",
    [
        (ENGLISH.encode(), "", ENGLISH, []),
        (ENGLISH.encode("utf-8-sig"), "", ENGLISH, []),
        (ENGLISH.encode("utf-16"), "", ENGLISH, []),
        (CHINESE.encode("utf-16"), "", CHINESE, []),
        (b"\xfe\xff" + CHINESE.encode("utf-16-be"), "", CHINESE, []),
        (ENGLISH.encode("utf-32"), "", ENGLISH, []),
        (gzip.compress(ENGLISH.encode("utf-16"), mtime=0), "", ENGLISH, []),
        (ENGLISH.encode("utf-16-le"), "", ENGLISH, [GUESS.format("LE")]),
        (gzip.compress(ENGLISH.encode("utf-16-be"), mtime=0), "", ENGLISH, [GUESS.format("BE")]),
        (CHINESE.encode("utf-16-le"), "utf-16-le", CHINESE, []),
        (b"a\0" * 9, "utf-8", "a\0" * 9, [NUL]),
        (b"na\xefve", "latin-1", "naïve", []),
        (b"\x93a\x94", "cp1252", "“a”", []),
    ],
)
def test_encodings(tmp_path, content, encoding, text, notes):
    file, result = tmp_path / "text.txt", []
    file.write_bytes(content)
    assert read_text(file, encoding, result) == text
    assert result == notes


@pytest.mark.parametrize(
    "text, notes",
    [
        (ENGLISH * 9, []),
        (
            "a" * 85 + "b" * 5 + "a" * 9 + "é",
            ["5 of 5 validation characters (100.0%)", "1 of 10 test characters (10.0%)"],
        ),
        ("".join(chr(0x4E00 + i // 2) for i in range(9000)), ["450 of 450 validation", "900 of 900 test characters"]),
    ],
)
def test_unknown_characters_are_counted(tmp_path, text, notes):
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    result = load(str(file)).notes
    assert len(result) == len(notes)
    for note, beginning in zip(result, notes):
        assert note.startswith(beginning) and len(note) < 400
    assert not load(str(file), subwords=300).notes


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "neither a known text"),
        (b"", "has no text"),
        (b" \n\n", "has no text"),
        (b"one\ntwo\nna\xefve\n", r"line 3 has the byte 0xef at position 10; .* may be latin-1: .* --encoding latin-1"),
        (b"one \x93two\x94", r"line 1 has the byte 0x93 at position 4; it may be cp1252"),
        ("\ufeffone".encode("utf-16-le")[:-1], "is not UTF-16.*position 6; it is cut off or damaged: copy it again"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, content, message):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_text(file)


WORDS = "the cat sat on the mat. " * 20


@pytest.mark.parametrize(
    ("files", "lengths", "notes"),
    [
        (
            {"b.txt": WORDS, "a.txt": WORDS, "notes.pdf": "%PDF"},
            (817, 48, 96),
            [
                "1 files of {} are not read, such as notes.pdf",
                "2 files are put together in the order of their names: a",
            ],
        ),
        (
            {"wiki.train.tokens": WORDS, "wiki.valid.tokens": WORDS[:48], "wiki.test.tokens": WORDS[:72]},
            (480, 48, 72),
            ["the parts are those that the names of files say: train: wiki.train.tokens; validation: wiki.valid.to"],
        ),
        (
            {"train.txt": WORDS, "test.txt": WORDS[:72]},
            (456, 24, 72),
            ["the parts are those that the names of files say: train: train.txt; test: test.txt"],
        ),
    ],
)
def test_folders(tmp_path, files, lengths, notes):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    corpus = load(str(tmp_path))
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == lengths
    assert len(corpus.notes) == len(notes), corpus.notes
    for note, beginning in zip(corpus.notes, notes):
        assert note.startswith(beginning.format(tmp_path.name)), note


def test_json_lines(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one", "id": 1}\n{"text": "two", "id": 2}\n', encoding="utf-8")
    notes: list[str] = []
    assert read_text(file, notes=notes) == "one\ntwo"
    assert notes[-1] == "a.jsonl: of 2 JSON objects the text is read, a line each"
    assert any("'id'" in note for note in notes), notes
