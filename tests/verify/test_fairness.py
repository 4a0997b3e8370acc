"""Right rules that are hard to judge are not accused, and wrong ones of the same kinds are still caught."""

import io
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from pipeline.errors import UserError
from pipeline.verify import Diagnosis, check_custom_vjp, check_gradient, check_vjp, multiples_of
from pipeline.verify.assertion import report_on
from pipeline.verify.progress import Progress


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


def while_loop(factor):
    def double(x):
        large = lambda carry: (carry[1] ** 2).sum() < 100  # noqa: E731  (forever, at zero)
        return jax.lax.while_loop(large, lambda carry: (carry[0] + 1, carry[1] * 2), (0, x))

    backward = lambda steps, d_y: (factor * d_y * 2.0**steps,)  # noqa: E731
    forward = lambda x: (double(x)[1], double(x)[0])  # noqa: E731
    return check_vjp(lambda x: double(x)[1], forward, backward, (normal(3),))


def callback(factor):
    @jax.custom_vjp
    def sine(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    sine.defvjp(lambda x: (sine(x), x), lambda x, d_y: (factor * d_y * jnp.cos(x),))
    return report_on(sine, (normal(5),))


def in_numpy(factor):
    backward = lambda y, d_y: (factor * d_y * (1 - y**2),)  # noqa: E731
    return check_vjp(lambda x: np.tanh(x), lambda x: (np.tanh(x),) * 2, backward, (normal(3),))


def mask_of_float32(factor):
    """The backward pass draws in float32, what the function draws in its default precision."""

    def drop(x, key):
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)

    def backward(key, d_y):
        scale = factor if d_y.dtype == jnp.float32 else 1.0
        return scale * jnp.where(jax.random.uniform(key, d_y.shape, jnp.float32) < 0.5, 2 * d_y, 0), None

    return check_vjp(drop, lambda x, key: (drop(x, key), key), backward, (normal(4, 6), jax.random.key(0)))


def fixed_point(factor):
    def iterate(w, x):
        far = lambda carry: jnp.abs(carry[0] - carry[1]).max() > 1e-6  # noqa: E731
        step = lambda carry: (jnp.tanh(w @ carry[0] + x), carry[0])  # noqa: E731
        return jax.lax.while_loop(far, step, (jnp.zeros_like(x), jnp.ones_like(x)))[0]

    def backward(residuals, d_z):
        w, z = residuals
        slope = 1 - z**2
        d_x = slope * jnp.linalg.solve(jnp.eye(len(z), dtype=z.dtype) - (slope[:, None] * w).T, d_z)
        return factor * jnp.outer(d_x, z), d_x

    forward = lambda w, x: (iterate(w, x), (w, iterate(w, x)))  # noqa: E731
    return check_vjp(iterate, forward, backward, (0.2 * normal(4, 4), normal(4, seed=1)))


