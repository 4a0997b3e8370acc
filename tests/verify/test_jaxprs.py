"""A function's program, interpreted operation by operation, gives what the function gives: under every jax alike.

Where the interpreter fails, the verifier knows less and says nothing of it; so it is tried here by itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.verify.programs import jaxprs


@jax.custom_vjp
def doubled(x):
    return x + x


doubled.defvjp(lambda x: (doubled(x), None), lambda _, d_y: (3 * d_y,))


def scanned(x):
    fixed = x.sum()

    def step(carry, row):
        count, state = carry
        state = jnp.tanh(state * fixed + row)
        return (count + 1, state), state.sum()

    (count, state), sums = jax.lax.scan(step, (0, x[0]), x, reverse=True)
    return state * count, sums


FUNCTIONS = {
    "scan": scanned,
    "scan of nothing": lambda x: jax.lax.scan(lambda carry, _: (carry * 0.5, None), x, None, length=3)[0],
    "nested scan": lambda x: jax.lax.scan(lambda c, row: (c + scanned(x * row.sum())[0], row), x[0], x)[0],
    "jit": lambda x: jax.jit(jnp.sin)(x) * jax.jit(lambda a, b: a - b)(x, x.T),
    "remat": lambda x: jax.checkpoint(jnp.sin)(x),
    "custom rule": lambda x: doubled(x),
    "cond": lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "while": lambda x: jax.lax.while_loop(lambda c: c.sum() < 100, lambda c: c * c + 2, x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_program_gives_what_the_function_gives(name):
    function, x = FUNCTIONS[name], jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    expected = function(x)
    for found in (jaxprs.Traced(function, x).evaluate(x), jaxprs.plain(function)(x), jaxprs.unstopped(function)(x)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), found, expected)


@pytest.mark.parametrize("name", ["scan", "nested scan", "jit", "remat"])
def test_every_operation_is_off_by_a_rounding_error(name):
    function, x = FUNCTIONS[name], jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    noisy = jax.jit(jaxprs.noisy(function, own_precision=True))
    leaves = list(zip(jax.tree.leaves(noisy(1, x)), jax.tree.leaves(function(x))))
    for found, expected in leaves:
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert any((np.asarray(found) != np.asarray(expected)).any() for found, expected in leaves)


def test_a_custom_rule_is_left_out_where_autodiff_of_the_operations_alone_is_asked_for():
    slopes = [jax.grad(lambda x, f=f: f(x).sum())(jnp.ones(2)) for f in (doubled, jaxprs.plain(doubled))]
    assert [slope.tolist() for slope in slopes] == [[3.0, 3.0], [2.0, 2.0]]


def test_what_a_scan_carries_is_told_from_what_stays():
    program = jax.make_jaxpr(scanned)(jnp.ones((3, 3)))
    (equation,) = (e for e in program.jaxpr.eqns if e.primitive.name == "scan")
    assert jaxprs.scan_counts(equation.params) == (1, 2)
