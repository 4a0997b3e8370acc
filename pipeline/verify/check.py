"""What is called: the check of a layer, of a ``custom_vjp`` pair, of a function with a rule inside, of a gradient."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.layers.base import Context, Layer, PyTree, children
from pipeline.verify.judge import judge
from pipeline.verify.report import Report
from pipeline.verify.rule import Rule, of_custom_vjp, of_gradient, of_layer, of_vjp
from pipeline.verify.trial import CHECKS, LIMIT


def check_vjp(
    function: Callable[..., PyTree],
    forward: Callable[..., tuple[PyTree, PyTree]],
    backward: Callable[..., Any],
    arguments: Sequence[PyTree],
    *,
    edges: Sequence[Sequence[PyTree]] = (),
    names: Sequence[str] | None = None,
    nondiff_argnums: Sequence[int] = (),
    **options: Any,
) -> Report:
    """Whether a pair written for ``jax.custom_vjp`` is the derivative of ``function``, and if not, what is wrong.

    function: the definition, in plain JAX: what ``jax.vjp`` differentiates.
    forward: ``(*arguments) -> (out, residuals)``.
    backward: ``(residuals, cotangent) -> cotangents``, a tuple with one cotangent for each argument; None for integers,
        and where no gradient flows. With ``nondiff_argnums``, as in JAX: ``(*those, residuals, cotangent)``.
    arguments: examples of ordinary size, pytrees of arrays. Leaves are called by the parameter's name and their path.
    edges: further arguments of the same structure at which the rule must hold: ties, padding, a length of 1.
    names: of the arguments, where the function's own parameters' do not serve.
    options: ``checks`` (of ``CHECKS``), ``limit`` (of the relative error in float64, 1e-11) and ``seed``.

    The verdict is leaf by leaf, max|manual - autodiff| / max|autodiff|, in float64; in the arguments' own precision the
    rule may err at most twice as much as autodiff, plus 4 eps. At the given arguments and edges the function's own
    conventions at kinks bind; at kinks that only the check chose, any valid derivative will do.

    What the rule raises is in the report, not raised.
    """
    return report(of_vjp(function, forward, backward, tuple(arguments), names, edges, nondiff_argnums), **options)


def check_custom_vjp(
    function: Callable[..., PyTree],
    reference: Callable[..., PyTree],
    arguments: Sequence[PyTree],
    *,
    edges: Sequence[Sequence[PyTree]] = (),
    names: Sequence[str] | None = None,
    **options: Any,
) -> Report:
    """Whether a function that carries its rule already (``jax.custom_vjp``, Flax, Pallas) derives as ``reference``.

    reference: the same function in plain JAX. All else as in ``check_vjp``.
    """
    return report(of_custom_vjp(function, reference, tuple(arguments), names, edges), **options)


def check_gradient(
    manual_gradient: Callable[..., Any],
    loss: Callable[..., Any],
    params: PyTree,
    *data: PyTree,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Report:
    """Whether ``manual_gradient(params, *data)`` is the gradient of the scalar ``loss(params, *data)`` by ``params``.

    ``manual_gradient`` may give the gradient, or a pair of the loss and the gradient as ``jax.value_and_grad`` does. It
    may be written in NumPy. All else as in ``check_vjp``.
    """
    return report(of_gradient(manual_gradient, loss, params, data, names), **options)


def verify(
    layer: Layer,
    params: PyTree,
    x: PyTree,
    context: Context = Context(),  # noqa: B008  (frozen)
    *,
    precisions: Sequence[str] = ("float32",),
    checks: Sequence[str] = CHECKS,
    limit: float = LIMIT,
    seed: int = 0,
) -> Report:
    """Whether ``layer``'s hand-written rule is the derivative of its ``apply``, at ``params`` and ``x``.

    A loss or an ``Objective`` is a layer like any other; its x is (inputs, targets). In a layer made of layers those
    whose own rule is wrong are named.

    precisions: names of dtypes in which the rule is held to autodiff's own error; "bfloat16" is that of the inputs,
        parameters stay in float32.
    checks: of ``CHECKS``, what to look at besides the contract and the gradient at ``x``; large models take long.
    limit: of the relative error in float64; long recurrences may need 1e-10.
    seed: of cotangents and probes. They come from a stream of their own, which inputs of the same seed do not share.
    """
    with jax.enable_x64(True):
        context = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, context)
    return report(of_layer(layer, params, x, context), checks=checks, precisions=precisions, limit=limit, seed=seed)


def report(rule: Rule, **options: Any) -> Report:
    """Judges a rule; where it is wrong, explains it, and in a layer made of layers says which one it is."""
    began = time.perf_counter()
    for edge in rule.edges:
        rule.flatten(edge)  # a mistake in them is the caller's, and said at once
    found = judge(rule, **options)
    places, diagnoses = (), ()
    if not found.ok:
        from pipeline.verify.diagnose import diagnose  # which right rules never need
        from pipeline.verify.locate import locate

        if rule.layer is not None and any(children(rule.layer)):
            places, diagnoses = locate(rule)
        if not diagnoses:
            with jax.enable_x64(True):
                diagnoses = diagnose(found)
    return Report(rule.subject, tuple(found.rows), diagnoses, places, tuple(found.notes), time.perf_counter() - began)
