"""Checkpoints of a run, through orbax: the best parameters, and the last state, from which the run can be resumed.

``checkpoints/best/STEP`` holds the parameters with the best validation metric, as they were evaluated: averaged, with
batch statistics. ``checkpoints/last/STEP`` holds the whole state of training, of the batches and of the stop rules. Of
each a few are kept. Every checkpoint has a ``manifest.json`` with the checksums of its files, of its arrays and of the
run's own files (its options, the model's signature, the data's fingerprint): one that does not agree with it is named
and not used.

A checkpoint is written beside the others under a name of its own, and gets its final one when all of it is on the disk.
The best one is always written before the last one that refers to it. So a run killed at any moment, or one whose
machine lost its power, leaves complete checkpoints.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from .. import storage
from ..errors import UserError
from ..extras import extra
from ..layers.base import PyTree
from .run import Run
from .state import TrainState

ITEMS = {"best": "params", "last": "state"}
MANIFEST, PROGRESS = "manifest.json", "progress.json"
PENDING = 2  # checkpoints that may wait to be written, each of which holds a copy of its arrays

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resumable:
    """What a run goes on from. progress: what ``save_last`` was given, with the step of the best parameters so far."""

    state: TrainState
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run: a context manager, since they are written in the background until it exits.

    keep: number of checkpoints of each kind that are kept.
    """

    def __init__(self, run: Run, keep: int = 2) -> None:
        self.directory, self._keep = run.checkpoints, keep
        self._run_files = run.checksums()
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._pending: deque[Future[None]] = deque()
        self._best_step: int | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True)
        if error is None:
            self.wait()

    def save_best(self, step: int, params: PyTree) -> None:
        """Saves the parameters of ``step`` as the best so far."""
        self._best_step = step
        self._write_later("best", step, params, None)

    def save_last(self, state: TrainState, progress: Mapping[str, Any]) -> None:
        """Saves the state as the last one. progress: whatever else is needed to resume, as JSON."""
        self._write_later("last", int(state.step), _tree(state), {**progress, "best_step": self._best_step})

    def resume(self, like: TrainState) -> Resumable | None:
        """The last state whose checkpoint is whole, as is that of the best parameters until then. Later ones go.

        like: a state of the same shapes and dtypes. None if nothing was saved yet.
        Raises UserError if there are checkpoints and none is whole, or if they are another model's.
        """
        with _Damage(self.directory / "last") as damage:
            for folder in _steps(self.directory / "last"):
                try:
                    state = TrainState(**_restore(folder, "state", _tree(like)))
                    progress = self._progress(folder)
                except _Damaged as error:
                    damage.append(error)
                    continue
                self._best_step = progress.pop("best_step")
                self._remove_after(int(folder.name))
                return Resumable(state, progress)
        self._remove_after(0)
        return None

    def best(self, like: PyTree) -> PyTree | None:
        """The best parameters so far; None if none were saved.

        Raises UserError if there are checkpoints and none is whole, or if they are another model's.
        """
        self.wait()
        with _Damage(self.directory / "best") as damage:
            for folder in _steps(self.directory / "best"):
                try:
                    return _restore(folder, "params", like)
                except _Damaged as error:
                    damage.append(error)
        return None

    def _progress(self, folder: Path) -> dict[str, Any]:
        """The progress in a whole checkpoint. Raises _Damaged if that of the best parameters it refers to is not."""
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        if progress["best_step"] is not None:
            _check(self.directory / "best" / str(progress["best_step"]), "params")
        return progress

    def _remove_after(self, step: int) -> None:
        """Removes what a resumed run will write again, and what a killed process left half-written."""
        for kind, last in (("last", step), ("best", self._best_step or 0)):
            for folder in _steps(self.directory / kind):
                if int(folder.name) > last:
                    _remove(folder)
            for rest in (self.directory / kind).glob(".*"):
                shutil.rmtree(rest, ignore_errors=True)

    def _write_later(self, kind: str, step: int, tree: PyTree, progress: Mapping[str, Any] | None) -> None:
        while len(self._pending) >= PENDING:
            self._pending.popleft().result()
        copies = jax.tree.map(np.array, tree)  # the next step is given the memory of these arrays
        self._pending.append(self._writer.submit(self._write, kind, step, copies, progress))

    def wait(self) -> None:
        """Waits until everything is saved. Raises OSError where it cannot be."""
        while self._pending:
            self._pending.popleft().result()

    def _write(self, kind: str, step: int, tree: PyTree, progress: Mapping[str, Any] | None) -> None:
        parent = self.directory / kind
        parent.mkdir(parents=True, exist_ok=True)
        new, final = parent / f".{step}.new", parent / str(step)
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir()
            _save(new / ITEMS[kind], tree)
            if progress is not None:
                (new / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
            _write_manifest(new, step, ITEMS[kind], _digests(tree), self._run_files)
            if final.exists():
                _remove(final)
            new.rename(final)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        storage.sync(parent)
        if kind == "last":  # the best ones that an older last state refers to are needed until now
            for folder in (*_steps(parent)[self._keep :], *_steps(self.directory / "best")[self._keep :]):
                _remove(folder)


def load_params(run_directory: Path, like: PyTree) -> PyTree:
    """A run's best parameters of the whole objective, as they were evaluated: averaged, with batch statistics.

    like: parameters (or ShapeDtypeStructs) of the objective.
    Raises UserError if there are none, if none are whole, or if they are another model's.
    """
    run = Run(run_directory)
    if not (run.checkpoints / "best").is_dir():
        raise UserError(
            f"{run_directory} holds no checkpoint (no checkpoints/best in it); give the folder of a run that trained"
        )
    with Checkpoints(run) as checkpoints:
        params = checkpoints.best(like)
    if params is None:
        raise UserError(f"{run.checkpoints / 'best'} is empty: the run stopped before its first epoch was over")
    return params


def check_run_files(run: Run) -> None:
    """Raises UserError if a file of the run itself, such as its options, is not as it was when training began.

    The newest checkpoint with a whole manifest knows what they were; without one there is nothing to compare with.
    """
    for kind in ITEMS:
        for folder in _steps(run.checkpoints / kind):
            try:
                stored = _manifest(folder)["run"]
            except _Damaged:
                continue
            present = run.checksums()
            for name, wanted in stored.items():
                if present.get(name) not in (_extended(run, wanted) if name == "config.json" else {wanted}):
                    what = "is gone" if name not in present else "is not as it was when training began"
                    raise UserError(
                        f"{run.directory / name} {what}: it is damaged or was edited, and the checkpoints do not "
                        "belong to it; restore the file, or start a new run"
                    )
            return


def _extended(run: Run, config: str) -> set[str]:
    """The checksums that config.json may have where a checkpoint knows it by ``config``, its checksum."""
    configs = {config}
    for extension in run.extensions():
        if extension["old_config"] in configs:
            configs.add(extension["new_config"])
    return configs


def extendable_step(run: Run) -> int:
    """The number of steps after which a run can go on with more epochs than it was begun with.

    Raises UserError if a stop rule ended the run: more epochs would not be trained.
    """
    for folder in _steps(run.checkpoints / "last"):
        try:
            _check(folder, "state")
        except _Damaged:
            continue
        reason = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))["stopping"]["reason"]
        if reason:
            raise UserError(
                f"{run.directory} cannot be given more epochs: a stop rule ended it ({reason}); start a new run with "
                "other --stop options"
            )
        return int(folder.name)
    return 0


