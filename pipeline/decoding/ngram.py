"""Statistics of labels in a row: an n-gram language model for a search."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.decoding.ctc import Labels


@dataclass(frozen=True, eq=False)
class NGram:
    """How likely a label is after those before it: a ``Scorer``, from counts of up to ``order`` labels in a row.

    p(c | h) = (count(hc) + distinct(h) p(c | h without its first)) / (count(h) + distinct(h)), where distinct(h) is how
    many labels have followed h (Witten & Bell 1991). Below single labels all of ``symbols`` are equally likely.
    """

    order: int
    symbols: int
    counts: Counter[Labels]
    distinct: Counter[Labels]
    followed: Counter[Labels]

    @classmethod
    def of(cls, texts: Iterable[Sequence[int]], order: int, symbols: int) -> "NGram":
        """From texts, each the labels of one utterance."""
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
        """log p(the last label | those before it)."""
        p = 1 / self.symbols
        for length in range(1, min(self.order, len(prefix)) + 1):
            gram = prefix[len(prefix) - length :]
            before = gram[:-1]
            if not self.followed[before]:
                break
            p = (self.counts[gram] + self.distinct[before] * p) / (self.followed[before] + self.distinct[before])
        return math.log(p)
