"""The configuration of training: the options of ``train`` that every task has."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from ..backprop import Gradient
from ..errors import UserError
from ..options import LARGEST, SEEDS, require, require_at_least, require_between, require_numbers, require_shares
from ..parallel import Sharding
from .optimizer import OptimizerConfig
from .stopping import StopConfig

MOST_DEVICES = 2**20
MOST_MODELS = 10_000
"""The largest number of models of one run: folds or seeds."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train."""

    gradient: Gradient = "manual"
    """How gradients are computed: manual (the backward passes of this package), autodiff (jax.grad) or attached
    (jax.grad through the manual backward passes)."""
    epochs: int = 30
    """Number of passes over the training set."""
    batch_size: int = 128
    """Number of examples in each step."""
    accumulate: int = 1
    """Number of parts into which a batch is split to save memory; the gradient stays the same."""
    average: float = 0.0
    """Decay of a moving average of the parameters, which is evaluated and saved in their place. 0: no average."""
    seed: int = 0
    """Random seed; the same seed gives the same parameters, byte for byte."""
    devices: int = 1
    """Number of devices that share each batch. 0: all there are. A CPU is divided into as many as are asked for."""
    sharding: Sharding = "replicated"
    """Where parameters and the optimiser's state lie: replicated (whole on every device) or fsdp (large arrays are
    spread over the devices)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number type in which the model computes; parameters are always float32."""
    run_dir: Path | None = None
    """Folder to write the run into. None: a new folder in runs/."""
    resume: Path | None = None
    """Folder of a run to resume from its last checkpoint."""
    verify_every: int = 0
    """Number of steps between two comparisons of the manual gradient with autodiff. 0: never."""
    log_every: int = 10
    """Number of steps between two lines of metrics.jsonl. The first step and the last one of each epoch have one in any
    case."""
    save_seconds: float = 0.0
    """Seconds between two checkpoints within an epoch. 0: only at the end of each epoch."""
    keep: int = 2
    """Number of checkpoints that are kept: of the last states, and of the best parameters. Where one is found damaged,
    the one before it is used."""
    profile: int = 0
    """Number of steps to trace with jax.profiler, after the first few. 0: none."""
    tensorboard: bool = False
    """Also write the metrics as event files for TensorBoard."""
    quiet: bool = False
    """Print nothing during training."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stop: StopConfig = field(default_factory=StopConfig)

    def __post_init__(self) -> None:
        require_numbers(self)
        require_at_least(self, epochs=1, batch_size=1, accumulate=1, log_every=1, keep=1)
        require_at_least(self, verify_every=0, save_seconds=0, profile=0)
        require_between(self, devices=(0, MOST_DEVICES))
        require_shares(self, "average")
        divides = self.batch_size % self.accumulate == 0
        require(divides, self, "accumulate", f"a divisor of --batch-size, which is {self.batch_size}")
        shared = self.batch_size // self.accumulate % max(self.devices, 1) == 0
        parts = f"--batch-size / --accumulate, which is {self.batch_size // self.accumulate}"
        require(shared, self, "devices", f"a divisor of {parts}")
        require(self.sharding == "replicated" or self.devices != 1, self, "sharding", "replicated, with --devices 1")

    def total_steps(self, steps_per_epoch: int) -> int:
        """The number of steps of all epochs. Raises UserError if there are more than can be counted."""
        most = LARGEST // steps_per_epoch
        require(self.epochs <= most, self, "epochs", f"at most {most} with {steps_per_epoch} steps an epoch")
        return self.epochs * steps_per_epoch


@dataclass(frozen=True)
class TaskConfig(TrainingConfig):
    """The options of ``train`` that every task has. A task narrows ``model`` to a Literal and adds options."""

    data: str = ""
    """Name of a known data set, or path of your own data."""
    model: str = ""
    """Kind of model."""
    dry_run: bool = False
    """Print what was read from the data, and stop before training."""


F = TypeVar("F", bound="FoldsConfig")


@dataclass(frozen=True)
class FoldsConfig(TaskConfig):
    """The options of a task that can be cross-validated."""

    folds: int = 0
    """Number of folds of a cross-validation: one model is trained for each fold, and tested on it. 0: no
    cross-validation; the data's own test set is used."""
    fold: int = 0
    """Number of the single fold to train and test, from 1. 0: all folds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        several = 2 <= self.folds <= MOST_MODELS
        require(several or self.folds == 0, self, "folds", f"from 2 to {MOST_MODELS}, or 0 for none")
        require(0 <= self.fold <= self.folds, self, "fold", f"from 0 to --folds, which is {self.folds}")

    @property
    def is_several(self) -> bool:
        """Whether the run trains several models."""
        return self.folds > 0 and self.fold == 0

    @property
    def part_name(self) -> str:
        """The word for one of the models."""
        return "fold"

    @property
    def description(self) -> str:
        """The models together, in words."""
        return f"{self.folds}-fold cross-validation"

    def changes(self) -> dict[str, dict[str, int]]:
        """The name of each model, and the options in which it differs from the whole run."""
        return {f"fold {fold}": {"fold": fold} for fold in range(1, self.folds + 1)}

    def parts(self: F, run_directory: Path) -> list[tuple[str, F]]:
        """The name of each model, and the options of its own run, in a folder inside ``run_directory``."""
        return [
            (name, dataclasses.replace(self, **change, run_dir=folder, resume=None))
            for (name, change), folder in zip(self.changes().items(), self.folders(run_directory))
        ]

    def folders(self, run_directory: Path) -> list[Path]:
        """The folder of each model's run."""
        return [run_directory / name.replace(" ", "_") for name in self.changes()]


@dataclass(frozen=True)
class SeedsConfig(FoldsConfig):
    """The options of a task that can also train one model for each of several seeds."""

    seeds: int = 0
    """Number of models that are trained with different seeds, from --seed upwards. They show how much results depend on
    the seed, and predict together as an ensemble. 0: a single model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        several = 2 <= self.seeds <= MOST_MODELS
        require(several or self.seeds == 0, self, "seeds", f"from 2 to {MOST_MODELS}, or 0 for one model")
        last = SEEDS - max(self.seeds, 1)
        require(self.seed <= last, self, "seed", f"at most {last} with --seeds {self.seeds}")
        if self.seeds and self.folds:
            raise UserError(f"--seeds is {self.seeds} and --folds {self.folds}; choose one of them")

    @property
    def is_several(self) -> bool:
        return self.seeds > 0 or super().is_several

    @property
    def part_name(self) -> str:
        return "seed" if self.seeds else super().part_name

    @property
    def description(self) -> str:
        return f"{self.seeds} seeds" if self.seeds else super().description

    def changes(self) -> dict[str, dict[str, int]]:
        if not self.seeds:
            return super().changes()
        return {f"seed {seed}": {"seed": seed, "seeds": 0} for seed in range(self.seed, self.seed + self.seeds)}
