"""What a layer can't take: the message names the layer, what it got and what it needs. All layers take their cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.layers import CASES
from pipeline.attachment import attach
from pipeline.backprop import value_and_grad
from pipeline.layers import GRU, Bidirectional, Conv, Dense, Embedding, Residual, SelfAttention, Serial, Tanh
from pipeline.layers.base import Context
from pipeline.layers.checking import check
from pipeline.layers.objective import Objective
from pipeline.layers.recurrent_state import SerialWithState, WithState
from pipeline.losses import SoftmaxCrossEntropy, Targets

X, FEATURES, ROWS, SCALAR = (jax.ShapeDtypeStruct(shape, "f4") for shape in ((2, 5, 4), (2, 5, 3), (2, 4), ()))
IDS = jax.ShapeDtypeStruct((2, 5), "i4")
WITH_STATE, FROM = WithState(GRU(4)), (X, (ROWS,))
BOTH_WAYS = Bidirectional(GRU(3), GRU(3, reverse=True))
MODEL = Serial((Dense(4), Residual(Serial((Tanh(), GRU(4))))))


def params_of(layer, x):
    return layer.init(jax.random.key(0), x)


@pytest.mark.parametrize("case", [case for case in CASES if "/" not in case.name], ids=lambda case: case.name)
def test_every_layer_takes_its_case_and_no_other_parameters(case):
    params, x, context = case.params(), case.x, case.context()
    check(case.layer, params, x, context)
    with pytest.raises(ValueError, match="there is no parameter extra"):
        check(case.layer, {**params, "extra": np.zeros(3)}, x, context)
    with pytest.raises(ValueError, match=f"^{type(case.layer).__name__}.*the context is None; it must be a Context"):
        check(case.layer, params, x, None)
    leaves, structure = jax.tree.flatten(params)
    for i, leaf in enumerate(leaves):
        misshapen = structure.unflatten([*leaves[:i], np.zeros((7, *leaf.shape, 2)), *leaves[i + 1 :]])
        with pytest.raises(ValueError, match=r": .*(parameter|got).*float64\[7"):
            check(case.layer, misshapen, x, context)


MESSAGES = (
    (Dense(3), X, {"x": FEATURES}, r"Dense\(features=3.*kernel is float32\[4,3\].*\[2,5,3\] it must be float32\[3,3\]"),
    (Dense(3), X, {"x": IDS}, r"Dense.*x is int32\[2,5\]; it must be a float array \(\*batch, inputs\)"),
    (Dense(3), X, {"params": {"kernel": np.zeros((4, 3))}}, r"Dense.*bias is missing; it must be float32\[3\]"),
    (
        Dense(3),
        X,
        {"params": {"kernel": np.zeros((4, 3), int), "bias": np.zeros(3)}},
        r"Dense.*kernel is int64.*float32",
    ),
    (Conv(3, (3,)), X, {"x": SCALAR}, r"Conv.*x is float32\[\]; it must be a float array \(batch, \*space, channels\)"),
    (GRU(3), X, {"x": ROWS}, r"GRU.*x is float32\[2,4\]; it must be a float array \(batch, time, features\)"),
    (GRU(3), X, {"mask": np.ones((2, 4), bool)}, r"GRU.*mask is bool\[2,4\].* it must be bool\[2,5\]"),
    (BOTH_WAYS, X, {"mask": np.ones((2, 1), bool)}, r"Bidirectional.*mask is bool\[2,1\].*bool\[2,5\]"),
    (
        WITH_STATE,
        (X, (ROWS,)),
        {"x": (X, (ROWS, ROWS))},
        r"WithState.*is \(\(2, 4\), \(2, 4\)\).*must be \(\(2, 4\),\)",
    ),
    (WITH_STATE, FROM, {"x": (X, (ROWS, ROWS))}, r"WithState.*is \(\(2, 4\), \(2, 4\)\).*must be \(\(2, 4\),\)"),
    (WITH_STATE, FROM, {"x": X}, r"WithState.*x is float32\[2,5,4\]; it must be a tuple of a float array"),
    (WITH_STATE, FROM, {"x": (ROWS, (ROWS,))}, r"WithState.*x\[0\] is float32\[2,4\].*\(batch, time, features\)"),
    (WITH_STATE, FROM, {"mask": np.ones((2, 4), bool)}, r"WithState.*the mask is \(2, 4\).* must be \(2, 5\)"),
    (SerialWithState((WITH_STATE,)), (X, (FROM[1],)), {"x": (X, ())}, r"SerialWithState: .*0 states for 1 layer"),
    (SelfAttention(2), X, {"mask": np.ones((2, 5))}, r"SelfAttention.*mask is float64\[2,5\].* must be bool\[2,5\]"),
    (Embedding(7, 3), IDS, {"x": X}, r"Embedding.*x is float32\[2,5,4\]; it must be an integer array"),
    (Embedding(7, 3), IDS, {"params": {"embedding": np.zeros((9, 3))}}, r"Embedding.*\[9,3\].*must be float32\[7,3\]"),
    (MODEL, X, {"x": FEATURES}, r"^layers/0, Dense\(features=4.*kernel is float32\[4,4\].*must be float32\[3,4\]"),
    (MODEL, X, {"x": ROWS}, r"^layers/1/layer/layers/1, GRU\(units=4.*x is float32\[2,4\]"),
    (MODEL, X, {"params": {}}, r"^Dense\(features=4.*layers/0/bias is missing; it must be float32\[4\]"),
    (
        SoftmaxCrossEntropy(),
        (ROWS, Targets(np.zeros(2, int))),
        {"x": ROWS},
        r"SoftmaxCrossEntropy.*x is float32\[2,4\].* and Targets",
    ),
)


@pytest.mark.parametrize(("layer", "x", "change", "message"), MESSAGES)
def test_messages(layer, x, change, message):
    params = change.get("params", params_of(layer, x))
    x, context = change.get("x", x), Context(mask=change.get("mask"))
    with pytest.raises(ValueError, match=message):
        check(layer, params, x, context)


def test_attached_layers_are_checked():
    params = params_of(MODEL, X)
    with pytest.raises(ValueError, match=r"layers/0, Dense\(features=4"):
        jax.jit(attach(MODEL))(params, jnp.ones((2, 5, 7)))


def test_errors_of_value_and_grad_name_the_layer():
    objective, batch = Objective(Dense(3), SoftmaxCrossEntropy()), (jnp.ones((2, 4)), Targets(jnp.zeros(2, jnp.int32)))
    params = params_of(objective, batch)
    for gradient in ("manual", "autodiff", "attached"):
        of_batch = value_and_grad(objective, gradient)
        with pytest.raises(ValueError, match=r"model, Dense\(features=3.*it must be float32\[7,3\]"):
            jax.jit(of_batch)(params, (jnp.ones((2, 7)), batch[1]), Context())
        with pytest.raises(ValueError, match="Objective: the context is None; it must be a Context"):
            of_batch(params, batch, None)
