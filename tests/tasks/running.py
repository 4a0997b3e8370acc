"""Running a task as its users do: in a process of its own, or within this one."""

import fcntl
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from tasks.framework.command_line import main
from tasks.framework.task import Task

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def process(task: str, *arguments: object, **environment: str) -> Done:
    """The task in a process of its own, with its output going into files."""
    done = subprocess.run(
        [sys.executable, "-m", f"tasks.{task}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills once for all workers of pytest-xdist: the others wait for the first."""
    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


def finished(factory: pytest.TempPathFactory, task: str, *arguments: object) -> Path:
    """A finished run of the task, the same for all workers; what it printed is in ``output.txt``."""

    def train(folder: Path) -> None:
        done = process(task, *arguments, "--run-dir", folder / "run")
        assert done.code == 0, done.out + done.err
        (folder / "run" / "output.txt").write_text(done.out + done.err, encoding="utf-8")

    which = zlib.crc32(repr(arguments).encode())  # other arguments, another run
    return once(factory, f"{task}-{which}", train) / "run"


def summary(run: Path) -> dict:
    """What a run came to."""
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def within(task: Task, capsys: pytest.CaptureFixture, *arguments: object) -> Done:
    """The task within this process, in float32 as outside of tests."""
    with pytest.raises(SystemExit) as exit, jax.enable_x64(False):
        main(task, list(map(str, arguments)))
    captured = capsys.readouterr()
    return Done(int(str(exit.value.code or 0)), captured.out, captured.err)


def refused_by(task: Task, capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """What is said to a mistake: exit code 2, a message on standard error, and nothing else."""
    done = within(task, capsys, *arguments)
    assert done.code == 2
    assert not done.out
    return " ".join(done.err.split())
