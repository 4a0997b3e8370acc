"""Metrics of a speech recogniser's transcripts."""

from collections.abc import Sequence

import numpy as np

from ..extras import extra


def transcript_metrics(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """wer and cer, the word and character error rates; also accuracy, if every reference is a single word.

    An error rate is the number of edits (substitutions, deletions, insertions) by which the hypotheses differ from the
    references, divided by the number of words or characters in the references.

    >>> transcript_metrics(["turn the light on"], ["turn the lights"])["wer"]
    0.5
    """
    with extra("speech"):
        import jiwer

    rates = {
        "wer": float(jiwer.wer(list(references), list(hypotheses))),
        "cer": float(jiwer.cer(list(references), list(hypotheses))),
    }
    if any(" " in reference for reference in references):
        return rates
    correct = [reference == hypothesis for reference, hypothesis in zip(references, hypotheses)]
    return {**rates, "accuracy": float(np.mean(correct))}
