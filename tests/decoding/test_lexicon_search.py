"""The search through a lexicon against the enumeration of all alignments, spellings and words."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from test_ctc_decoding import draw, enumerated

from pipeline.data.arpa import Arpa
from pipeline.data.lexicon import Lexicon, Pronunciations, spelled_words
from pipeline.data.vocabulary import Characters, Tokens
from pipeline.decoding.lexicon_search import LexiconSearch
from pipeline.decoding.ngram import BackoffNGram, NGram

FRAMES = 4
LEXICONS = {
    "prefixes": [(1, (1,)), (2, (1, 2)), (3, (1, 2, 1)), (4, (2, 2))],
    "homophones and several spellings": [(1, (1, 2)), (2, (1, 2)), (3, (2,)), (3, (1, 1)), (4, (2,))],
}
TEXTS = [(1, 2), (1, 3, 3), (4,), (2, 1), (3,)]


def readings(log_y, spellings, boundary, scorer, weight, bonus):
    """The probability of every sequence of words, with the language model's score."""
    alignments = enumerated(log_y, 0)
    found = defaultdict(float)
    for count in range(FRAMES + 1):
        for chosen in itertools.product(spellings, repeat=count):
            words = tuple(word for word, _ in chosen)
            glue = () if boundary is None else (boundary,)
            labels = tuple(itertools.chain.from_iterable((*glue, *its) for _, its in chosen))[len(glue) :]
            ends = {labels, labels + glue} if count else {labels}
            score = weight * sum(scorer((0, *words[:n])) for n in range(1, count + 1)) + weight * scorer((0, *words, 0))
            found[words] += sum(alignments.get(each, 0.0) for each in ends) * math.exp(score + bonus * count)
    return {words: p for words, p in found.items() if p}


@pytest.mark.parametrize("boundary", [None, 3])
@pytest.mark.parametrize("name", LEXICONS)
@pytest.mark.parametrize("order", [0, 2])
def test_a_wide_beam_is_exact(name, boundary, order):
    spellings, weight, bonus = LEXICONS[name], 0.7, 0.3
    scorer = NGram.of([(0, *text, 0) for text in TEXTS], order, 5) if order else lambda prefix: 0.0
    log_y = draw(FRAMES, 4, seed=order)
    expected = readings(log_y, spellings, boundary, scorer, weight, bonus)
    found = LexiconSearch(spellings, 10**6, boundary, scorer, weight, bonus)(log_y)
    assert {reading.words for reading in found} == set(expected) and len(found) == len(expected)
    for reading in found:
        assert math.exp(reading.log_p) == pytest.approx(expected[reading.words], rel=1e-9), reading
    assert [reading.log_p for reading in found] == sorted((reading.log_p for reading in found), reverse=True)


@pytest.mark.parametrize("boundary", [None, 3])
def test_spans_are_the_spellings_of_the_words(boundary):
    spellings = LEXICONS["homophones and several spellings"]
    for reading in LexiconSearch(spellings, 10**6, boundary)(draw(FRAMES, 4, seed=3)):
        spelled = [reading.labels[start:end] for start, end in reading.spans]
        assert len(spelled) == len(reading.words)
        assert all(pair in spellings for pair in zip(reading.words, spelled))
        between = set(range(len(reading.labels))) - {i for span in reading.spans for i in range(*span)}
        assert {reading.labels[i] for i in between} <= {boundary}


def test_look_ahead_keeps_what_a_narrow_beam_would_lose():
    # Both words begin alike; the sound prefers the rare one's second label, the language model the frequent one.
    log_y = np.log([[0.05, 0.55, 0.4, 1e-9], [0.05, 1e-9, 0.35, 0.6]])
    unigram = {1: 0.001, 2: 0.998, 0: 1.0}
    search = LexiconSearch([(1, (1, 3)), (2, (2, 3))], 1, scorer=lambda prefix: math.log(unigram[prefix[-1]]))
    assert search(log_y)[0].words == (2,)


def test_a_word_that_is_not_finished_is_left_out():
    log_y = np.log([[0.01, 0.97, 0.01, 0.01], [0.01, 0.01, 0.97, 0.01]])
    search = LexiconSearch([(1, (1,)), (2, (2, 1, 1))], width=1)
    assert search(log_y)[0][:3] == ((1,), (1,), ((0, 1),))
    assert search(np.zeros((0, 4)))[0][:3] == ((), (), ())


@pytest.mark.parametrize("spelling", [(1, ()), (1, (0, 1)), (1, (3,)), (0, (1,))])
def test_spellings_that_no_search_can_read(spelling):
    with pytest.raises(ValueError, match="neither blank nor boundary"):
        LexiconSearch([spelling], boundary=3)


def test_a_model_with_back_off_by_hand():
    log = {("</s>",): -1.0, ("a",): -2.0, ("b",): -3.0, ("<unk>",): -9.0, ("<s>", "a"): -0.5, ("a", "</s>"): -0.25}
    log |= {("<s>",): -99.0, ("<s>", "a", "b"): -0.125}
    model = BackoffNGram.of(Arpa(3, log, {("<s>",): -0.1, ("a",): -0.2, ("<s>", "a"): -0.3}), ["a", "b", "c"])
    a, b, c = 1, 2, 3
    expected = {
        (0, a): -0.5,
        (0, b): -0.1 - 3.0,
        (0, a, b): -0.125,
        (0, a, a): -0.3 - 0.2 - 2.0,
        (0, a, 0): -0.3 - 0.25,
        (0, b, 0): -1.0,  # b has no back-off weight
        (0, c): -0.1 - 9.0,
        (0, a, c): -0.3 - 0.2 - 9.0,
        (0, c, a): -2.0,
        (a,): -2.0,
        (0, b, a, b): -0.2 - 3.0,
    }
    assert {prefix: model(prefix) for prefix in expected} == pytest.approx(expected)


def test_words_are_spelled_in_the_units_of_the_alphabet():
    letters = Lexicon({"on": (("O", "N"),), "no": (("n", "o"), ("x",)), "at": (("AE", "T"),), "non": (("no", "n"),)})
    assert spelled_words(letters, Characters.of("on ")) == [(1, (3, 2)), (2, (2, 3))]
    phones = Lexicon({"on": (("AA", "N"), ("N", "N")), "at": (("AE", "T"),)})
    alphabet = Pronunciations(Tokens.of(["AA N"]), phones)
    assert spelled_words(phones, alphabet) == [(1, (1, 2)), (1, (2, 2))]
