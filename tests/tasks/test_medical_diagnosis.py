"""Medical diagnosis as its users meet it: a real run on the embedded data, all kinds of data, and what may be wrong."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import running
from PIL import Image
from running import finished, summary
from sklearn.datasets import load_breast_cancer

from pipeline.evaluation.operating_point import OperatingPoint
from pipeline.training.signatures import DiagnosisSignature
from tasks.medical_diagnosis import MedicalDiagnosis

TASK = MedicalDiagnosis()

process = partial(running.process, "medical_diagnosis")
SHORT = ("--epochs", 4, "--widths", 8, "--resamples", 50)
TINY = ("--epochs", 1, "--batch-size", 8, "--resamples", 20, "--quiet")
METRICS = ("accuracy", "auc", "sensitivity", "specificity")


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """On breast cancer."""
    return finished(tmp_path_factory, "medical_diagnosis", *SHORT)


def table(path: Path, rows: Any, names: list[str], **columns) -> Path:
    """A .csv file of these rows, and of more columns behind them."""
    lines = [",".join([*names, *columns])]
    lines += [",".join([*map(str, row), *map(str, more)]) for row, *more in zip(rows, *columns.values())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def patients(tmp_path, monkeypatch) -> Path:
    """Three malignant and three benign cases of the data set, with a column that no model needs."""
    monkeypatch.chdir(tmp_path)
    found: Any = load_breast_cancer()
    rows = np.concatenate([found.data[found.target == kind][:3] for kind in (0, 1)])
    return table(Path("patients.csv"), rows, [str(name) for name in found.feature_names], name=list("ABCDEF"))


def test_a_run_learns_and_says_what_it_did(run):
    said = summary(run)
    assert said.items() >= {"task": "medical_diagnosis", "data": "breast-cancer", "model": "mlp", "seed": 0}.items()
    test = said["test"]
    assert test["accuracy"] > 0.9 and test["auc"] > 0.95 and 0 <= test["ece"] < 0.2
    for metric in METRICS:
        assert test[f"{metric}_low"] <= test[metric] <= test[f"{metric}_high"]
    assert 0 < said["gradient_check"]["max_relative_error"] < 1e-11
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"{test['accuracy']:.4f}" in output and "warning" not in output.lower()


def test_the_report_says_what_a_diagnosis_needs_and_stands_alone(run):
    plots = {path.stem for path in (run / "plots").glob("*.png")}
    assert plots >= {"roc", "reliability", "confusion", "findings", "curves", "agreement"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    for section in ("Not a clinical device", "ROC curve", "Operating points", "Reliability", "Confidence intervals"):
        assert section in page
    assert "in use" in page and "must not be used to diagnose" in page


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == pytest.approx(summary(run)["test"])


def test_predict_names_class_probability_spread_and_findings(run, task, patients):
    done = task("predict", run, patients, "--samples", 8)
    assert done.code == 0, done.err
    rows = [line for line in done.out.splitlines() if "patients.csv, row" in line]
    assert len(rows) == 6
    for row, kind in zip(rows, ["malignant"] * 3 + ["benign"] * 3):
        probability, spread = map(float, re.findall(r"\d\.\d{4}", row)[:2])
        assert f" {kind} " in row and (probability > 0.5) == (kind == "malignant") and 0 < spread < 0.5
        assert len(re.findall(r"[+-][a-z ]+ \([\d.e+]+\)", row)) == 4
    assert "Not a clinical device" in done.out


def test_export_gives_what_predict_gives(run, task, patients):
    assert process("export", run).code == 0
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    assert DiagnosisSignature.read(run / "export") == DiagnosisSignature.read(run)
    assert OperatingPoint.read(run / "export") == OperatingPoint.read(run)
    found: Any = load_breast_cancer()
    probabilities = np.asarray(exported.call(found.data[:3].astype(np.float32)))
    said = re.findall(r"row \d\D*(\d\.\d{4})", task("predict", run, patients).out)
    np.testing.assert_allclose(probabilities[:, 1], list(map(float, said[:3])), atol=2e-4)


def test_verify(task):
    done = task("verify", "--data", "breast-cancer", "--model", "autoencoder")
    assert done.code == 0, done.out


@pytest.mark.parametrize(
    "ignore", [("--ignore", "a", "--ignore", "b"), ("--ignore", "a", "b"), ("--ignore=a", "--quiet", "--ignore=b")]
)
def test_all_columns_that_are_ignored(task, tmp_path, monkeypatch, ignore):
    monkeypatch.chdir(tmp_path)
    path = table(Path("own.csv"), [(i % 7, i, i * 3) for i in range(40)], ["a", "b", "c"], label=["ill", "well"] * 20)
    done = task("--data", path, *TINY, *ignore, "--widths", 4, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["ignore"] == ["a", "b"]
    assert "--ignore a b" in (tmp_path / "run" / "report.html").read_text()


def test_a_table_without_names_and_signals_that_look_like_one(task, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = table(Path("own.csv"), [(i % 7, 100 + i, i / 90) for i in range(40)], ["0", "1", "2"], label=[0, 1] * 20)
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    assert "--no-header" in refused("--data", path, *TINY)
    for option, kind in (("--no-header", "mlp"), ("--signals", "rocket")):
        done = task("--data", path, *TINY, option, "--label", "last", "--run-dir", tmp_path / kind)
        assert done.code == 0, done.err
        assert summary(tmp_path / kind)["model"] == kind
        assert f"own.csv {option} --epochs" in (tmp_path / kind / "report.html").read_text()
    Path("new.csv").write_text("3,120,0.5\n")
    assert "new.csv, row 1" in task("predict", tmp_path / "mlp", "new.csv").out


def test_seeds_are_an_ensemble(task, refused, patients, tmp_path):
    options = (
        "--epochs",
        1,
        "--widths",
        4,
        "--resamples",
        20,
        "--quiet",
        "--class-weights",
        "balanced",
        "--loss",
        "focal",
    )
    done = task(*options, "--seeds", 2, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    said = summary(tmp_path / "run")
    each = [summary(tmp_path / "run" / f"seed_{seed}")["test"] for seed in (0, 1)]
    assert said["test"]["auc"] == pytest.approx(np.mean([its["auc"] for its in each]))
    assert said["test"]["auc_deviation"] > 0 and said["test"]["ensemble_auc"] > 0.8
    assert said["test"]["auc_low"] <= said["test"]["auc"] <= said["test"]["auc_high"]
    assert json.loads(task("evaluate", tmp_path / "run", "--json").out) == pytest.approx(said["test"])
    assert len(OperatingPoint.read(tmp_path / "run" / "seed_0").calibration.offset) == 2
    assert "patients.csv, row 6" in task("predict", tmp_path / "run", patients).out
    assert "seed_0" in refused("export", tmp_path / "run")


def test_folds_come_together(task, tmp_path):
    done = task("--epochs", 1, "--widths", 4, "--resamples", 20, "--folds", 2, "--quiet", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    said = summary(tmp_path / "run")["test"]
    folds = [summary(tmp_path / "run" / f"fold_{fold}")["test"]["auc"] for fold in (1, 2)]
    assert said["auc"] == pytest.approx(np.mean(folds))
    assert said["auc_low"] <= said["auc"] <= said["auc_high"]
    assert "test AUC" in done.out


def test_an_autoencoder_finds_what_is_unlike_the_normal(task, patients, tmp_path):
    options = ("--model", "autoencoder", "--epochs", 8, "--widths", 16, "--resamples", 20, "--quiet")
    done = task(*options, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert summary(tmp_path / "run")["test"]["auc"] > 0.75
    done = task("predict", tmp_path / "run", patients)
    assert done.code == 0 and " - " in done.out, done.out + done.err


def write_npz(path: Path, size: int = 8, count: int = 48) -> Path:
    """Dark images, and images with a bright square in them."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = random.integers(0, 100, (count, size, size), np.uint8)
    images[labels == 1, 2:6, 2:6] += 120
    np.savez(path, train_images=images, train_labels=labels)
    return path


