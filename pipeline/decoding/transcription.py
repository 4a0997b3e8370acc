"""Transcripts: what the frames of a recogniser read as, and when each word is spoken."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.decoding.ctc import Labels, align, best_path, prefix_beam_search
from pipeline.decoding.ngram import NGram

Reader = Callable[[np.ndarray], Labels]
"""``log_y (frames, symbols) -> labels``, of the frames of one utterance that count."""


def make_reader(
    beam: int = 1, ngram: int = 0, ngram_weight: float = 0.5, texts: Sequence[Sequence[int]] = (), symbols: int = 0
) -> Reader:
    """A function that turns log-probabilities of frames into labels, of which 0 is CTC's blank.

    beam: hypotheses that prefix beam search keeps; 1: the best path. ngram: with a beam, the order of a language model
        of labels, learned from ``texts`` (the labels of each) over so many ``symbols``; 0: none. ngram_weight: its
        weight beside the recogniser's log-probabilities.
    """
    if beam == 1:
        return lambda log_y: best_path(log_y).labels
    if not ngram:
        return lambda log_y: prefix_beam_search(log_y, beam)[0][0]
    # The blank, which no text contains, marks beginning and end: "thre" is no text, but "three" is.
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

    log_y: (frames, symbols), logarithms of probabilities. decode: ids to text, one character an id.
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
