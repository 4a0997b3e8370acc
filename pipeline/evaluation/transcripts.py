"""How good a recogniser's transcripts are."""

from collections.abc import Sequence

import numpy as np


def transcript_metrics(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Word and character error rates, wer and cer; where every reference is one word, also the accuracy.

    >>> transcript_metrics(["turn the light on"], ["turn the lights"])["wer"]
    0.5
    """
    import jiwer

    rates = {
        "wer": float(jiwer.wer(list(references), list(hypotheses))),
        "cer": float(jiwer.cer(list(references), list(hypotheses))),
    }
    if any(" " in reference for reference in references):
        return rates
    correct = [reference == hypothesis for reference, hypothesis in zip(references, hypotheses)]
    return {**rates, "accuracy": float(np.mean(correct))}
