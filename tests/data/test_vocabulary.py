"""Vocabularies: what is encoded comes back, what is unknown is known to be, and files hold all of it."""

import json
import random
import time
from typing import Any

import numpy as np
import pytest

from pipeline.data.vocabulary import BAG, BEGIN, END, PADDING, Characters, SpelledWords, Subwords, Words, read, write
from pipeline.errors import UserError

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat, a dog: 2026 cats"] * 5
VOCABULARIES = (Characters.of("".join(TEXTS)), Subwords.learn(TEXTS, 290), SpelledWords.learn(TEXTS, 20, 30))


@pytest.mark.parametrize("text", [TEXTS[2], "", " two  spaces\n and a line ", "Grüße, €5 🦊 \t"])
def test_subwords_lose_nothing(text):
    vocabulary = VOCABULARIES[1]
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32 and (ids > END).all()
    assert vocabulary.decode(ids) == text
    np.testing.assert_array_equal(vocabulary.encode_all([text, text])[1], ids)


def test_subwords_are_the_frequent_pieces_and_digits_stand_alone():
    vocabulary = VOCABULARIES[1]
    assert len(vocabulary) <= 290
    message = vocabulary.tokens(vocabulary.encode("on the cat 2026"))
    assert message[-5:] == [" ", "2", "0", "2", "6"]
    assert " the" in message and " cat" in message
    assert vocabulary.decode(np.array([BEGIN, *vocabulary.encode(" the"), END, PADDING])) == " the"
    assert vocabulary.tokens(np.array([PADDING, BEGIN, END])) == ["<padding>", "<begin>", "<end>"]
    assert Subwords.learn(TEXTS, 290) == vocabulary, "the same text gives the same subwords"


def test_words_are_the_most_frequent_ones():
    vocabulary = Words.learn(TEXTS, 6)
    assert len(vocabulary) == 6
    assert vocabulary.encode("The the xyzzy").tolist() == [2, 2, 1]
    assert vocabulary.unknown("The xyzzy, the Mat") == ["xyzzy", ",", "Mat"]
    assert len(Words.learn(["a a b"], 100, least=2)) == 3


@pytest.mark.parametrize(
    "text, words",
    [
        ("The cat, 2026!", ["the", "cat", ",", "2026", "!"]),
        ("这部电影很好看。", ["这", "部", "电", "影", "很", "好", "看", "。"]),
        ("とてもgood映画", ["と", "て", "も", "good", "映", "画"]),
        ("หนังดีมาก", ["ห", "นั", "ง", "ดี", "ม", "า", "ก"]),
        ("아주 재미있다", ["아주", "재미있다"]),
    ],
)
def test_characters_are_words_where_no_spaces_separate_words(text, words):
    vocabulary = SpelledWords.learn([text], 100, 0)
    assert vocabulary.split(text) == words
    assert vocabulary.unknown(text) == []


def test_a_words_ids_are_its_own_and_those_of_n_grams_that_several_words_have():
    vocabulary = SpelledWords.learn(["enjoy enjoyed", "enjoy play"], words=4, ngrams=100)
    assert "<enjo" in vocabulary.ngrams and "njoye" not in vocabulary.ngrams
    known, unknown, strange = vocabulary.encode("enjoy Enjoyable xyzzy")
    assert known[0] == 2 and unknown[0] == strange[0] == 1 and not strange[1:].any()
    assert set(known[1:]) == set(unknown[1:]) and known.shape == (BAG,)
    assert vocabulary.ngrams_of("enjoyable")[:2] == ["<enjo", "enjoy"]
    assert len(SpelledWords.learn(["enjoy enjoyed"], 9, 2).ngrams) == 2
    assert vocabulary.encode("enjoy" * 100_000).shape == (1, BAG)


def test_characters_know_what_they_do_not():
    vocabulary = VOCABULARIES[0]
    assert vocabulary.unknown("the § cat § €") == "§€"
    assert vocabulary.decode(vocabulary.encode("the § cat")) == "the \N{REPLACEMENT CHARACTER} cat"


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda vocabulary: type(vocabulary).__name__)
def test_what_is_written_is_read(vocabulary, tmp_path):
    write(tmp_path, vocabulary)
    again = read(tmp_path)
    assert type(again) is type(vocabulary) and len(again) == len(vocabulary)
    np.testing.assert_array_equal(again.encode(TEXTS[0]), vocabulary.encode(TEXTS[0]))


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"syllables": "x"}), json.dumps({"subwords": {}})])
def test_a_file_that_holds_none(content, tmp_path):
    if content is not None:
        (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(UserError, match="not the folder of a run"):
        read(tmp_path)


def stored(kind: int) -> dict:
    content: Any = VOCABULARIES[kind].content()
    return content["tokenizer"] if kind == 2 else content


def words(tokenizer: dict, ngrams: list | tuple = ()) -> dict:
    return {"words": {"tokenizer": tokenizer, "ngrams": ngrams}}


def with_ids(kind: int, change) -> dict:
    content = stored(kind)
    content["model"]["vocab"] = change(content["model"]["vocab"])
    return content


@pytest.mark.parametrize(
    "content",
    [
        {"characters": 5},
        {"characters": ["a", "b"]},
        {"characters": "cab"},
        {"characters": "\N{REPLACEMENT CHARACTER}aab"},
        {"characters": "\N{REPLACEMENT CHARACTER}a\udc80"},
        words(with_ids(2, lambda ids: ids | {"cat": 10**9})),
        words(with_ids(2, lambda ids: {word: id_ for word, id_ in ids.items() if word != "cat"})),
        words(stored(2) | {"added_tokens": []} | {"model": stored(2)["model"] | {"unk_token": "nobody"}}),
        words(stored(1)),
        words(stored(2), ["<ca", "<ca"]),
        words(stored(2), ["<c"]),
        words(stored(2), [300]),
        {"words": stored(2)},
        {"subwords": stored(2)},
        {"words": "[" * 1_000},
    ],
)
def test_a_vocabulary_that_was_not_learnt(content, tmp_path):
    (tmp_path / "vocabulary.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"not the folder of a run: its vocabulary.json cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"characters": ' + b"9" * 5_000 + b"}", b"\xff", b""])
def test_a_file_that_is_no_json(content, tmp_path):
    (tmp_path / "vocabulary.json").write_bytes(content)
    with pytest.raises(UserError, match="not the folder of a run"):
        read(tmp_path)


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda vocabulary: type(vocabulary).__name__)
def test_text_that_is_not_unicode(vocabulary):
    with pytest.raises(UserError, match=r"the text has \\udce9 at position 3: it is half of a character, or a byte"):
        vocabulary.encode("caf\udce9")
    if isinstance(vocabulary, Subwords):
        with pytest.raises(UserError, match=r"the text has \\ud83d at position 0"):
            vocabulary.encode_all(["the cat", "\ud83d"])


def test_subwords_know_which_characters_they_have_none_for():
    vocabulary = Subwords.learn(["über für Tür"] * 9, 290)
    assert vocabulary.unknown("Für ßüß €9") == "ß€"


def test_subwords_of_text_without_spaces_are_learnt_in_time():
    letters = random.Random(0)
    text = "".join(letters.choice("acgt") for _ in range(200_000))
    begin = time.monotonic()
    assert len(Subwords.learn([text], 400)) > 260
    assert time.monotonic() - begin < 5, "pieces of any length take quadratic time"


def test_long_words_are_cut_between_characters():
    vocabulary = Subwords.learn(["日本語の" * 200], 1000)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(vocabulary.tokens(vocabulary.encode("日本語の" * 100)))
