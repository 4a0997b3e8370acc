"""Class names, file names, titles and texts that a terminal, a page or a plot could take for more than text.

Every command of every task survives them, and shows them without their hidden characters.
"""

import json
import os
import re
from collections.abc import Iterable
from functools import partial
from itertools import zip_longest
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import soundfile
from PIL import Image
from running import Done, refused_by, within

from pipeline.display import visible
from tasks.image_recognition import ImageRecognition
from tasks.language_model import LanguageModel
from tasks.medical_diagnosis import MedicalDiagnosis
from tasks.recommendation import Recommendation
from tasks.sentiment import Sentiment
from tasks.speech_recognition import SpeechRecognition
from tasks.translation import Translation

MARKUP, MATHS, TAG, ESCAPE, LONG = "[/b] [red]", "$x^{$", "<script>alert(1)</script>", "\x1b[31mred", "x" * 10_000
NASTY = (MARKUP, MATHS, TAG, ESCAPE, LONG)
HALF = os.fsdecode(b"caf\x80")  # of a file whose name is not UTF-8
FILE_NAMES = ("[x] [red]", MATHS, "<script>", ESCAPE, HALF, "y" * 99)  # none has a slash
ONCE = ("--epochs", 1)


@pytest.fixture
def commands(capsys, tmp_path):
    """Trains, evaluates and exports, then predicts; checks what is printed and written, and gives it."""

    def run(task, *options: object, predict: tuple[object, ...]) -> tuple[str, str]:
        folder = tmp_path / f"{MATHS} {ESCAPE}"
        outputs = [within(task, capsys, "train", *options, *ONCE, "--run-dir", folder)]
        outputs.append(within(task, capsys, "evaluate", folder))
        with unchecked():  # checks of shapes take a symbolic batch for no number
            outputs.append(within(task, capsys, "export", folder))
        outputs.append(within(task, capsys, "predict", folder, *predict))
        for done in outputs:
            assert done.code == 0, done.err
            assert plain(done) and done.out.encode()
        report = (folder / "report.html").read_text(encoding="utf-8")
        assert "<script" not in report and "\x1b" not in report
        return outputs[-1].out, report

    return run


@pytest.fixture
def refused(capsys):
    return partial(refused_by, ImageRecognition(), capsys, "train", "--data", "digits", "--epochs", 1)


def plain(done: Done) -> bool:
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.out + done.err)


class unchecked:
    def __enter__(self) -> None:
        jaxtyping.config.update("jaxtyping_disable", True)

    def __exit__(self, *_: object) -> None:
        jaxtyping.config.update("jaxtyping_disable", False)


def shown(text: str, output: str) -> bool:
    """Whether a text stands in lines, a page or a column of a table, whose cells are broken anywhere."""
    rows = [re.split("[│┃]", line) for line in output.replace("<wbr>", "").splitlines()]
    columns = zip_longest(*rows, fillvalue="")
    return any(packed(visible(text)) in packed("".join(column)) for column in columns)


