"""Layers against their counterparts in Linen, NNX and Equinox, in float64: values, gradients, names, both ways."""

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gradient_cases.case import ids, normal
from pipeline.interop import flax as linen_interop
from pipeline.interop import nnx as nnx_interop
from pipeline.interop.flax import from_linen, to_linen
from pipeline.interop.nnx import from_nnx, to_nnx
from pipeline.layers.attention import SelfAttention
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Residual, Serial
from pipeline.layers.convolution import Conv, ConvTranspose
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pipeline.layers.recurrent import GRU, LSTM, RNN, Bidirectional
from pipeline.layers.recurrent_state import SerialWithState, WithState
from pipeline.layers.repeat import Repeat
from pipeline.verify.targets import draw_params

eqx: Any = import_module("equinox") if find_spec("equinox") else None
equinox_interop: Any = import_module("pipeline.interop.equinox") if eqx else None

SIGNAL, IMAGE, ROWS = normal(2, 5, 4), normal(2, 6, 5, 4), normal(3, 4)
RNGS, KEY, F64 = nnx.Rngs(0), jax.random.key(0), jnp.float64


@dataclass
class Counterparts:
    """A layer, an input, and what the frameworks have for it. equinox: a module that maps one example."""

    layer: Layer
    x: Any
    linen: Any
    nnx: Any
    equinox: Any = None
    channels_first: bool = False


def recurrent(cell):
    """An Equinox cell over (time, features), from a state of zeros."""

    def run(cell, x):
        h = jnp.zeros(cell.hidden_size, x.dtype)
        start = (h, h) if isinstance(cell, eqx.nn.LSTMCell) else h
        step = lambda state, x: (lambda new: (new, jax.tree.leaves(new)[0]))(cell(x, state))  # noqa: E731
        return jax.lax.scan(step, start, x)[1]

    return cell, run


