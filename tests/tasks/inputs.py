"""Inputs as users have them: how they are written, and how what a task says of them is checked.

A case is a file or folder that is given to ``--data``, options, and what the account of ``--dry-run`` says, or what the
one message says by which it is refused. A case with options goes through the command line. Models are neither checked
nor initialised, which would take most of the time.
"""

import dataclasses
import io
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from running import refused_by, within

import tasks.framework.task
from pipeline.errors import UserError
from tasks.framework.task import Task

Content = str | bytes | Mapping[str, "Content"] | Callable[[Path], object]
"""The content of a file, of a folder by the names of what is in it, or a function that writes either."""


class Case(NamedTuple):
    """name: of the file or folder; said: parts of the account, or of the refusal, which names the file as well."""

    name: str
    content: Content
    said: tuple[str, ...]
    options: str
    is_refused: bool


def read(name: str, content: Content, *said: str, options: str = "") -> Case:
    """An input that is read as the account says. said: parts of the account."""
    return Case(name, content, said, options, False)


def refused(name: str, content: Content, *said: str, options: str = "") -> Case:
    """An input that is refused. said: parts of the message."""
    return Case(name, content, said, options, True)


def write(path: Path, content: Content) -> None:
    if isinstance(content, Mapping):
        for name, inner in content.items():
            write(path / name, inner)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    """The bytes that a function writes into a file."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def check(task: Task, case: Case, folder: Path, capsys: pytest.CaptureFixture, patch: pytest.MonkeyPatch) -> None:
    """Checks what is said of a case, which is written into the folder."""
    for name in ("init_params", "require_model_fits"):
        patch.setattr(tasks.framework.task, name, lambda *_: {})
    write(folder / case.name, case.content)
    text, code = _answer(task, str(folder / case.name), case, capsys)
    said = (Path(case.name).name, *case.said) if case.is_refused else case.said
    assert code == 2 * case.is_refused and all(part in text for part in said), text


def _answer(task: Task, data: str, case: Case, capsys: pytest.CaptureFixture) -> tuple[str, int]:
    """What is said, with single spaces, and the exit code. DATA in the options stands for the path of the data."""
    if case.options:
        arguments = ("train", "--data", data, "--dry-run", *shlex.split(case.options.replace("DATA", data)))
        if case.is_refused:
            return refused_by(task, capsys, *arguments), 2
        done = within(task, capsys, *arguments)
        return " ".join((done.out + done.err).split()), done.code
    try:
        task.train(dataclasses.replace(task.recipe(data), dry_run=True))
    except UserError as error:
        return " ".join(str(error).split()), 2
    return " ".join(capsys.readouterr().out.split()), 0