class _Damaged(Exception):
    """A checkpoint that is not whole."""


class _Damage:
    """Names every damaged checkpoint of a folder: as a warning where another is used, else as an error."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, len(_steps(folder))
        self._errors: list[_Damaged] = []

    def __enter__(self) -> list[_Damaged]:
        return self._errors

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self._errors:
            return
        if len(self._errors) == self._count:
            raise UserError(
                f"no checkpoint in {self._folder} is whole ({'; '.join(map(str, self._errors))}); restore the folder "
                "from a copy, or start a new run"
            )
        for each in self._errors:
            _log.warning("%s; the one before it is used", each)


def _steps(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    names = [name for name in os.listdir(folder) if name.isdecimal()] if folder.is_dir() else []
    return [folder / name for name in sorted(names, key=int, reverse=True)]


def _remove(folder: Path) -> None:
    """Removes a checkpoint; one that is removed in part is none from the first moment on."""
    rest = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(rest, ignore_errors=True)
    folder.rename(rest)
    shutil.rmtree(rest, ignore_errors=True)


def _save(folder: Path, tree: PyTree) -> None:
    with extra("train"):
        import orbax.checkpoint as ocp

    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(folder.absolute(), args=ocp.args.StandardSave(tree))
    except ValueError as error:  # the storage library's own way to say what the system said
        if "No space left" in str(error) or "File too large" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _restore(folder: Path, item: str, like: PyTree) -> PyTree:
    """The arrays of a checkpoint. Raises _Damaged if it is not whole, UserError if it is another model's."""
    with extra("train"):
        import orbax.checkpoint as ocp

    stored, wanted = _check(folder, item), _shapes(like)
    for leaf in sorted([*wanted, *stored], key=lambda leaf: not leaf.startswith("params/")):
        shape = stored[leaf]["shape"] if leaf in stored else "nothing"
        if shape != wanted.get(leaf, "nothing"):
            raise UserError(
                f"{folder} is a checkpoint of another model or optimiser: at {leaf} it has {shape}, where this one "
                f"needs {wanted.get(leaf, 'nothing')}; give the options that the run was trained with"
            )
    args = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        tree = checkpointer.restore((folder / item).absolute(), args=args)
    if _digests(tree) != stored:
        raise _Damaged(f"{folder} is damaged: its arrays are not those that were saved")
    return tree