def packed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def html(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def pictures(folder: Path, names: Iterable[str]) -> None:
    draw = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(folder / name / f"{i}.png")


def test_image_recognition(commands, tmp_path):
    data = tmp_path / f"data {ESCAPE}{HALF}"
    pictures(data, FILE_NAMES)
    asked = [tmp_path / f"{name}.png" for name in FILE_NAMES]
    for path in asked:
        path.write_bytes((data / HALF / "0.png").read_bytes())
    options = ("--data", data, "--model", "mlp", "--batch-size", 4)
    output, report = commands(ImageRecognition(), *options, predict=asked)
    for name in FILE_NAMES:
        assert shown(f"{name}.png", output) and shown(html(name), report), name


def test_sentiment(commands, tmp_path):
    lines = [f"{NASTY[i % 5]}\tplain words {NASTY[(i + 1) % 5]} {i}" for i in range(60)]
    (tmp_path / "texts [x].tsv").write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")
    options = ("--data", tmp_path / "texts [x].tsv", "--batch-size", 8, "--width", 8, "--features", 4, "--windows", 2)
    output, report = commands(Sentiment(), *options, predict=[f"plain {text}" for text in NASTY])
    for text in NASTY:
        assert shown(f"plain {text}", output) and shown(html(text), report), text


def test_language_model(commands, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(NASTY[:-1] * 100), encoding="utf-8")
    sizes = ("--width", 16, "--layers", 1, "--heads", 2, "--context", 16, "--batch-size", 16)
    output, report = commands(
        LanguageModel(), "--data", tmp_path / "text.txt", *sizes, predict=(*NASTY[:-1], "--length", 40)
    )
    for text in NASTY[:-1]:
        assert visible(text) in output, text
    assert "A sample" in report


def test_translation(commands, tmp_path):
    for language in ("en", "de"):
        lines = [f"{' '.join(NASTY[:-1])} {i % 7}" for i in range(150)]  # of one length: one program
        (tmp_path / f"train.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes = ("--width", 16, "--layers", 1, "--heads", 2, "--vocabulary", 300, "--batch-size", 16, "--longest", 40)
    output, report = commands(Translation(), "--data", tmp_path, *sizes, predict=(" ".join(NASTY), "--beam", 1))
    assert len(output.splitlines()) == 2 and shown(f"{ESCAPE}/attention/1.png", output)
    for text in NASTY[:-1]:
        assert shown(html(text), report), text


def test_speech_recognition(commands, tmp_path):
    draw = np.random.default_rng(0)
    lines = []
    for i in range(40):
        name = f"{FILE_NAMES[i % 4]} {i}.wav"
        soundfile.write(tmp_path / name, draw.normal(0, 0.1, 8000), 8000)
        lines.append(json.dumps({"path": name, "text": NASTY[i % 4], "speaker": NASTY[i % 5]}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = [tmp_path / f"{name}.wav" for name in FILE_NAMES]
    for path in asked:
        path.write_bytes((tmp_path / f"{FILE_NAMES[0]} 0.wav").read_bytes())
    sizes = ("--rate", 8000, "--width", 16, "--layers", 1, "--heads", 2, "--mels", 20, "--batch-size", 8, "--stride", 1)
    output, report = commands(SpeechRecognition(), "--data", tmp_path / "train.jsonl", *sizes, predict=asked)
    for name in FILE_NAMES:
        assert shown(f"{name}.wav", output), name
    assert shown(html(NASTY[2]), report)


def test_recommendation(commands, tmp_path):
    names = [f"{text}{i}" for text in NASTY for i in range(4)]
    rows = [f"{names[user]}\t{names[(user + i) % 20]}\t{1 + i % 5}" for i in range(14) for user in range(20)]
    (tmp_path / "ratings.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = ("--user", names[0], "--top", 99)
    output, report = commands(Recommendation(), "--data", tmp_path / "ratings.tsv", "--batch-size", 16, predict=asked)
    assert any(shown(name, output) for name in names[8:16])
    assert "x" * 1000 not in report


def test_medical_diagnosis(commands, tmp_path):
    draw = np.random.default_rng(0)
    columns = ["label", *(f"{text} {i}" for i, text in enumerate(NASTY))]
    rows = [[NASTY[i % 2 * 3 + 1], *(f"{value:.3f}" for value in draw.normal(size=5))] for i in range(60)]
    table = tmp_path / "patients [x].tsv"
    table.write_text("\n".join("\t".join(row) for row in [columns, *rows]) + "\n", encoding="utf-8")
    asked = tmp_path / f"{MATHS}{ESCAPE}[red].tsv"
    asked.write_text("\n".join("\t".join(row) for row in [columns, *rows[:3]]) + "\n", encoding="utf-8")
    options = ("--data", table, "--batch-size", 8, "--widths", 8, "--resamples", 20)
    output, report = commands(MedicalDiagnosis(), *options, predict=[asked])
    assert shown(f"{asked}", output) and shown(ESCAPE, output) and shown(MATHS, output)
    assert shown(html(MATHS), report) and shown(html(LONG[:20]), report)


def test_a_run_does_not_begin_in_a_folder_that_checkpoints_cannot_be_read_from(refused, tmp_path):
    assert "has \\udc80 at position" in refused("--run-dir", tmp_path / HALF)
    assert "choose another --run-dir" in refused("--run-dir", tmp_path / "[red]" / "run")
    assert "choose another --run-dir" in refused("--run-dir", tmp_path / "back\\slash")
    assert not any(tmp_path.iterdir())
