"""Checkpoints of a run, through orbax: the best parameters, and the last state, from which the run can be resumed.

``checkpoints/best`` holds the parameters with the best validation metric, as they were evaluated: averaged, with batch
statistics. ``checkpoints/last`` holds the whole state of training, of the batches and of the stop rules. Each is
written under a new name and then replaces its predecessor, so that a run killed at any moment leaves a complete
checkpoint.
"""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import jax

from ..errors import UserError
from ..extras import extra
from ..layers.base import PyTree
from .state import TrainState

if TYPE_CHECKING:
    import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints in a folder: a context manager, since they are written in the background until it exits."""

    def __init__(self, directory: Path) -> None:
        with extra("train"):
            import orbax.checkpoint as ocp

        self.directory = directory
        self._best = _manager(directory / "best", params=ocp.StandardCheckpointHandler())
        self._last = _manager(
            directory / "last", state=ocp.StandardCheckpointHandler(), progress=ocp.JsonCheckpointHandler()
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._best.close()
        self._last.close()

    def save_best(self, step: int, params: PyTree) -> None:
        """Replaces the best parameters by those of ``step``."""
        with extra("train"):
            import orbax.checkpoint as ocp

        _save(self._best, step, params=ocp.args.StandardSave(params))

    def save_last(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Replaces the last state. progress: whatever else is needed to resume, as JSON."""
        with extra("train"):
            import orbax.checkpoint as ocp

        tree = _tree(state)
        _save(
            self._last,
            int(state.step),
            state=ocp.args.StandardSave(tree),
            progress=ocp.args.JsonSave(progress),
        )

    def last(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The last state and its progress; None if none was saved.

        like: a state of the same shapes and dtypes. Raises UserError if the checkpoint is of another model.
        """
        with extra("train"):
            import orbax.checkpoint as ocp

        step = self._last.latest_step()
        if step is None:
            return None
        args = ocp.args.Composite(state=_restore(_tree(like)), progress=ocp.args.JsonRestore())
        _check(self._last, step, "state", _tree(like), self.directory / "last")
        restored = self._last.restore(step, args=args)
        return TrainState(**restored["state"]), restored["progress"]

    def best(self, like: PyTree) -> PyTree | None:
        """The best parameters so far; None if none were saved. Raises UserError if they are another model's."""
        with extra("train"):
            import orbax.checkpoint as ocp

        self._best.wait_until_finished()
        step = self._best.latest_step()
        if step is None:
            return None
        _check(self._best, step, "params", like, self.directory / "best")
        return self._best.restore(step, args=ocp.args.Composite(params=_restore(like)))["params"]


def load_params(run_directory: Path, like: PyTree) -> PyTree:
    """A run's best parameters of the whole objective, as they were evaluated: averaged, with batch statistics.

    like: parameters (or ShapeDtypeStructs) of the objective.
    Raises UserError if there are none, or if they are another model's.
    """
    directory = run_directory / "checkpoints"
    if not (directory / "best").is_dir():
        raise UserError(
            f"{run_directory} holds no checkpoint (no checkpoints/best in it); give the folder of a run that trained"
        )
    with Checkpoints(directory) as checkpoints:
        params = checkpoints.best(like)
    if params is None:
        raise UserError(f"{directory / 'best'} is empty: the run stopped before its first epoch was over")
    return params


def _manager(directory: Path, **handlers: "ocp.CheckpointHandler") -> "ocp.CheckpointManager":
    with extra("train"):
        import orbax.checkpoint as ocp

    # Handlers are named so that a process that has saved nothing can read what a checkpoint holds.
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    return ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)


def _save(manager: "ocp.CheckpointManager", step: int, **items: Any) -> None:
    with extra("train"):
        import orbax.checkpoint as ocp

    # A run resumed from before its best step comes to the same best again, byte for byte.
    if step not in manager.all_steps():
        manager.save(step, args=ocp.args.Composite(**items))


def _tree(state: TrainState) -> dict[str, PyTree]:
    return {field: getattr(state, field) for field in TrainState.__dataclass_fields__}


def _restore(like: PyTree) -> Any:
    with extra("train"):
        import orbax.checkpoint as ocp

    return ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def _check(manager: "ocp.CheckpointManager", step: int, item: str, like: PyTree, where: Path) -> None:
    """Raises UserError naming the first leaf in which a checkpoint differs from ``like``."""
    stored, wanted = _shapes(manager.item_metadata(step)[item].tree), _shapes(like)
    for leaf in sorted([*wanted, *stored], key=lambda leaf: not leaf.startswith("params/")):
        if stored.get(leaf) != wanted.get(leaf):
            has, needs = (shapes.get(leaf, "nothing") for shapes in (stored, wanted))
            raise UserError(
                f"{where} is a checkpoint of another model or optimiser: at {leaf} it has {has}, where this one needs "
                f"{needs}; give the options that the run was trained with"
            )


def _shapes(tree: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }
