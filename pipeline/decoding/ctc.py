"""CTC decoding: from the log-probabilities of frames to labels, by best path, prefix beam search or alignment."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Labels = tuple[int, ...]
Scorer = Callable[[Labels], float]
"""``prefix -> score``: what a language model adds to the log-probability of a prefix for its last label."""


class Reading(NamedTuple):
    """Labels and where they were read.

    labels: the label sequence. starts, ends: for each label, its first frame and the frame after its last.
    log_p: the log-probability of the alignment.
    """

    labels: Labels
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    log_p: float


def best_path(log_y: np.ndarray, blank: int = 0) -> Reading:
    """Decodes the likeliest alignment: the best symbol of every frame, without repeats and then without blanks.

    log_y: (frames, symbols), log-probabilities of one utterance's frames, without padding.

    These are not always the likeliest labels: others may have more alignments, each of them less likely (Graves et al.
    2006). ``prefix_beam_search`` looks for those.

    >>> log_y = np.log([[0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]])
    >>> reading = best_path(log_y)
    >>> reading.labels, reading.starts, reading.ends
    ((1, 2), (0, 3), (2, 4))
    """
    if not len(log_y):
        return Reading((), (), (), 0.0)
    path = log_y.argmax(1)
    runs = np.flatnonzero(np.diff(path, prepend=-1, append=-1) != 0)  # the start of every run, and the last one's end
    labels = path[runs[:-1]]
    is_label = labels != blank
    return Reading(
        tuple(labels[is_label].tolist()),
        tuple(runs[:-1][is_label].tolist()),
        tuple(runs[1:][is_label].tolist()),
        float(log_y.max(1).sum()),
    )


def align(log_y: np.ndarray, labels: Labels, blank: int = 0) -> Reading | None:
    """Finds the likeliest alignment of known labels with the frames (Viterbi 1967); None if there are too few frames.

    log_y: (frames, symbols), log-probabilities of one utterance's frames, without padding.

    The states are the labels with a blank around each, as in the CTC loss. From one frame to the next an alignment
    stays in its state, moves to the next one, or skips a blank between two different labels.

    >>> log_y = np.log([[0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]])
    >>> reading = align(log_y, (1, 2))
    >>> reading.starts, reading.ends
    ((0, 3), (2, 4))
    >>> align(log_y[:2], (1, 1)) is None  # a blank must separate equal labels: two frames are too few
    True
    """
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), -math.inf)
    best[0] = 0.0  # every alignment starts at the first blank
    steps = np.zeros((len(log_y), len(states)), int)
    for t, frame in enumerate(log_y):
        one, two = np.append(-math.inf, best)[:-1], np.append([-math.inf] * 2, best)[:-2]
        ways = np.stack([best, one, np.where(skips, two, -math.inf)])
        steps[t] = ways.argmax(0)
        best = ways.max(0) + frame[states]
    end = max(range(max(0, len(states) - 2), len(states)), key=best.__getitem__)
    if best[end] == -math.inf:
        return None
    path = np.empty(len(log_y), int)
    state = end
    for t in range(len(log_y) - 1, -1, -1):
        path[t] = state
        state -= steps[t, state]
    starts = np.searchsorted(path, np.arange(1, len(states), 2), "left")
    ends = np.searchsorted(path, np.arange(1, len(states), 2), "right")
    return Reading(labels, tuple(starts.tolist()), tuple(ends.tolist()), float(best[end]))


def prefix_beam_search(
    log_y: np.ndarray, width: int = 16, blank: int = 0, scorer: Scorer | None = None
) -> list[tuple[Labels, float]]:
    """Searches for the likeliest labels (Graves 2012; Hannun et al. 2014).

    log_y: (frames, symbols), log-probabilities of one utterance's frames, without padding.
    width: how many prefixes are kept after each frame; the search is exact if none is ever dropped.
    scorer: a language model's score of the last label of a prefix, added to its log-probability; None: no language
        model.

    Returns label sequences with their log-probabilities (and scores), best first.

    A prefix stands for all alignments so far that read as it. Those that end in a blank are counted apart from those
    that end in the prefix's last label, because the same label again extends the prefix only after a blank.

    >>> log_y = np.log([[0.6, 0.4], [0.6, 0.4]])
    >>> best_path(log_y).labels
    ()
    >>> labels, log_p = prefix_beam_search(log_y)[0]
    >>> labels, round(math.exp(log_p), 2)
    ((1,), 0.64)
    """
    beams: dict[Labels, tuple[float, float]] = {(): (0.0, -math.inf)}  # log p: ending in a blank, in a label
    scores: dict[Labels, float] = {}
    for frame in log_y.tolist():
        blanks: defaultdict[Labels, float] = defaultdict(lambda: -math.inf)
        labels: defaultdict[Labels, float] = defaultdict(lambda: -math.inf)
        possible = [(symbol, log) for symbol, log in enumerate(frame) if symbol != blank and log > -math.inf]
        for prefix, (in_blank, in_label) in beams.items():
            both = log_add(in_blank, in_label)
            blanks[prefix] = log_add(blanks[prefix], both + frame[blank])
            if prefix:
                labels[prefix] = log_add(labels[prefix], in_label + frame[prefix[-1]])
            for symbol, log in possible:
                longer = (*prefix, symbol)
                if scorer is not None and longer not in scores:
                    scores[longer] = scorer(longer)
                before = in_blank if prefix[-1:] == (symbol,) else both
                labels[longer] = log_add(labels[longer], before + log + scores.get(longer, 0.0))
        totals = {prefix: log_add(blanks[prefix], labels[prefix]) for prefix in {**blanks, **labels}}
        possible_prefixes = (prefix for prefix, log_p in totals.items() if log_p > -math.inf)
        best = sorted(possible_prefixes, key=totals.__getitem__, reverse=True)[:width]
        beams = {prefix: (blanks[prefix], labels[prefix]) for prefix in best}
    return [(prefix, log_add(*both)) for prefix, both in beams.items()]


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    larger, smaller = max(a, b), min(a, b)
    return larger if smaller == -math.inf else larger + math.log1p(math.exp(smaller - larger))
