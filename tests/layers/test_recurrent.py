"""Recurrent layers: the conventions of other libraries, padding, both directions, step by step."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from pipeline.attachment import attach
from pipeline.layers.base import Context
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.recurrent import GRU, LSTM, RNN, Bidirectional
from pipeline.layers.recurrent_state import SerialWithState, WithState

KINDS = pytest.mark.parametrize("kind", [RNN, GRU, LSTM])


def example(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def drawn(layer, x):
    """Parameters without the zeros and ones of an initial bias, which would hide what they do."""
    params = layer.init(jax.random.key(0), x)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5), params)


def as_flax(kind, params):
    """Our parameters under the names of Flax's cells."""
    count = {RNN: 1, GRU: 3, LSTM: 4}[kind]
    kernel, recurrent, bias = (jnp.split(params[name], count, -1) for name in ("kernel", "recurrent", "bias"))
    if kind is RNN:
        return {"i": {"kernel": kernel[0], "bias": bias[0]}, "h": {"kernel": recurrent[0]}}
    names = "rzn" if kind is GRU else "ifgo"
    inputs = {f"i{name}": {"kernel": k} for name, k in zip(names, kernel)}
    states = {f"h{name}": {"kernel": k} for name, k in zip(names, recurrent)}
    biased = inputs if kind is GRU else states
    for name, b in zip(biased, bias):
        biased[name]["bias"] = b
    if kind is GRU:
        states["hn"]["bias"] = params["recurrent_bias"]
    return inputs | states


@KINDS
def test_flax_computes_the_same(kind):
    x = example(3, 7, 4)
    params = drawn(kind(5), x)
    cell = {RNN: nn.SimpleCell, GRU: nn.GRUCell, LSTM: nn.LSTMCell}[kind]
    module: Any = nn.RNN(cell(5, param_dtype=jnp.float64), return_carry=True)
    start = tuple(example(2, 3, 5)[: kind.states])
    carried = start[::-1] if kind is LSTM else start[0]  # Flax has (c, h) where we have (h, c)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        variables = {"params": {"cell": as_flax(kind, params)}}
        _, expected = module.apply(variables, x)
        end, expected_from = module.apply(variables, x, initial_carry=carried)
    np.testing.assert_allclose(kind(5).apply(params, x, Context()), expected, rtol=1e-12, atol=1e-12)
    y, state = WithState(kind(5)).apply(params, (x, start), Context())
    np.testing.assert_allclose(y, expected_from, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(state, end[::-1] if kind is LSTM else (end,), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@KINDS
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_is_as_if_it_were_not_there(kind, reverse):
    x = example(4, 6, 3)
    lengths = (6, 3, 1, 0)
    mask = jnp.arange(6)[None] < jnp.asarray(lengths)[:, None]
    layer, last = kind(5, reverse=reverse), kind(5, reverse=reverse, outputs="last")
    params = drawn(layer, x)
    y = layer.apply(params, x, Context(mask=mask))
    ends = last.apply(params, x, Context(mask=mask))
    for i, length in enumerate(lengths):
        alone = layer.apply(params, x[i : i + 1, :length], Context()) if length else jnp.zeros((1, 0, 5))
        np.testing.assert_allclose(y[i : i + 1, :length], alone, rtol=1e-12)
        assert not y[i, length:].any()
        end = alone[0, 0 if reverse else -1] if length else jnp.zeros(5)
        np.testing.assert_allclose(ends[i], end, rtol=1e-12)


@KINDS
def test_reverse_runs_from_the_last_position(kind):
    x = example(2, 5, 3)
    params = drawn(kind(4), x)
    forwards = kind(4).apply(params, x[:, ::-1], Context())[:, ::-1]
    np.testing.assert_allclose(kind(4, reverse=True).apply(params, x, Context()), forwards, rtol=1e-12)


@KINDS
def test_step_by_step_with_padding(kind):
    x, layer = example(3, 5, 4), kind(6)
    mask = jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 1]], bool)
    params = drawn(layer, x)
    state = layer.init_cache(params, x, 5, Context())
    outputs = []
    for t in range(5):
        y, state = layer.decode_step(params, state, x[:, t : t + 1], Context(mask=mask[:, t : t + 1]))
        outputs.append(y)
    expected = layer.apply(params, x, Context(mask=mask))
    np.testing.assert_allclose(jnp.concatenate(outputs, 1), expected, rtol=1e-12, atol=1e-12)
    end = kind(6, outputs="last").apply(params, x, Context(mask=mask))
    np.testing.assert_allclose(state[0], end, rtol=1e-12)


