"""Attention with a bias and a mask for each query: what the table of rules cannot hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.case import normal
from pipeline.attachment import attach
from pipeline.layers.base import Context
from pipeline.layers.blockwise_attention import DotProductAttention

X = tuple(jnp.asarray(normal(2, *shape)) for shape in ((5, 4, 3), (7, 2, 3), (7, 2, 6)))
BIAS, MASK = jnp.asarray(normal(1, 4, 5, 7)), jnp.asarray(normal(2, 1, 5, 7) > 0)


def test_infinite_bias_masks():
    layer, context = DotProductAttention(rows=2), Context()
    of_bias = attach(layer)({}, (*X, jnp.where(MASK, 0.0, -jnp.inf)), context)
    of_mask = attach(layer)({}, (*X, None, MASK), context)
    np.testing.assert_allclose(of_bias, of_mask, rtol=1e-12)
    grad = jax.grad(lambda bias: attach(layer)({}, (*X, bias), context).sum())(jnp.full(MASK.shape, -jnp.inf))
    np.testing.assert_array_equal(grad, 0)


def test_vmap_of_a_bias_that_all_examples_share():
    attention = attach(DotProductAttention())
    queries = jnp.stack([X[0], 2 * X[0]])
    y = jax.vmap(lambda query: attention({}, (query, *X[1:], BIAS)))(queries)
    one_by_one = [attention({}, (query, *X[1:], BIAS)) for query in queries]
    np.testing.assert_allclose(y, jnp.stack(one_by_one), rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:2], "it has 2 parts"),
        ((*X, BIAS > 0), "the bias is bool; it must be floating-point"),
        ((*X, None, BIAS), "the mask is float64; it must be bool"),
        ((*X, BIAS[0]), r"the bias has the shape \(4, 5, 7\); .* here \(2, 4, 5, 7\)"),
        ((*X, BIAS[:, :2]), r"the bias has the shape \(1, 2, 5, 7\)"),
        ((*X, None, MASK[..., :5]), r"the mask has the shape \(2, 1, 5, 5\)"),
        ((X[0], X[1][..., :2], X[2]), "equal features of queries and keys"),
    ],
)
def test_errors(x, message):
    layer = DotProductAttention()
    for call in (layer.apply, layer.forward):
        with pytest.raises(ValueError, match=message):
            call({}, x, Context())
