"""Changes of the function's program that explain the error of the wrong leaves, of all at once where they can."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from ..trial import Judgement
from .evidence import Evidence
from .matrices import conjugated, factorised, interpolated
from .operands import clipped, exchanged, multiplied, overwritten, routed, totals, untransposed
from .recompute import recomputed
from .recurrences import recurrent
from .several import divisors, own_rows, pairs, some_uses, weighted
from .sites import Finding, Sites, cut, scaled, turned

_SEARCHES: tuple[Callable[[Sites], Iterator[Finding]], ...] = (
    scaled, recurrent, overwritten, turned, untransposed, routed, clipped, totals, cut, some_uses, conjugated,
    interpolated, factorised, divisors, multiplied, exchanged, recomputed, pairs, weighted, own_rows,
)  # fmt: skip


def findings(judgement: Judgement, leaves: Sequence[str], seconds: float = 8.0) -> list[Finding]:
    """All changes that explain some of the wrong leaves, as far as they are found in time."""
    observations = [o for o in judgement.observations if not o.probe.kind][:4]
    sites = Sites(Evidence(judgement, observations, leaves))
    until, result = time.process_time() + seconds, []
    for search in _SEARCHES:
        with contextlib.suppress(Exception):  # an operation that cannot be run alone explains nothing
            for finding in search(sites):
                result.append(finding)
                if time.process_time() > until:
                    return result
        if time.process_time() > until:
            return result
        if any(set(f.leaves) == set(leaves) and not f.contradicted and f.cost < 1.6 for f in result):
            return result  # nothing simpler will come
    return result