@KINDS
def test_the_state_at_the_end_has_no_mask(kind):
    context = Context(mask=jnp.ones((2, 5), bool))
    assert kind(3, outputs="last").after(context).mask is None
    assert kind(3).after(context).mask is context.mask


def test_both_directions_stand_side_by_side():
    x = example(2, 5, 3)
    first, second = LSTM(4), GRU(6, reverse=True)
    layer = Bidirectional(first, second)
    params = drawn(layer, x)
    y = layer.apply(params, x, Context())
    assert y.shape == (2, 5, 10)
    np.testing.assert_array_equal(y[..., :4], first.apply(params["forward_layer"], x, Context()))
    np.testing.assert_array_equal(y[..., 4:], second.apply(params["backward_layer"], x, Context()))


MODEL = SerialWithState((Embedding(7, 4), WithState(LSTM(5)), WithState(GRU(3)), Dense(7)))


def test_pieces_of_a_sequence_give_what_the_whole_gives():
    """Also the gradient, where the cotangent of each piece's initial state goes on to the piece before it."""
    ids, mask = jnp.arange(24, dtype=jnp.int32).reshape(2, 12) % 7, jnp.arange(12)[None] < jnp.asarray([[12], [4]])
    states = MODEL.initial_state(ids)
    params, model = drawn(MODEL, (ids, states)), attach(MODEL)

    def gradient(*ends):
        def run(params, states):
            logits = []
            for piece in map(slice, (0, *ends), ends):
                y, states = model(
                    params, (jnp.asarray(ids[:, piece]), states), Context(mask=jnp.asarray(mask[:, piece]))
                )
                logits.append(y)
            return jnp.concatenate(logits, 1), states

        y, pull_back = jax.vjp(run, params, states)
        return y, pull_back(jax.tree.map(jnp.cos, y))

    whole, pieces = (jax.tree.leaves(jax.jit(partial(gradient, *ends))()) for ends in ((12,), (5, 12)))
    for ours, expected in zip(pieces, whole, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)


def test_initial_values():
    params = LSTM(8).init(jax.random.key(0), example(2, 3, 4))
    for block in jnp.split(params["recurrent"], 4, 1):
        np.testing.assert_allclose(block.T @ block, np.eye(8), atol=1e-6)
    np.testing.assert_array_equal(params["bias"].reshape(4, 8), np.repeat([[0], [1], [0], [0]], 8, 1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LSTM(3, outputs="end"), "LSTM.outputs is 'end'"),
        (lambda: Bidirectional(LSTM(3), LSTM(3)), "backward_layer must have reverse=True"),
        (lambda: Bidirectional(LSTM(3), LSTM(3, True, "last")), "outputs of both layers must be equal"),
    ],
)
def test_what_cannot_be_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_looks_ahead_cannot_go_step_by_step():
    x = example(2, 5, 3)
    for layer in (LSTM(3, reverse=True), Bidirectional(LSTM(3), LSTM(3, reverse=True))):
        with pytest.raises(ValueError, match="cannot decode"):
            layer.init_cache(drawn(layer, x), x, 5, Context())
    for layer in (WithState(LSTM(3)), SerialWithState((WithState(LSTM(3)),))):
        with pytest.raises(ValueError, match="cannot decode"):
            layer.init_cache({}, x, 5, Context())
