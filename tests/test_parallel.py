"""Several devices compute what one computes: the same parameters, and each device its share of the work."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.parallel import Placement
from pipeline.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]

TRAINING = """
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)
from pipeline.layers import Objective
from pipeline.losses import SoftmaxCrossEntropy, Targets
from pipeline.models import image, language
from pipeline.parallel import Placement
from pipeline.training import TrainingConfig, fit, init_params

random = np.random.default_rng(0)
if sys.argv[1] == "convnet":
    objective = Objective(image.convnet(classes=3, channels=(8, 16), dropout=0.2), SoftmaxCrossEntropy())
    batches = [(random.normal(size=(8, 8, 8, 1)), Targets(random.integers(3, size=8))) for _ in range(3)]
else:
    objective = language.language_objective(language.transformer(64, 64, layers=2, heads=2, dropout=0.1), 64)
    ids = lambda: random.integers(1, 64, size=(8, 16)).astype(np.int32)
    batches = [(ids(), Targets(ids())) for _ in range(3)]
batches = jax.tree.map(jnp.asarray, batches)
params = jax.tree.map(lambda leaf: leaf.astype(float), init_params(objective, batches[0], 0))
result = {}
for devices, sharding in ((1, "replicated"), (4, "replicated"), (4, "fsdp")):
    config = TrainingConfig(epochs=2, batch_size=8, devices=devices, sharding=sharding, quiet=True)
    statistics = {"statistics_batches": batches} if sys.argv[1] == "convnet" else {}
    trained = fit(objective, params, batches, config, optimizer=optax.adam(1e-2), **statistics)
    leaves = jax.tree.leaves(trained.state)
    of_device = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    result[f"{devices} {sharding}"] = of_device / sum(leaf.nbytes for leaf in leaves)
    if devices == 1:
        expected = trained.params
    pairs = zip(jax.tree.leaves(trained.params), jax.tree.leaves(expected), strict=True)
    result[f"error of {devices} {sharding}"] = max(float(abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
print(json.dumps(result))
"""


def run(*arguments: str, devices: int = 1) -> subprocess.CompletedProcess[str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags if devices > 1 else os.environ.get("XLA_FLAGS", "")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=500, check=False)


@pytest.mark.parametrize("model", ["convnet", "language"])
def test_training_on_four_devices_is_that_of_one(model):
    done = run("-c", TRAINING, model, devices=4)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["error of 4 replicated"] < 1e-10 and result["error of 4 fsdp"] < 1e-10, result
    assert result["4 replicated"] == 1
    if model == "language":  # a convnet's arrays are too small to be spread
        assert result["4 fsdp"] < 0.4, result


@pytest.mark.parametrize(
    "options, message",
    [
        ({"devices": 3}, "--devices is 3; it must be a divisor of --batch-size / --accumulate, which is 128"),
        ({"devices": 64, "accumulate": 4}, "which is 32"),
        ({"devices": -1}, "--devices is -1"),
        ({"sharding": "fsdp"}, "--sharding is fsdp; it must be replicated, with --devices 1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        TrainingConfig(**options)


def test_a_batch_or_a_machine_that_is_too_small():
    with pytest.raises(UserError, match=r"--devices is 64; JAX sees \d+ of the kind cpu"):
        Placement(devices=64).batch(np.ones(64))
    done = run("-c", "from pipeline.parallel import *\nPlacement(2).batch(np.ones((3, 1)))", devices=2)
    assert "a batch of 3 examples cannot be divided among 2 devices" in done.stderr


def test_a_task_on_two_devices_is_resumed_on_one(tmp_path):
    folder = tmp_path / "run"
    task = ("-m", "tasks.image_recognition", "train")
    done = run(*task, "--epochs", "1", "--devices", "2", "--sharding", "fsdp", "--run-dir", str(folder))
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "summary.json").read_text())["test"]["accuracy"] > 0.3
    done = run(*task, "--resume", str(folder), "--epochs", "2", "--devices", "1", "--sharding", "replicated")
    assert done.returncode == 0 and "epoch 2/2" in done.stdout, done.stderr
