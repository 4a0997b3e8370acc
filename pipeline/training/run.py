"""The folder of a run: config.json, metrics.jsonl, summary.json, checkpoints/."""

import dataclasses
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError

C = TypeVar("C")


@dataclass(frozen=True)
class Run:
    """A run's folder: ``Run.create`` makes a new one, ``Run.open`` opens an existing one."""

    directory: Path

    @staticmethod
    def create(directory: Path | None, task: str, config: Any) -> "Run":
        """A new run, with ``config`` (a dataclass) in its config.json.

        directory: the run's folder; None: runs/TASK-DATE-TIME. Raises UserError if the folder is not empty.
        """
        if directory is None:
            directory = Path("runs") / f"{task}-{datetime.now():%Y%m%d-%H%M%S}"
        if directory.exists() and not directory.is_dir():
            raise UserError(f"{directory} is a file; a run needs a folder of its own: choose another --run-dir")
        if directory.exists() and any(directory.iterdir()):
            what = "holds a run already" if (directory / "config.json").exists() else "is not empty"
            raise UserError(f"{directory} {what}; resume it with --resume {directory}, or choose another --run-dir")
        directory.mkdir(parents=True, exist_ok=True)
        run = Run(directory)
        _write(run.directory / "config.json", dataclasses.asdict(config))
        return run

    @staticmethod
    def open(directory: Path) -> "Run":
        """The run in ``directory``. Raises UserError if there is none."""
        if not (directory / "config.json").is_file():
            raise UserError(f"{directory} holds no run (it has no config.json); give the folder that train wrote")
        return Run(directory)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.directory / "checkpoints"

    @property
    def _metrics(self) -> Path:
        return self.directory / "metrics.jsonl"

    def log(self, line: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without a last one that a killed run left incomplete."""
        if not self._metrics.exists():
            return []
        lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def rewind(self, step: int) -> None:
        """Removes the lines of steps after ``step`` from metrics.jsonl: a resumed run takes these steps again."""
        lines = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        _replace(self._metrics, "".join(lines))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json, atomically."""
        _write(self.directory / "summary.json", summary)

    def summary(self) -> dict[str, Any]:
        """The content of summary.json. Raises UserError if the run is not finished."""
        path = self.directory / "summary.json"
        if not path.is_file():
            raise UserError(
                f"{self.directory} is not finished (it has no summary.json); resume it with --resume {self.directory}"
            )
        return json.loads(path.read_text(encoding="utf-8"))


def read_config(directory: Path, kind: type[C]) -> C:
    """The config of the run in ``directory``, as an instance of the dataclass ``kind`` that it was written from.

    Raises UserError if it is another task's.
    """
    text = (Run.open(directory).directory / "config.json").read_text(encoding="utf-8")
    try:
        return _dataclass(kind, json.loads(text))
    except (TypeError, ValueError) as error:
        raise UserError(f"{directory / 'config.json'} does not fit {kind.__name__}: {error}") from error


def _dataclass(kind: type[C], values: Mapping[str, Any]) -> C:
    types = typing.get_type_hints(kind)
    return kind(**{name: _value(types.get(name), value) for name, value in values.items()})


def _value(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and Path in (kind, *typing.get_args(kind)):
        return Path(value)
    return value


def _write(path: Path, content: Mapping[str, Any]) -> None:
    _replace(path, json.dumps(content, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.item()  # a numpy or jax number


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