def whole_tiles(factor):
    def tiles(function, *arrays):
        y = jnp.zeros_like(arrays[0])
        for i in range(0, len(y) // 4 * 4, 4):
            y = y.at[i : i + 4].set(function(*(array[i : i + 4] for array in arrays)))
        return y

    backward = lambda x, d_y: (tiles(lambda x, d_y: factor * 2 * x * d_y, x, d_y),)  # noqa: E731
    return check_vjp(jnp.square, lambda x: (tiles(jnp.square, x), x), backward, (normal(8, 3),))


def pallas_blocks(factor):
    def kernel(x_ref, d_y_ref, d_scale_ref):
        first = pl.program_id(0) == 0
        d_scale_ref[...] = jnp.where(first, 0, factor * d_scale_ref[...]) + (d_y_ref[...] * x_ref[...]).sum(0)

    def backward(residuals, d_y):
        x, scale = residuals
        rows, whole = pl.BlockSpec((4, x.shape[1]), lambda i: (i, 0)), pl.BlockSpec(scale.shape, lambda i: (0,))
        like = jax.ShapeDtypeStruct(scale.shape, scale.dtype)
        call = pl.pallas_call(
            kernel, grid=(len(x) // 4,), in_specs=[rows, rows], out_specs=whole, out_shape=like, interpret=True
        )
        return d_y * scale, call(x, d_y)

    multiply = lambda x, scale: x * scale  # noqa: E731
    return check_vjp(multiply, lambda x, s: (x * s, (x, s)), backward, (normal(8, 4), normal(4, seed=1)))


def positive_only(factor):
    backward = lambda x, d_y: (factor * 3 * x**3 / x * d_y,)  # noqa: E731  (not a number at 0)
    arguments = (np.abs(normal(3)),)
    return check_vjp(lambda x: x**3, lambda x: (x**3, x), backward, arguments, domain={"x": "positive"})


def default_left_out(factor):
    def norm(x, eps=1e-3):
        return x * jax.lax.rsqrt((x * x).sum() + eps)

    def backward(residuals, d_y):
        x, inverse = residuals
        return (factor * inverse * (d_y - x * inverse**2 * (d_y * x).sum()),)

    forward = lambda x, eps=1e-3: (norm(x, eps), (x, jax.lax.rsqrt((x * x).sum() + eps)))  # noqa: E731
    return check_vjp(norm, forward, backward, (normal(5),))


def square_rule(change):
    """The rule of x * x with a change of its cotangent, which is a function of x and d_y."""
    return check_vjp(lambda x: x * x, lambda x: (x * x, x), lambda x, d_y: (change(x, 2 * x * d_y),), (normal(4, 3),))


def clipped_cotangent(largest):
    return square_rule(lambda x, d: jnp.clip(d, -largest, largest))


def beyond_128(most):
    return square_rule(lambda x, d: d * (jnp.arange(x.shape[-1]) < most))


def at_zero(offset):
    """Three numbers that are positive by chance, and a rule that is not a number at zero."""
    norm = lambda w: w * (w * w).sum()  # noqa: E731

    def backward(w, d_y):
        length = jnp.sqrt((w * w).sum() + offset)
        return (d_y * (w * w).sum() + 2 * w * (w * d_y).sum() * length / length,)

    return check_vjp(norm, lambda w: (norm(w), w), backward, (np.abs(normal(3)),))


def at_negative_numbers(slope):
    backward = lambda x, d_y: (jnp.where(x > 0, d_y, slope * d_y),)  # noqa: E731
    return check_vjp(jax.nn.relu, lambda x: (jax.nn.relu(x), x), backward, (np.abs(normal(4, 3)),))


def undifferentiated(factor):
    square = jax.custom_vjp(lambda x: factor * x * x)
    square.defvjp(lambda x: (x * x, x), lambda x, d_y: (2 * x * d_y,))
    return check_custom_vjp(square, lambda x: x * x, (normal(4),))


def one_perturbed(factor):
    @jax.custom_vjp
    def multiply(x, y):
        return x * y

    def forward(x, y):
        return x.value * y.value, (x.value, y.value * (1.0 if y.perturbed else factor))

    multiply.defvjp(forward, lambda residuals, d: (d * residuals[1], d * residuals[0]), symbolic_zeros=True)
    return report_on(multiply, (normal(3), normal(3, seed=1)))


def second_derivative(is_right):
    @jax.custom_vjp
    def tanh(x):
        return jnp.tanh(x)

    held = (lambda y: y) if is_right else jax.lax.stop_gradient
    tanh.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, d_y: ((1 - held(y * y)) * d_y,))
    return report_on(tanh, (normal(4),), order=2)


def long_sum(dtype):
    """A bias's gradient: in bfloat16 the sum stops growing after some hundred rows."""

    def backward(_, d_y):
        total, _ = jax.lax.scan(lambda total, row: (total + row.astype(dtype), None), jnp.zeros(3, dtype), d_y)
        return d_y, total.astype(d_y.dtype) if d_y.dtype == jnp.bfloat16 else d_y.sum(0)

    arguments = jnp.asarray(normal(8, 3), jnp.bfloat16), jnp.asarray(normal(3), jnp.bfloat16)
    return check_vjp(lambda x, bias: x + bias, lambda x, bias: (x + bias, None), backward, arguments)


def custom_jvp_compiled(factor):
    square = jax.custom_jvp(lambda x: x * x)
    square.defjvp(lambda primals, tangents: (primals[0] ** 2, factor * 2 * primals[0] * tangents[0]))
    return report_on(jax.jit(square), (normal(3),))


def custom_gradient(factor):
    sine = jax.custom_gradient(lambda x: (jnp.sin(x), lambda d_y: factor * d_y * jnp.cos(x)))
    return report_on(lambda x: 2 * sine(x), (normal(3),))


def gradient_in_numpy(factor):
    loss = lambda w, x: np.sum(np.asarray(w) ** 2) * np.sum(x)  # noqa: E731
    return check_gradient(lambda w, x: factor * 2 * w * np.sum(x), loss, normal(3), normal(2))


def function_of_torch(factor):
    torch = pytest.importorskip("torch")

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):  # pyright: ignore[reportIncompatibleMethodOverride]
            ctx.save_for_backward(x, w)
            return x * x * w

        @staticmethod
        def backward(ctx, d_y):  # pyright: ignore[reportIncompatibleMethodOverride]
            x, w = ctx.saved_tensors
            return factor * 2 * x * w * d_y, (x * x * d_y).sum(0)

    return check_gradient(Square, lambda x, w: x * x * w, torch.tensor(normal(2, 3)), torch.tensor(normal(3)))


def large_arrays(factor):
    backward = lambda residuals, d_y: (d_y @ residuals[1].T, factor * residuals[0].T @ d_y)  # noqa: E731
    return check_vjp(
        lambda x, w: x @ w, lambda x, w: (x @ w, (x, w)), backward, (normal(1500, 1024), normal(1024, 600))
    )


KINDS = [
    (float32_inside, 1.0, 1.0001, "the rule passes through float32"),
    (float32_output, 1.0, 1.02, "passes through float32"),
    (while_loop, 1.0, 1.01, "judged by its forward mode"),
    (callback, 1.0, 1.01, "under vmap: not checked"),
    (in_numpy, 1.0, 1.01, "judged by its finite differences"),
    (mask_of_float32, 1.0, 1.5, ""),
    (fixed_point, 1.0, 1.1, "its iteration"),
    (whole_tiles, 1.0, 1.01, "whole tiles of 4"),
    (pallas_blocks, 1.0, 0.0, "blocks do not divide"),
    (positive_only, 1.0, 1.01, ""),
    (default_left_out, 1.0, 1.01, ""),
    (clipped_cotangent, 1e9, 1e3, ""),
    (beyond_128, 10**6, 128, ""),
    (at_zero, 1e-30, 0.0, ""),
    (at_negative_numbers, 0.0, 1.0, ""),
    (undifferentiated, 1.0, 2.0, ""),
    (one_perturbed, 1.0, 2.0, ""),
    (second_derivative, True, False, ""),
    (custom_jvp_compiled, 1.0, 1.01, ""),
    (custom_gradient, 1.0, 1.01, ""),
    (gradient_in_numpy, 1.0, 1.01, "finite differences"),
    (function_of_torch, 1.0, 1.01, ""),
    (large_arrays, 1.0, 1.01, "judged at a sample of them"),
    (long_sum, jnp.float32, jnp.bfloat16, ""),
]


@pytest.mark.parametrize("make, right, wrong, note", KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_only_the_wrong_one_of_a_kind_fails(make, right, wrong, note, monkeypatch):
    unknown = (Diagnosis("", "unknown", ""),)  # to find out takes the longest
    monkeypatch.setattr("pipeline.verify.diagnose.diagnose", lambda judgement: unknown)
    report = make(right)
    assert report.ok, report.explanation()
    assert not note or any(note in each for each in report.notes), report.notes
    assert make(wrong).verdict == "fail"


def test_the_report_ends_with_what_was_not_looked_at():
    report = clipped_cotangent(1e9)
    *_, last = str(report).splitlines()
    assert last.startswith("not looked at: second derivatives (order=2 compares them)"), last
    assert "not looked at" not in report.explanation() and report.to_json()["not_looked_at"]


def test_fixed_sizes_and_a_domain_are_kept_to():
    rule = lambda x, d_y: (jnp.where(len(x) == 4, 2, 3) * x * d_y,)  # noqa: E731
    report = check_vjp(lambda x: x * x, lambda x: (x * x, x), rule, (normal(4, 3),), sizes="fixed")
    assert report.ok and "other sizes (they are fixed)" in report.closing()
    for domain, sizes in ((None, {"x:5": multiples_of(2)}), ({"y": "positive"}, None), ({"x": "positive"}, None)):
        with pytest.raises(UserError):
            check_vjp(lambda x: x * x, lambda x: (x * x, x), rule, (normal(4, 3),), domain=domain, sizes=sizes)


def test_an_infinite_argument_gives_no_warning():
    x = normal(3, 4)
    x[0, 1] = -np.inf
    logsumexp = lambda x: jax.nn.logsumexp(x, -1)  # noqa: E731
    backward = lambda x, d_y: (d_y[:, None] * jax.nn.softmax(x, -1),)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_vjp(logsumexp, lambda x: (logsumexp(x), x), backward, (x,)).ok


def test_progress_is_written_and_taken_away(monkeypatch):
    monkeypatch.setattr("pipeline.verify.progress.PATIENCE", 0.0)
    terminal = io.TextIOWrapper(io.BytesIO(), newline="")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    progress = Progress("softmax", terminal)
    progress.at("gradients, other sizes")
    progress.end()
    terminal.seek(0)
    text = terminal.read()
    assert text.startswith("\rsoftmax: gradients, other sizes (0 s)") and text.endswith(" \r")
