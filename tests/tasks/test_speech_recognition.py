"""Speech recognition as its users meet it: a real run over recordings of one's own, and what they may do wrong."""

import json
import os
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import running
import soundfile
import soxr
from running import finished, once, summary

from pipeline.data import vocabulary
from pipeline.data.synthetic.espeak import Spoken, synthesise
from tasks.speech_recognition import SpeechRecognition

TASK = SpeechRecognition()

process = partial(running.process, "speech_recognition")
RATE = 8_000
WORDS = ("yes", "no", "maybe")
VOICES = ("en-us", "en-us+f3", "en-us+m2", "en-gb-x-rp+f1")
SIZES = ("--width", 32, "--layers", 1, "--mels", 20, "--stride", 2, "--rate", RATE)
SHORT = (*SIZES, "--epochs", 12, "--batch-size", 16, "--dropout", 0, "--seed", 3)


def said(texts: list[str], speeds: list[int]) -> list[np.ndarray]:
    spoken = [
        Spoken(text, VOICES[i % len(VOICES)], speeds[i % len(speeds)], 30 + i % 40) for i, text in enumerate(texts)
    ]
    signals, rate = synthesise(spoken)
    return [soxr.resample(signal, rate, RATE) for signal in signals]


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A folder with recordings of one or two words, and a manifest with some that cannot be trained on."""
    return once(tmp_path_factory, "spoken", write_files)


def write_files(folder: Path) -> None:
    texts = [*WORDS, *(f"{a} {b}" for a in WORDS for b in WORDS)] * 18
    signals = said(texts, [150, 165, 180, 195, 210])
    signals += [signals[0][:600], np.zeros(RATE, np.float32), np.tile(signals[0], 20)]
    lines = []
    for i, (text, signal) in enumerate(zip([*texts, "maybe maybe", "no", "no"], signals)):
        soundfile.write(folder / f"{i}.wav", signal, RATE, "PCM_16")
        lines.append(f"{i}.wav\t{text}")
    (folder / "train.tsv").write_text("\n".join(["path\ttext", *lines]) + "\n", encoding="utf-8")
    (folder / "dev.tsv").write_text("\n".join(["path\ttext", *lines[40:64]]) + "\n", encoding="utf-8")
    soundfile.write(folder / "other.wav", said(["yes maybe"], [172])[0], RATE, "PCM_16")
    tests = [*lines[5:40], "other.wav\tyes, maybe"]
    (folder / "test.tsv").write_text("\n".join(["path\ttext", *tests]) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def run(tmp_path_factory, files) -> Path:
    return finished(tmp_path_factory, "speech_recognition", "--data", files, *SHORT, "--longest", 5)


def test_a_run_learns_and_says_what_it_did(run, files):
    said = summary(run)
    named = {"task": "speech_recognition", "data": str(files), "model": "recurrent", "gradient": "manual", "seed": 3}
    assert said.items() >= named.items()
    assert said["test"]["wer"] < 0.2 and 0 < said["test"]["cer"] < 0.2
    assert 0 < said["gradient_check"]["max_relative_error"] < 1e-11
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"test WER        {said['test']['wer']:.2%}\n" in output
    for what in ("too short for their texts", "silent", "longer than --longest 5 seconds"):
        assert re.search(rf"1 training recordings left out: they are {what}.*the first: .*\d+\.wav", output), what
    assert "1 test texts have characters that no training text has, and that count as mistakes: ','" in output
    assert "warning" not in output.lower()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert {"loss", "wer", "cer"} <= set(evaluations[-1]) and evaluations[-1]["wer"] < evaluations[0]["wer"]


def test_the_report_stands_alone_and_shows_what_is_heard(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    expected = {"loss", "error_rates", "heard_1", "heard_2", "heard_3", "confusion", "gradient_norms", "agreement"}
    assert {path.stem for path in (run / "plots").glob("*.png")} == expected
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    for section in ("What it hears", "Confusion of words", "Worst utterances", "other.wav", "yes, maybe"):
        assert section in page
    assert "scripts/run speech_recognition --data" in page
    transcripts = (run / "transcripts.tsv").read_text(encoding="utf-8").splitlines()
    assert len(transcripts) == 1 + 36 and transcripts[0] == "recording\ttext\trecognised"


def test_transcripts_of_files_with_any_name(tmp_path):
    names = [os.fsdecode(b"caf\xe9.wav"), "tab\tand\nline.wav", "x" * 300]
    test = SimpleNamespace(names=names, texts=["one", "two", "three"])
    outcome: Any = SimpleNamespace(
        data=SimpleNamespace(test=test),
        evaluation=SimpleNamespace(answers=[("won", None), ("too", None), ("tree", None)]),
        run=SimpleNamespace(directory=tmp_path),
    )
    SpeechRecognition().write_results(outcome)
    lines = (tmp_path / "transcripts.tsv").read_text(encoding="utf-8").splitlines()
    shown = ("caf\\udce9.wav", "tab\\tand\\nline.wav", "x" * 300)
    assert [line.split("\t")[0] for line in lines[1:]] == list(shown) and lines[2].endswith("\ttwo\ttoo")


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == pytest.approx(summary(run)["test"])


def test_predict_says_what_is_said_and_when(run, task, files, tmp_path):
    signal = said(["yes maybe"], [172])[0]
    stereo = np.stack([0.5 * soxr.resample(signal, RATE, 44_100)] * 2, 1)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100, "PCM_24")
    soundfile.write(tmp_path / "b.flac", signal, RATE, "PCM_16")
    soundfile.write(tmp_path / "c.wav", np.zeros(RATE), RATE, "FLOAT")
    soundfile.write(tmp_path / "d.wav", signal[:80], RATE, "FLOAT")
    done = task("predict", run, files / "other.wav", tmp_path)
    assert done.code == 0, done.err
    texts = dict(re.findall(r"^\S*/(\S+): (.*)$", done.out, re.MULTILINE))
    assert texts.pop("d.wav")  # a hundredth of a second: anything, but an answer
    assert texts == {"other.wav": "yes maybe", "a.wav": "yes maybe", "b.flac": "yes maybe", "c.wav": "silence"}
    assert not done.err
    soundfile.write(tmp_path / "e.wav", signal[::2], RATE // 2, "PCM_16")
    slow = task("predict", run, tmp_path / "e.wav")
    assert slow.err == f"{tmp_path / 'e.wav'}: has 4000 samples a second, fewer than the model's 8000\n"
    words = re.findall(r"([\d.]+) s to +([\d.]+) s  (\w+)", done.out)
    (first, first_end, yes), (second, second_end, maybe) = words[:2]
    assert (yes, maybe) == ("yes", "maybe")
    assert 0 <= float(first) < float(first_end) < float(second) < float(second_end) <= len(signal) / RATE
    assert task("predict", run, files / "other.wav", "--beam", 4).out.startswith(f"{files / 'other.wav'}: yes maybe")


def test_export_gives_what_predict_hears(run, files):
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    done = process("export", run)
    assert done.code == 0, done.err
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    signal, _ = soundfile.read(files / "other.wav", dtype="float32")
    signals = np.zeros((2, 5 * RATE), np.float32)
    signals[1, : len(signal)] = signal
    log_y = np.asarray(exported.call(signals, np.array([400, len(signal)], np.int32)))
    frames = (1 + (len(signal) - 200) // 80 + 1) // 2
    path = log_y[1, :frames].argmax(-1)
    labels = path[(path != 0) & (np.diff(path, prepend=-1) != 0)]
    assert vocabulary.read(run / "export").decode(labels) == "yes maybe"


def test_verify(task, files):
    done = task("verify", "--data", files)
    assert done.code == 0, done.out
    assert "recurrent" in done.out


def test_bfloat16_with_an_ngram_trains_and_stays_a_float32_model(task, files, tmp_path):
    manifest, run = tmp_path / "words.tsv", tmp_path / "run"
    lines = (files / "train.tsv").read_text(encoding="utf-8").splitlines()
    words = [f"{files / line}" for line in lines[1:] if line.split("\t")[1] in WORDS][:36]
    manifest.write_text("\n".join([lines[0], *words]) + "\n", encoding="utf-8")
    options = (*SIZES, "--precision", "bfloat16", "--epochs", 1, "--batch-size", 16, "--beam", 2, "--ngram", 3)
    done = task("--data", manifest, "--allow-outside", *options, "--quiet", "--run-dir", run)
    assert done.code == 0, done.err
    assert summary(run)["gradient_check"]["max_relative_error"] < 1e-10
    params = SpeechRecognition().trained(run).params
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_what_a_user_does_wrong(refused, run, files, tmp_path):
    where = ("--run-dir", tmp_path / "run")
    assert "nowhere.tsv is neither" in refused("--data", tmp_path / "nowhere.tsv", *where)
    assert "larger than the training set" in refused("--data", files, "--batch-size", 5000, *where)
    assert "it does not say who speaks" in refused("--data", files, "--hold-out-speaker", "ann", *where)
    assert "no recording of" in refused("--data", files, "--longest", 0.01, *where)
    assert "--connected is 0" in refused("--data", files, "--connected", 0, *where)
    assert "--speed is 1.0" in refused("--data", files, "--speed", 1, *where)
    assert "--noise is 9.0 3.0" in refused("--data", files, "--noise", 9, 3, *where)
    assert "--beam is 1: an n-gram model" in refused("--data", files, "--ngram", 3, *where)
    assert "too many for a window" in refused("--data", files, "--mels", 300, *where)
    assert "a multiple of 8" in refused("--data", files, "--width", 12, *where)
    (tmp_path / "outside.tsv").write_text(f"path\ttext\n{files / 'other.wav'}\tyes maybe\n", encoding="utf-8")
    assert "outside.tsv: line 2 names" in refused("--data", tmp_path / "outside.tsv", *where)
    assert "are too few" in refused("--data", tmp_path / "outside.tsv", "--allow-outside", *where)
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty.wav").write_bytes(b"")
    content = (files / "other.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    assert "empty.wav cannot be read" in refused("predict", run, files / "other.wav", tmp_path / "empty.wav")
    assert "cut.wav is cut off" in refused("predict", run, tmp_path / "cut.wav")
    assert "nowhere.wav is not a file" in refused("predict", run, tmp_path / "nowhere.wav")
    (tmp_path / "folder").mkdir()
    assert "has no .wav or .flac file" in refused("predict", run, tmp_path / "folder")
    assert "predict RUN" in refused("predict", run)
    assert "--beam is 0" in refused("predict", run, files / "other.wav", "--beam", 0)
    assert "holds no run" in refused("predict", tmp_path, files / "other.wav")


def test_recipes_are_for_the_data():
    task = SpeechRecognition()
    assert task.recipe(None).data == "commands"
    assert task.recipe("my.tsv").data == "my.tsv" and task.recipe("my.tsv").rate == 16_000
    assert task.recipe("fsdd").rate == 8_000
