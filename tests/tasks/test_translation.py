"""Translation as its users meet it: a real run over files of one's own, and what they may do wrong."""

import json
import math
import random
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import running
from PIL import Image
from running import finished, once, summary

from pipeline.data import vocabulary
from pipeline.data.parallel_text import encode
from pipeline.data.vocabulary import BEGIN, END
from tasks.translation import Config, Translation

TASK = Translation()

process = partial(running.process, "translation")
WORDS = dict(zip("one two three four five six".split(), "eins zwei drei vier fünf sechs".split()))  # noqa: SIM905
SIZES = ("--layers", 1, "--width", 32, "--heads", 2, "--vocabulary", 300, "--dropout", 0, "--label-smoothing", 0)
SHORT = (*SIZES, "--epochs", 12, "--batch-size", 32, "--seed", 3)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Numbers, word for word but for their order; one line is empty, one is long."""
    return once(tmp_path_factory, "files", write_files)


def write_files(folder: Path) -> None:
    drawn = random.Random(0)
    english = [drawn.choices(list(WORDS), k=drawn.randint(1, 4)) for _ in range(1000)]
    german = [[WORDS[word] for word in reversed(sentence)] for sentence in english]
    english[7], english[8] = [], ["one"] * 70
    for language, sentences in (("en", english), ("de", german)):
        lines = "".join(" ".join(sentence) + "\n" for sentence in sentences)
        (folder / f"train.{language}").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="session")
def run(tmp_path_factory, files) -> Path:
    return finished(tmp_path_factory, "translation", "--data", files, *SHORT, "--verify-every", 60)


def test_a_run_learns_and_says_what_it_did(run, files):
    said = summary(run)
    named = {"task": "translation", "data": str(files), "model": "transformer", "gradient": "manual", "seed": 3}
    assert said.items() >= named.items()
    assert said["test"]["bleu"] > 60 and said["test"]["exact_match"] > 0.7
    assert 0 < said["gradient_check"]["max_relative_error"] < 1e-11
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"test BLEU       {said['test']['bleu']:.2f}" in output
    assert "1 pairs of train.en left out: a line is empty" in output
    assert "1 training pairs left out: they have more than --longest subwords" in output
    assert "warning" not in output.lower()


def test_the_report_stands_alone_and_shows_translations(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    expected = {"loss", "gradient_norms", "agreement", "attention_1", "attention_2", "attention_3"}
    assert {path.stem for path in (run / "plots").glob("*.png")} == expected
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    translations = (run / "translations.txt").read_text(encoding="utf-8").splitlines()
    assert len(translations) == 100 and f"<td>{translations[0]}</td>" in page
    assert "scripts/run translation --data" in page


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == pytest.approx(summary(run)["test"])


def test_predict_translates_and_draws(run, task, tmp_path):
    done = task("predict", run, "three one", "six", "--pictures", tmp_path)
    first, _, second, where = done.out.splitlines()
    assert (first, second) == ("eins drei", "sechs")
    assert str(tmp_path / "2.png") in where
    with Image.open(tmp_path / "1.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 20  # not blank


def test_predict_says_what_it_does_not_read(run, task, tmp_path):
    done = task("predict", run, "three 😀", "three one " * 50, "--pictures", tmp_path)
    assert done.code == 0, done.err
    unknown, cut = done.err.splitlines()
    assert unknown == "sentence 1: the model does not know the characters '😀', and reads their bytes"
    assert re.fullmatch(r"sentence 2: the model reads the first 63 of \d+ subwords", cut)


def test_verify(task, files):
    done = task("verify", "--data", files, "--model", "gru")
    assert done.code == 0, done.out
    assert "encoder" in done.out


def test_export_gives_what_the_model_gives(run):
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    assert process("export", run).code == 0
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    words = vocabulary.read(run / "export")
    (source,) = encode(["two"], words)
    source, target = ([*source, END], [BEGIN])
    given = [np.pad(np.array([ids], np.int32), ((0, 0), (0, 64 - len(ids)))) for ids in (source, target)]
    (expected,) = encode(["zwei"], words)
    assert np.asarray(exported.call(*given))[0, 0].argmax() == expected[0]


def test_bfloat16_and_the_recurrent_model(task, files, tmp_path):
    done = task("--data", files, *SIZES, "--epochs", 1, "--batch-size", 100, "--precision", "bfloat16", "--quiet",
                "--model", "gru", "--run-dir", tmp_path / "run", "--beam", 1)  # fmt: skip
    assert done.code == 0, done.err
    assert summary(tmp_path / "run")["gradient_check"]["max_relative_error"] < 1e-10
    assert summary(tmp_path / "run")["test"]["loss"] < math.log(300)


def test_what_a_user_does_wrong(refused, run, files, tmp_path):
    where = ("--run-dir", tmp_path / "run")
    assert "neither a known set of sentences" in refused("--data", tmp_path / "nowhere", *where)
    assert "no pair of files train.en and train.fr" in refused("--data", files, "--target", "fr", *where)
    assert "larger than the training set, which has" in refused("--data", files, "--batch-size", 5000, *where)
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").write_text("one two three four\n" * 20, encoding="utf-8")
    long = refused("--data", tmp_path, "--longest", 2, "--batch-size", 4, *where)
    assert "all training pairs of" in long and "are longer than --longest 2 subwords" in long
    assert "a multiple of 8" in refused("--data", files, "--width", 20, "--heads", 4, *where)
    assert "--vocabulary is 10" in refused("--data", files, "--vocabulary", 10, *where)
    assert not (tmp_path / "run").exists()
    assert "predict RUN" in refused("predict", run)
    assert "sentence 2 is empty" in refused("predict", run, "one", " ")
    assert "--beam is 0" in refused("predict", run, "one", "--beam", 0)
    assert "holds no run" in refused("predict", tmp_path, "one")


def test_the_default_recipe_is_for_dates_and_numbers():
    assert Translation().recipe(None) == Translation().recipe("cldr")
    assert isinstance(Translation().recipe("elsewhere"), Config)
