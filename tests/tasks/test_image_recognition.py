"""The image task as its users meet it: a real run over scikit-learn's digits, and what they may do wrong."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import running
from PIL import Image
from running import finished, summary
from sklearn.datasets import load_digits

from pipeline.training.signatures import ArraySignature
from tasks.image_recognition import ImageRecognition

TASK = ImageRecognition()

PLOTS = {"curves", "confusion", "gradient_norms", "agreement", "filters", "mistakes"}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
SHORT = ("--model", "convnet", "--epochs", 2, "--batch-size", 64, "--seed", 3)


process = partial(running.process, "image_recognition")


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return finished(tmp_path_factory, "image_recognition", *SHORT, "--verify-every", 20)


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "zero.png"
    pixels = np.asarray(load_digits(return_X_y=True)[0][0]).reshape(8, 8)
    Image.fromarray((pixels / 16 * 255).astype(np.uint8)).save(path)
    return path


def parameters(run: Path) -> list[bytes]:
    """The bytes of the best parameters, leaf by leaf."""
    params = ImageRecognition().trained(run).params
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


def test_a_run_says_what_it_did(run):
    said = summary(run)
    named = {"task": "image_recognition", "data": "digits", "model": "convnet", "gradient": "manual", "seed": 3}
    assert said.items() >= named.items()
    assert (said["epochs"], said["steps"], said["stopped_because"]) == (2, 2 * (1213 // 64), "epochs over")
    assert 0.3 < said["test"]["accuracy"] <= 1
    assert 0 < said["gradient_check"]["max_relative_error"] < 1e-11
    assert said["gradient_check"]["leaves"] == len(parameters(run)) > 8
    assert said["gradient_check"]["worst_leaf"].startswith("model/layers/")
    assert said["train_seconds"] > 0
    assert said["parameters"] == sum(map(len, parameters(run))) // 4


def test_output_into_a_file_is_plain_text(run):
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"{summary(run)['test']['accuracy']:.4f}" in output
    assert str(run / "report.html") in output
    assert not CONTROL.search(output)
    assert "warning" not in output.lower()


def test_the_report_stands_alone_and_has_every_plot(run):
    assert {path.stem for path in (run / "plots").glob("*.png")} == PLOTS
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2 * len(PLOTS)  # for a light and for a dark page
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    assert f"{summary(run)['test']['accuracy']:.4f}" in page
    assert "scripts/run image_recognition --epochs 2 --batch-size 64 --seed 3" in page


def test_the_same_seed_gives_the_same_bytes(run, tmp_path):
    done = process(*SHORT, "--quiet", "--run-dir", tmp_path / "again")
    assert done.code == 0, done.err
    assert "epoch 1" not in done.out  # --quiet
    assert parameters(tmp_path / "again") == parameters(run)
    assert summary(tmp_path / "again")["test"] == summary(run)["test"]


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == summary(run)["test"]


def test_predict_files_and_folders(run, picture, task):
    done = task("predict", run, picture, picture.parent)
    lines = [line for line in done.out.splitlines() if str(picture) in line]
    assert done.code == 0
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert not CONTROL.search(done.out)


def test_verify(task):
    done = task("verify", "--model", "mlp")
    assert done.code == 0, done.out
    assert "model/layers/1/kernel" in done.out


def test_verify_fails_with_a_wrong_gradient(task, monkeypatch):
    from pipeline.layers.linear import Dense

    backward = Dense.backward

    def wrong(self, params, residuals, d_y):
        d_params, d_x = backward(self, params, residuals, d_y)
        return d_params | {"bias": -d_params["bias"]}, d_x

    monkeypatch.setattr(Dense, "backward", wrong)
    done = task("verify", "--model", "mlp")
    assert done.code == 1
    assert "FAILED" in done.out


def test_export_gives_what_predict_gives(run, picture, task):
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    assert process("export", run).code == 0
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    pixels = np.asarray(Image.open(picture), np.float32)[None, ..., None] / 255
    for size in (1, 5):
        probabilities = np.asarray(exported.call(np.repeat(pixels, size, 0)))
        assert probabilities.shape == (size, 10)
        classes = json.loads((run / "export" / "signature.json").read_text(encoding="utf-8"))["classes"]
        line = task("predict", run, picture).out.splitlines()[3]
        assert classes[probabilities[0].argmax()] in line
        assert f"{probabilities[0].max():.4f}" in line


def test_an_export_runs_by_itself_with_jax_alone(run, tmp_path):
    assert process("export", run).code == 0
    shutil.copytree(run / "export", tmp_path / "export")
    np.save(tmp_path / "pixels.npy", np.zeros((3, 8, 8, 1)))
    command = [sys.executable, "-I", tmp_path / "export" / "predict.py", "pixels.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy").sum(1), np.ones(3), rtol=1e-5)
    readme = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "python predict.py input_1.npy" in readme and "signature.json" in readme and "(batch, 8, 8, 1)" in readme


def test_unknown_names(refused, tmp_path):
    message = refused("--model", "transformer", "--run-dir", tmp_path / "run")
    assert all(word in message for word in ("transformer", "mlp", "convnet", "resnet"))
    message = refused("--data", "imagenet", "--run-dir", tmp_path / "run")
    assert all(word in message for word in ("imagenet", "digits", "mnist"))
    assert "train, evaluate, predict, verify, export" in refused("trian")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_written_over(refused, run):
    before = summary(run)
    message = refused(*SHORT, "--run-dir", run)
    assert str(run) in message
    assert "--resume" in message
    assert summary(run) == before


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_run_that_is_none(refused, tmp_path, command):
    assert str(tmp_path) in refused(command, tmp_path)
    assert "nowhere" in refused(command, tmp_path / "nowhere")


def test_a_checkpoint_of_another_model(refused, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"model": "mlp"}), encoding="utf-8")
    assert "config.json is not as it was when training began" in refused("evaluate", tmp_path / "run")


def test_a_batch_larger_than_the_set(refused, tmp_path):
    message = refused("--batch-size", 5000, "--run-dir", tmp_path / "run")
    assert "5000" in message
    assert "1213" in message
    assert not (tmp_path / "run").exists()


def test_a_few_photographs_of_several_sizes(task, tmp_path):
    for number in range(20):
        row, column = np.indices((20 + number % 3, 24))
        pixels = (10 * (column if number % 2 else row) + number).astype(np.uint8)
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    run = tmp_path / "run"
    done = task("--data", tmp_path / "photos", "--model", "mlp", "--epochs", 3, "--run-dir", run)
    assert done.code == 0, done.err
    assert "images are 20 to 22 pixels high and 24 wide: all are brought to 21x24" in done.out
    assert "batches of 4 examples: training has 13, and by default 32 are in each" in done.out
    assert summary(run)["steps"] == 3 * (13 // 4)
    signature = json.loads((run / "signature.json").read_text(encoding="utf-8"))
    assert (signature["input_shape"], signature["fit"]) == ([21, 24, 1], "resize")
    assert "1.0000" in task("evaluate", run).out
    streamed = ("--data", tmp_path / "photos", "--model", "mlp", "--epochs", 3, "--stream", "always")
    done = task(*streamed, "--run-dir", tmp_path / "streamed")
    assert "20 images would take 9.8 KiB of memory: each batch is decoded when it is needed" in done.out, done.err
    assert parameters(tmp_path / "streamed") == parameters(run)
    assert "1.0000" in task("evaluate", tmp_path / "streamed").out
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "photos" / "notes.txt").write_bytes(b"x")
    answers = task("predict", run, tmp_path / "photos")
    rows = [line for line in answers.out.splitlines() if ".png" in line]
    assert len(rows) == 20 and all(re.search(r"/(cat|dog)/.*│ \1 ", row) for row in rows)
    assert "not read: 1 other file in" in answers.err
    assert "brought to this size by resize" in task("export", run).out


def test_photographs_begin_with_a_stride(task, tmp_path):
    for number in range(20):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (100, 150), 10 * number).save(file)
    for model, expected in (("resnet", True), ("mlp", False)):
        told = task("--data", tmp_path / "photos", "--size", "150x100", "--model", model, "--dry-run").out
        note = "150x100: the first convolution has a stride of 4, and the layers after it see 38x25"
        assert (note in told) == expected


def test_floats_to_255_are_predicted_as_they_were_trained(task, tmp_path):
    row, column = np.indices((8, 8))
    images = np.stack([20.0 * (column if number % 2 else row) + 5 * (number % 10) for number in range(40)])
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.array(["cat", "dog"] * 20))
    for number in range(4):
        Image.fromarray(images[number].astype(np.uint8)).save(tmp_path / f"{number % 2}_{number}.png")
    run = tmp_path / "run"
    trained = task("--data", tmp_path / "set.npz", "--model", "mlp", "--epochs", 8, "--run-dir", run)
    assert "set.npz has pixels from 0 to 185: 0 is taken for black and 255 for white" in trained.out, trained.err
    assert json.loads((run / "signature.json").read_text(encoding="utf-8"))["pixel_range"] == [0, 255]
    answers = task("predict", run, tmp_path / "0_0.png", tmp_path / "1_1.png", tmp_path / "0_2.png").out
    assert re.findall(r"│ (cat|dog) ", answers) == ["cat", "dog", "cat"]
    assert "0 of the training arrays is 0, 255 is 1" in task("export", run).out


def test_signatures_without_the_newer_fields(run):
    content = json.loads((run / "signature.json").read_text(encoding="utf-8"))
    assert set(content) == {"classes", "input_shape", "scaling"}
    signature = ArraySignature.read(run)
    assert (signature.fit, signature.pixel_range) == ("", None)


def test_files_that_cannot_be_predicted(refused, run, tmp_path):
    assert "gone.png" in refused("predict", run, tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not a picture")
    assert "text.png" in refused("predict", run, tmp_path / "text.png")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("predict", run, tmp_path / "empty")
    Image.new("L", (9, 9)).save(tmp_path / "large.png")
    assert "(8, 8, 1)" in refused("predict", run, tmp_path / "large.png")
    assert "predict RUN" in refused("predict", run)


def test_a_run_is_resumed_with_its_own_options(refused, task, run):
    message = refused("--resume", run, "--batch-size", 32, "--optimizer.name", "sgd")
    assert "--batch-size was 64 and is now 32" in message
    assert "--optimizer.name was adamw and is now sgd" in message
    assert "nowhere" in refused("--resume", run.parent / "nowhere")
    assert "--run-dir" in refused("--resume", run, "--run-dir", run.parent / "other")


def test_a_device_that_is_not_here():
    done = process("--quiet", JAX_PLATFORMS="tpu")
    assert done.code == 2
    assert "JAX_PLATFORMS=tpu" in done.err
    assert "Traceback" not in done.err


def test_help_has_every_option_and_the_recipe_as_its_defaults(task):
    done = task("train", "--data", "mnist", "--help")
    assert done.code == 0
    for option in ("--data", "--gradient", "--verify-every", "--optimizer.learning-rate", "--stop.target"):
        assert option in done.out
    assert f"(default: {ImageRecognition().recipe('mnist').epochs})" in " ".join(done.out.split())


def test_recipes_are_for_the_data_and_options_win():
    task = ImageRecognition()
    assert task.recipe(None).data == "digits"
    assert dataclasses.replace(task.recipe("mnist"), data="") != dataclasses.replace(task.recipe("digits"), data="")
    assert task.recipe("a/folder").data == "a/folder"
