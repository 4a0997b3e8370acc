"""Vocabularies: what is encoded comes back, what is unknown is known to be, and files hold all of it."""

import json

import numpy as np
import pytest

from pipeline.data.vocabulary import BEGIN, END, PADDING, Characters, Subwords, Words, read, write
from pipeline.errors import UserError

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat, a dog: 2026 cats"] * 5
VOCABULARIES = (Characters.of("".join(TEXTS)), Subwords.learn(TEXTS, 290), Words.learn(TEXTS, 20))


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
