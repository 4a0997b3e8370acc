"""Stop rules: training has converged, or a metric has reached its target."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..errors import UserError
from ..evaluation.metrics import LOWER_IS_BETTER
from ..options import require_at_least, require_numbers


@dataclass(frozen=True)
class StopConfig:
    """When to stop before the epochs are over, and which checkpoint is kept."""

    metric: str = "loss"
    """Validation metric of the stop rules, which also chooses the best checkpoint: loss, accuracy, ..."""
    keep: Literal["best", "last"] = "best"
    """Parameters that the run keeps: the best by the metric, or the last, where a validation split is too small to
    choose by."""
    patience: int = 0
    """Number of epochs without an improvement of the metric after which training stops. 0: never."""
    min_improvement: float = 0.0
    """Smallest change of the metric that counts as an improvement: it must be larger than this."""
    target: float | None = None
    """Value of the metric at which training stops. None: no target."""

    def __post_init__(self) -> None:
        require_numbers(self, "stop.")
        require_at_least(self, patience=0, min_improvement=0, group="stop.")

    def require_metric_among(self, evaluation: Mapping[str, float]) -> None:
        """Raises UserError if the metric is none of an evaluation's."""
        if self.metric not in evaluation:
            raise UserError(f"--stop.metric is {self.metric!r}; this task has {', '.join(evaluation)}")


@dataclass(frozen=True)
class Stopping:
    """The state of the stop rules after an evaluation: immutable, and saved in every checkpoint.

    best: the best value of the metric so far; is_best: whether the last evaluation reached it, or is kept anyway.
    reference: the value that an improvement must beat; epochs_without_improvement: epochs since that value.
    reason: why training stops, as a phrase; None if it continues.

    >>> stopping = Stopping(StopConfig(metric="accuracy", target=0.9))
    >>> stopping.after({"accuracy": 0.95}).reason
    'target met: validation accuracy is 0.95, the target was 0.9'
    """

    config: StopConfig
    best: float | None = None
    is_best: bool = False
    reference: float | None = None
    epochs_without_improvement: int = 0
    reason: str | None = None

    def after(self, evaluation: Mapping[str, float]) -> "Stopping":
        """The state after one more evaluation.

        Raises UserError if the evaluation lacks the metric, or if the metric is not finite and never was: without it no
        checkpoint is the best.
        """
        self.config.require_metric_among(evaluation)
        value = evaluation[self.config.metric]
        if self.best is None and not math.isfinite(value):
            raise UserError(
                f"the validation {self.config.metric} is {value}, so that no checkpoint can be chosen by it; lower "
                "--optimizer.learning-rate or set --optimizer.clip if training diverges, else choose another "
                f"--stop.metric: this task has {', '.join(evaluation)}"
            )
        is_finite = math.isfinite(value)
        is_best = is_finite and (self.best is None or not self._better(self.best, value))
        improved = is_finite and (
            self.reference is None or self._better(value, self.reference, self.config.min_improvement)
        )
        stale = 0 if improved else self.epochs_without_improvement + 1
        return Stopping(
            self.config,
            best=value if is_best else self.best,
            is_best=is_best or (is_finite and self.config.keep == "last"),
            reference=value if improved else self.reference,
            epochs_without_improvement=stale,
            reason=self._reason(value, stale),
        )

    def state(self) -> dict[str, Any]:
        """All fields but the config, as JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "config"}

    def _reason(self, value: float, stale: int) -> str | None:
        name, target, patience = self.config.metric, self.config.target, self.config.patience
        if target is not None and math.isfinite(value) and not self._better(target, value):
            return f"target met: validation {name} is {value:.6g}, the target was {target:.6g}"
        if patience and stale >= patience:
            return f"converged: validation {name} has not improved for {stale} epochs"
        return None

    def _better(self, value: float, than: float, by: float = 0.0) -> bool:
        gain = than - value if self.config.metric in LOWER_IS_BETTER else value - than
        return gain > by
