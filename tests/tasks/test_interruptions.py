"""What a run is worth when processes are stopped, meet each other, find other data, or the system says no."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from running import ROOT

from tasks.image_recognition import ImageRecognition

TASK = ImageRecognition()

ENDLESS = ("--model", "mlp", "--epochs", "100000", "--log-every", "1", "--quiet")


@pytest.fixture
def start():
    """Starts the task in a process of its own, which does not outlive the test."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "tasks.image_recognition", *map(str, arguments)]
        processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def wait_until_it_trains(run, process):
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert process.poll() is None
        time.sleep(0.05)


def test_a_terminated_run_is_saved_and_says_how_to_go_on(tmp_path, start, refused):
    run = tmp_path / "run"
    process = start("--run-dir", run, *ENDLESS)
    wait_until_it_trains(run, process)
    assert f"is being written by process {process.pid} on" in refused("--resume", run)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 143 and "Traceback" not in error
    assert f"go on with      scripts/run image_recognition --resume {run}\n" in error
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert int(max((run / "checkpoints" / "last").iterdir(), key=lambda path: int(path.name)).name) == max(steps)


def test_a_second_ctrl_c_ends_at_once(tmp_path, start):
    process = start("--run-dir", tmp_path / "run", *ENDLESS)
    wait_until_it_trains(tmp_path / "run", process)
    process.send_signal(signal.SIGSTOP)  # so that both come before the step ends
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate()
    assert process.returncode in (130, 143) and "Traceback" not in error


def test_ctrl_c_amid_the_imports_is_no_traceback(start):
    process = start("--help")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode in (-signal.SIGINT, 130) and not error


def write(path, arrays):
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    sizes = {"train": 24, "val": 8, "test": 8}
    arrays = {f"{part}_images": random.random((size, 4, 4)).astype(np.float32) for part, size in sizes.items()}
    arrays |= {f"{part}_labels": np.arange(size) % 2 for part, size in sizes.items()}
    write(tmp_path / "images.npz", arrays)
    return tmp_path / "images.npz", arrays


def contents(run):
    """Every file of a run but the lock, which says who looked at it last."""
    return {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != ".lock"}


def test_a_run_notices_in_which_split_its_data_are_others(tmp_path, monkeypatch, task, refused, images):
    path, arrays = images
    monkeypatch.chdir(tmp_path)
    options = ("--model", "mlp", "--batch-size", 8, "--epochs", 2, "--quiet", "--run-dir", "run")
    assert task("--data", path.name, *options).code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == str(path)
    monkeypatch.chdir("/")
    run = tmp_path / "run"
    assert task("evaluate", run).code == 0
    before = contents(run)
    arrays["test_images"][3, 1, 1] += 0.25
    write(path, arrays)
    for command in (("evaluate", run), ("--resume", run)):
        assert "test has as many examples as before, 8, but others" in refused(*command)
    write(path, arrays | {"val_images": arrays["val_images"][:7], "val_labels": arrays["val_labels"][:7]})
    assert "validation had 8 examples and has 7" in refused("--resume", run)
    assert contents(run) == before


def test_what_the_system_refuses_is_one_message(tmp_path, refused):
    (tmp_path / "file").touch()
    long = "x" * 300
    assert "file is a file" in refused("--run-dir", tmp_path / "file")
    assert "not a directory; a file is where a folder must be" in refused("--run-dir", tmp_path / "file" / "run")
    assert "file name too long; give a shorter one" in refused("--run-dir", tmp_path / long)
    assert refused("--data", long)
    assert refused("evaluate", long)
    assert refused("--resume", long)
    if os.path.isdir("/proc/self"):
        assert "no such file or directory" in refused("--run-dir", "/proc/run")


WRONG = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "cut": b'{"kind":',
    "UTF-16": b"\xff\xfe{\0}\0",
    "deep": b"[" * 100_000,
    "a list for a number": b'{"seed": []}',
    "a number for a list": b'{"classes": 5}',
}


def test_a_file_of_a_run_that_is_not_as_it_was_is_one_message(tmp_path, task, refused, images):
    options = ("--model", "mlp", "--batch-size", 8, "--epochs", 1, "--quiet", "--log-every", 1)
    assert task("--data", images[0], *options, "--run-dir", tmp_path / "whole").code == 0
    for checkpoints in (True, False):  # which know what the files were
        run = tmp_path / f"run {checkpoints}"
        shutil.copytree(tmp_path / "whole", run)
        if not checkpoints:
            shutil.rmtree(run / "checkpoints")
        for name in ("config.json", "signature.json", "data.json", "metrics.jsonl"):
            content = (run / name).read_bytes()
            for what, wrong in WRONG.items():
                (run / name).write_bytes(wrong + b"\n")
                message = refused("--resume", run)
                assert name in message and len(message) < 2000, (name, what)
            (run / name).write_bytes(content)
