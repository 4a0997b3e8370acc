import pytest

from pipeline.evaluation.transcripts import transcript_metrics


def test_error_rates_are_edits_over_the_length_of_all_references():
    metrics = transcript_metrics(["turn the light on", "stop"], ["turn light on now", "stop"])
    assert metrics["wer"] == pytest.approx(2 / 5)  # "the" is missing, "now" is too many
    assert metrics["cer"] == pytest.approx(8 / 21)
    assert list(metrics) == ["wer", "cer"]


def test_single_words_have_an_accuracy_too():
    metrics = transcript_metrics(["one", "two", "three", "four"], ["one", "two", "tree", ""])
    assert metrics["accuracy"] == 0.5 and metrics["wer"] == 0.5
    assert metrics["cer"] == pytest.approx(5 / 15)
