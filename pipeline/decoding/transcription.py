"""Transcription: from the log-probabilities of frames to labels, and to words with their times."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .ctc import Labels, align, best_path, prefix_beam_search
from .ngram import NGram

Reader = Callable[[np.ndarray], Labels]
"""``log_y -> labels``, where ``log_y`` (frames, symbols) are the log-probabilities of one utterance's frames."""


def make_reader(
    beam: int = 1, ngram: int = 0, ngram_weight: float = 0.5, texts: Sequence[Sequence[int]] = (), symbols: int = 0
) -> Reader:
    """Returns a function from log-probabilities of frames to labels; label 0 is CTC's blank.

    beam: how many hypotheses prefix beam search keeps; 1 decodes the best path instead.
    ngram: the order of a language model of labels that prefix beam search uses; 0: none. It is counted from ``texts``,
        each the labels of one text, over ``symbols`` different labels.
    ngram_weight: multiplies the language model's log-probabilities.

    >>> read = make_reader(beam=4, ngram=2, texts=[(1, 2), (1, 2)], symbols=3)
    >>> read(np.log([[0.1, 0.8, 0.1], [0.2, 0.4, 0.4]]))
    (1, 2)
    """
    if beam == 1:
        return lambda log_y: best_path(log_y).labels
    if not ngram:
        return lambda log_y: prefix_beam_search(log_y, beam)[0][0]
    # The blank, which no text contains, marks the beginning and the end, so that endings are scored too.
    model = NGram.of([(0, *labels, 0) for labels in texts], ngram, symbols)

    def read(log_y: np.ndarray) -> Labels:
        hypotheses = prefix_beam_search(log_y, beam, scorer=lambda prefix: ngram_weight * model((0, *prefix)))
        best, _ = max(hypotheses, key=lambda hypothesis: hypothesis[1] + ngram_weight * model((0, *hypothesis[0], 0)))
        return best

    return read


class SpokenWord(NamedTuple):
    """A word, and the seconds at which it begins and ends."""

    text: str
    start: float
    end: float


def spoken_words(
    log_y: np.ndarray, labels: Labels, decode: Callable[[np.ndarray], str], seconds_per_frame: float
) -> list[SpokenWord]:
    """The words of ``labels``, timed by the likeliest alignment with the frames.

    log_y: (frames, symbols), log-probabilities. labels: read from these frames. decode: turns labels into text, one
    character per label.
    """
    alignment = align(log_y, labels)
    assert alignment is not None  # labels read from these frames have an alignment
    text = decode(np.asarray(alignment.labels, int))
    return [
        SpokenWord(
            match[0],
            alignment.starts[match.start()] * seconds_per_frame,
            alignment.ends[match.end() - 1] * seconds_per_frame,
        )
        for match in re.finditer(r"\S+", text)
    ]