CASES = {
    "Dense": Counterparts(
        Dense(3), ROWS, nn.Dense(3), lambda: nnx.Linear(4, 3, rngs=RNGS), lambda: eqx.nn.Linear(4, 3, key=KEY)
    ),
    "Conv": Counterparts(
        Conv(6, (3, 2), (2, 1), groups=2),
        IMAGE,
        nn.Conv(6, (3, 2), (2, 1), feature_group_count=2),
        lambda: nnx.Conv(4, 6, (3, 2), (2, 1), feature_group_count=2, rngs=RNGS),
        lambda: eqx.nn.Conv2d(4, 6, (3, 2), (2, 1), "SAME", groups=2, key=KEY),
        True,
    ),
    "ConvTranspose": Counterparts(
        ConvTranspose(3, (3, 2), (2, 2), "VALID", use_bias=False),
        IMAGE,
        nn.ConvTranspose(3, (3, 2), (2, 2), "VALID", use_bias=False),
        lambda: nnx.ConvTranspose(4, 3, (3, 2), (2, 2), padding="VALID", use_bias=False, rngs=RNGS),
        lambda: eqx.nn.ConvTranspose2d(4, 3, (3, 2), (2, 2), padding="VALID", use_bias=False, key=KEY),
        True,
    ),
    "ConvTranspose/SAME": Counterparts(
        ConvTranspose(3, (3, 3), (2, 2)),
        IMAGE,
        nn.ConvTranspose(3, (3, 3), (2, 2)),
        lambda: nnx.ConvTranspose(4, 3, (3, 3), (2, 2), rngs=RNGS),
    ),
    "Embedding": Counterparts(
        Embedding(7, 3),
        ids(7, 2, 5),
        nn.Embed(7, 3),
        lambda: nnx.Embed(7, 3, param_dtype=F64, rngs=RNGS),
        lambda: (eqx.nn.Embedding(7, 3, key=KEY), jax.vmap),
    ),
    "LayerNorm": Counterparts(
        LayerNorm(), ROWS, nn.LayerNorm(), lambda: nnx.LayerNorm(4, rngs=RNGS), lambda: eqx.nn.LayerNorm(4, eps=1e-6)
    ),
    "RMSNorm": Counterparts(
        RMSNorm(),
        ROWS,
        nn.RMSNorm(),
        lambda: nnx.RMSNorm(4, rngs=RNGS),
        lambda: eqx.nn.RMSNorm(4, eps=1e-6, use_bias=False),
    ),
    "GroupNorm": Counterparts(
        GroupNorm(2),
        IMAGE,
        nn.GroupNorm(2),
        lambda: nnx.GroupNorm(4, 2, rngs=RNGS),
        lambda: eqx.nn.GroupNorm(2, 4, eps=1e-6),
        True,
    ),
    "BatchNorm": Counterparts(
        BatchNorm(), ROWS, nn.BatchNorm(True), lambda: nnx.BatchNorm(4, use_running_average=True, rngs=RNGS)
    ),
    "RNN": Counterparts(
        RNN(3),
        SIGNAL,
        nn.RNN(nn.SimpleCell(3, param_dtype=F64)),
        lambda: nnx.RNN(nnx.SimpleCell(4, 3, dtype=F64, param_dtype=F64, rngs=RNGS)),
    ),
    "LSTM": Counterparts(
        LSTM(3),
        SIGNAL,
        nn.RNN(nn.OptimizedLSTMCell(3, param_dtype=F64)),
        lambda: nnx.RNN(nnx.OptimizedLSTMCell(4, 3, dtype=F64, param_dtype=F64, rngs=RNGS)),
        lambda: recurrent(eqx.nn.LSTMCell(4, 3, key=KEY)),
    ),
    "GRU": Counterparts(
        GRU(3),
        SIGNAL,
        nn.RNN(nn.GRUCell(3, param_dtype=F64)),
        lambda: nnx.RNN(nnx.GRUCell(4, 3, dtype=F64, param_dtype=F64, rngs=RNGS)),
        lambda: recurrent(eqx.nn.GRUCell(4, 3, key=KEY)),
    ),
    "Bidirectional": Counterparts(
        Bidirectional(LSTM(3), RNN(2, reverse=True)),
        SIGNAL,
        nn.Bidirectional(nn.RNN(nn.LSTMCell(3, param_dtype=F64)), nn.RNN(nn.SimpleCell(2, param_dtype=F64))),
        lambda: nnx.Bidirectional(
            nnx.RNN(nnx.OptimizedLSTMCell(4, 3, dtype=F64, param_dtype=F64, rngs=RNGS)),
            nnx.RNN(nnx.SimpleCell(4, 2, dtype=F64, param_dtype=F64, rngs=RNGS)),
        ),
    ),
    "SelfAttention": Counterparts(
        SelfAttention(2),
        SIGNAL,
        nn.MultiHeadDotProductAttention(2),
        lambda: nnx.MultiHeadAttention(2, 4, decode=False, rngs=RNGS),
        lambda: (
            eqx.nn.MultiheadAttention(
                2, 4, use_query_bias=True, use_key_bias=True, use_value_bias=True, use_output_bias=True, key=KEY
            ),
            lambda module, x: module(x, x, x),
        ),
    ),
}


def drawn(case):
    params = jax.tree.map(jnp.asarray, draw_params(case.layer, case.x))
    if "mean_square" in params:
        params["mean_square"] = 1 + params["mean"] ** 2
    return params


def assert_equal(ours, theirs, error=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(b, float), rtol=0, atol=error * max(1, abs(b).max())
        )


def value_and_gradients(f, *operands):
    """y, and the gradients of a function of it by all floats."""
    floats = tuple(
        i for i, operand in enumerate(operands) if any(leaf.dtype == F64 for leaf in jax.tree.leaves(operand)[:1])
    )
    return jax.jit(lambda *x: (f(*x), jax.grad(lambda *x: jnp.sin(f(*x)).sum(), floats)(*x)))(*operands)


@pytest.mark.parametrize("name", CASES)
def test_linen(name):
    case = CASES[name]
    params, x, layer = drawn(case), jnp.asarray(case.x), case.layer
    variables = to_linen(layer, params)
    assert_equal(from_linen(layer, variables), params)
    module = linen_interop.LayerModule(layer)
    shapes = [jax.eval_shape(module.init, KEY, x) for module in (case.linen, module)]
    assert jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, shapes[1])
    assert jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, variables)
    theirs = value_and_gradients(case.linen.apply, variables, x)
    ours = value_and_gradients(lambda params, x: layer.apply(params, x, Context()), params, x)
    of_module = value_and_gradients(module.apply, variables, x)
    stopped = {"mean": 0.0, "var": 0.0} if name == "BatchNorm" else None
    if stopped:  # Linen's own is no constant, but nobody takes the gradient by its statistics
        theirs[1][0]["batch_stats"] = of_module[1][0]["batch_stats"] = to_linen(layer, params)["batch_stats"]
    assert_equal(of_module, theirs)
    assert_equal(ours[0], theirs[0])


