"""The combinators: what holds beyond the rule of every single layer, which test_rules.py verifies."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.case import Case
from pipeline.layers.activations import GELU, Tanh
from pipeline.layers.base import Context, Layer, leaves
from pipeline.layers.combinators import Cast, Parallel, Remat, Residual, Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.repeat import Repeat
from pipeline.layers.tying import Tied, expand_targets
from pipeline.verify import verify

TRAIN = Context(train=True, key=jax.random.key(0))


def normal(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def started(layer: Layer, x: Any) -> Any:
    return jax.tree.map(jnp.asarray, Case("", layer, x).params())


@dataclass(frozen=True)
class Recall(Layer):
    """y_t = (x_t W) m, with m the sum of the memory's unmasked positions: a second input, and its mask."""

    def init(self, key: Any, x: Any) -> Any:
        return {"kernel": jax.random.normal(key, (x[0].shape[-1], x[1].shape[-1]), jnp.float32)}

    def recalled(self, memory: Any, mask: Any) -> Any:
        return jnp.where(mask[..., None], memory, 0.0).sum(1, keepdims=True)

    def apply(self, params: Any, x: Any, context: Context) -> Any:
        return self.forward(params, x, context)[0]

    def forward(self, params: Any, x: Any, context: Context) -> Any:
        x, memory = x
        recalled = self.recalled(memory, context.memory_mask)
        return jnp.matmul(x, params["kernel"].astype(x.dtype)) * recalled, (x, memory, context.memory_mask)

    def backward(self, params: Any, residuals: Any, d_y: Any) -> Any:
        x, memory, mask = residuals
        kernel = params["kernel"].astype(x.dtype)
        d_product = d_y * self.recalled(memory, mask)
        d_recalled = (d_y * jnp.matmul(x, kernel)).sum(1, keepdims=True)
        d_memory = jnp.where(mask[..., None], jnp.broadcast_to(d_recalled, memory.shape), 0.0)
        d_kernel = jnp.tensordot(x, d_product, ((0, 1), (0, 1))).astype(params["kernel"].dtype)
        return {"kernel": d_kernel}, (jnp.matmul(d_product, kernel.T), d_memory)


RECALLED = normal(2, 3, 4), normal(2, 5, 4)
RECALL = Context(memory_mask=jnp.arange(5)[None] < jnp.array([[5], [2]]))


@pytest.mark.parametrize(
    "layer", [Recall(), Residual(Recall()), Repeat(Residual(Recall()), 3), Repeat(Remat(Residual(Recall())), 3)]
)
def test_a_second_input(layer):
    verify(layer, started(layer, RECALLED), RECALLED, RECALL, checks=("vmap",)).raise_if_failed()


@pytest.mark.parametrize("inner", [Recall(), Remat(Recall())])
def test_repeat_keeps_what_every_layer_is_given_once(inner):
    layer = Repeat(inner, 7)
    _, residuals = jax.eval_shape(layer.forward, started(layer, RECALLED), RECALLED, RECALL)
    shapes = [leaf.shape for leaf in jax.tree.leaves(residuals)]
    assert shapes.count((2, 5, 4)) == 1 and shapes.count((2, 5)) == 1, "memory and mask, once each"
    assert (7, 2, 5, 4) not in shapes and (7, 2, 5) not in shapes
    assert (7, 2, 3, 4) in shapes, "x is each layer's own"


def test_repeat_equals_serial_of_the_same_layers():
    x, d_y = normal(3, 5, 4), normal(3, 5, 4) + 1
    block = Residual(Serial((Dense(4), Tanh(), Dropout(0.5))))
    repeat, serial = Repeat(block, 3), Serial((block,) * 3)
    params = started(repeat, x)
    unstacked = {"layers": [jax.tree.map(lambda leaf, i=i: leaf[i], params["layer"]) for i in range(3)]}
    y, kept = repeat.forward(params, x, TRAIN)
    other_y, other_kept = serial.forward(unstacked, x, TRAIN)
    np.testing.assert_allclose(y, other_y, rtol=1e-13)
    d_params, d_x = repeat.backward(params, kept, d_y)
    other_d_params, other_d_x = serial.backward(unstacked, other_kept, d_y)
    np.testing.assert_allclose(d_x, other_d_x, rtol=1e-12)
    stacked = jax.tree.map(lambda *d: jnp.stack(d), *other_d_params["layers"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), d_params["layer"], stacked)


def test_repeat_statistics_are_each_layers_own():
    x = normal(6, 4)
    layer = Repeat(Serial((Dense(4), BatchNorm())), 2)
    params = started(layer, x)
    _, kept = layer.forward(params, x, TRAIN)
    written = layer.statistics(params, kept)["layer"]["layers"][1]
    before = x
    for i in range(2):
        dense, norm = (jax.tree.map(lambda leaf, i=i: leaf[i], part) for part in params["layer"]["layers"])
        before = Dense(4).apply(dense, before, TRAIN)
        np.testing.assert_allclose(written["mean"][i], before.mean(0), rtol=1e-12)
        np.testing.assert_allclose(written["mean_square"][i], jnp.square(before).mean(0), rtol=1e-12)
        before = BatchNorm().apply(norm, before, TRAIN)
    assert written["scale"] is None and written["bias"] is None


