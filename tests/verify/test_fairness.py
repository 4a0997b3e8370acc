"""Right rules that are hard to judge are not accused, and wrong ones of the same kinds are still caught."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.verify import check_vjp


@pytest.fixture(autouse=True)
def usual_promotion():
    """Rules by others are not written for our layers' strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rms_norm(x, scale):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def fused_forward(x, scale):
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-6)
    return (wide * inverse * scale).astype(x.dtype), (x, scale, inverse)


def fused_backward(residuals, d_y):
    x, scale, inverse = residuals
    wide, d_wide = x.astype(jnp.float32), d_y.astype(jnp.float32)
    d_normal = d_wide * scale
    mean = (d_normal * wide).mean(-1, keepdims=True)
    d_x = (inverse * (d_normal - wide * inverse * inverse * mean)).astype(x.dtype)
    return d_x, (d_wide * wide * inverse).sum(0).astype(scale.dtype)


def float32_inside(factor):
    def backward(residuals, d_y):
        d_x, d_scale = fused_backward(residuals, d_y)
        return d_x, factor * d_scale

    return check_vjp(rms_norm, fused_forward, backward, (normal(4, 6), normal(6)))


def float32_output(factor):
    cast = lambda x: x.astype(jnp.float32) * 2  # noqa: E731
    backward = lambda x, d_y: ((factor * 2 * d_y).astype(x.dtype),)  # noqa: E731
    return check_vjp(cast, lambda x: (cast(x), x), backward, (jnp.asarray(normal(5, 5), jnp.bfloat16),))


KINDS = [
    (float32_inside, 1.0, 1.0001, "the rule passes through float32"),
    (float32_output, 1.0, 1.02, "passes through float32"),
]


@pytest.mark.parametrize("make, right, wrong, note", KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_only_the_wrong_one_of_a_kind_fails(make, right, wrong, note):
    report = make(right)
    assert report.ok, report.explanation()
    assert any(note in each for each in report.notes), report.notes
    assert make(wrong).verdict == "fail"
