"""A small classification problem and a small model with every kind of parameter, dropout and BatchNorm."""

from dataclasses import dataclass
from itertools import islice

import jax
import numpy as np

from pipeline.data.batches import evaluation_batches, steps_per_epoch, train_batches
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.layers.activations import ReLU
from pipeline.layers.combinators import Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Result, fit
from pipeline.training.run import Run

BATCH = 8


@dataclass(frozen=True)
class Examples:
    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows):
        return self.inputs[rows], self.labels[rows]


def examples(count: int, seed: int = 0) -> Examples:
    """Rows of 5 numbers; the label says which of the first 3 is the largest."""
    inputs = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    return Examples(inputs, inputs[:, :3].argmax(1).astype(np.int32))


TRAIN, VALIDATION = examples(43), examples(19, seed=1)
STEPS = steps_per_epoch(TRAIN, BATCH)

PLAIN = Objective(Serial((Dense(6), ReLU(), Dense(3))), SoftmaxCrossEntropy())
NOISY = Objective(
    Serial((Dense(6, use_bias=False), BatchNorm(), ReLU(), Dropout(0.3), Dense(3))), SoftmaxCrossEntropy()
)


def initial(objective: Objective, seed: int = 0, batch=None):
    batch = batch or (TRAIN.inputs[:BATCH], Targets(TRAIN.labels[:BATCH]))
    return objective.init(jax.random.key(seed), jax.tree.map(jax.numpy.asarray, batch))


class Killed(Exception):
    pass


class Dying:
    """Batches that end like a killed run, before the given step."""

    def __init__(self, batches, step: int) -> None:
        self.batches, self.steps_left = batches, step

    def __next__(self):
        if not self.steps_left:
            raise Killed
        self.steps_left -= 1
        return next(self.batches)

    def get_state(self):
        return self.batches.get_state()

    def set_state(self, state):
        self.batches.set_state(state)


def train(directory, objective: Objective, config: TrainingConfig, *, resume=False, die_at=None, **options) -> Result:
    run = Run.resume(directory) if resume else Run.create(directory, "test", config)
    batches = train_batches(TRAIN, BATCH, config.seed)
    evaluate = make_evaluation(objective)
    return fit(
        objective,
        initial(objective, config.seed),
        batches if die_at is None else Dying(batches, die_at),
        config,
        run,
        steps_per_epoch=STEPS,
        evaluate=lambda params: evaluate(params, evaluation_batches(VALIDATION, BATCH)),
        statistics_batches=list(islice(train_batches(TRAIN, BATCH, seed=99), 3)),
        **options,
    )


def same_bytes(one, other) -> bool:
    one, other = (jax.tree.map(np.asarray, tree) for tree in (one, other))
    equal = jax.tree.map(lambda a, b: a.dtype == b.dtype and a.tobytes() == b.tobytes(), one, other)
    return all(jax.tree.leaves(equal))
