import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from small_problem import BATCH, NOISY, PLAIN, STEPS, Killed, examples, initial, same_bytes, train

from pipeline.data.batches import train_batches
from pipeline.errors import UserError
from pipeline.options import LARGEST
from pipeline.training.checkpoints import load_params
from pipeline.training.config import TrainingConfig
from pipeline.training.nonfinite import NonFiniteError
from pipeline.training.optimizer import OptimizerConfig, make_schedule
from pipeline.training.run import Run
from pipeline.training.stopping import StopConfig

CONFIG = TrainingConfig(
    epochs=3, batch_size=BATCH, average=0.9, log_every=2, verify_every=4, optimizer=OptimizerConfig(learning_rate=0.05)
)


def jittered(key, inputs):
    return inputs + 0.1 * jax.random.normal(key, inputs.shape, inputs.dtype)


def lines_without_time(run: Run) -> list[dict]:
    return [{name: value for name, value in line.items() if name != "examples_per_second"} for line in run.metrics()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    return Run(directory), train(directory, NOISY, CONFIG, augment=jittered)


def test_training_learns_and_says_why_it_stopped(whole):
    run, result = whole
    assert (result.steps, result.epochs, result.stopped_because) == (3 * STEPS, 3, "epochs over")
    losses = [line["loss"] for line in run.metrics() if line["kind"] == "evaluation"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert same_bytes(result.params, load_params(run.directory, initial(NOISY)))
    assert result.train_seconds > 0


def test_every_line_of_the_metrics_is_as_documented(whole):
    run, result = whole
    steps, evaluations, checks = (
        [line for line in run.metrics() if line["kind"] == kind] for kind in ("step", "evaluation", "gradient_check")
    )
    assert len(steps) + len(evaluations) + len(checks) == len(run.metrics())
    ends = [STEPS, 2 * STEPS, 3 * STEPS]
    assert [line["step"] for line in steps] == sorted({1, *range(2, 3 * STEPS + 1, 2), *ends})
    assert [line["epoch"] for line in steps] == [(line["step"] - 1) // STEPS + 1 for line in steps]
    schedule = make_schedule(CONFIG.optimizer, 3 * STEPS)
    rates = [float(np.asarray(schedule(line["step"] - 1))) for line in steps]
    assert [line["learning_rate"] for line in steps] == pytest.approx(rates, rel=1e-6)
    layers = [f"model/layers/{i}" for i in (0, 1, 4)]
    for line in steps:
        assert list(line["gradient_norm"]) == layers and min(line["gradient_norm"].values()) > 0
        assert line["learning_rate"] > 0 and line["examples_per_second"] >= 0
        assert {"loss", "accuracy"} < line.keys()
    assert [(line["step"], line["epoch"], line["split"]) for line in evaluations] == [
        (STEPS * epoch, epoch, "validation") for epoch in (1, 2, 3)
    ]
    assert [line["step"] for line in checks] == list(range(4, 3 * STEPS + 1, 4))
    leaves = {path.rpartition("/")[0] for path in checks[0]["relative_error"]}
    assert leaves == set(layers)
    for line in checks:
        assert 0 < line["max_relative_error"] == max(line["relative_error"].values()) < 1e-4
    assert json.loads((run.directory / "config.json").read_text())["average"] == 0.9
    assert result.steps == evaluations[-1]["step"]


@pytest.mark.parametrize(
    "die_at, save_seconds",
    [(2, 0.0), (STEPS + 2, 0.0), (2 * STEPS + 3, 1e-9)],
    ids=["before any checkpoint", "in mid-epoch", "in mid-epoch, saved there"],
)
def test_a_killed_and_resumed_run_is_byte_identical(whole, tmp_path, die_at, save_seconds):
    run, result = whole
    config = replace(CONFIG, save_seconds=save_seconds)
    with pytest.raises(Killed):
        train(tmp_path / "run", NOISY, config, die_at=die_at, augment=jittered)
    resumed = train(tmp_path / "run", NOISY, config, resume=True, augment=jittered)
    assert same_bytes(resumed.params, result.params) and same_bytes(resumed.state, result.state)
    assert lines_without_time(Run(tmp_path / "run")) == lines_without_time(run)
    assert resumed.stopped_because == result.stopped_because


def test_a_run_that_met_its_target_stays_finished(tmp_path):
    config = TrainingConfig(epochs=9, batch_size=BATCH, stop=StopConfig(metric="accuracy", target=0.0))
    first = train(tmp_path / "run", PLAIN, config)
    assert first.epochs == 1 and first.stopped_because.startswith("target met: validation accuracy")
    again = train(tmp_path / "run", PLAIN, config, resume=True)
    assert same_bytes(again.state, first.state) and again.stopped_because == first.stopped_because
    assert len([line for line in Run(tmp_path / "run").metrics() if line["kind"] == "evaluation"]) == 1


def test_a_checkpoint_from_another_model_is_named_with_its_leaf(whole, tmp_path):
    run, _ = whole
    params = initial(NOISY)
    params["model"]["layers"][4]["kernel"] = np.zeros((6, 4), np.float32)
    with pytest.raises(UserError, match=r"another model.*model/layers/4/kernel.*float32\[6, 3\].*float32\[6, 4\]"):
        load_params(run.directory, params)
    with pytest.raises(UserError, match=r"model/layers/0/bias.*nothing.*float32\[6\]"):
        load_params(run.directory, initial(PLAIN))
    with pytest.raises(UserError, match="another model or optimiser: at params/model"):
        train(run.directory, PLAIN, CONFIG, resume=True)
    with pytest.raises(UserError, match="another model or optimiser: at optimizer_state"):
        train(run.directory, NOISY, replace(CONFIG, optimizer=OptimizerConfig(name="sgd")), resume=True)
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_params(tmp_path, params)


def test_more_steps_than_can_be_counted_are_refused_and_as_many_as_can_are_not(tmp_path):
    many = replace(CONFIG, epochs=LARGEST)
    with pytest.raises(UserError, match=rf"--epochs is {LARGEST}; it must be at most {LARGEST // STEPS} with {STEPS} "):
        train(tmp_path / "run", NOISY, many)
    with pytest.raises(Killed):
        train(tmp_path / "long", NOISY, replace(many, epochs=LARGEST // STEPS), die_at=2)


class Poisoned:
    """Batches whose given step (from 1) has a NaN in its sixth example."""

    def __init__(self, seed: int, step: int) -> None:
        self.batches, self.step, self.at = train_batches(examples(43), BATCH, seed), 0, step

    def __iter__(self):
        return self

    def __next__(self):
        inputs, targets = next(self.batches)
        self.step += 1
        if self.step == self.at:
            inputs[5, 2] = np.nan
        return inputs, targets

    def get_state(self):
        return self.batches.get_state()

    def set_state(self, state):
        self.batches.set_state(state)


@pytest.mark.parametrize("bad", [STEPS + 2, 2 * STEPS], ids=["amid an epoch", "at its end"])
def test_a_loss_that_is_not_finite_stops_the_run_there_and_keeps_what_was_good(tmp_path, monkeypatch, bad):
    monkeypatch.setattr("small_problem.train_batches", lambda examples, size, seed: Poisoned(seed, bad))
    config = TrainingConfig(epochs=3, batch_size=BATCH)
    message = rf"the loss of step {bad} is not finite \(loss nan\).*the batch's own inputs \(example 5 of the batch\)"
    with pytest.raises(NonFiniteError, match=message) as caught:
        train(tmp_path / "run", PLAIN, config)
    state = caught.value.state
    assert int(state.step) == bad - 1 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert "checkpoints/last" in str(caught.value)
    best = load_params(tmp_path / "run", initial(PLAIN))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(best))
    assert [path.name for path in (tmp_path / "run" / "checkpoints" / "last").iterdir()] == [str(STEPS)]