@pytest.mark.parametrize(
    "layer",
    [
        Serial((Dropout(0.5), Dropout(0.5), Residual(Dropout(0.5)))),
        Parallel((Dropout(0.5), Serial((Dropout(0.5),)))),
        Repeat(Residual(Dropout(0.5)), 3),
        Remat(Residual(Dropout(0.5))),
    ],
)
def test_apply_and_forward_drop_the_same_units(layer):
    x = normal(4, 8)
    params = layer.init(jax.random.key(1), x)
    y = layer.apply(params, x, TRAIN)
    assert (y == layer.forward(params, x, TRAIN)[0]).all()
    assert not (y == layer.apply(params, x, TRAIN.child(1))).all(), "another key drops others"


def test_children_drop_units_of_their_own():
    x = jnp.ones((4, 32))
    first, second = jnp.split(Parallel((Dropout(0.5),) * 2, "concatenate").apply({"layers": [{}, {}]}, x, TRAIN), 2, -1)
    assert not (first == second).all()
    each = Repeat(Dropout(0.5), 2).apply({"layer": {}}, x, TRAIN)
    assert set(np.unique(each)) == {0.0, 4.0} and (each == 4).mean() < 0.4, "twice the same units would keep half"


def test_tied_sums_the_cotangents_of_every_use():
    x, d_y = normal(3, 4), normal(3, 4) + 1
    inner = Serial((Dense(4), Tanh(), Dense(4)))
    tied = Tied(inner, (("layers/2/kernel", "layers/0/kernel"),))
    params = started(tied, x)
    assert [sorted(part) for part in params["layer"]["layers"]] == [["bias", "kernel"], [], ["bias"]]
    y, kept = tied.forward(params, x, TRAIN)
    full = expand_targets(params["layer"], tied.ties)
    np.testing.assert_array_equal(y, inner.apply(full, x, TRAIN))
    d_params, d_x = tied.backward(params, kept, d_y)
    d_full, expected_d_x = inner.backward(full, inner.forward(full, x, TRAIN)[1], d_y)
    expected = d_full["layers"][0]["kernel"] + d_full["layers"][2]["kernel"]
    np.testing.assert_allclose(d_params["layer"]["layers"][0]["kernel"], expected, rtol=1e-13)
    np.testing.assert_array_equal(d_x, expected_d_x)


def test_remat_inside_repeat_saves_memory():
    x = normal(256, 32)

    def temporary_bytes(layer: Layer) -> int:
        def step(params: Any, x: Any, d_y: Any) -> Any:
            return layer.backward(params, layer.forward(params, x, Context())[1], d_y)

        compiled = jax.jit(step).lower(started(layer, x), x, x).compile()
        memory = compiled.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    block = Residual(Serial((Dense(64), GELU(), Dense(32))))
    assert temporary_bytes(Repeat(Remat(block), 12)) < 0.5 * temporary_bytes(Repeat(block, 12))


@pytest.mark.parametrize("narrow", ["float32", "bfloat16"])
def test_cast_is_the_identity_up_to_rounding(narrow):
    x, d_y = normal(3, 4), normal(3, 4).astype(narrow)
    y, kept = Cast(narrow).forward({}, x, Context())
    _, d_x = Cast(narrow).backward({}, kept, d_y)
    _, pull_back = jax.vjp(lambda x: Cast(narrow).apply({}, x, Context()), x)
    assert y.dtype == narrow and d_x.dtype == x.dtype
    np.testing.assert_array_equal(d_x, pull_back(d_y)[0])


def test_paths_of_layers_are_paths_of_parameters():
    layer = Serial((Dense(3), Residual(Repeat(Dense(3), 2)), Parallel((Tanh(), Dense(3)))))
    params = layer.init(jax.random.key(0), normal(2, 3))
    for path, leaf in leaves(layer):
        node = params
        for name in path.split("/"):
            node = node[int(name)] if isinstance(node, list) else node[name]
        assert set(node) == ({"kernel", "bias"} if isinstance(leaf, Dense) else set())


def test_mistakes_of_the_caller():
    with pytest.raises(ValueError, match="'sum' or 'concatenate'"):
        Parallel((Tanh(),), "product")
    tied = Tied(Serial((Dense(4), Dense(3))), (("layers/1/kernel", "layers/0/kernel"),))
    with pytest.raises(ValueError, match=r"layers/1/kernel has shape \(4, 3\)"):
        tied.init(jax.random.key(0), normal(2, 5))
