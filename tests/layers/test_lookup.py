"""Ids and labels out of range: an error where they are known, NaN in a compiled program, and the same gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.layers import CASES
from pipeline.layers.base import children
from pipeline.layers.checking import LayerError

NO_RANGE = {"PairwiseRanking", "SampledSoftmax"}
"""Losses that only compare ids."""


def integers(tree):
    return [i for i, leaf in enumerate(jax.tree.leaves(tree)) if leaf.dtype.kind == "i"]


PICKING = [
    (case, place)
    for case in CASES
    if "/" not in case.name and not any(children(case.layer)) and case.name not in NO_RANGE
    for place in integers(case.x)
]


@pytest.mark.parametrize(("case", "place"), PICKING, ids=lambda part: getattr(part, "name", part))
def test_out_of_range(case, place):
    layer, context, params = case.layer, case.context(), jax.tree.map(jnp.asarray, case.params())
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, case.x))
    first = (0,) * leaves[place].ndim

    def with_id(number):
        return structure.unflatten([*leaves[:place], leaves[place].at[first].set(number), *leaves[place + 1 :]])

    for number in (-1, 1000):
        with pytest.raises(
            LayerError, match=rf"{case.name}\(.*\): the [a-z ]+ at \[0.*\] is {number}; it must be in \["
        ):
            layer.apply(params, with_id(number), context)

    is_float = [leaf.dtype.kind == "f" for leaf in leaves]

    @jax.jit
    def both(params, leaves):
        def apply(params, floats):
            floats = iter(floats)
            whole = [next(floats) if f else leaf for f, leaf in zip(is_float, leaves)]
            return layer.apply(params, structure.unflatten(whole), context)

        expected, pull_back = jax.vjp(apply, params, [leaf for f, leaf in zip(is_float, leaves) if f])
        y, residuals = layer.forward(params, structure.unflatten(leaves), context)
        d_y = jnp.ones_like(y)
        d_params, d_x = layer.backward(params, residuals, d_y)
        return (y, d_params, jax.tree.leaves(d_x)), (expected, *pull_back(d_y))

    for number in (-1, 1000):
        ours, theirs = map(jax.tree.leaves, both(params, jax.tree.leaves(with_id(number))))
        assert np.isnan(ours[0]).any()
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12, equal_nan=True)


PADDED = [case for case in CASES if case.name in ("SoftmaxCrossEntropy/padding", "VocabularyCrossEntropy/padding")]


@pytest.mark.parametrize("case", PADDED, ids=lambda case: case.name)
def test_padding_may_have_any_label(case):
    params, (outputs, targets) = jax.tree.map(jnp.asarray, (case.params(), case.x))
    other = targets._replace(values=targets.values.at[targets.weights == 0].set(-7))
    y = case.layer.apply(params, (outputs, targets), case.context())
    np.testing.assert_array_equal(case.layer.apply(params, (outputs, other), case.context()), y)