def _write_manifest(
    folder: Path, step: int, item: str, leaves: Mapping[str, Any], run_files: Mapping[str, str]
) -> None:
    """Writes a checkpoint's manifest when all of its files are on the disk."""
    files = {}
    for path in _files(folder):
        storage.sync(path)
        files[str(path.relative_to(folder))] = storage.checksum(path)
    for inner in (path for path in folder.rglob("*") if path.is_dir()):
        storage.sync(inner)
    content = {"step": step, "item": item, "files": files, "leaves": leaves, "run": run_files}
    storage.write_json(folder / MANIFEST, content | {"checksum": _checksum(content)})


def _manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest. Raises _Damaged if it is not as it was written."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content.pop("checksum") == _checksum(content):
            return content
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _Damaged(f"{folder} is damaged: its {MANIFEST} cannot be read ({error})") from error
    raise _Damaged(f"{folder} is damaged: its {MANIFEST} is not as it was written")


def _check(folder: Path, item: str) -> Mapping[str, Mapping[str, str]]:
    """The leaves of a checkpoint of which every file is as it was written. Raises _Damaged if one is not."""
    manifest = _manifest(folder)
    if (str(manifest["step"]), manifest["item"]) != (folder.name, item):
        raise _Damaged(f"{folder} is damaged: it holds {manifest['item']} of step {manifest['step']}")
    names = {str(path.relative_to(folder)): path for path in _files(folder) if path.name != MANIFEST}
    for name in sorted(manifest["files"].keys() | names.keys()):
        if name not in names:
            raise _Damaged(f"{folder} is damaged: {name} is gone")
        if name not in manifest["files"]:
            raise _Damaged(f"{folder} is damaged: {name} does not belong to it")
        try:
            same = storage.checksum(names[name]) == manifest["files"][name]
        except OSError as error:
            raise _Damaged(f"{folder} is damaged: {name} cannot be read ({error.strerror})") from error
        if not same:
            raise _Damaged(f"{folder} is damaged: {name} is not as it was written")
    return manifest["leaves"]


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def _tree(state: TrainState) -> dict[str, PyTree]:
    return {field: getattr(state, field) for field in TrainState.__dataclass_fields__}


def _digests(tree: PyTree) -> dict[str, dict[str, str]]:
    """Shape and checksum of every leaf."""
    return {
        path: {"shape": _shape(leaf), "sha256": hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest()}
        for path, leaf in _paths(tree)
    }


def _shapes(tree: PyTree) -> dict[str, str]:
    return {path: _shape(leaf) for path, leaf in _paths(tree)}


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _paths(tree: PyTree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf
