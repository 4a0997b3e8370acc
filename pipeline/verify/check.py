"""The entry points: checks of a layer, of a ``custom_vjp`` pair, of a function with a rule inside, of a gradient."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..layers.base import Context, Layer, PyTree, children
from .domain import Domain
from .foreign import is_torch_function, of_torch
from .judge import judge
from .make_rule import argument_names, of_custom_vjp, of_gradient, of_layer, of_vjp
from .report.report import Report
from .rule import Rule
from .trial import CHECKS, LIMIT


def check_vjp(
    function: Callable[..., PyTree],
    forward: Callable[..., tuple[PyTree, PyTree]],
    backward: Callable[..., Any],
    arguments: Sequence[PyTree],
    *,
    edges: Sequence[Sequence[PyTree]] = (),
    names: Sequence[str] | None = None,
    nondiff_argnums: Sequence[int] = (),
    nondiff: Sequence[str | int] = (),
    primal: Callable[..., PyTree] | None = None,
    **options: Any,
) -> Report:
    """Checks a pair written for ``jax.custom_vjp`` against autodiff of ``function``, and says what is wrong with it.

    function: the definition, in plain JAX, which ``jax.vjp`` differentiates.
    forward: ``(*arguments) -> (out, residuals)``.
    backward: ``(residuals, cotangent) -> cotangents``, a tuple with one cotangent for each argument; None for integers,
        and where no gradient flows. With ``nondiff_argnums``, as in JAX: ``(*those, residuals, cotangent)``.
    arguments: examples of ordinary size, pytrees of arrays. A leaf's name is its parameter's name and its path.
    edges: further arguments of the same structure at which the rule must hold: ties, padding, a length of 1.
    names: names of the arguments, in place of the function's own parameters'.
    nondiff: names or positions of arguments into which no gradient flows, such as an ``eps``: their cotangents are not
        looked at. So it is with arguments that are left out, which have their defaults.
    primal: what is called where nothing is differentiated, if that is not ``function``.
    options: ``checks`` (of ``CHECKS``), ``limit`` (of the relative error in float64, 1e-11) and ``seed``; ``domain``
        and ``sizes``, where the rule must hold, as in ``Domain``; and ``order=2`` for its second derivatives, too.

    Every leaf is judged by max|manual - autodiff| / max|autodiff| in float64. In the arguments' own precision the error
    of the rule may be at most twice autodiff's own, plus 4 eps. At kinks among the example arguments and edges the rule
    must follow the function's own convention; at kinks that only a check chose, any valid derivative passes.

    What the rule raises is reported, not raised.

    >>> import numpy as np
    >>> square = lambda x: x * x
    >>> forward = lambda x: (x * x, x)
    >>> wrong = lambda x, d_y: (3 * x * d_y,)
    >>> report = check_vjp(square, forward, wrong, (np.array([1.0, -2.0]),), checks=(), names=("x",))
    >>> report.verdict, report.diagnoses[0].text
    ('fail', 'off by the constant 1.5')
    """
    rule = of_vjp(function, forward, backward, tuple(arguments), names, edges, nondiff_argnums, nondiff)
    return check_rule(dataclasses.replace(rule, primal=primal), **options)


def check_custom_vjp(
    function: Callable[..., PyTree],
    reference: Callable[..., PyTree],
    arguments: Sequence[PyTree],
    *,
    edges: Sequence[Sequence[PyTree]] = (),
    names: Sequence[str] | None = None,
    nondiff: Sequence[str | int] = (),
    **options: Any,
) -> Report:
    """Checks a function with a rule inside (of ``jax.custom_vjp``, Flax, Pallas) against autodiff of ``reference``.

    reference: the same function in plain JAX. All else as in ``check_vjp``.

    >>> import jax, numpy as np
    >>> softplus = lambda x: -jax.nn.log_sigmoid(-x)
    >>> check_custom_vjp(softplus, jax.nn.softplus, (np.array([1.0, -2.0]),), checks=()).ok
    True
    """
    return check_rule(of_custom_vjp(function, reference, tuple(arguments), names, edges, nondiff), **options)


def check_gradient(
    manual_gradient: Callable[..., Any],
    loss: Callable[..., Any],
    params: PyTree,
    *data: PyTree,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Report:
    """Checks ``manual_gradient(params, *data)`` against autodiff of the scalar ``loss(params, *data)`` by ``params``.

    ``manual_gradient`` may return the gradient, or the pair of loss and gradient as ``jax.value_and_grad`` does. It may
    be written in NumPy, and so may ``loss``. A subclass of ``torch.autograd.Function`` is checked against PyTorch's own
    autograd of ``loss``, a function of tensors of any shape, by all arguments. All else as in ``check_vjp``.

    >>> import numpy as np
    >>> params, x = np.array([0.5, 2.0]), np.array([1.0, -3.0])
    >>> check_gradient(lambda params, x: x, lambda params, x: (params * x).sum(), params, x, checks=()).ok
    True
    """
    if is_torch_function(manual_gradient):
        arguments = (params, *data)
        return check_rule(
            of_torch(manual_gradient, loss, arguments, argument_names(loss, len(arguments), names)), **options
        )
    return check_rule(of_gradient(manual_gradient, loss, params, data, names), **options)


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
    """Checks a layer's ``forward`` and ``backward`` against autodiff of its ``apply``, at ``params`` and ``x``.

    A loss or an ``Objective`` is a layer, too; its x is (inputs, targets). In a layer made of layers, the report names
    those whose own rule is wrong.

    precisions: names of dtypes in which the rule's error is compared with autodiff's own. In "bfloat16" the parameters
        stay in float32.
    checks: of ``CHECKS``, what to check besides the contract and the gradient at ``x``; large models take long.
    limit: the largest relative error in float64; long recurrences may need 1e-10.
    seed: random seed of cotangents and probes, which differ from inputs drawn with the same seed.

    >>> import numpy as np
    >>> from backhand.layers.activations import ReLU
    >>> verify(ReLU(), {}, np.array([[1.0, -2.0]]), checks=(), precisions=()).ok
    True
    """
    with jax.enable_x64(True):
        context = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, context)
    return check_rule(of_layer(layer, params, x, context), checks=checks, precisions=precisions, limit=limit, seed=seed)


def check_rule(rule: Rule, **options: Any) -> Report:
    """Judges a rule. Where it is wrong, explains why and, in a layer made of layers, names the layer that is wrong."""
    began = time.perf_counter()
    for edge in rule.edges:
        rule.flatten(edge)  # raises UserError: a mistake in them is the caller's
    Domain(options.get("domain"), options.get("sizes")).check(rule)
    with np.errstate(all="ignore"), warnings.catch_warnings():  # of numbers that the checks choose
        warnings.simplefilter("ignore", RuntimeWarning)
        return _report(rule, began, **options)


def _report(rule: Rule, began: float, **options: Any) -> Report:
    judgement = judge(rule, **options)
    places, diagnoses = (), ()
    if not judgement.ok:
        from .diagnose import diagnose  # imported late: right rules never need it
        from .diagnose.calls import has_calls, locate_calls
        from .diagnose.locate import locate

        if rule.layer is not None and any(children(rule.layer)):
            places, diagnoses = locate(rule)
        elif has_calls(rule):
            places, diagnoses = locate_calls(rule)
        if not diagnoses:
            with jax.enable_x64(True):
                diagnoses = diagnose(judgement)
    seconds = time.perf_counter() - began
    return Report(
        rule.subject, tuple(judgement.rows), diagnoses, places, tuple(judgement.notes), seconds, judgement.not_looked_at
    )
