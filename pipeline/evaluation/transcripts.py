"""Metrics of a speech recogniser's transcripts: word and character error rates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..extras import extra
from .bootstrap import intervals


class ErrorRate(NamedTuple):
    """An error rate, and the edits by which the hypotheses differ from the references.

    rate: (substitutions + deletions + insertions) / length; more than 1 is possible. length: the number of words or
    characters in the references. low, high: ends of the 95 % bootstrap interval of the rate, over utterances; None if
    it was not asked for.
    """

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    length: int
    low: float | None = None
    high: float | None = None


def word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, resamples: int = 0, seed: int = 0
) -> ErrorRate:
    """The word error rate of all utterances together (WER): edits over the words of the references.

    references, hypotheses: texts, whose words stand between white space; both in the same order, and written alike:
        case and punctuation count.
    resamples: number of bootstrap samples of utterances for an interval of the rate (Bisani & Ney 2004); 0: none.

    Raises ValueError for different numbers of texts, or references without a word.

    >>> word_error_rate(["turn the light on", "stop"], ["turn the lights", "stop"])[:5]
    (0.4, 1, 1, 0, 5)
    """
    with extra("speech"):
        import jiwer

    pairs = _pairs(references, hypotheses)
    return _error_rate([jiwer.process_words(*pair) for pair in pairs], "word", resamples, seed)


def character_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, resamples: int = 0, seed: int = 0
) -> ErrorRate:
    """The character error rate of all utterances together (CER): ``word_error_rate`` of characters, spaces included.

    >>> character_error_rate(["light"], ["lights"])[:5]
    (0.2, 0, 0, 1, 5)
    """
    with extra("speech"):
        import jiwer

    pairs = _pairs(references, hypotheses)
    return _error_rate([jiwer.process_characters(*pair) for pair in pairs], "character", resamples, seed)


def _pairs(references: Sequence[str], hypotheses: Sequence[str]) -> list[tuple[str, str]]:
    """References and hypotheses with single spaces between words."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses; there must be as many")
    return [(" ".join(reference.split()), " ".join(text.split())) for reference, text in zip(references, hypotheses)]


def _error_rate(edits: Sequence, what: str, resamples: int, seed: int) -> ErrorRate:
    counts = np.asarray([(each.substitutions, each.deletions, each.insertions, each.hits) for each in edits], int)
    counts = counts.reshape(-1, 4)
    lengths = counts[:, [0, 1, 3]].sum(1)
    if not lengths.sum():
        raise ValueError(f"the references have no {what}; an error rate needs at least one")

    def rate(rows: np.ndarray) -> dict[str, float]:
        # A sample of utterances without a word has no rate; as one word it counts whole.
        return {"rate": float(counts[rows, :3].sum() / max(1, lengths[rows].sum()))}

    substitutions, deletions, insertions, _ = counts.sum(0).tolist()
    result = ErrorRate(rate(np.arange(len(counts)))["rate"], substitutions, deletions, insertions, int(lengths.sum()))
    if not resamples:
        return result
    low, high = intervals(rate, np.zeros(len(counts)), resamples=resamples, seed=seed)["rate"]
    return result._replace(low=low, high=high)


def transcript_metrics(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """wer and cer, the word and character error rates; also accuracy, if every reference is a single word.

    >>> transcript_metrics(["turn the light on"], ["turn the lights"])["wer"]
    0.5
    """
    rates = {
        "wer": word_error_rate(references, hypotheses).rate,
        "cer": character_error_rate(references, hypotheses).rate,
    }
    if any(" " in reference for reference in references):
        return rates
    correct = [reference == hypothesis for reference, hypothesis in zip(references, hypotheses)]
    return {**rates, "accuracy": float(np.mean(correct))}
