"""Changes of the function's program that explain the error of the wrong leaves, of all at once where they can."""

import time
from collections.abc import Callable, Iterator, Sequence

from ..trial import Judgement
from .evidence import Evidence
from .operands import exchanged, multiplied, overwritten, routed, untransposed
from .recompute import recomputed
from .recurrences import recurrent
from .sites import Finding, Sites, cut, scaled, turned

_SEARCHES: tuple[Callable[[Sites], Iterator[Finding]], ...] = (
    scaled, overwritten, turned, untransposed, routed, cut, recurrent, multiplied, exchanged, recomputed,
)  # fmt: skip


def findings(judgement: Judgement, leaves: Sequence[str], seconds: float = 5.0) -> list[Finding]:
    """All changes that explain some of the wrong leaves, as far as they are found in time."""
    observations = [o for o in judgement.observations if not o.probe.kind][:4]
    sites = Sites(Evidence(judgement, observations, leaves))
    until, result = time.monotonic() + seconds, []
    for search in _SEARCHES:
        for finding in search(sites):
            result.append(finding)
            if time.monotonic() > until:
                return result
        if any(set(f.leaves) == set(leaves) and not f.contradicted and f.cost < 1.6 for f in result):
            return result  # nothing simpler will come
    return result