@pytest.mark.parametrize("name", CASES)
def test_nnx(name):
    case = CASES[name]
    params, x, layer = drawn(case), jnp.asarray(case.x), case.layer
    if name == "GRU":
        with pytest.raises(ValueError, match="recurrent_bias"):
            to_nnx(layer, params, case.nnx())
        params["recurrent_bias"] *= 0
    module, ours = case.nnx(), nnx_interop.LayerModule(layer, x, rngs=nnx.Rngs(0))
    for target in (module, ours):
        to_nnx(layer, params, target)
        assert_equal(from_nnx(layer, target), params)
    if name != "GRU":
        names = [jax.tree.structure(nnx.to_pure_dict(nnx.state(m, nnx.Param))) for m in (module, ours)]
        assert names[0] == names[1]

    def run(module):
        graph, state, rest = nnx.split(module, nnx.Param, ...)
        start = (lambda: {"rngs": nnx.Rngs(0)}) if isinstance(module, (nnx.RNN, nnx.Bidirectional)) else dict
        y, d = value_and_gradients(lambda state, x: nnx.merge(graph, state, rest)(x, **start()), state, x)
        return y, d[1:2], nnx.to_pure_dict(d[0]) if name != "GRU" else {}  # a GRU's have other names

    # The softmax of NNX's attention is in float32.
    assert_equal(run(ours), run(module), 1e-6 if name == "SelfAttention" else 1e-12)


@pytest.mark.skipif(eqx is None, reason="equinox is not installed")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.equinox])
def test_equinox(name):
    case = CASES[name]
    params, x, layer = drawn(case), jnp.asarray(case.x), case.layer
    module = case.equinox()
    module, call = module if isinstance(module, tuple) else (module, lambda module, x: module(x))
    call = jax.vmap if call is jax.vmap else (lambda module, call=call: lambda x: call(module, x))
    carried = equinox_interop.to_equinox(layer, params, module)
    assert_equal(equinox_interop.from_equinox(layer, carried), params)
    arrays, static = eqx.partition(carried, eqx.is_inexact_array)

    def theirs(arrays, x):
        run = jax.vmap(call(eqx.combine(arrays, static)))
        return jnp.moveaxis(run(jnp.moveaxis(x, -1, 1)), 1, -1) if case.channels_first else run(x)

    ours = equinox_interop.LayerModule(layer, x, key=KEY)
    ours = eqx.tree_at(lambda module: module.params, ours, params)
    y, d = value_and_gradients(lambda module, x: module(x), ours, x)
    their_y, their_d = value_and_gradients(theirs, arrays, x)
    their_params = equinox_interop.from_equinox(layer, eqx.combine(their_d[0], carried))
    assert_equal((y, d[0].params, d[1:]), (their_y, their_params, their_d[1:]))


@pytest.mark.skipif(eqx is None, reason="equinox is not installed")
@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_batch_norm_of_equinox(mode):
    layer, x = BatchNorm(), jnp.asarray(ROWS)
    params = drawn(CASES["BatchNorm"])
    module, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode=mode)
    train = jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    _, state = train(x, state)

    def assert_same(params, state):
        theirs = jax.vmap(lambda x: eqx.nn.inference_mode(carried)(x, state)[0], axis_name="batch")(x)
        assert_equal(layer.apply(params, x, Context()), theirs)

    carried = module
    assert_same(equinox_interop.from_equinox(layer, module, state), state)
    carried, state = equinox_interop.to_equinox(layer, params, module, state)
    assert_equal(equinox_interop.from_equinox(layer, carried, state), params)
    assert_same(params, state)


