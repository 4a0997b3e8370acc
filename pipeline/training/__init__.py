"""Training: the step, the loop that repeats it until a stop rule holds, and the folder of a run.

``fit`` trains an objective, or any function that returns a loss. ``make_train_step`` is its step alone, for a loop of
your own:

>>> import jax, jax.numpy as jnp
>>> from backhand.layers import Dense, Objective
>>> from backhand.losses import MeanSquaredError, Targets
>>> from backhand.training import OptimizerConfig, init_params, init_state, make_optimizer, make_train_step
>>> objective, batch = Objective(Dense(1), MeanSquaredError()), (jnp.ones((8, 3)), Targets(jnp.ones((8, 1))))
>>> params = init_params(objective, batch, seed=0)
>>> optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1), objective, params, total_steps=50)
>>> state, step = init_state(params, optimizer), jax.jit(make_train_step(objective, optimizer))
>>> for _ in range(50):
...     state, metrics = step(state, batch)
>>> bool(metrics["loss"] < 1e-2)
True
"""

from .checkpoints import Checkpoints, load_params
from .config import FoldsConfig, SeedsConfig, TaskConfig, TrainingConfig
from .gradient_check import gradient_check, make_comparison
from .loop import Batches, Callback, Interrupted, Result, fit
from .loss_functions import LossFunction
from .nonfinite import NonFiniteError
from .optimizer import OptimizerConfig, make_optimizer, make_schedule
from .precision import in_precision
from .run import Run, read_config
from .sparse_updates import SparseTable, with_sparse_updates
from .state import TrainState, init_params, init_state
from .step import Augment, make_train_step
from .stopping import StopConfig, Stopping

__all__ = [
    "Augment",
    "Batches",
    "Callback",
    "Checkpoints",
    "FoldsConfig",
    "Interrupted",
    "LossFunction",
    "NonFiniteError",
    "OptimizerConfig",
    "Result",
    "Run",
    "SeedsConfig",
    "SparseTable",
    "StopConfig",
    "Stopping",
    "TaskConfig",
    "TrainState",
    "TrainingConfig",
    "fit",
    "gradient_check",
    "in_precision",
    "init_params",
    "init_state",
    "load_params",
    "make_comparison",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "read_config",
    "with_sparse_updates",
]
