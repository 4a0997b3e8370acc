"""The folder of a run: config.json, metrics.jsonl, summary.json, checkpoints/."""

import dataclasses
import hashlib
import json
import os
import platform
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar

from .. import storage
from ..data.limits import require_unicode
from ..errors import UserError

C = TypeVar("C")

AFTERWARDS = ("summary.json", "calibration.json")
"""Files of a run that are written after training, and anew where a finished run is resumed."""
EXTENSIONS = "extensions.json"
"""File of a run that links the options its checkpoints know to the present ones, which have more epochs."""
_LOCK = ".lock"
_locked: dict[Path, typing.TextIO] = {}
"""The locks that this process holds. The system releases them where the process ends, however it ends."""


@dataclass(frozen=True)
class Run:
    """A run's folder: ``create`` makes a new one, ``resume`` goes on with an existing one, ``open`` reads it.

    Only one process at a time may write into a folder: the one that created or resumed it, until ``close``. A run is
    also a context manager that closes itself.
    """

    directory: Path

    @staticmethod
    def create(directory: Path | None, task: str, config: Any) -> "Run":
        """A new run, with ``config`` (a dataclass) in its config.json.

        directory: the run's folder; None: runs/TASK-DATE-TIME. Raises UserError if the folder is not empty.
        """
        if directory is None:
            directory = Path("runs") / f"{task}-{datetime.now():%Y%m%d-%H%M%S}"
        _require_usable_name(directory)
        _require_empty(directory)
        directory.mkdir(parents=True, exist_ok=True)
        _lock(directory)
        try:
            _require_empty(directory)  # another process may have been faster
        except UserError:
            _release(directory)
            raise
        run = Run(directory)
        storage.write_json(run.directory / "config.json", dataclasses.asdict(config))
        return run

    @staticmethod
    def resume(directory: Path) -> "Run":
        """The run in ``directory``, to write into. Raises UserError if there is none, or another process does so."""
        run = Run.open(directory)
        _lock(directory)
        return run

    @staticmethod
    def open(directory: Path) -> "Run":
        """The run in ``directory``, to read. Raises UserError if there is none."""
        _require_usable_name(directory)
        if not (directory / "config.json").is_file():
            raise UserError(f"{directory} holds no run (it has no config.json); give the folder that train wrote")
        return Run(directory)

    def close(self) -> None:
        """Lets other processes write into the folder."""
        _release(self.directory)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.directory / "checkpoints"

    @property
    def _metrics(self) -> Path:
        return self.directory / "metrics.jsonl"

    def checksums(self) -> dict[str, str]:
        """The checksums of the files that say what is trained on what: options, signature, fingerprint of the data."""
        others = (*AFTERWARDS, EXTENSIONS)
        files = sorted(path for path in self.directory.glob("[!.]*.json") if path.name not in others)
        return {path.name: storage.checksum(path) for path in files}

    def extend(self, epochs: int, step: int) -> None:
        """Gives the run more epochs than config.json says. step: number of steps that are saved.

        Killed between any two of these writes, the run can be resumed, with the old epochs or with the new ones.
        """
        path = self.directory / "config.json"
        content = storage.read_json(path, dict, "restore it, or start a new run")
        data = (json.dumps(content | {"epochs": epochs}, indent=2, ensure_ascii=False) + "\n").encode(
            "utf-8", "backslashreplace"
        )
        old, new = storage.checksum(path), hashlib.sha256(data).hexdigest()
        # One from the same options was killed before it wrote config.json.
        before = [extension for extension in self.extensions() if extension["old_config"] != old]
        extension = {
            "step": step,
            "old_epochs": content["epochs"],
            "new_epochs": epochs,
            "old_config": old,
            "new_config": new,
        }
        storage.write_json(self.directory / EXTENSIONS, [*before, extension])
        for name in AFTERWARDS:
            (self.directory / name).unlink(missing_ok=True)
        storage.write(path, data)

    def extensions(self) -> list[dict[str, Any]]:
        """What ``extend`` did, in its order: step, old and new epochs, old and new checksum of config.json.

        Raises UserError if extensions.json cannot be read.
        """
        path = self.directory / EXTENSIONS
        if not path.is_file():
            return []

        def parse(content: Any) -> list[dict[str, Any]]:
            kinds = {"step": int, "old_epochs": int, "new_epochs": int, "old_config": str, "new_config": str}
            for extension in content:
                for name, kind in kinds.items():
                    if type(extension[name]) is not kind:
                        raise TypeError(f"{name} is {extension[name]!r}")
            return list(content)

        return storage.read_json(path, parse, "restore it, or start a new run")

    def log(self, line: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def sync(self) -> None:
        """Waits until metrics.jsonl is on the disk: before a checkpoint that takes its lines for granted."""
        if self._metrics.exists():
            storage.sync(self._metrics)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without a last one that a killed run left incomplete.

        Raises UserError if a line is no such line.
        """
        if not self._metrics.exists():
            return []
        lines = self._metrics.read_bytes().splitlines(keepends=True)
        return [self._line(i, line) for i, line in enumerate(lines, 1) if line.endswith(b"\n")]

    def _line(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            content = json.loads(line)
            if isinstance(content["kind"], str) and type(content["step"]) is int:
                return content
            reason = "kind or step are missing"
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            reason = str(error)
        raise UserError(f"{self._metrics}: line {number} is no line of metrics ({reason}); remove or restore it")

    def rewind(self, step: int) -> None:
        """Removes the lines of steps after ``step`` from metrics.jsonl: a resumed run takes these steps again."""
        lines = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        storage.write(self._metrics, "".join(lines))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        storage.write_json(self.directory / "summary.json", summary)

    def summary(self) -> dict[str, Any]:
        """The content of summary.json. Raises UserError if the run is not finished, or if it cannot be read."""
        path, remedy = self.directory / "summary.json", f"write it again with --resume {self.directory}"
        if not path.is_file():
            raise UserError(f"{self.directory} is not finished (it has no summary.json); {remedy}")

        def parse(content: Any) -> dict[str, Any]:
            if not isinstance(content["test"], dict):
                raise TypeError("test holds no metrics")
            return content

        return storage.read_json(path, parse, remedy)


def read_config(directory: Path, kind: type[C]) -> C:
    """The config of the run in ``directory``, as an instance of the dataclass ``kind`` that it was written from.

    Raises UserError if it is another task's, or if a value is not of its option's type.
    """
    path = Run.open(directory).directory / "config.json"
    remedy = f"it must hold the options of a {kind.__name__}, as train wrote it"
    return storage.read_json(path, lambda content: _dataclass(kind, content), remedy)


def _dataclass(kind: type[C], values: Mapping[str, Any]) -> C:
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise TypeError(f"there is no option {name!r}")
    return kind(**{name: _value(hints[name], value, name) for name, value in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    """A value of JSON as an option of the type ``hint``. Raises TypeError if it is of another type."""
    for kind in _alternatives(hint):
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
            return _dataclass(kind, value)
        if typing.get_origin(kind) is Literal:
            if value in typing.get_args(kind):
                return value
        elif typing.get_origin(kind) is tuple and isinstance(value, list):
            return _tuple(typing.get_args(kind), value, name)
        elif kind is float and type(value) is int:
            return float(value)
        elif kind is Path and type(value) is str:
            return Path(value)
        elif type(value) is kind:
            return value
    raise TypeError(f"{name} is {value!r}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _tuple(kinds: tuple[Any, ...], values: list[Any], name: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(values)
    if len(values) != len(kinds):
        raise TypeError(f"{name} is {values!r}")
    return tuple(_value(kind, value, name) for kind, value in zip(kinds, values))


def _require_usable_name(directory: Path) -> None:
    """Raises UserError if the folder has a path that orbax cannot use: one that is not UTF-8, or a pattern of names."""
    path = require_unicode(str(directory.absolute()), f"the name of the folder {directory}")
    if not fnmatchcase(path, path) or (os.sep == "/" and "\\" in path):
        raise UserError(
            f"the folder {path} has brackets or a backslash in its name, which stand for other characters where "
            "checkpoints are looked for; choose another --run-dir"
        )


def _require_empty(directory: Path) -> None:
    """Raises UserError if there is anything in the folder but what a process left that was killed as it began."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; a run needs a folder of its own: choose another --run-dir")
    if any(_lasting(directory)):
        what = "holds a run already" if (directory / "config.json").exists() else "is not empty"
        raise UserError(f"{directory} {what}; resume it with --resume {directory}, or choose another --run-dir")


def _lasting(directory: Path) -> Iterator[str]:
    names = os.listdir(directory) if directory.is_dir() else []
    return (name for name in names if name not in (_LOCK, ".config.json.new"))


def _lock(directory: Path) -> None:
    """Makes this process the one that writes into a folder. Raises UserError if another one does."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    path = directory.resolve()
    if path in _locked:
        return
    file = (path / _LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read().strip() or "another process"
        file.close()
        raise UserError(
            f"{directory} is being written by {who}; wait until it ends, or choose another --run-dir"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}, which began {datetime.now():%Y-%m-%d %H:%M:%S}\n")
    file.flush()
    _locked[path] = file


def _release(directory: Path) -> None:
    file = _locked.pop(directory.resolve(), None)
    if file:
        file.close()