def test_statistics_in_training():
    """A training step in Linen and in NNX updates BatchNorm's statistics as their own modules do."""
    layer, x = BatchNorm(), jnp.asarray(ROWS)
    variables = to_linen(layer, drawn(CASES["BatchNorm"]))
    ours, theirs = (
        apply(variables, x, mutable=["batch_stats"])
        for apply in (
            partial(linen_interop.LayerModule(layer, 0.9).apply, train=True),
            nn.BatchNorm(False, momentum=0.9).apply,
        )
    )
    assert_equal(ours, theirs)
    module: Any = nnx_interop.LayerModule(layer, x, rngs=nnx.Rngs(0), momentum=0.9)
    to_nnx(layer, from_linen(layer, variables), module)
    y = nnx.jit(lambda module, x: module(x, train=True))(module, x)
    assert_equal((y, {"batch_stats": {"mean": module.mean[...], "var": module.var[...]}}), theirs)


COMPOSITE = Serial(
    (
        Dense(4),
        Residual(Serial((BatchNorm(), Dense(4)))),
        Repeat(Serial((SelfAttention(2), BatchNorm())), 2),
        Dropout(0.5),
        GRU(3),
    )
)


def test_composites():
    """Names of parts, statistics of parts in their own collection, dropout, and every parameter both ways."""
    x = jnp.asarray(SIGNAL)
    params = jax.tree.map(jnp.asarray, draw_params(COMPOSITE, SIGNAL))
    for batch_norm in (params["layers"][1]["layer"]["layers"][0], params["layers"][2]["layer"]["layers"][1]):
        batch_norm["mean_square"] = 1 + batch_norm["mean"] ** 2
    variables = to_linen(COMPOSITE, params)
    assert_equal(from_linen(COMPOSITE, variables), params)
    assert set(variables["batch_stats"]) == {"layers_1", "layers_2"}
    assert set(variables["params"]["layers_1"]["layer"]["layers_0"]) == {"scale", "bias"}
    linen = linen_interop.LayerModule(COMPOSITE)
    y = COMPOSITE.apply(params, x, Context())
    assert_equal(linen.apply(variables, x), y)
    dropped, new = linen.apply(variables, x, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])
    assert (dropped != y).any() and jax.tree.map(jnp.shape, new) == {
        "batch_stats": jax.tree.map(jnp.shape, variables["batch_stats"])
    }
    module = nnx_interop.LayerModule(COMPOSITE, x, rngs=nnx.Rngs(0))
    to_nnx(COMPOSITE, params, module)
    assert_equal(from_nnx(COMPOSITE, module), params)
    assert_equal(module(x), y)
    assert (module(x, train=True, rngs=nnx.Rngs(1)) != y).any()


def test_with_state():
    """Its parameters are those of the layer inside; a module around a stack takes and returns the states."""
    layer, params = WithState(LSTM(3)), drawn(CASES["LSTM"])
    assert_equal(from_linen(layer, to_linen(LSTM(3), params)), params)
    if eqx:
        cell = equinox_interop.to_equinox(layer, params, eqx.nn.LSTMCell(4, 3, key=KEY))
        assert_equal(equinox_interop.from_equinox(layer, cell), params)
    stack, x = SerialWithState((layer, WithState(GRU(2)))), jnp.asarray(SIGNAL)
    states = stack.initial_state(x)
    module = linen_interop.LayerModule(stack)
    variables = module.init(KEY, (x, states))
    assert set(variables["params"]) == {"layers_0", "layers_1"}
    assert_equal(
        module.apply(variables, (x, states)), stack.apply(from_linen(stack, variables), (x, states), Context())
    )


WRONG = {
    "missing": lambda: from_linen(Dense(3), {"params": {}}),
    "unknown": lambda: from_linen(LSTM(3), {"params": {"kernel": jnp.ones((2, 3))}}),
    "too many": lambda: from_linen(
        BatchNorm(), {**to_linen(BatchNorm(), drawn(CASES["BatchNorm"])), "batch_stats": {}}
    ),
    "another size": lambda: to_nnx(Dense(3), drawn(CASES["Dense"]), nnx.Linear(4, 5, rngs=RNGS)),
    "another epsilon": lambda: from_nnx(LayerNorm(1e-3), nnx.LayerNorm(4, rngs=RNGS)),
    "another module": lambda: from_nnx(LSTM(3), nnx.Linear(4, 5, rngs=RNGS)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_an_error(name):
    with pytest.raises(ValueError):
        WRONG[name]()
