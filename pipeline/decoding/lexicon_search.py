"""Prefix beam search through a lexicon: from the log-probabilities of frames to words."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .ctc import Labels, Scorer, log_add


class WordReading(NamedTuple):
    """Words and how they are spelled.

    words: ids. labels: of all words, and of the boundaries between them. spans: for each word its first label and the
    label after its last. log_p: the log-probability of the words, summed over spellings and alignments, with the
    language model's score.
    """

    words: Labels
    labels: Labels
    spans: tuple[tuple[int, int], ...]
    log_p: float


@dataclass(eq=False)
class _Node:
    """A beginning of spellings. words: those that end here. best: the score of the likeliest word below."""

    children: dict[int, "_Node"]
    words: list[int]
    best: float = -math.inf


@dataclass(eq=False, slots=True)
class _Prefix:
    """A hypothesis: words, and the labels of the next one so far. Equal ones are one object.

    label: the last one; -1 if there is none. word: that ends with this label; 0: none. score: of the words and of the
    beginning of the next one. extensions: by one more label; None: not yet known.
    """

    before: "_Prefix | None"
    label: int
    node: _Node
    word: int
    words: Labels
    language: float
    score: float
    extensions: "list[_Prefix] | None" = None


class LexiconSearch:
    """Searches for the likeliest sequence of a lexicon's words (Graves & Jaitly 2014; Hannun et al. 2014).

    spellings: pairs of a word's id, from 1 on, and its labels; a word may have several spellings, and several words the
        same one.
    width: how many hypotheses are kept after each frame; the search is exact if none is ever dropped.
    boundary: the label between two words, such as that of a space; the last word may have one after it. None: words
        follow each other directly, and silence is CTC's blank.
    scorer: a language model: the log-probability of the last word of (0, words ..., word), where 0 stands for the
        beginning and, as the last one, for the end. None: all words are equally likely.
    weight: multiplies the language model's log-probabilities. bonus: is added for each word.

    The lexicon is a tree of spellings. A hypothesis is a place in it together with the words before, and its alignments
    are counted as in ``prefix_beam_search``. Inside of a word, it has the score of the likeliest word that it may
    become, without regard to the words before, until the word's own score replaces that (look-ahead: Ortmanns, Ney &
    Eiden 1996).

    >>> log_y = np.log([[0.1, 0.5, 0.4], [0.1, 0.4, 0.5]])
    >>> LexiconSearch([(1, (1, 2)), (2, (2, 2))])(log_y)[0].words
    (1,)
    """

    def __init__(
        self,
        spellings: Iterable[tuple[int, Labels]],
        width: int = 16,
        boundary: int | None = None,
        scorer: Scorer | None = None,
        weight: float = 1.0,
        bonus: float = 0.0,
        blank: int = 0,
    ) -> None:
        self.width, self.boundary, self.blank = width, boundary, blank
        self.scorer, self.weight, self.bonus = scorer, weight, bonus
        self.root = _Node({}, [], 0.0)
        for word, labels in spellings:
            if not labels or blank in labels or boundary in labels or word < 1:
                raise ValueError(f"word {word} is spelled {labels}; labels are neither blank nor boundary, ids from 1")
            best, node = self._word_score((word,)), self.root
            for label in labels:
                node = node.children.setdefault(label, _Node({}, []))
                node.best = max(node.best, best)
            if word not in node.words:
                node.words.append(word)

    def __call__(self, log_y: np.ndarray) -> list[WordReading]:
        """The readings of one utterance's frames, (frames, labels), best first.

        If no hypothesis ends with a whole word, the unfinished one of the best is left out.
        """
        beams: dict[_Prefix, tuple[float, float]] = {self._empty: (0.0, -math.inf)}  # ending in a blank, in a label
        for frame in log_y.tolist():
            blanks: dict[_Prefix, float] = {}
            labels: dict[_Prefix, float] = {}
            for prefix, (in_blank, in_label) in beams.items():
                both = log_add(in_blank, in_label)
                blanks[prefix] = both + frame[self.blank]
                if prefix.label >= 0:
                    labels[prefix] = log_add(labels.get(prefix, -math.inf), in_label + frame[prefix.label])
                for longer in self._extensions(prefix):
                    log = (in_blank if longer.label == prefix.label else both) + frame[longer.label]
                    if log > -math.inf:
                        labels[longer] = log_add(labels.get(longer, -math.inf), log)
            none = -math.inf
            both_of = {prefix: (blanks.get(prefix, none), labels.get(prefix, none)) for prefix in {**blanks, **labels}}
            totals = {prefix: log_add(*both) + prefix.score for prefix, both in both_of.items()}
            possible = [prefix for prefix, total in totals.items() if total > none]
            beams = {
                prefix: both_of[prefix]
                for prefix in sorted(possible, key=totals.__getitem__, reverse=True)[: self.width]
            }
        return self._readings({prefix: log_add(*both) for prefix, both in beams.items()})

    @property
    def _empty(self) -> _Prefix:
        return _Prefix(None, -1, self.root, 0, (), 0.0, 0.0)

    def _word_score(self, words: Labels) -> float:
        """The score of the last of ``words``, which may be 0, the end."""
        language = 0.0 if self.scorer is None else self.weight * self.scorer(words)
        return language + (self.bonus if words[-1] else 0.0)

    def _extensions(self, prefix: _Prefix) -> list[_Prefix]:
        if prefix.extensions is None:
            prefix.extensions = list(self._extend(prefix))
        return prefix.extensions

    def _extend(self, prefix: _Prefix) -> Iterator[_Prefix]:
        """The hypotheses of one label more."""
        for label, node in prefix.node.children.items():
            if node.children or self.boundary is not None:
                yield _Prefix(prefix, label, node, 0, prefix.words, prefix.language, prefix.language + node.best)
            if self.boundary is None:
                yield from (self._ended(prefix, label, word) for word in node.words)
        if self.boundary is not None:
            yield from (self._ended(prefix, self.boundary, word) for word in prefix.node.words)

    def _ended(self, prefix: _Prefix, label: int, word: int) -> _Prefix:
        words = (*prefix.words, word)
        language = prefix.language + self._word_score((0, *words))
        return _Prefix(prefix, label, self.root, word, words, language, language)

    def _readings(self, beams: dict[_Prefix, float]) -> list[WordReading]:
        """The hypotheses that are whole words, those of the same words taken together."""
        whole = [(prefix, prefix.words, log_p) for prefix, log_p in beams.items() if prefix.node is self.root]
        if self.boundary is not None:
            whole += [(prefix, (*prefix.words, word), p) for prefix, p in beams.items() for word in prefix.node.words]
        if not whole:
            prefix, log_p = max(beams.items(), key=lambda pair: pair[1] + pair[0].score)
            whole = [(prefix, prefix.words, log_p)]
        totals: dict[Labels, float] = {}
        best: dict[Labels, tuple[float, _Prefix]] = {}
        for prefix, words, log_p in whole:
            totals[words] = log_add(totals.get(words, -math.inf), log_p)
            best[words] = max(best.get(words, (-math.inf, prefix)), (log_p, prefix), key=lambda pair: pair[0])
        readings = [self._reading(words, best[words][1], log_p) for words, log_p in totals.items()]
        return sorted(readings, key=lambda reading: reading.log_p, reverse=True)

    def _reading(self, words: Labels, prefix: _Prefix, log_p: float) -> WordReading:
        steps: list[_Prefix] = []
        at: _Prefix | None = prefix
        while at is not None and at.label >= 0:
            steps.append(at)
            at = at.before
        steps.reverse()
        language = sum(self._word_score((0, *words[:count])) for count in range(1, len(words) + 1))
        language += self._word_score((0, *words, 0))
        skipped = 0 if self.boundary is None else 1
        ends = [place + 1 - skipped for place, step in enumerate(steps) if step.word]
        starts = [0, *(end + skipped for end in ends)]
        if len(words) > len(ends):  # the last word, without a boundary after it
            ends.append(len(steps))
        labels = tuple(step.label for step in steps[: ends[-1] if ends else 0])
        return WordReading(words, labels, tuple(zip(starts, ends)), log_p + language)
