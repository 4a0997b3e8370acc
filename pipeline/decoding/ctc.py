"""What the frames of a connectionist classifier read as: the best alignment's labels, or the likeliest labels."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Labels = tuple[int, ...]
Scorer = Callable[[Labels], float]
"""What is added to the logarithm of a prefix's probability for its last label: a language model's say in it."""


class Reading(NamedTuple):
    """labels: what is read. starts, ends: the frame at which each begins, and the one behind its last. log_p: the
    logarithm of the best alignment's probability."""

    labels: Labels
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    log_p: float


def best_path(log_y: np.ndarray, blank: int = 0) -> Reading:
    """The labels of the likeliest alignment: each frame's best symbol, without repeats, then without blanks.

    log_y: (frames, symbols), logarithms of probabilities, of the frames of one utterance that count.

    Not always the likeliest labels, which may have many alignments that are each less likely (Graves et al. 2006).
    """
    if not len(log_y):
        return Reading((), (), (), 0.0)
    path = log_y.argmax(1)
    runs = np.flatnonzero(np.diff(path, prepend=-1, append=-1) != 0)  # where each begins, and the last one's end
    labels = path[runs[:-1]]
    spoken = labels != blank
    return Reading(
        tuple(labels[spoken].tolist()),
        tuple(runs[:-1][spoken].tolist()),
        tuple(runs[1:][spoken].tolist()),
        float(log_y.max(1).sum()),
    )


def align(log_y: np.ndarray, labels: Labels, blank: int = 0) -> Reading | None:
    """The likeliest alignment that reads as ``labels`` (Viterbi 1967); None where there are too few frames for one.

    log_y: (frames, symbols), logarithms of probabilities, of the frames of one utterance that count.

    The states are the labels with blanks around each, as in ``CTC``: a frame stays in its state, goes on to the next,
    or skips a blank between labels that differ.
    """
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), -math.inf)
    best[0] = 0.0  # before the first frame all is at the first blank
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
    """The likeliest labels and the logarithm of their probability, best first (Graves 2012; Hannun et al. 2014).

    log_y: (frames, symbols), logarithms of probabilities, of the frames of one utterance that count.
    width: how many prefixes are kept after each frame; where none is ever dropped, the search is exact.
    scorer: None, or what a language model adds for the last label of a prefix; the probabilities then have it in them.

    A prefix stands for all alignments so far that read as it. Those that end in a blank are kept apart from those that
    end in its last label: only after a blank does the same label again make the prefix longer.
    """
    beams: dict[Labels, tuple[float, float]] = {(): (0.0, -math.inf)}  # the logarithms: ending in a blank, in a label
    said: dict[Labels, float] = {}
    for frame in log_y.tolist():
        blanks: defaultdict[Labels, float] = defaultdict(lambda: -math.inf)
        labels: defaultdict[Labels, float] = defaultdict(lambda: -math.inf)
        possible = [(symbol, log) for symbol, log in enumerate(frame) if symbol != blank and log > -math.inf]
        for prefix, (in_blank, in_label) in beams.items():
            both = _log_add(in_blank, in_label)
            blanks[prefix] = _log_add(blanks[prefix], both + frame[blank])
            if prefix:
                labels[prefix] = _log_add(labels[prefix], in_label + frame[prefix[-1]])
            for symbol, log in possible:
                longer = (*prefix, symbol)
                if scorer is not None and longer not in said:
                    said[longer] = scorer(longer)
                before = in_blank if prefix[-1:] == (symbol,) else both
                labels[longer] = _log_add(labels[longer], before + log + said.get(longer, 0.0))
        totals = {prefix: _log_add(blanks[prefix], labels[prefix]) for prefix in {**blanks, **labels}}
        possible_prefixes = (prefix for prefix, log_p in totals.items() if log_p > -math.inf)
        kept = sorted(possible_prefixes, key=totals.__getitem__, reverse=True)[:width]
        beams = {prefix: (blanks[prefix], labels[prefix]) for prefix in kept}
    return [(prefix, _log_add(*both)) for prefix, both in beams.items()]


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    larger, smaller = max(a, b), min(a, b)
    return larger if smaller == -math.inf else larger + math.log1p(math.exp(smaller - larger))
