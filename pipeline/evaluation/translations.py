"""Metrics of translations."""

from collections.abc import Sequence

import numpy as np

from ..extras import extra


def translation_metrics(
    references: Sequence[str], hypotheses: Sequence[str], tokenize: str = "13a"
) -> dict[str, float]:
    """bleu (Papineni et al. 2002) and chrf (Popovic 2015), from 0 to 100, and exact_match, a share of the sentences.

    tokenize: sacrebleu's tokeniser for BLEU: "13a", or "none" for texts whose tokens have spaces between them already.

    >>> translation_metrics(["ein Hund", "zwei Katzen"], ["ein Hund", "zwei Hunde"])["exact_match"]
    0.5
    """
    with extra("text"):
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

    return {
        "bleu": BLEU(tokenize=tokenize, force=True).corpus_score(hypotheses, [references]).score,
        "chrf": CHRF().corpus_score(hypotheses, [references]).score,
        "exact_match": float(np.mean([h == reference for h, reference in zip(hypotheses, references)])),
    }
