"""What a run can go on from, and what it is judged by: checkpoints through orbax.

``checkpoints/best`` holds the parameters with the best validation metric, averaged and calibrated, as they were judged;
``checkpoints/last`` the whole state with where the data and the stop rules stood. Each is written under a new name and
only then takes its predecessor's place: a run killed at any moment leaves a whole one.
"""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import jax

from pipeline.errors import UserError
from pipeline.layers.base import PyTree
from pipeline.training.state import TrainState

if TYPE_CHECKING:
    import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints in a folder, while a run writes them in the background; leave its ``with`` to be sure of them."""

    def __init__(self, directory: Path) -> None:
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
        import orbax.checkpoint as ocp

        _save(self._best, step, params=ocp.args.StandardSave(params))

    def save_last(self, state: TrainState, progress: dict[str, Any]) -> None:
        """progress: whatever else it takes to go on, as JSON."""
        import orbax.checkpoint as ocp

        tree = _tree(state)
        _save(
            self._last,
            int(state.step),
            state=ocp.args.StandardSave(tree),
            progress=ocp.args.JsonSave(progress),
        )

    def last(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The last saved state and its progress; None where nothing was saved.

        Raises UserError where the state of another model was saved there.
        """
        import orbax.checkpoint as ocp

        step = self._last.latest_step()
        if step is None:
            return None
        args = ocp.args.Composite(state=_restore(_tree(like)), progress=ocp.args.JsonRestore())
        _check(self._last, step, "state", _tree(like), self.directory / "last")
        restored = self._last.restore(step, args=args)
        return TrainState(**restored["state"]), restored["progress"]

    def best(self, like: PyTree) -> PyTree | None:
        """The best parameters so far; None where there are none. Raises UserError where they are another model's."""
        import orbax.checkpoint as ocp

        self._best.wait_until_finished()
        step = self._best.latest_step()
        if step is None:
            return None
        _check(self._best, step, "params", like, self.directory / "best")
        return self._best.restore(step, args=ocp.args.Composite(params=_restore(like)))["params"]


def load_params(run: Path, like: PyTree) -> PyTree:
    """The best parameters of the run in the folder ``run``: averaged, calibrated, of the whole objective.

    like: parameters (or ShapeDtypeStructs) of the objective they are for.
    Raises UserError where there are none, or those of another model.
    """
    directory = run / "checkpoints"
    if not (directory / "best").is_dir():
        raise UserError(f"{run} holds no checkpoint (no checkpoints/best in it); give the folder of a run that trained")
    with Checkpoints(directory) as checkpoints:
        params = checkpoints.best(like)
    if params is None:
        raise UserError(f"{directory / 'best'} is empty: the run stopped before its first epoch was over")
    return params


def _manager(directory: Path, **handlers: "ocp.CheckpointHandler") -> "ocp.CheckpointManager":
    import orbax.checkpoint as ocp

    # Handlers are named so that a process that has saved nothing can read what a checkpoint holds.
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    return ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)


def _save(manager: "ocp.CheckpointManager", step: int, **items: Any) -> None:
    import orbax.checkpoint as ocp

    # A run resumed from before its best step comes to the same best again, byte for byte.
    if step not in manager.all_steps():
        manager.save(step, args=ocp.args.Composite(**items))


def _tree(state: TrainState) -> dict[str, PyTree]:
    return {field: getattr(state, field) for field in TrainState.__dataclass_fields__}


def _restore(like: PyTree) -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def _check(manager: "ocp.CheckpointManager", step: int, item: str, like: PyTree, where: Path) -> None:
    """Raises UserError naming the first leaf in which a checkpoint differs from ``like``."""
    found = _shapes(manager.item_metadata(step)[item].tree)
    wanted = _shapes(like)
    for leaf in sorted([*wanted, *found], key=lambda leaf: not leaf.startswith("params/")):
        if found.get(leaf) != wanted.get(leaf):
            has, needs = (shapes.get(leaf, "nothing") for shapes in (found, wanted))
            raise UserError(
                f"{where} is a checkpoint of another model or optimiser: at {leaf} it has {has}, this one {needs}; "
                "give the options that the run was trained with"
            )


def _shapes(tree: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }
