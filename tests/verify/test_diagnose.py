"""What is said of a wrong rule: one explanation for all leaves of a mistake, the origin of numbers, the place."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.verify import check_custom_vjp, check_vjp

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def usual_promotion():
    """Rules by others are not written for our layers' strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        yield


def draw(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def attention(q, k, v, keep=np.tril):
    scores = q @ k.T / 2
    return jax.nn.softmax(jnp.where(keep(np.ones(scores.shape, bool)), scores, -1e30)) @ v


def rms(x, w):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w


def rms_summed(residuals, g):
    x, w = residuals
    r = jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    return r * g * w - x * r**3 * (g * w * x).sum(-1, keepdims=True), (g * x * r).sum(0)


def recurrence(a, x):
    return jax.lax.scan(lambda h, i: (i[0] * h + i[1],) * 2, jnp.zeros(x.shape[1:], x.dtype), (a, x))[1]


def one_step(residuals, g):
    a, x = residuals
    previous = jnp.concatenate([jnp.zeros_like(x[:1]), recurrence(a, x)[:-1]])
    return g * previous, g


def resize(x, corners=True):
    count, size = 2 * x.shape[0] - 1, x.shape[0]
    at = jnp.arange(count) * (size - 1) / (count - 1)
    if not corners:
        at = jnp.clip((jnp.arange(count) + 0.5) * size / count - 0.5, 0, size - 1)
    return jnp.maximum(0, 1 - jnp.abs(at[:, None] - jnp.arange(size))).astype(x.dtype) @ x


def of_program(wrong):
    return lambda residuals, g: jax.vjp(wrong, *residuals)[1](g)


ATTENTION = (draw(6, 4), draw(6, 4), draw(6, 3))
CASES = {
    "constant of the function": (
        lambda x, a, b: 4.0 * (x @ a) @ b,
        lambda res, g: (4 * g @ res[2].T @ res[1].T, res[0].T @ (g @ res[2].T), 4 * (res[0] @ res[1]).T @ g),
        (draw(5, 4), draw(4, 2), draw(2, 6)), {"a"}, "constant", "size of",
    ),
    "sum for mean": (rms, rms_summed, (draw(8, 4), draw(4)), {"x"}, "factor 4 = the size of axis 1", "factor 7"),
    "mask ignored": (
        attention, of_program(lambda *a: attention(*a, keep=np.ones_like)), ATTENTION, {"q", "k", "v"},
        "mask", "unknown",
    ),
    "carried gradient lost": (
        recurrence, one_step, (draw(5, 3), draw(5, 3)), {"a", "x"}, "dropped between the steps", "unknown",
    ),
    "another convention": (
        resize, of_program(lambda x: resize(x, corners=False)), (draw(5, 3),), {"x"}, "align_corners=False", "unknown",
    ),
    "block overwritten": (
        lambda x, s: x * s,
        lambda res, g: (g * res[1], (g * res[0])[g.shape[0] // 2 :].sum(0)),
        (draw(8, 4), draw(4)), {"s"}, "last 4 of 8", "factor",
    ),
    "solved with A": (
        jnp.linalg.solve,
        lambda res, g: (-jnp.linalg.solve(res[0], g) @ jnp.linalg.solve(*res).T, jnp.linalg.solve(res[0], g)),
        (draw(4, 4) + 4 * np.eye(4, dtype=np.float32), draw(4, 2)), {"a", "b"}, "not transposed", "unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_explanation_for_all_leaves(name):
    function, backward, arguments, leaves, words, never = CASES[name]
    forward = lambda *arguments: (function(*arguments), arguments)  # noqa: E731
    report = check_vjp(function, forward, backward, arguments, checks=(), precisions=())
    assert {diagnosis.leaf for diagnosis in report.diagnoses} == leaves, report.explanation()
    texts = {re.sub("; the same mistake as in .*", "", diagnosis.text) for diagnosis in report.diagnoses}
    assert len(texts) == 1 and words in texts.pop() and never not in report.explanation().split("\n")[1]


def custom(function, backward):
    rule = jax.custom_vjp(function)
    rule.defvjp(lambda *arguments: (function(*arguments), arguments), backward)
    return rule


def test_the_wrong_rule_among_several_is_named_with_its_line():
    right = custom(jnp.sin, lambda res, g: (g * jnp.cos(res[0]),))

    def cubed(x):
        return x**3

    wrong = custom(cubed, lambda res, g: (2 * res[0] ** 2 * g,))
    model = lambda w, x: jax.lax.scan(lambda h, _: (right(wrong(h) @ w), None), x, None, length=2)[0]  # noqa: E731

    def reference(w, x):
        for _ in range(2):
            x = jnp.sin(x**3 @ w)
        return x

    report = check_custom_vjp(model, reference, (0.3 * draw(4, 4), draw(5, 4)), checks=(), precisions=())
    (place,) = report.places
    line = cubed.__code__.co_firstlineno
    assert f"`cubed` (test_diagnose.py, line {line})" in str(place) and "called in" in str(place)
    assert [diagnosis.leaf for diagnosis in report.diagnoses] == ["cubed/x"]  # no leaf that inherits the error
