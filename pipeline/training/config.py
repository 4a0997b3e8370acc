"""The options that every task shares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.backprop import Gradient
from pipeline.options import require_at_least, require_shares
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.stopping import StopConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; a task's own config inherits it and sets its own defaults."""

    gradient: Gradient = "manual"
    """Who differentiates: the hand-written rules, jax.grad, or jax.grad through the hand-written rules."""
    epochs: int = 30
    """How often to go through the training set."""
    batch_size: int = 128
    """Examples a step."""
    accumulate: int = 1
    """In how many parts a batch goes through the model: less memory, the same gradient."""
    average: float = 0.0
    """Decay of the moving average of the parameters, which is then what is evaluated and kept. 0: none."""
    seed: int = 0
    """Of everything random. The same seed gives the same parameters, byte by byte."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the model computes in; its parameters are float32."""
    run_dir: Path | None = None
    """Folder of the run. None: a new one under runs/."""
    resume: Path | None = None
    """Folder of a run to go on with, from its last checkpoint."""
    verify_every: int = 0
    """Steps between two comparisons of the hand-written gradient with jax.grad's. 0: never."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    save_seconds: float = 0.0
    """Seconds between two checkpoints within an epoch. 0: checkpoints only where an epoch ends."""
    quiet: bool = False
    """Print nothing while training."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stop: StopConfig = field(default_factory=StopConfig)

    def __post_init__(self) -> None:
        require_at_least(self, epochs=1, batch_size=1, accumulate=1, log_every=1, seed=0, verify_every=0)
        require_shares(self, "average")
