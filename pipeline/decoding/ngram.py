"""N-gram language models of labels or words: scorers for the searches."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..data.arpa import BEGIN, END, LOWEST, UNKNOWN, Arpa
from .ctc import Labels

_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class NGram:
    """An n-gram language model with Witten-Bell smoothing (Witten & Bell 1991): a ``Scorer`` for prefix beam search.

        p(c | h) = (count(hc) + distinct(h) p(c | h')) / (count(h) + distinct(h))

    where h are the at most ``order`` - 1 labels before c, h' is h without its first label, and distinct(h) is how many
    different labels have followed h. The recursion ends in a uniform distribution over ``symbols`` labels.

    >>> model = NGram.of([[1, 2], [1, 2], [1, 3]], order=2, symbols=4)
    >>> model((1, 2)) > model((1, 3)) > model((1, 1))
    True
    """

    order: int
    symbols: int
    counts: Counter[Labels]
    distinct: Counter[Labels]
    followed: Counter[Labels]

    @classmethod
    def of(cls, texts: Iterable[Sequence[int]], order: int, symbols: int) -> "NGram":
        """Counts the n-grams of ``texts``, each the labels of one utterance."""
        counts: Counter[Labels] = Counter()
        for text in texts:
            labels = tuple(text)
            counts.update(
                labels[end - length : end]
                for end in range(1, len(labels) + 1)
                for length in range(1, min(order, end) + 1)
            )
        followed: Counter[Labels] = Counter()
        for gram, count in counts.items():
            followed[gram[:-1]] += count
        return cls(order, symbols, counts, Counter(gram[:-1] for gram in counts), followed)

    def __call__(self, prefix: Labels) -> float:
        """The log-probability of the last label of ``prefix``, given those before it."""
        p = 1 / self.symbols
        for length in range(1, min(self.order, len(prefix)) + 1):
            gram = prefix[len(prefix) - length :]
            before = gram[:-1]
            if not self.followed[before]:
                break
            p = (self.counts[gram] + self.distinct[before] * p) / (self.followed[before] + self.distinct[before])
        return math.log(p)


@dataclass(frozen=True, eq=False)
class BackoffNGram:
    """An n-gram language model of words with back-off (Katz 1987), from a file in ARPA's format.

        p(w | h) = p(hw) if the model has it, and else b(h) p(w | h')

    where h' is h without its first word. Word i of ``words`` has the id i + 1; 0 is the beginning and the end. A word
    that the model does not have is its unknown word, or has hardly any probability if it has none.

    >>> table = {("</s>",): -1.0, ("on",): -2.0, ("<s>", "on"): -0.5}
    >>> model = BackoffNGram.of(Arpa(2, table, {("on",): -0.1}), ["on"])
    >>> model((0, 1)), model((0, 1, 1)), model((0, 1, 0))
    (-0.5, -2.1, -1.1)
    """

    order: int
    log_p: dict[Labels, float]
    backoffs: dict[Labels, float]
    words: frozenset[int]

    @classmethod
    def of(cls, arpa: Arpa, words: Sequence[str]) -> "BackoffNGram":
        """The model with the ids of ``words``; n-grams with other words are left out."""
        ids = {word: id_ for id_, word in enumerate(words, 1) if (word,) in arpa.log_p}
        ids |= {BEGIN: 0, END: 0, UNKNOWN: _UNKNOWN}

        def known(table: Mapping[tuple[str, ...], float]) -> dict[Labels, float]:
            # The beginning is never predicted, and nothing follows the end: one id serves both.
            grams = (gram for gram in table if all(word in ids for word in gram))
            return {tuple(ids[word] for word in gram): table[gram] for gram in grams}

        log_p = known({gram: value for gram, value in arpa.log_p.items() if gram[-1] != BEGIN})
        backoffs = known({gram: value for gram, value in arpa.backoffs.items() if END not in gram})
        return cls(arpa.order, log_p, backoffs, frozenset(ids.values()))

    def __call__(self, prefix: Labels) -> float:
        """The log-probability of the last word of ``prefix``, given those before it."""
        gram = tuple(id_ if id_ in self.words else _UNKNOWN for id_ in prefix[-self.order :])
        weight = 0.0
        while len(gram) > 1 and gram not in self.log_p:
            weight += self.backoffs.get(gram[:-1], 0.0)
            gram = gram[1:]
        return weight + self.log_p.get(gram, LOWEST)
