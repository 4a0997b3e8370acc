"""What every task does with a run: answers for programs, traces, events, exported parameters, more epochs.

The smallest task stands for all of them.
"""

import csv
import io
import json
import shutil
import sys
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image
from running import finished, summary, within
from safetensors import safe_open
from safetensors.numpy import load_file

from pipeline.training.optimizer import make_schedule
from pipeline.training.run import read_config
from tasks.framework.answers import Answers, Predictions, print_answers
from tasks.image_recognition import ImageRecognition
from tasks.medical_diagnosis import MedicalDiagnosis

TASK = ImageRecognition()

TINY = ("--model", "mlp", "--batch-size", 256, "--epochs", 1, "--quiet")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory, "image_recognition", *TINY)


def test_predict_answers_programs_and_people_alike(run, task, refused, tmp_path):
    name = tmp_path / 'a,"b"\n\x1b[31m.png'
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(name)
    ask = partial(task, "predict", run, name, name)
    first, second = json.loads(ask("--json", "--top", 99).out)
    assert first == second and first["file"] == str(name)
    probabilities = [its["probability"] for its in first["classes"]]
    assert len(probabilities) == 10 and probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert (first["class"], first["probability"]) == (first["classes"][0]["class"], probabilities[0])
    row, same = csv.DictReader(io.StringIO(ask("--csv", "--top", 2).out, newline=""))
    assert row == same and row["file"] == str(name)
    assert row["class"] == row["class_1"] == first["class"] and float(row["probability_2"]) == probabilities[1]
    assert "class_3" not in row and "classes" not in json.loads(ask("--json").out)[0]
    assert all(f"{p:.4f}" in ask("--top", 3).out for p in probabilities[:3])
    assert "--top is 0; it must be from 1" in refused("predict", run, name, "--top", 0)
    assert "choose one of them" in refused("predict", run, name, "--json", "--csv")


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_records_of_any_text_and_number_are_read_back_as_they_were(kind, capfdbinary, tmp_path):
    texts = ['a,"b"', "two\r\nlines", "\x1b[31mred", "=1+1", "\u597d \udce9", "[/b] $x^{$", ""]
    records = [{"text": text, "value": np.float32(0.5), "unknown": np.nan, "words": [{"word": text}]} for text in texts]
    command = Predictions(run=tmp_path, json=kind == "json", csv=kind == "csv")
    print_answers(Answers(records, "for people", ["a note\x1b"]), command)
    out, err = capfdbinary.readouterr()
    assert err == b"a note\\x1b\n"
    read = out.decode("utf-8", "surrogateescape")
    if kind == "json":
        empty, number, words = None, 0.5, [[{"word": text}] for text in texts]
        rows = json.loads(read, parse_constant=lambda name: pytest.fail(name))
    else:
        empty, number, words = "", "0.5", texts
        rows = [{**row, "words": row["word_1"]} for row in csv.DictReader(io.StringIO(read, newline=""))]
    assert [row["text"] for row in rows] == texts and [row["words"] for row in rows] == words
    assert all((row["value"], row["unknown"]) == (number, empty) for row in rows)


def test_a_finished_run_is_given_more_epochs(run, task, refused, tmp_path):
    longer = tmp_path / "run"
    shutil.copytree(run, longer)
    assert "than more --epochs: --seed was 0 and is now 1" in refused("--resume", longer, "--epochs", 2, "--seed", 1)
    done = task("--resume", longer, "--epochs", 3, "--no-quiet", "--log-every", 1)
    assert "extended from 4 to 12 steps" in done.out and "after step 4 the learning rate goes from" in done.out
    assert summary(longer)["epochs"] == 3 and summary(longer)["extensions"][0]["old_epochs"] == 1
    assert "from 1 to 3 epochs after step 4" in (longer / "report.html").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (longer / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, *range(4, 13)]
    assert [line["epoch"] for line in lines if line["kind"] == "evaluation"] == [1, 2, 3]
    rates = [line["learning_rate"] for line in lines if line["kind"] == "step"]
    schedule = make_schedule(read_config(longer, ImageRecognition.config).optimizer, 12)
    assert rates[2:] == pytest.approx([np.asarray(schedule(step)).item() for step in range(4, 12)], rel=1e-5)
    scores = json.loads(task("evaluate", longer, "--json").out)
    assert scores == summary(longer)["test"]
    assert "--epochs was 3 and is now 2" in refused("--resume", longer, "--epochs", 2)


def test_every_model_of_a_run_is_given_more_epochs(capsys, tmp_path):
    task, run = partial(within, MedicalDiagnosis(), capsys), tmp_path / "run"
    options = ("--model", "mlp", "--widths", 4, "--resamples", 20, "--folds", 2, "--quiet")
    assert task(*options, "--epochs", 1, "--run-dir", run).code == 0
    assert task("--resume", run / "fold_2", "--epochs", 2).code == 0
    assert "fold_2 has 2 epochs, and cannot be resumed with 1" in task("--resume", run).err
    assert task("--resume", run, "--epochs", 2).code == 0
    assert [summary(run / f"fold_{fold}")["epochs"] for fold in (1, 2)] == [2, 2]
    assert summary(run)["epochs"] == 4 and task("evaluate", run).code == 0


def test_exported_parameters_are_read_back_as_they_were(run, task, refused, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    assert "6 arrays" in task("export", tmp_path / "run", "--format", "safetensors").out
    file = tmp_path / "run" / "export" / "model.safetensors"
    params = ImageRecognition().trained(run).params
    paths = jax.tree_util.tree_leaves_with_path(params)
    stored = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in paths}
    read = load_file(file)
    assert read.keys() == stored.keys() and "model/layers/1/kernel" in read
    assert all(read[name].dtype == leaf.dtype and read[name].shape == leaf.shape for name, leaf in stored.items())
    assert all(read[name].tobytes() == leaf.tobytes() for name, leaf in stored.items())
    with safe_open(file, "numpy") as opened:
        assert opened.metadata() == {"task": "image_recognition", "model": "mlp", "data": "digits"}
    readme = (file.parent / "README.md").read_text(encoding="utf-8")
    assert 'load_file("model.safetensors")' in readme and "model.jax" not in readme
    before = file.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = refused("export", tmp_path / "run", "--format", "safetensors")
    assert message == "error: safetensors is not installed; it comes with: pip install 'backhand[export]'"
    assert file.read_bytes() == before


def test_a_run_ends_with_how_to_open_its_trace_and_events(task, refused, tmp_path, monkeypatch):
    done = task(*TINY, "--profile", 1, "--tensorboard", "--run-dir", tmp_path / "run").out
    assert f"xprof --logdir {tmp_path}/run/profile\n" in done and "perfetto_trace.json.gz" in done
    assert f"tensorboard --logdir {tmp_path}/run/tensorboard\n" in done
    assert all(list((tmp_path / "run" / name).iterdir()) for name in ("profile", "tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = refused(*TINY, "--tensorboard", "--run-dir", tmp_path / "other")
    assert message == "error: tensorboardX is not installed; it comes with: pip install 'backhand[tensorboard]'"
    assert not (tmp_path / "other").exists()
    assert "--profile is -1" in refused(*TINY, "--profile", -1, "--run-dir", tmp_path / "other")


def test_a_metric_that_the_task_does_not_have_is_refused_before_a_run_is_begun(refused, tmp_path):
    message = refused(*TINY, "--stop.metric", "f1", "--run-dir", tmp_path / "run")
    assert "--stop.metric is 'f1'; this task has loss, accuracy" in message
    assert not (tmp_path / "run").exists()
