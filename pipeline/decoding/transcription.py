"""Transcription: from the log-probabilities of frames to labels, and to words with their times."""

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


class Transcript(NamedTuple):
    """What was read from an utterance: words, and their labels.

    spans: for each word its first label and the label after its last.
    """

    words: tuple[str, ...]
    labels: Labels
    spans: tuple[tuple[int, int], ...]

    @property
    def text(self) -> str:
        """The words with single spaces."""
        return " ".join(self.words)


def split_words(labels: Labels, symbols: Sequence[str], separator: int | None = None) -> Transcript:
    """Labels as words: those between separators, or each label on its own if ``separator`` is None.

    symbols: the text of each label.

    >>> split_words((2, 1, 3, 2), ["", " ", "a", "b"], separator=1)
    Transcript(words=('a', 'ba'), labels=(2, 1, 3, 2), spans=((0, 1), (2, 4)))
    """
    spans: list[tuple[int, int]] = []
    for place, label in enumerate(labels):
        if label == separator:
            continue
        continues = separator is not None and place and labels[place - 1] != separator
        spans = [*spans[:-1], (spans[-1][0], place + 1)] if continues else [*spans, (place, place + 1)]
    words = ("".join(symbols[label] for label in labels[start:end]) for start, end in spans)
    return Transcript(tuple(words), labels, tuple(spans))


def spoken_words(log_y: np.ndarray, transcript: Transcript, seconds_per_frame: float) -> list[SpokenWord]:
    """The words of a transcript that was read from these frames, timed by the likeliest alignment with them.

    log_y: (frames, symbols), log-probabilities.
    """
    alignment = align(log_y, transcript.labels)
    assert alignment is not None  # labels read from these frames have an alignment
    times = ((alignment.starts[first], alignment.ends[last - 1]) for first, last in transcript.spans)
    return [
        SpokenWord(word, start * seconds_per_frame, end * seconds_per_frame)
        for word, (start, end) in zip(transcript.words, times)
    ]
