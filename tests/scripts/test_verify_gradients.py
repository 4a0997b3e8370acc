import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradient_cases.case import Case, normal
from pipeline.layers.linear import Dense

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_gradients.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("verify_gradients", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_rows_and_table(tmp_path):
    done = run("Flatten", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    assert "Flatten/vectors" in done.stdout and "2 of 2 hold" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {(row["name"], row["leaf"], row["dtype"]) for row in rows} == {
        (name, "x", dtype) for name in ("Flatten", "Flatten/vectors") for dtype in ("float64", "float32")
    }
    assert all(row["ok"] and row["relative_error"] == 0 for row in rows)


def test_an_unknown_name():
    done = run("Flat")
    assert done.returncode == 2
    assert "nothing called Flat" in done.stderr and "Flatten" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_is_not_there():
    done = run("Flatten", "--json", "/nowhere/rows.json")
    assert done.returncode == 2 and "there is no folder /nowhere" in done.stderr


@dataclass(frozen=True)
class Doubled(Dense):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return d_params | {"bias": 2 * d_params["bias"]}, d_x


def test_a_failure_is_shown_written_and_the_exit_code(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "CASES", (Case("Doubled", Doubled(3), normal(2, 5)), *script.CASES))
    with pytest.raises(SystemExit) as stopped:
        script.main(("Doubled", "Flatten"), json_file=tmp_path / "rows.json")
    assert stopped.value.code == 1
    shown = capsys.readouterr().out
    assert "Doubled(features=3)" in shown and "bias: off by the constant 2" in shown and "2 of 3 hold" in shown
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    failed = [row for row in rows if not row["ok"]]
    assert {(row["name"], row["leaf"], row["dtype"]) for row in failed} == {
        ("Doubled", "bias", "float64"),
    }
    assert failed[0]["relative_error"] == pytest.approx(1.0)


@pytest.mark.parametrize("model", ["mlp", "convnet", "resnet"])
def test_a_model(script, model):
    script.main((f"image_recognition/{model}, digits",))
