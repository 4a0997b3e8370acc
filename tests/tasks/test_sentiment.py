"""Sentiment as its users meet it: a real run over texts of one's own, folds, and what they may do wrong."""

import json
import re
from functools import partial
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest
import running
from running import finished, once, summary

from pipeline.data import labelled_text
from pipeline.data.vocabulary import BAG
from pipeline.training.signatures import TextSignature
from tasks.sentiment import Sentiment

TASK = Sentiment()

process = partial(running.process, "sentiment")
SIZES = ("--width", 8, "--features", 4, "--windows", 2, 3, "--words", 60)
SHORT = (*SIZES, "--epochs", 8, "--batch-size", 8, "--optimizer.learning-rate", 0.03, "--dropout", 0)
WORDS = {True: ("good", "great", "fine", "warm"), False: ("bad", "dull", "slow", "cold")}


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    return once(tmp_path_factory, "texts", write_texts) / "short.tsv"


def write_texts(folder: Path) -> None:
    """Short sentences with words that say what they are, and an empty line."""
    lines = [
        f"{'good' if kind else 'bad'}\tthe {what} {was} {how}"
        for kind in WORDS
        for what, was, how in product(("film", "plot", "cast", "end"), ("was", "is"), WORDS[kind])
    ]
    lines = ["label\ttext", "bad\t", *lines, *lines[:6]]
    (folder / "short.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def run(tmp_path_factory, texts) -> Path:
    return finished(tmp_path_factory, "sentiment", "--data", texts, *SHORT)


def test_a_run_learns_and_says_what_it_did(run, texts):
    said = summary(run)
    named = {"task": "sentiment", "data": str(texts), "model": "cnn", "gradient": "manual", "seed": 0}
    assert said.items() >= named.items()
    assert said["test"]["accuracy"] > 0.9
    assert 0 < said["gradient_check"]["max_relative_error"] < 1e-11
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"{said['test']['accuracy']:.4f}" in output
    assert f"1 lines of {texts} left out: they are empty" in output
    assert "warning" not in output.lower()


def test_the_report_stands_alone(run):
    assert {path.stem for path in (run / "plots").glob("*.png")} == {
        "curves",
        "confusion",
        "gradient_norms",
        "agreement",
    }
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    for section in ("Confusion matrix", "Class by class", "Worst mistakes", "different words"):
        assert section in page
    assert "scripts/run sentiment --data" in page


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == summary(run)["test"]


def test_predict_names_the_class_and_the_words_that_drove_it(run, task):
    done = task("predict", run, "the film was dull", "The plot is GREAT and unheard of")
    assert done.code == 0, done.err
    first, second = (line for line in done.out.splitlines() if " the " in line.lower() and "│" in line)
    assert " bad " in first and "+dull" in first
    assert " good " in second and "+great" in second
    (probability,) = re.findall(r"0\.\d{4}|1\.0000", first)
    assert float(probability) > 0.5


def test_predict_answers_whatever_the_words_are(run, task):
    long = "the film was dull " * 70
    done = task("predict", run, "xyzzy plugh", "the film was xyzzy [/b]", long)
    assert done.code == 0 and len(re.findall(r"0\.\d{4}|1\.0000", done.out)) == 3
    assert "the film was xyzzy [/b]" in done.out
    assert done.err.splitlines() == [
        "sentence 1: the model knows none of its words, so its answer is a guess: 'xyzzy', 'plugh'",
        "sentence 2: the model does not know 'xyzzy', '[/', 'b', ']'",
        "sentence 3: the model reads the first 256 of 280 words",
    ]


PLAIN = {
    "positive": (
        "I loved every minute of it.",
        "The acting was superb.",
        "I enjoyed it.",
        "A joy from start to finish.",
        "What a delightful surprise!",
        "This is the best film I have seen in years.",
        "The staff were friendly and the room was beautiful.",
        "It made me laugh and smile.",
        "Thank you, we had a wonderful evening.",
        "An honest and charming little book.",
    ),
    "negative": (
        "What a waste of time.",
        "Boring from beginning to end.",
        "I hated the ending.",
        "The worst meal I have ever had.",
        "The room was dirty and the waiter was rude.",
        "I was disappointed by the second half.",
        "The plot is a mess.",
        "I did not like it at all.",
        "The noise ruined our holiday.",
        "A sad, stupid and ugly film.",
    ),
}
"""Sentences that people write, which were written before the grammar of the default data set."""


def test_the_default_run_understands_plain_sentences(task, tmp_path):
    composed = labelled_text.lexicon_sentences().parts["train"][0]
    sentences = [sentence for of_class in PLAIN.values() for sentence in of_class]
    said = [" ".join(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
    assert not [text for text in composed if any(sentence in text for sentence in said)]

    # In the machine code that users run: in the tests' own, these steps take eight times as long.
    run = tmp_path / "run"
    done = process("--quiet", "--run-dir", run, XLA_FLAGS="")
    assert done.code == 0, done.err
    out = task("predict", run, *sentences).out
    answers = re.findall(r"│\s*(positive|negative)\s*│\s*(\d\.\d{4})", out)
    wrong = [
        sentence for sentence, (answer, _) in zip(sentences, answers, strict=True) if sentence not in PLAIN[answer]
    ]
    assert len(wrong) <= 2, wrong
    assert "A joy from start to finish." not in wrong


def test_languages_without_spaces_are_learnt(tmp_path, task):
    whats, hows = (
        ("电影", "故事", "音乐", "演员", "导演", "结尾", "房间", "饭菜"),
        {"good": ["好看", "精彩", "很美", "有趣"]},
    )
    hows["bad"] = ["不" + how for how in hows["good"]]
    clauses = [
        (label, (what, "真的", how, "、", other, "也", how, "。"))
        for label in hows
        for what, other, how in product(whats, whats, hows[label])
    ]
    for name, space in (("unspaced", ""), ("spaced", " ")):
        lines = ["label,text", *(f"{label},{space.join(words)}" for label, words in clauses)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = ("--data", tmp_path / f"{name}.csv", *SHORT[:-6], "--epochs", 3, "--batch-size", 16)
        done = task(*options, "--optimizer.learning-rate", 0.03, "--quiet", "--run-dir", tmp_path / name)
        assert done.code == 0, done.err
        assert summary(tmp_path / name)["test"]["accuracy"] > 0.9


def test_a_word_that_no_text_has_is_judged_by_its_n_grams(task, tmp_path):
    forms = {
        "good": ("enjoy", "enjoyed", "enjoys", "thrill", "thrills"),
        "bad": ("suffer", "suffers", "hated", "hates"),
    }
    rows = [f"{label}\tthe {what} {form}" for label in forms for form in forms[label] for what in "abcdefgh"]
    (tmp_path / "a.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n")
    options = (
        "--data",
        tmp_path / "a.tsv",
        *SIZES,
        "--epochs",
        8,
        "--batch-size",
        8,
        "--optimizer.learning-rate",
        0.03,
    )
    assert task(*options, "--quiet", "--run-dir", tmp_path / "run").code == 0
    done = task("predict", tmp_path / "run", "the a enjoyable", "the b sufferings")
    assert re.findall(r"│\s*(good|bad)\s*│", done.out) == ["good", "bad"]
    assert "does not know 'enjoyable'" in done.err


def test_export_gives_what_predict_gives(run, task):
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    assert process("export", run).code == 0
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    signature = TextSignature.read(run / "export")
    bags = np.zeros((1, signature.longest, BAG), np.int32)
    found = signature.vocabulary.encode("the film was dull")
    bags[0, : len(found)] = found
    probabilities = np.asarray(exported.call(bags))[0]
    said = re.search(r"bad\D*(\d\.\d{4})", task("predict", run, "the film was dull").out)
    assert signature.classes[probabilities.argmax()] == "bad"
    assert said and float(said[1]) == pytest.approx(probabilities.max(), abs=1e-4)


def test_verify(task, texts):
    done = task("verify", "--data", texts, "--model", "gru")
    assert done.code == 0, done.out
    assert "recurrent" in done.out


def test_bfloat16_trains_and_stays_a_float32_model(task, texts, tmp_path):
    options = {"model": "cnn", "precision": "bfloat16", "width": 8, "words": 60}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    done = task("--data", texts, *flags, "--epochs", 1, "--batch-size", 16, "--quiet", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert summary(tmp_path / "run")["gradient_check"]["max_relative_error"] < 1e-10
    params = Sentiment().trained(tmp_path / "run").params
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_a_cross_validation_tests_every_fold_and_goes_on_where_it_stopped(task, refused, texts, tmp_path):
    folder = tmp_path / "run"
    options = ("--data", texts, *SIZES, "--epochs", 1, "--batch-size", 16, "--folds", 2)
    done = task(*options, "--quiet", "--run-dir", folder)
    assert done.code == 0, done.err
    said = summary(folder)
    folds = [summary(folder / f"fold_{fold}")["test"] for fold in (1, 2)]
    accuracies = [its["accuracy"] for its in folds]
    assert said["folds"] == folds
    assert said["test"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert said["test"]["accuracy_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert said["gradient_check"]["max_relative_error"] < 1e-11
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Fold by fold" in page and "--folds 2" in page and "Confusion matrix" in page
    assert json.loads(task("evaluate", folder, "--json").out) == pytest.approx(said["test"])
    assert task("predict", folder / "fold_2", "the film was dull").code == 0
    assert "fold_1" in refused("predict", folder, "the film was dull")

    # As if it had been ended before the second fold began.
    (folder / "summary.json").unlink()
    for path in sorted((folder / "fold_2").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    again = task("--resume", folder, "--quiet")
    assert again.code == 0, again.err
    assert summary(folder)["folds"] == folds


def test_what_a_user_does_wrong(refused, run, texts, tmp_path):
    where = ("--run-dir", tmp_path / "run")
    assert "nowhere.tsv" in refused("--data", tmp_path / "nowhere.tsv", *where)
    assert "larger than the training set" in refused("--data", texts, "--batch-size", 5000, *where)
    assert "larger than the training set" in refused("--data", texts, "--batch-size", 5000, "--folds", 2, *where)
    assert "too few for 60 folds" in refused("--data", texts, "--folds", 60, *where)
    assert "--folds is 1" in refused("--data", texts, "--folds", 1, *where)
    assert "--fold is 3" in refused("--data", texts, "--folds", 2, "--fold", 3, *where)
    assert "--dropout is 1.0" in refused("--data", texts, "--dropout", 1, *where)
    assert "--windows is 0 2" in refused("--data", texts, "--windows", 0, 2, *where)
    assert "a multiple of 8" in refused("--data", texts, "--model", "transformer", "--width", 12, *where)
    assert not (tmp_path / "run").exists()
    assert "sentence 1 is empty" in refused("predict", run, " ")
    assert "predict RUN" in refused("predict", run)
    assert "holds no run" in refused("predict", tmp_path, "the film")


def test_recipes_are_for_the_data():
    task = Sentiment()
    assert task.recipe(None).data == "lexicon"
    assert task.recipe("my.tsv").data == "my.tsv" and task.recipe("my.tsv").longest == 256
    assert task.recipe("movie-review").longest == 64
