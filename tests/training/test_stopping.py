import math

import pytest

from pipeline.errors import UserError
from pipeline.training.stopping import StopConfig, Stopping


def after(config: StopConfig, *values: float) -> Stopping:
    stopping = Stopping(config)
    for value in values:
        assert stopping.reason is None
        stopping = stopping.after({config.metric: value})
    return stopping


@pytest.mark.parametrize(
    "metric, values", [("loss", (3.0, 2.0, 2.5, 2.1, 2.0)), ("accuracy", (0.1, 0.2, 0.15, 0.19, 0.2))]
)
def test_patience_counts_epochs_without_improvement(metric, values):
    config = StopConfig(metric=metric, patience=3)
    assert after(config, *values[:4]).reason is None
    stopping = after(config, *values)
    assert stopping.reason == f"converged: validation {metric} has not improved for 3 epochs"
    assert stopping.best == values[1]


def test_small_improvements_do_not_count_but_add_up():
    config = StopConfig(patience=3, min_improvement=0.1)
    assert after(config, 1.0, 0.95, 0.91).epochs_without_improvement == 2
    assert after(config, 1.0, 0.95, 0.89).epochs_without_improvement == 0


@pytest.mark.parametrize("metric, below, at", [("accuracy", 0.98, 0.99), ("wer", 0.995, 0.99)])
def test_a_target_is_met_from_its_own_side(metric, below, at):
    config = StopConfig(metric=metric, target=0.99)
    assert after(config, below).reason is None
    assert after(config, below, at).reason == f"target met: validation {metric} is 0.99, the target was 0.99"


def test_the_best_is_the_last_of_the_best():
    config = StopConfig(metric="accuracy")
    assert [after(config, *(0.5, 0.7, 0.7, 0.6)[: i + 1]).is_best for i in range(4)] == [True, True, True, False]


def test_the_last_is_kept_where_nothing_chooses():
    config = StopConfig(metric="accuracy", keep="last")
    kept = [after(config, *(0.5, 0.7, 0.6, math.nan)[: i + 1]) for i in range(4)]
    assert [stopping.is_best for stopping in kept] == [True, True, True, False]
    assert kept[2].best == 0.7


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_nan_is_never_best_nor_an_improvement(metric):
    start = 0.7 if metric == "loss" else 0.3
    stopping = after(StopConfig(metric=metric, patience=9, target=0.5), start, math.nan, math.nan)
    assert not stopping.is_best and stopping.epochs_without_improvement == 2
    assert stopping.best == stopping.reference == start


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_chooses_no_checkpoint(value):
    with pytest.raises(UserError, match=rf"the validation loss is {value}, .*--optimizer.learning-rate"):
        Stopping(StopConfig()).after({"loss": value, "accuracy": 0.5})


def test_what_is_saved_restores():
    stopping = after(StopConfig(patience=2), 1.0, 2.0)
    assert Stopping(stopping.config, **stopping.state()) == stopping


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"--stop\.metric is 'bleu'; this task has loss, accuracy"):
        Stopping(StopConfig(metric="bleu")).after({"loss": 1.0, "accuracy": 0.5})
    with pytest.raises(UserError, match=r"--stop\.patience is -1"):
        StopConfig(patience=-1)
