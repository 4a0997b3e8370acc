"""What a task does before its first step: little, so that help comes at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASKS = sorted(path.stem for path in (ROOT / "tasks").glob("*.py") if "__main__" in path.read_text())
LATE = {"sklearn", "scipy", "matplotlib", "grain", "orbax", "jinja2", "PIL", "soundfile", "soxr", "tokenizers"} | {
    *("sacrebleu", "jiwer", "babel", "pooch", "vaderSentiment", "flax", "optax", "mnist1d", "torch")
}
"""What is imported by what needs it, and takes seconds together."""

CODE = """
import runpy, sys
sys.argv = [{task!r}, "--help"]
try:
    runpy.run_module("tasks.{task}", run_name="__main__")
except SystemExit as exit:
    assert not exit.code
print("LATE", *{{name.partition(".")[0] for name in sys.modules}} & {late})
"""


def test_there_are_seven_tasks():
    assert len(TASKS) == 7


@pytest.mark.parametrize("task", TASKS)
def test_help_imports_nothing_that_it_does_not_need(task):
    code = CODE.format(task=task, late=LATE)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown, _, late = done.stdout.rpartition("LATE")
    assert "usage" in shown and "train" in shown
    assert late.split() == []