def test_images_and_a_picture_of_what_drove_the_answer(task, refused, tmp_path):
    data = write_npz(tmp_path / "scans.npz")
    done = task("--data", data, "--model", "mlp", "--widths", 8, "--dropout", 0, *TINY, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "plots" / "attributions.png").is_file()
    Image.fromarray(np.load(data)["train_images"][1]).save(tmp_path / "scan.png")
    done = task("predict", tmp_path / "run", tmp_path / "scan.png")
    assert done.code == 0 and " - " in done.out, done.err  # what drops nothing has no spread
    assert (tmp_path / "run" / "attributions" / "1.png").is_file()
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "large.png")
    assert "crop or resize it" in refused("predict", tmp_path / "run", tmp_path / "large.png")


@pytest.mark.parametrize(
    ("model", "least"), [(("--model", "gru", "--units", 4, "--channels", 4), 0), (("--kernels", 80, "--epochs", 9), 1)]
)
def test_signals(task, refused, tmp_path, model, least):
    random = np.random.default_rng(0)
    labels = np.arange(48) % 2
    beats = np.round(np.sin(np.arange(16) * (1 + labels[:, None])) + 0.1 * random.normal(size=(48, 16)), 4)
    lines = [",".join(map(str, [*beat, label])) for beat, label in zip(beats, labels)]
    (tmp_path / "beats.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = task("--data", tmp_path / "beats.csv", *TINY, *model, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert summary(tmp_path / "run")["test"]["accuracy"] >= least
    (tmp_path / "new.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines[:2]) + "\n", encoding="utf-8")
    done = task("predict", tmp_path / "run", tmp_path / "new.csv", "--pictures", tmp_path / "pictures")
    assert done.code == 0 and "new.csv, row 2" in done.out, done.err
    assert (tmp_path / "pictures" / "2.png").is_file()
    assert "trained on 16" in refused("predict", tmp_path / "run", tmp_path / "beats.csv")


def test_what_a_user_does_wrong(refused, run, patients, tmp_path):
    where = ("--run-dir", tmp_path / "run")
    found: Any = load_breast_cancer()
    rows, names = found.data[:40, :2], ["size", "texture"]
    kinds = ["well", "ill"] * 20
    good = table(tmp_path / "good.csv", rows, names, diagnosis=kinds)
    assert "no column 'label'" in refused("--data", good, *where)
    texts = table(tmp_path / "texts.csv", rows, names, note=[f"seen {i}" for i in range(40)], label=kinds)
    assert "column 'note' has 40 different texts" in refused("--data", texts, *where)
    single = table(tmp_path / "single.csv", rows, names, label=["ill"] * 40)
    assert "single class, ill" in refused("--data", single, *where)
    rows_with_text = [[*row] for row in rows]
    rows_with_text[3][0] = "large"
    mixed = table(tmp_path / "mixed.csv", rows_with_text, names, label=kinds)
    assert "line 5 has 'large' in column 'size'" in refused("--data", mixed, *where)
    np.savez(tmp_path / "keys.npz", pictures=np.zeros((4, 8, 8)))
    assert "no array 'train_images'" in refused("--data", tmp_path / "keys.npz", *where)
    (tmp_path / "beats.csv").write_text("1,0.5,0.2\n0,0.5\n", encoding="utf-8")
    assert "equally long" in refused("--data", tmp_path / "beats.csv", *where)
    assert "nowhere.csv is neither" in refused("--data", tmp_path / "nowhere.csv", *where)
    assert "choose mlp or autoencoder" in refused("--model", "resnet", *where)
    assert "--specificity is 1.0" in refused("--specificity", 1, *where)
    assert "choose one of them" in refused("--seeds", 2, "--folds", 2, *where)
    assert "--seeds is 1" in refused("--seeds", 1, *where)
    assert "flip is for images or signals" in refused("--augmentation.flip", *where)
    assert not (tmp_path / "run").exists()
    other = table(tmp_path / "other.csv", rows, names)
    assert "no column 'mean radius'" in refused("predict", run, other)
    assert "predict RUN FILE" in refused("predict", run)
    assert "--samples is 1" in refused("predict", run, patients, "--samples", 1)


def test_recipes_are_for_the_data(tmp_path):
    task = MedicalDiagnosis()
    assert task.recipe(None).data == "breast-cancer"
    assert task.recipe("pneumoniamnist").model == "convnet"
    assert task.recipe(str(write_npz(tmp_path / "a.npz"))).model == "resnet"
    (tmp_path / "beats.csv").write_text("0.5,1\n", encoding="utf-8")
    beats = str(tmp_path / "beats.csv")
    assert task.recipe(beats).model == "rocket" and task.recipe(beats, model="gru").stop.metric == "loss"
    (tmp_path / "table.csv").write_text("age,label\n", encoding="utf-8")
    assert task.recipe(str(tmp_path / "table.csv")).model == "mlp"
