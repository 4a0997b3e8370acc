"""Lexicons and language models: files as Kaldi, CMU and SRILM write them, and what is wrong with them."""

import gzip
import math

import numpy as np
import pytest

from pipeline.data.arpa import Arpa, read_arpa
from pipeline.data.lexicon import Lexicon, read_lexicon
from pipeline.data.speech import Recordings, Speech
from pipeline.data.speech_lexicon import with_lexicon
from pipeline.errors import UserError

MODEL = """comment

\\data\\
ngram 1=4
ngram  2= 2

\\1-grams:
-99 <s> -0.5
-1.0\t</s>
-0.7 On -0.25
-inf <UNK>

\\2-grams:
-0.2 <s> on
-0.3 on </s>

\\end\\
"""


@pytest.mark.parametrize(
    "content, spellings",
    [
        ("ON\tAA N\nOFF AO F\n", {"on": (("AA", "N"),), "off": (("AO", "F"),)}),
        (";;; comment\nREAD  R IY D\nREAD(2)  R EH D # past\n", {"read": (("R", "IY", "D"), ("R", "EH", "D"))}),
        ("on 1.0 AA N\non 0.5 AO N\n", {"on": (("AA", "N"), ("AO", "N"))}),
        ("on\noff\n\n", {"off": (("o", "f", "f"),), "on": (("o", "n"),)}),
        ("(2) T UW\n", {"(2)": (("T", "UW"),)}),
    ],
)
def test_lexicons(tmp_path, content, spellings):
    (tmp_path / "lexicon.txt").write_text(content, encoding="utf-8")
    notes = []
    lexicon = read_lexicon(tmp_path / "lexicon.txt", notes=notes)
    assert lexicon.spellings == spellings and Lexicon.parse(lexicon.content()) == lexicon
    assert notes == (["lexicon.txt: the probabilities of spellings are not used"] if "1.0" in content else [])


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "has no words"),
        (";;; nothing\n", "has no words"),
        ("on AA N\noff\n", "line 2 has the word 'off' and no un"),
    ],
)
def test_lexicons_that_are_broken(tmp_path, content, message):
    (tmp_path / "lexicon.txt").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"lexicon.txt.*{message}"):
        read_lexicon(tmp_path / "lexicon.txt")


def test_language_models(tmp_path):
    (tmp_path / "a.arpa.gz").write_bytes(gzip.compress(MODEL.encode()))
    model = read_arpa(tmp_path / "a.arpa.gz")
    assert model.order == 2 and Arpa.parse(model.content()) == model
    assert model.backoffs == {("<s>",): -0.5 * math.log(10), ("on",): -0.25 * math.log(10)}
    assert model.log_p["on", "</s>"] == pytest.approx(math.log(10**-0.3))
    assert -1e5 < model.log_p[("<unk>",)] < -1e4


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("\\data\\", "", r"has no line \\data\\"),
        ("ngram 1=4", "ngram 1=5", "announces 5 1-grams and has 4"),
        ("ngram 1=4", "ngram 1=x", "line 4 is 'ngram 1=x'"),
        ("\\end\\", "", "is cut off"),
        ("\\2-grams:", "\\3-grams:", "line 13 is .*and not the n-grams that come next"),
        ("-0.3 on </s>", "-0.3 </s>", "line 15 must have a logarithm and 2 words"),
        ("-0.7 On", "x On", "line 10 has 'x' where a logarithm belongs"),
    ],
)
def test_language_models_that_are_broken(tmp_path, old, new, message):
    (tmp_path / "a.arpa").write_text(MODEL.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=f"a.arpa.*{message}"):
        read_arpa(tmp_path / "a.arpa")


def test_a_lexicon_leaves_out_training_utterances_that_it_cannot_spell(tmp_path):
    texts = ["on off", "on", "up on"]
    train = Recordings([np.ones(3)] * 3, texts, [""] * 3, ["a", "b", "c"])
    speech = Speech("x", train, train, train, texts)
    (tmp_path / "lexicon.txt").write_text("ON AA N\nOFF AO F\n", encoding="utf-8")
    (tmp_path / "a.arpa").write_text(MODEL, encoding="utf-8")
    covered = with_lexicon(speech, str(tmp_path / "lexicon.txt"), str(tmp_path / "a.arpa"), "lexicon")
    assert covered.train.names == ["a", "b"] and covered.texts == ["on off", "on"] and len(covered.test) == 3
    assert covered.notes == (
        "1 training utterances left out: they have words that the lexicon does not have (the first: up)",
        "1 of 2 words of the lexicon are not in the language model (the first: off)",
    )
    letters = with_lexicon(speech, "training", "", "characters").lexicon
    assert letters is not None and letters.spell("up on") == "u p o n"
