"""Decoding against the enumeration of all alignments."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from pipeline.decoding.ctc import Reading, align, best_path, prefix_beam_search
from pipeline.decoding.ngram import NGram


def draw(frames: int, symbols: int, seed: int) -> np.ndarray:
    z = 2 * np.random.default_rng(seed).normal(size=(frames, symbols))
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def read(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def enumerated(log_y: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The probability of everything that so many frames can read as."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_y.shape[1]), repeat=len(log_y)):
        found[read(path, blank)] += math.exp(sum(log_y[t, symbol] for t, symbol in enumerate(path)))
    return found


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_is_exact(seed, blank):
    log_y = draw(5, 3, seed)
    expected = enumerated(log_y, blank)
    found = prefix_beam_search(log_y, 10**6, blank)
    assert {labels for labels, _ in found} == set(expected)
    np.testing.assert_allclose([math.exp(p) for _, p in found], [expected[labels] for labels, _ in found], rtol=1e-12)
    assert found[0][0] == max(expected, key=expected.__getitem__)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


def test_a_language_model_multiplies_every_label_once():
    log_y = draw(4, 3, 7)
    model = {1: 0.9, 2: 0.05}
    found = dict(prefix_beam_search(log_y, 10**6, scorer=lambda prefix: math.log(model[prefix[-1]] / len(prefix))))
    for labels, p in enumerated(log_y, 0).items():
        said = math.prod(model[label] / n for n, label in enumerate(labels, 1))
        assert math.exp(found[labels]) == pytest.approx(p * said, rel=1e-12)


def test_the_likeliest_labels_are_not_those_of_the_likeliest_alignment():
    # Graves' own example: in both frames the blank is likelier than the label, and yet the label is.
    log_y = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert best_path(log_y).labels == ()
    for width in (2, 10):
        (first, p), *_ = prefix_beam_search(log_y, width)
        assert (first, math.exp(p)) == ((1,), pytest.approx(0.64))


def test_best_path_without_repeats_and_then_without_blanks():
    path = np.array([0, 2, 2, 0, 2, 1, 1, 0, 0, 1])
    log_y = np.log(np.where(np.arange(3) == path[:, None], 0.8, 0.1))
    reading = best_path(log_y)
    assert reading.labels == (2, 2, 1, 1)
    assert (reading.starts, reading.ends) == ((1, 4, 5, 9), (3, 5, 7, 10))
    assert reading.log_p == pytest.approx(10 * math.log(0.8))
    assert best_path(log_y, blank=2).labels == (0, 0, 1, 0, 1)


def test_no_frames_read_as_nothing():
    assert best_path(np.zeros((0, 3))).labels == ()
    assert prefix_beam_search(np.zeros((0, 3))) == [((), 0.0)]


def test_what_is_impossible_is_not_read():
    with np.errstate(divide="ignore"):
        log_y = np.log([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    found = {labels: math.exp(p) for labels, p in prefix_beam_search(log_y) if p > -math.inf}
    assert found == {(1,): pytest.approx(0.5), (1, 1): pytest.approx(0.5)}


def test_an_n_gram_adds_up_to_1_and_has_learnt():
    texts = [[1, 2, 1, 2, 3], [1, 2, 3], [], [2, 3]]
    for order in (1, 2, 3):
        model = NGram.of(texts, order, symbols=4)
        for before in itertools.product(range(4), repeat=2):
            assert sum(math.exp(model((*before, symbol))) for symbol in range(4)) == pytest.approx(1)
        assert sum(math.exp(model((symbol,))) for symbol in range(4)) == pytest.approx(1)
    # By hand: after 1 there was always 2, thrice; 2 is 4 of 10 labels, and three different labels have been seen.
    unigram = (4 + 3 / 4) / (10 + 3)
    assert math.exp(NGram.of(texts, 2, symbols=4)((3, 1, 2))) == pytest.approx((3 + 1 * unigram) / (3 + 1))


def test_an_n_gram_decides_where_the_sound_does_not():
    log_y = np.log([[0.1, 0.8, 0.1, 1e-9], [0.1, 1e-9, 0.45, 0.45], [0.9, 0.05, 0.03, 0.02]])
    model = NGram.of([[1, 3]] * 5 + [[2, 2]], 2, symbols=4)
    assert prefix_beam_search(log_y)[0][0] == (1, 2)
    assert prefix_beam_search(log_y, scorer=model)[0][0] == (1, 3)


def test_the_likeliest_alignment_of_given_labels():
    log_y = draw(6, 3, 11)
    for labels in ((), (1,), (2, 2), (1, 2, 1), (2, 2, 2)):
        paths = [path for path in itertools.product(range(3), repeat=6) if read(path, 0) == labels]
        p = [sum(log_y[t, symbol] for t, symbol in enumerate(path)) for path in paths]
        reading = align(log_y, labels)
        assert reading is not None and reading.labels == labels
        assert reading.log_p == pytest.approx(max(p))
        best = np.array(paths[int(np.argmax(p))])
        spans = [(start, end) for start, end in zip(reading.starts, reading.ends)]
        said = [(label, *span) for label, span in zip(labels, spans)]
        begins = np.flatnonzero(np.diff(best, prepend=-1) != 0)
        ends = [*begins[1:], 6]
        assert said == [(best[b], b, e) for b, e in zip(begins, ends) if best[b] != 0]


def test_too_few_frames_have_no_alignment():
    assert align(draw(2, 3, 0), (1, 1)) is None
    assert align(draw(0, 3, 0), (1,)) is None
    assert align(np.zeros((0, 3)), ()) == Reading((), (), (), 0.0)
