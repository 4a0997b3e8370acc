"""When training is over: converged, target met, or the epochs are over."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pipeline.errors import UserError
from pipeline.evaluation.metrics import LOWER_IS_BETTER
from pipeline.options import require_at_least


@dataclass(frozen=True)
class StopConfig:
    """When to stop before the epochs are over, and what "best" means."""

    metric: str = "loss"
    """Validation metric that the rules look at and that chooses the best checkpoint: loss, accuracy, ..."""
    patience: int = 0
    """Epochs without improvement after which training has converged. 0: never."""
    min_improvement: float = 0.0
    """What counts as an improvement: more than this."""
    target: float | None = None
    """Value of the metric at which training is done."""

    def __post_init__(self) -> None:
        require_at_least(self, patience=0, min_improvement=0, group="stop.")


@dataclass(frozen=True)
class Stopping:
    """Where the rules stand after an evaluation: immutable, and saved in every checkpoint.

    best: the best value of the metric so far; is_best: whether the last one was it (or as good, and trained longer).
    reference: the value that the next improvement must beat; waited: epochs since it.
    because: why training is over; None: it goes on.
    """

    config: StopConfig
    best: float | None = None
    is_best: bool = False
    reference: float | None = None
    waited: int = 0
    because: str | None = None

    def after(self, evaluation: Mapping[str, float]) -> "Stopping":
        """Where they stand after one more evaluation. Raises UserError where it does not have the metric."""
        value = self._value(evaluation)
        is_best = math.isfinite(value) and (self.best is None or not self._better(self.best, value))
        improved = math.isfinite(value) and (
            self.reference is None or self._better(value, self.reference, self.config.min_improvement)
        )
        waited = 0 if improved else self.waited + 1
        return Stopping(
            self.config,
            best=value if is_best else self.best,
            is_best=is_best,
            reference=value if improved else self.reference,
            waited=waited,
            because=self._because(value, waited),
        )

    def saved(self) -> dict[str, Any]:
        """All but the config, as JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "config"}

    def _because(self, value: float, waited: int) -> str | None:
        name, target, patience = self.config.metric, self.config.target, self.config.patience
        if target is not None and math.isfinite(value) and not self._better(target, value):
            return f"target met: validation {name} is {value:.6g}, the target was {target:.6g}"
        if patience and waited >= patience:
            return f"converged: validation {name} has not improved for {waited} epochs"
        return None

    def _value(self, evaluation: Mapping[str, float]) -> float:
        if self.config.metric not in evaluation:
            raise UserError(f"--stop.metric is {self.config.metric!r}; this task has {', '.join(evaluation)}")
        return evaluation[self.config.metric]

    def _better(self, value: float, than: float, by: float = 0.0) -> bool:
        gain = than - value if self.config.metric in LOWER_IS_BETTER else value - than
        return gain > by
