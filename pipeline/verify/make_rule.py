"""Makes a ``Rule`` of a layer, of a pair for ``custom_vjp``, of a function with a rule inside, or of a gradient."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..layers.base import Context, Layer, PyTree
from .rule import Rule, as_pair, float_places, is_float, replaced


def argument_names(function: Callable, count: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """``names``, else the names of the function's own parameters, else argument0, argument1, ..."""
    if names is not None:
        if len(names) != count:
            raise UserError(f"names has {len(names)} names for {count} arguments; give one for each")
        return tuple(names)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    own: list[str] = []
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            own.append(parameter.name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            own += [f"{parameter.name}{i}" for i in range(count - len(own))]
    own += [f"argument{i}" for i in range(len(own), count)]
    return tuple(own[:count])


def of_layer(layer: Layer, params: PyTree, x: PyTree, context: Context) -> Rule:
    """The rule of a layer: over (params, x), in a context."""
    return Rule(
        subject=describe(layer),
        reference=lambda params, x: layer.apply(params, x, context),
        forward=lambda params, x: layer.forward(params, x, context),
        backward=lambda arguments, residuals, d_y: layer.backward(arguments[0], residuals, d_y),
        arguments=(params, x),
        names=("", "x"),
        layer=layer,
        context=context,
        may_be_none=(False, True),
    )


def of_vjp(
    function: Callable,
    forward: Callable,
    backward: Callable,
    arguments: tuple,
    names: Sequence[str] | None,
    edges: Sequence[Sequence[PyTree]],
    nondiff_argnums: Sequence[int] = (),
    nondiff: Sequence[str | int] = (),
) -> Rule:
    """The rule of a pair written for ``jax.custom_vjp``; see ``check_vjp`` for the arguments."""
    given, complete = len(arguments), with_defaults(function, arguments)
    if len(complete) > given and not _accepts(forward, arguments):
        edges = [(*edge, *complete[given:]) if len(edge) == given else edge for edge in edges]
        arguments = complete
    fixed = {i: arguments[i] for i in nondiff_argnums}

    def with_outputs(*arguments: Any) -> tuple[PyTree, PyTree]:
        y, residuals = as_pair(forward(*_merged(arguments, fixed)))
        return y, (residuals, y)

    def backward_of_outputs(_: tuple, residuals_and_y: PyTree, d_y: PyTree) -> Any:
        residuals, y = residuals_and_y
        cotangents = backward(*fixed.values(), residuals, _with_float0(d_y, y))
        if not isinstance(cotangents, tuple):
            return cotangents
        # The rule may give a cotangent for an argument that was left out, or none for one that has its default.
        surplus, wanted = cotangents[len(free) :], len(complete) - len(fixed)
        if surplus and len(cotangents) == wanted:
            return cotangents[: len(free)]
        if len(cotangents) == given - len(fixed):
            return (*cotangents, *[None] * (len(free) - len(cotangents)))
        return cotangents

    free = [argument for i, argument in enumerate(arguments) if i not in fixed]
    if names is not None:
        names = (*names, *argument_names(function, len(arguments))[given:])
    every_name = argument_names(function, len(arguments), names)
    checked = _differentiated(every_name, nondiff, given)
    return Rule(
        subject=name_of(function),
        reference=lambda *free: function(*_merged(free, fixed)),
        forward=with_outputs,
        backward=backward_of_outputs,
        arguments=tuple(free),
        names=tuple(name for i, name in enumerate(every_name) if i not in fixed),
        edges=tuple(tuple(a for i, a in enumerate(edge) if i not in fixed) for edge in edges),
        differentiated=tuple(flag for i, flag in enumerate(checked) if i not in fixed),
    )


def with_defaults(function: Callable, arguments: Sequence[PyTree]) -> tuple:
    """``arguments`` with the defaults of the function's signature, as JAX passes them to a forward pass."""
    try:
        bound = inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):  # too few or too many: the call itself will say so
        return tuple(arguments)
    bound.apply_defaults()
    return bound.args


def _accepts(function: Callable, arguments: tuple) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # no signature to read
        pass
    return True


def _differentiated(names: Sequence[str], nondiff: Sequence[str | int], given: int) -> tuple[bool, ...]:
    """For each argument, whether its cotangent is looked at. Raises UserError where there is none of a name."""
    for name in nondiff:
        if name not in names and name not in range(len(names)):
            raise UserError(f"nondiff: there is no argument {name!r}; there are {', '.join(names)}")
    return tuple(i < given and i not in nondiff and name not in nondiff for i, name in enumerate(names))


