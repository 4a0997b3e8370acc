"""An n-gram language model of labels, for prefix beam search."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .ctc import Labels


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
