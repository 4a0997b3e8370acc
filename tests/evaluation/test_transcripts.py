import itertools

import numpy as np
import pytest

from pipeline.evaluation.transcripts import character_error_rate, transcript_metrics, word_error_rate


def edits(reference: list[str], hypothesis: list[str]) -> int:
    """The least number of edits, by the table of Wagner & Fischer (1974)."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        before, row = row, [i]
        for j, other in enumerate(hypothesis, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1]


def test_error_rates_are_edits_over_the_length_of_all_references():
    metrics = transcript_metrics(["turn the light on", "stop"], ["turn light on now", "stop"])
    assert metrics["wer"] == pytest.approx(2 / 5)  # "the" is missing, "now" is too many
    assert metrics["cer"] == pytest.approx(8 / 21)
    assert list(metrics) == ["wer", "cer"]


def test_error_rates_are_those_of_the_least_edits():
    words = ["", "a", "b", "a b", "b a", "a b b", "b  b a a"]
    pairs = list(itertools.product(words, words))
    result = word_error_rate([r for r, _ in pairs], [h for _, h in pairs])
    lengths = [len(reference.split()) for reference, _ in pairs]
    assert result.length == sum(lengths)
    assert result.substitutions + result.deletions + result.insertions == sum(
        edits(reference.split(), hypothesis.split()) for reference, hypothesis in pairs
    )
    assert result.rate == pytest.approx((result.substitutions + result.deletions + result.insertions) / result.length)
    assert result.insertions - result.deletions == sum(len(h.split()) - len(r.split()) for r, h in pairs)
    assert character_error_rate(["ab c"], ["b  cd"])[:5] == (0.5, 0, 1, 1, 4)


def test_intervals_of_an_error_rate_are_over_utterances():
    random = np.random.default_rng(0)
    wrong = random.random(400) < 0.25
    texts = ["yes no" if each else "no no" for each in wrong]
    result = word_error_rate(["no no"] * 400, texts, resamples=300)
    assert result.low is not None and result.high is not None
    spread = 1.96 * np.std(wrong / 2) / np.sqrt(400)
    assert result.low == pytest.approx(result.rate - spread, abs=0.01)
    assert result.high == pytest.approx(result.rate + spread, abs=0.01)


def test_texts_that_have_no_error_rate():
    with pytest.raises(ValueError, match="1 references and 2 hypotheses"):
        word_error_rate(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="no word"):
        word_error_rate([""], ["a"])


def test_single_words_have_an_accuracy_too():
    metrics = transcript_metrics(["one", "two", "three", "four"], ["one", "two", "tree", ""])
    assert metrics["accuracy"] == 0.5 and metrics["wer"] == 0.5
    assert metrics["cer"] == pytest.approx(5 / 15)