def _merged(free: Sequence[Any], fixed: dict[int, Any]) -> list[Any]:
    """All arguments in their order: ``fixed`` by position, the others as they come."""
    rest = list(free)
    return [fixed[i] if i in fixed else rest.pop(0) for i in range(len(free) + len(fixed))]


def _with_float0(d_y: PyTree, y: PyTree) -> PyTree:
    """``d_y`` as ``custom_vjp`` passes it on: the cotangents of integer outputs are zeros of the dtype float0."""
    zeros = lambda d, leaf: np.zeros(jnp.shape(leaf), jax.dtypes.float0) if d is None else d  # noqa: E731
    return jax.tree.map(zeros, d_y, y, is_leaf=lambda node: node is None)


def of_custom_vjp(
    function: Callable,
    reference: Callable,
    arguments: tuple,
    names: Sequence[str] | None,
    edges: Sequence[Sequence[PyTree]],
    nondiff: Sequence[str | int] = (),
) -> Rule:
    """The rule inside a function, as ``jax.vjp`` of it finds it."""

    def forward(*arguments: Any) -> tuple[PyTree, PyTree]:
        leaves, structure = jax.tree.flatten(arguments)
        places = float_places(leaves)

        def of_floats(floats: list[Any]) -> PyTree:
            return function(*jax.tree.unflatten(structure, replaced(leaves, places, floats)))

        y, pull_back = jax.vjp(of_floats, [leaves[i] for i in places])
        return y, (pull_back, y)

    def backward(arguments: tuple, residuals: PyTree, d_y: PyTree) -> tuple:
        pull_back, y = residuals
        leaves, structure = jax.tree.flatten(arguments)
        cotangents = iter(pull_back(_with_float0(d_y, y))[0])
        return jax.tree.unflatten(structure, [next(cotangents) if is_float(leaf) else None for leaf in leaves])

    every_name = argument_names(reference, len(arguments), names)
    return Rule(
        subject=name_of(function),
        reference=reference,
        forward=forward,
        backward=backward,
        arguments=arguments,
        names=every_name,
        edges=tuple(map(tuple, edges)),
        differentiated=_differentiated(every_name, nondiff, len(every_name)),
        primal=function,
    )


def of_gradient(
    manual_gradient: Callable, loss: Callable, params: PyTree, data: tuple, names: Sequence[str] | None
) -> Rule:
    """The rule of a whole gradient: its backward pass multiplies the gradient by the scalar's cotangent."""
    arguments = (params, *data)

    def forward(*arguments: Any) -> tuple[PyTree, PyTree]:
        result, value = manual_gradient(*arguments), None
        alike = jax.tree.structure(result) == jax.tree.structure(arguments[0])
        if not alike and isinstance(result, tuple) and len(result) == 2:
            value, result = result
            value = value[0] if isinstance(value, tuple) else value  # (loss, aux), gradient
        return loss(*arguments) if value is None else value, result

    def backward(arguments: tuple, gradient: PyTree, d_y: PyTree) -> tuple:
        scaled = lambda d: d if d is None else d * jnp.asarray(d_y, jnp.result_type(d))  # noqa: E731
        none = [jax.tree.map(lambda _: None, argument) for argument in arguments[1:]]
        return (jax.tree.map(scaled, gradient, is_leaf=lambda node: node is None), *none)

    return Rule(
        subject=name_of(manual_gradient),
        reference=loss,
        forward=forward,
        backward=backward,
        arguments=arguments,
        names=argument_names(loss, len(arguments), names),
        must_jit=False,
        differentiated=(True, *[False] * len(data)),
    )


def describe(layer: Layer) -> str:
    """The layer as it would be written, without the fields that have their defaults.

    >>> from backhand.layers.linear import Dense
    >>> describe(Dense(4))
    'Dense(features=4)'
    """
    options = [
        f"{field.name}={_describe_value(value)}"
        for field in dataclasses.fields(layer)  # pyright: ignore[reportArgumentType]  (every layer is a dataclass)
        if (value := getattr(layer, field.name)) is not field.default and value != field.default
    ]
    return f"{type(layer).__name__}({', '.join(options)})"


def _describe_value(value: Any) -> str:
    if isinstance(value, Layer):
        return describe(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe_value, value))}{',' * (len(value) == 1)})"
    return getattr(value, "__name__", None) or repr(value)


def name_of(function: Callable) -> str:
    """A function's name, or that of its type where it has none."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func  # pyright: ignore[reportFunctionMemberAccess]  (a partial)
    return getattr(function, "__name__", type(function).__name__)
