import json
import subprocess
import sys
from pathlib import Path

from pipeline.training.config import TaskConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.run import Run

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare.py"


def compare(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def finished(folder, learning_rate, **test):
    config = TaskConfig(
        data="digits", model="mlp", run_dir=folder, optimizer=OptimizerConfig(learning_rate=learning_rate)
    )
    with Run.create(folder, "test", config) as run:
        for epoch in (1, 2, 3):
            line = {"kind": "evaluation", "step": epoch, "epoch": epoch, "split": "validation", "loss": 1 / epoch}
            run.log(line)
        run.finish({"test": test, "epochs": 3, "train_seconds": 1.25, "parameters": 1234})


def test_results_options_that_differ_and_curves(tmp_path):
    finished(tmp_path / "one", 0.1, accuracy=0.75, accuracy_low=0.5)
    finished(tmp_path / "two", 0.2, accuracy=0.5, auc=0.25)
    done = compare(tmp_path / "one", tmp_path / "two", "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert rows == [
        ["accuracy", "0.7500", "0.5000"],
        ["auc", "-", "0.2500"],
        ["epochs", "3", "3"],
        ["seconds of training", "1.2", "1.2"],
        ["parameters", "1,234", "1,234"],
        ["optimizer.learning-rate", "0.1", "0.2"],
    ]
    assert "two" in done.stdout and (tmp_path / "page" / "plots" / "validation_0.png").exists()
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "Runs compared" in page and "Validation loss" in page and "two" in page


def test_what_cannot_be_compared_is_one_message(tmp_path):
    finished(tmp_path / "one", 0.1, accuracy=0.75)
    for arguments, message in (
        ((tmp_path / "one",), "two runs or more"),
        ((tmp_path / "one", tmp_path / "none"), "holds no run"),
    ):
        done = compare(*arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "one" / "summary.json").write_text(json.dumps({"test": {}}))
    assert "summary.json has no epochs" in compare(tmp_path / "one", tmp_path / "one").stderr
