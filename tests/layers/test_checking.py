"""What a layer can't take: the message names the layer, what it got and what it needs. All layers take their cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.layers import CASES
from pipeline.attachment import attach
from pipeline.backprop import value_and_grad
from pipeline.layers import GRU, Bidirectional, Conv, Dense, Embedding, Residual, SelfAttention, Serial, Tanh
from pipeline.layers.base import Context, children
from pipeline.layers.checking import LayerError, check
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


ANY_KIND = {
    "Flatten": ("x",), "Reshape": ("x",), "Cast": ("x",), "SampledSoftmax": ("x[1].values.log_probabilities",),
    "Objective": ("x[1].weights",), "Dice": ("x[1].values",), "Huber": ("x[1].values",),
    "BinaryCrossEntropy": ("x[1].values",), "MeanSquaredError": ("x[1].values",),
    "MeanAbsoluteError": ("x[1].values",),
}  # fmt: skip
"""The parts of x that may be integers or floats: shapes alone matter, or targets are numbers."""


def with_others(tree, other):
    """(path, ``tree`` with one leaf replaced by ``other(leaf)``), for every leaf."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    for i, (path, leaf) in enumerate(leaves):
        rest = [part for _, part in leaves]
        yield jax.tree_util.keystr(path), structure.unflatten([*rest[:i], other(leaf), *rest[i + 1 :]])


def of_other_kind(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, "f4" if leaf.dtype.kind in "ib" else "i4")


@pytest.mark.parametrize("case", [case for case in CASES if "/" not in case.name], ids=lambda case: case.name)
def test_every_layer_takes_its_case_and_nothing_else(case):
    layer, params, x, context = case.layer, case.params(), case.x, case.context()
    jax.eval_shape(layer.apply, params, x, context)
    jax.eval_shape(layer.forward, params, x, context)
    wrong = [
        ("there is no parameter extra", {**params, "extra": np.zeros(3)}, x, context),
        (f"^{type(layer).__name__}.*the context is None; it must be a Context", params, x, None),
    ]
    wrong += [
        ("parameter|got", other, x, context)
        for axis in (0, -1)
        for _, other in with_others(params, lambda leaf, axis=axis: np.repeat(leaf, 2, axis))
    ]
    wrong += [
        (r"must|mask|expected", params, other, context)
        for path, other in with_others(x, of_other_kind)
        if f"x{path}" not in ANY_KIND.get(case.name, ())
    ]
    if any(children(layer)):  # whose parts are checked for themselves
        wrong = [*wrong[:4], wrong[-1]]
    for message, *arguments in wrong:
        for method in (layer.apply, layer.forward):
            with pytest.raises(LayerError, match=message):
                jax.eval_shape(lambda method=method, arguments=arguments: method(*arguments))


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
