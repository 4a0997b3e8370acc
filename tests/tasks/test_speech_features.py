"""Speech recognition from features: a run over Kaldi's folders with phones of a lexicon, and what may go wrong."""

import json
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import running
from running import finished, once, refused_by, summary, within

from tasks.speech_recognition import SpeechRecognition

process = partial(running.process, "speech_recognition")
LEXICON = {"no": "N OW", "know": "N OW", "on": "AA N", "own": "OW N", "moon": "M UW N", "noon": "N UW N", "am": "AA M"}
PHONES = sorted({phone for spelling in LEXICON.values() for phone in spelling.split()})
SOUNDS = np.random.default_rng(0).normal(size=(len(PHONES), 5))
SIZES = ("--width", 32, "--layers", 1, "--stride", 2, "--batch-size", 16, "--dropout", 0, "--speed", 0)
WORDS = ("--units", "lexicon", "--lexicon")


@pytest.fixture
def task(capsys):
    return partial(within, SpeechRecognition(), capsys)


@pytest.fixture
def refused(capsys):
    return partial(refused_by, SpeechRecognition(), capsys)


def speak(text: str, random: np.random.Generator) -> np.ndarray:
    """Frames in which each phone of a text lasts a while, with silence between words."""
    frames = [np.zeros((4, 5))]
    for word in text.split():
        sounds = [SOUNDS[PHONES.index(phone)] for phone in LEXICON[word].split()]
        frames += [np.repeat(sound[None], int(random.integers(6, 10)), 0) for sound in sounds] + [np.zeros((4, 5))]
    return np.concatenate(frames) + random.normal(0, 0.4, size=(sum(map(len, frames)), 5))


def write_files(folder: Path) -> None:
    random = np.random.default_rng(1)
    words = [word for word in LEXICON if word != "know"]  # "know" is only ever said after "am"
    for part, count in (("train", 200), ("dev", 16), ("test", 16)):
        (folder / part).mkdir()
        content, script, lines = b"", "", []
        for i in range(count):
            text = re.sub(r"\bam no\b", "am know", " ".join(random.choice(words, 3)))
            key, matrix = f"{part}-{i}", speak(text, random)
            content += f"{key} ".encode()
            script += f"{key} {part}.ark:{len(content)}\n"
            sizes = b"".join(b"\4" + size.to_bytes(4, "little") for size in matrix.shape)
            content += b"\0BFM " + sizes + matrix.astype("<f4").tobytes()
            lines.append(f"{key} {text.upper()}")
        (folder / f"{part}.ark").write_bytes(content)
        (folder / part / "feats.scp").write_text(script, encoding="utf-8")
        (folder / part / "text").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lexicon = "".join(f"{word.upper()}\t{spelling}\n" for word, spelling in LEXICON.items())
    (folder / "lexicon.txt").write_text(lexicon, encoding="utf-8")


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    return once(tmp_path_factory, "features", write_files)


@pytest.fixture(scope="session")
def run(tmp_path_factory, files) -> Path:
    options = (*SIZES, *WORDS, files / "lexicon.txt", "--deltas", 1, "--normalise", "training", "--epochs", 6)
    return finished(tmp_path_factory, "speech_recognition", "--features", files, *options)


def test_a_run_learns_words_from_features(run, files):
    said = summary(run)
    assert said["data"] == str(files) and said["test"]["wer"] < 0.1
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert "200 train, 16 validation, 16 test utterances, 5 units" in output
    assert "232 utterances of 5 features" in output and "10 ms are taken" in output
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "5 given features and 1 derivatives of each every 10 ms" in page
    assert "prefix beam search with 16 texts, 7 words and a word 2-gram model" in page
    transcripts = (run / "transcripts.tsv").read_text(encoding="utf-8")
    assert "am know" in transcripts and not re.search(r"\bam no\b", transcripts)


def test_predict_evaluate_resume_and_export(task, run, files):
    evaluated = task("evaluate", run, "--json")
    assert json.loads(evaluated.out)["wer"] == pytest.approx(summary(run)["test"]["wer"])
    predicted = json.loads(task("predict", run, files / "test", "--json").out)
    lines = (run / "transcripts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [record["file"] for record in predicted] == [line.split("\t")[0] for line in lines]
    assert [record["text"] for record in predicted] == [line.split("\t")[2] for line in lines]
    times = [time for word in predicted[0]["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times) and times[0] >= 0 and times[-1] < 1
    assert task("--resume", run, "--quiet").code == 0
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    done = process("export", run)
    assert done.code == 0, done.err
    assert "float32 (batch, 1500, 5): 5 given features" in done.out
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    assert exported.in_avals[0].shape[1:] == (1500, 5) and exported.out_avals[0].shape[2] == 6


def test_what_a_user_does_wrong(refused, run, files, tmp_path):
    where = ("--features", files, "--run-dir", tmp_path / "run")
    assert "--connected, nor with the name of a data set" in refused(*where, "--data", "fsdd")
    assert "--normalise is level, which is for recordings" in refused(*where, "--normalise", "level")
    assert "--deltas is 1, and there are no --features" in refused("--deltas", 1)
    assert "--units is lexicon, and there is none" in refused(*where, "--units", "lexicon")
    assert "choose --units lexicon" in refused(*where, "--units", "tokens", "--lexicon", "training")
    assert "--lexicon is 'none.txt', which is not a file" in refused(*where, "--lexicon", "none.txt")
    assert "a lexicon needs a beam" in refused(*where, "--lexicon", "training", "--beam", 1)
    assert "needs their spellings" in refused(*where, "--language-model", "a.arpa")
    (tmp_path / "few.txt").write_text("NO N OW\n", encoding="utf-8")
    assert "no recording of" in refused(*where, *WORDS, tmp_path / "few.txt", "--longest", 0.1)
    (tmp_path / "few.txt").write_text("WHY W AY\n", encoding="utf-8")
    assert "no training utterance can be used: they have words" in refused(*where, *WORDS, tmp_path / "few.txt")
    phones = refused(*where, "--lexicon", tmp_path / "few.txt", "--dry-run")
    assert "no word of the lexicon can be written in the characters" in phones and "choose --units lexicon" in phones
    np.save(tmp_path / "a.npy", np.zeros((9, 4)))
    assert "has 4 features, and the model 5" in refused("predict", run, tmp_path / "a.npy")
    assert not (tmp_path / "run").exists()
