"""BatchNorm over a mapped axis: the statistics and gradients of the whole batch, from its parts."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from gradient_cases.case import normal
from pipeline.attachment import attach
from pipeline.layers.base import Context
from pipeline.layers.normalization import BatchNorm

PARTS, WHOLE, TRAIN = BatchNorm(axis_name="parts"), BatchNorm(), Context(train=True)
X, D_Y = jnp.asarray(normal(2, 3, 5)), jnp.asarray(normal(2, 3, 5)) ** 2

ON_TWO_DEVICES = """
import jax, jax.numpy as jnp
from jax.sharding import PartitionSpec
from pipeline.attachment import attach
from pipeline.layers import BatchNorm, Context
jax.config.update("jax_enable_x64", True)
x = jax.random.normal(jax.random.key(0), (6, 5))
params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), BatchNorm().init(jax.random.key(1), x))
parts = PartitionSpec("parts")

def gradients(layer):
    return jax.grad(lambda params, x: jnp.sin(attach(layer)(params, x, Context(train=True))).sum(), (0, 1))

mapped = jax.shard_map(
    gradients(BatchNorm(axis_name="parts")),
    mesh=jax.make_mesh((2,), ("parts",), axis_types=(jax.sharding.AxisType.Auto,)),
    in_specs=(PartitionSpec(), parts), out_specs=(PartitionSpec(), parts),
)
ours, whole = (jax.tree.leaves(gradients(params, x)) for gradients in (jax.jit(mapped), gradients(BatchNorm())))
print(max(float(abs(a - b).max()) for a, b in zip(ours, whole, strict=True)))
"""


def test_vmap_with_an_axis_name_equals_the_whole_batch():
    params = {name: 0.5 + jnp.arange(5.0) for name in WHOLE.init(jax.random.key(0), X)}

    def rule(layer, x, d_y):
        y, residuals = layer.forward(params, x, TRAIN)
        return y, layer.statistics(params, residuals), *layer.backward(params, residuals, d_y)

    y, statistics, d_params, d_x = jax.vmap(lambda x, d_y: rule(PARTS, x, d_y), axis_name="parts")(X, D_Y)
    whole = rule(WHOLE, X, D_Y)
    definition = jax.vmap(lambda x: PARTS.apply(params, x, TRAIN), axis_name="parts")
    _, pull_back = jax.vjp(definition, X)
    of_whole_batch = y, jax.tree.map(lambda part: part[0], statistics), jax.tree.map(lambda d: d.sum(0), d_params), d_x
    for ours, theirs in zip(jax.tree.leaves(of_whole_batch), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(d_x, pull_back(D_Y)[0], rtol=1e-11, atol=1e-13)


def test_attached_under_shard_map_on_two_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-12


def test_attached_under_vmap_with_an_axis_name():
    params = WHOLE.init(jax.random.key(0), X)

    def loss(function):
        return lambda x: jnp.sin(function(x)).sum()

    parts = jax.vmap(lambda x: attach(PARTS)(params, x, TRAIN), axis_name="parts")
    whole = lambda x: attach(WHOLE)(params, x, TRAIN)  # noqa: E731
    for transform in (lambda f: f, lambda f: jax.grad(loss(f)), lambda f: lambda x: jax.jvp(f, (x,), (D_Y,))[1]):
        np.testing.assert_allclose(transform(parts)(X), transform(whole)(X), rtol=1e-11, atol=1e-13)
