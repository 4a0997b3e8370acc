import pytest

from pipeline.evaluation.translations import translation_metrics

REFERENCES = ["ein kleiner Hund läuft durch den Schnee .", "zwei Katzen schlafen auf dem Sofa ."]


def test_a_perfect_translation():
    assert translation_metrics(REFERENCES, REFERENCES) == pytest.approx({"bleu": 100, "chrf": 100, "exact_match": 1})


def test_a_word_that_differs():
    hypotheses = [REFERENCES[0], "zwei Katzen liegen auf dem Sofa ."]
    metrics = translation_metrics(REFERENCES, hypotheses)
    assert 50 < metrics["bleu"] < 100 and 50 < metrics["chrf"] < 100
    assert metrics["exact_match"] == 0.5


def test_tokens_may_be_those_of_the_text():
    references, hypotheses = ["Hallo, Welt am Morgen"], ["Hallo , Welt am Morgen"]
    bleu = [translation_metrics(references, hypotheses, tokenize)["bleu"] for tokenize in ("13a", "none")]
    assert bleu[0] == pytest.approx(100) and bleu[1] < 50
