"""What is judged: a function's definition, a forward and backward pass by hand, and example arguments.

Layers, pairs of ``jax.custom_vjp``, functions that carry their rule and whole gradients all come down to one ``Rule``,
which sees arguments as a flat list of arrays, each called by its key path.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.errors import UserError
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.verify.measure import path_of

MISSING = object()
"""In place of a leaf that a backward pass left out."""


@dataclass(frozen=True)
class Breach:
    """Something a rule does against the contract. kind: "structure", "shape", "dtype", "missing" or "exception"."""

    leaf: str
    kind: str
    message: str


@dataclass(frozen=True, eq=False)
class Rule:
    """A definition and a hand-written derivative of it, over ``arguments``.

    reference: ``(*arguments) -> out``, what autodiff derives.
    forward: ``(*arguments) -> (out, residuals)``.
    backward: ``(arguments, residuals, cotangent) -> cotangents``, one for each argument. ``cotangent`` has the
        structure of ``out``, with None for what is not a float.
    names: of the arguments; an empty one is left out of its leaves' paths.
    layer, context: of a rule that is a layer's.
    may_be_none: for each argument, whether None may stand for a cotangent that is zero.
    must_jit: whether a rule that cannot be traced is at fault.
    differentiated: for each argument, whether its cotangent is looked at.
    """

    subject: str
    reference: Callable[..., PyTree]
    forward: Callable[..., tuple[PyTree, PyTree]]
    backward: Callable[[tuple, PyTree, PyTree], Any]
    arguments: tuple
    names: tuple[str, ...]
    edges: tuple[tuple, ...] = ()
    layer: Layer | None = None
    context: Context = Context()  # noqa: RUF009  (frozen)
    must_jit: bool = True
    differentiated: tuple[bool, ...] = ()
    may_be_none: tuple[bool, ...] = ()

    @cached_property
    def _flat(self) -> tuple[list[str], list[Any], Any]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tuple(self.arguments))
        return [self._name(path) for path, _ in leaves], [leaf for _, leaf in leaves], structure

    def _name(self, path: Any) -> str:
        name, rest = self.names[path[0].idx], path_of(path[1:])
        return f"{name}/{rest}" if name and rest else name or rest

    @cached_property
    def places(self) -> list[int]:
        """Which of the arguments' leaves are arrays; what else there is (strings, Python integers) stays as given."""
        return [i for i, leaf in enumerate(self._flat[1]) if is_array(leaf)]

    @cached_property
    def leaves(self) -> list[str]:
        """The arrays' key paths."""
        return [self._flat[0][i] for i in self.places]

    @cached_property
    def arrays(self) -> list[Any]:
        """The example arguments' arrays, as they were given."""
        return [_as_array(self._flat[1][i]) for i in self.places]

    @cached_property
    def floats(self) -> list[str]:
        """The key paths of the leaves into which gradients flow."""
        counted = self.differentiated or (True,) * len(self.names)
        return [
            name for name, array in zip(self.leaves, self.arrays) if is_float(array) and counted[self._argument[name]]
        ]

    @cached_property
    def _argument(self) -> dict[str, int]:
        """Which argument a leaf belongs to."""
        leaves = jax.tree_util.tree_flatten_with_path(tuple(self.arguments))[0]
        return {self._name(path): path[0].idx for path, _ in leaves}

    def flatten(self, arguments: tuple) -> list[Any]:
        """The arrays of other arguments of the same structure, as of an edge. Raises UserError where it differs."""
        leaves, structure = jax.tree.flatten(tuple(arguments))
        if structure != self._flat[2]:
            raise UserError(
                f"{self.subject}: an edge's arguments have the structure {structure}; the arguments' is {self._flat[2]}"
            )
        return [_as_array(leaves[i]) for i in self.places]

    def pack(self, arrays: Sequence[Any]) -> tuple:
        """Arguments with these arrays in their places."""
        return jax.tree.unflatten(self._flat[2], replaced(self._flat[1], self.places, arrays))

    def define(self, arrays: Sequence[Any]) -> PyTree:
        """The definition's value."""
        return self.reference(*self.pack(arrays))

    def autodiff(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        """The value's floats and every float argument's cotangent, each by its key path, by ``jax.vjp``."""
        return autodiff(self.define, self.leaves, arrays, d_y)

    def manual(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        """The same by hand. A leaf that the rule leaves out is MISSING; None where it stands for zero is zeros."""
        arguments = self.pack(arrays)
        y, residuals = _pair(self.forward(*arguments))
        cotangents = self.backward(arguments, residuals, spread(y, d_y))
        found, _ = self.align(cotangents, arguments)
        zero = lambda d, primal: jnp.zeros_like(primal) if d is None else d  # noqa: E731
        primals = dict(zip(self.leaves, arrays))
        return {
            "y": outputs(y),
            "d": {name: zero(found[name], primals[name]) for name in self.leaves if is_float(primals[name])},
        }

    def align(self, cotangents: Any, arguments: tuple) -> tuple[dict[str, Any], list[Breach]]:
        """Every array's cotangent by its key path, None or MISSING where there is none; and what is wrong with them."""
        found: dict[str, Any] = {}
        breaches: list[Breach] = []
        if not isinstance(cotangents, tuple | list) or len(cotangents) != len(arguments):
            got = (
                f"{len(cotangents)} of them" if isinstance(cotangents, tuple | list) else f"{type(cotangents).__name__}"
            )
            wanted = f"a tuple of {len(arguments)}, one for each argument ({', '.join(map(str, self.names))})"
            if len(arguments) == 1 and not isinstance(cotangents, tuple | list):
                cotangents = (cotangents,)
                wanted += "; a tuple of one is written (d,)"
            breaches.append(Breach("", "structure", f"the backward pass gives {got}; it must give {wanted}"))
            given = tuple(cotangents) if isinstance(cotangents, tuple | list) else ()
            cotangents = given[: len(arguments)] + (MISSING,) * (len(arguments) - len(given))
        for i, (d, primal) in enumerate(zip(cotangents, arguments)):
            of_argument, wrong = self._align_one(i, d, primal)
            found |= of_argument
            breaches += wrong
        return found, breaches

    def _align_one(self, i: int, d: Any, primal: PyTree) -> tuple[dict[str, Any], list[Breach]]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(primal)
        names = [self._name((jax.tree_util.SequenceKey(i), *path)) for path, _ in leaves]
        if d is MISSING:
            return dict.fromkeys(names, MISSING), []
        try:
            return dict(zip(names, structure.flatten_up_to(spread_none(d, primal)))), []
        except ValueError as error:
            reason = str(error)
        given = {
            self._name((jax.tree_util.SequenceKey(i), *path)): leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(d, is_leaf=lambda node: node is None)[0]
        }
        where = self.names[i]
        missing = [name for name in names if name not in given]
        surplus = [name for name, leaf in given.items() if name not in names and leaf is not None]
        breaches = [Breach(name, "structure", "the cotangent is missing") for name in missing]
        breaches += [
            Breach(name, "structure", "the cotangent is there, and nothing that it belongs to") for name in surplus
        ]
        if not breaches:
            breaches = [Breach(where, "structure", f"the cotangent has another structure: {reason}")]
        return {name: given.get(name, MISSING) for name in names}, breaches

    def breaches(self, arrays: Sequence[Any]) -> list[Breach]:
        """What the rule does against the contract at these arrays: structures, shapes, dtypes. Nothing is computed.

        Raises what the rule raises.
        """
        found: list[Breach] = []
        jax.eval_shape(lambda arrays: found.extend(self._breaches(arrays)), list(arrays))
        return found

    def _breaches(self, arrays: Sequence[Any]) -> list[Breach]:
        arguments = self.pack(arrays)
        expected = self.reference(*arguments)
        y, residuals = _pair(self.forward(*arguments))
        found = _value_breaches(y, expected)
        if self.layer is not None:
            found += _residual_breaches(residuals)
        ones = [jnp.ones_like(leaf) for leaf in outputs(expected).values()]
        cotangents, wrong = self.align(self.backward(arguments, residuals, spread(expected, ones)), arguments)
        found += wrong
        for name, primal in zip(self.leaves, arrays):
            strict = bool(self.may_be_none) and not self.may_be_none[self._argument[name]]
            breach = _cotangent_breach(cotangents[name], primal, strict)
            if breach is not None:
                found.append(Breach(name, *breach))
        if self.layer is not None:
            found += self._statistics_breaches(self.layer, arguments[0], residuals)
        return found

    def _statistics_breaches(self, layer: Layer, params: PyTree, residuals: PyTree) -> list[Breach]:
        statistics = layer.statistics(params, residuals)
        found, wrong = self._align_one(0, statistics, params)
        primals = dict(zip(self.leaves, jax.tree.leaves(params)))
        for name, leaf in found.items():
            if leaf is not None and leaf is not MISSING:
                shape, dtype = primals[name].shape, primals[name].dtype
                if (leaf.shape, leaf.dtype) != (shape, dtype):
                    message = (
                        f"what statistics gives is {leaf.dtype}{list(leaf.shape)}; it must be {dtype}{list(shape)}"
                    )
                    wrong.append(Breach(name, "shape", message))
        return wrong


def autodiff(define: Callable, leaves: Sequence[str], arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
    """Value and cotangents of a function of a list of arrays, by ``jax.vjp``: {"y": ..., "d": ...}."""
    places = float_places(arrays)
    names: list[str] = []

    def of_floats(floats: list[Any]) -> PyTree:
        y = outputs(define(replaced(arrays, places, floats)))
        names[:] = y
        return list(y.values())

    y, pull_back = jax.vjp(of_floats, [arrays[i] for i in places])
    (d_arrays,) = pull_back([jnp.asarray(d, leaf.dtype) for d, leaf in zip(d_y, y)])
    return {"y": dict(zip(names, y)), "d": {leaves[i]: d for i, d in zip(places, d_arrays)}}


def float_places(leaves: Sequence[Any]) -> list[int]:
    """Which of the leaves gradients flow into."""
    return [i for i, leaf in enumerate(leaves) if is_float(leaf)]


def replaced(leaves: Sequence[Any], places: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """The leaves with these values in these places."""
    result = list(leaves)
    for place, value in zip(places, values):
        result[place] = value
    return result


def paired(y: Sequence[Any], d_y: Sequence[Any]) -> Any:
    """<d_y, y>, the real part: the number whose derivatives ``d_y`` asks for."""
    return sum((jnp.real(leaf * d).sum() for leaf, d in zip(y, d_y)), start=0.0)


def outputs(y: PyTree) -> dict[str, Any]:
    """The floats among a function's outputs, by key path: "y", "y/0", ..."""
    leaves = jax.tree_util.tree_flatten_with_path(y)[0]
    return {"/".join(filter(None, ("y", path_of(path)))): leaf for path, leaf in leaves if is_float(leaf)}


def spread(y: PyTree, d_y: Sequence[Any]) -> PyTree:
    """Cotangents of the floats of ``y`` in the structure of ``y``, with None for all else."""
    rest = list(d_y)
    return jax.tree.map(lambda leaf: jnp.asarray(rest.pop(0), leaf.dtype) if is_float(leaf) else None, y)


def spread_none(cotangent: PyTree, primal: PyTree) -> PyTree:
    """``cotangent`` with a None for every leaf of ``primal`` that a None of it stands for.

    Raises ValueError where the structures differ otherwise.
    """
    part_of = lambda d, part: jax.tree.map(lambda _: None, part) if d is None else d  # noqa: E731
    return jax.tree.map(part_of, cotangent, primal, is_leaf=lambda node: node is None)


def is_array(leaf: Any) -> bool:
    """Whether it is data: an array, a NumPy scalar or a Python float; Python integers and strings are options."""
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind in "biufcV"
    return isinstance(leaf, jax.Array | float | complex) and not isinstance(leaf, bool)


def is_float(leaf: Any) -> bool:
    """Whether gradients flow into it: real or complex numbers."""
    return leaf is not None and hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_key(leaf: Any) -> bool:
    """Whether it is a typed PRNG key."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array | np.ndarray) else np.asarray(leaf)


def _pair(result: Any) -> tuple[PyTree, PyTree]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"the forward pass gives {type(result).__name__}; it must give a pair (out, residuals)")
    return result


def _value_breaches(y: PyTree, expected: PyTree) -> list[Breach]:
    if jax.tree.structure(y) != jax.tree.structure(expected):
        found, wanted = jax.tree.structure(y), jax.tree.structure(expected)
        return [Breach("y", "structure", f"forward's value has the structure {found}; the function's has {wanted}")]
    found = []
    for (path, leaf), like in zip(jax.tree_util.tree_flatten_with_path(y)[0], jax.tree.leaves(expected)):
        name = "/".join(filter(None, ("y", path_of(path))))
        if jnp.shape(leaf) != jnp.shape(like):
            found.append(Breach(name, "shape", f"forward's value is {_kind(leaf)}; it must be {_kind(like)}"))
        elif is_float(like) and jnp.result_type(leaf) != jnp.result_type(like):
            found.append(Breach(name, "dtype", f"forward's value is {_kind(leaf)}; it must be {_kind(like)}"))
    return found


def _residual_breaches(residuals: PyTree) -> list[Breach]:
    return [
        Breach(
            "", "structure", f"the residual {path_of(path)} is {leaf!r}: not an array, nor known while tracing (Static)"
        )
        for path, leaf in jax.tree_util.tree_flatten_with_path(residuals)[0]
        if not isinstance(leaf, jax.Array | np.ndarray)
    ]


def _cotangent_breach(d: Any, primal: Any, strict: bool) -> tuple[str, str] | None:
    """strict: the layers' own contract, in which None does not stand for zeros, and nothing stands for an integer's."""
    if d is MISSING:
        return None  # said by the structure
    if not is_float(primal):
        is_zero = d is None or getattr(d, "dtype", None) in (jax.dtypes.float0, getattr(primal, "dtype", None))
        return None if is_zero else ("dtype", f"the cotangent of {primal.dtype} must be None")
    if d is None:
        return (
            ("missing", "the cotangent of a parameter is None; where no gradient flows it is zeros") if strict else None
        )
    if not isinstance(d, jax.Array | np.ndarray | np.generic):
        return "structure", f"the cotangent is {d!r}, which is no array"
    if d.shape != primal.shape:
        return "shape", f"the cotangent is {_kind(d)}; it must be {_kind(primal)}"
    if d.dtype != primal.dtype:
        return "dtype", f"the cotangent is {_kind(d)}; it must be {_kind(primal)}"
    return None


def _kind(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def argument_names(function: Callable, count: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The arguments' names: those given, else the function's own parameters', else argument0, argument1, ..."""
    if names is not None:
        if len(names) != count:
            raise UserError(f"names has {len(names)} names for {count} arguments; give one for each")
        return tuple(names)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    found: list[str] = []
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            found.append(parameter.name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            found += [f"{parameter.name}{i}" for i in range(count - len(found))]
    found += [f"argument{i}" for i in range(len(found), count)]
    return tuple(found[:count])


def of_layer(layer: Layer, params: PyTree, x: PyTree, context: Context) -> Rule:
    """The rule of one of our layers: over (params, x), in a context."""
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
) -> Rule:
    """The rule of a pair written for ``jax.custom_vjp``."""
    fixed = {i: arguments[i] for i in nondiff_argnums}

    def with_outputs(*arguments: Any) -> tuple[PyTree, PyTree]:
        y, residuals = _pair(forward(*_merged(arguments, fixed)))
        return y, (residuals, y)

    def by_hand(_: tuple, kept: PyTree, d_y: PyTree) -> Any:
        residuals, y = kept
        return backward(*fixed.values(), residuals, _with_float0(d_y, y))

    given = [argument for i, argument in enumerate(arguments) if i not in fixed]
    every_name = argument_names(function, len(arguments), names)
    return Rule(
        subject=name_of(function),
        reference=lambda *given: function(*_merged(given, fixed)),
        forward=with_outputs,
        backward=by_hand,
        arguments=tuple(given),
        names=tuple(name for i, name in enumerate(every_name) if i not in fixed),
        edges=tuple(tuple(a for i, a in enumerate(edge) if i not in fixed) for edge in edges),
    )


def _merged(given: Sequence[Any], fixed: dict[int, Any]) -> list[Any]:
    rest = list(given)
    return [fixed[i] if i in fixed else rest.pop(0) for i in range(len(given) + len(fixed))]


def _with_float0(d_y: PyTree, y: PyTree) -> PyTree:
    """Integer outputs' cotangents as ``custom_vjp`` hands them over: zeros of the dtype float0."""
    zeros = lambda d, leaf: np.zeros(jnp.shape(leaf), jax.dtypes.float0) if d is None else d  # noqa: E731
    return jax.tree.map(zeros, d_y, y, is_leaf=lambda node: node is None)


def of_custom_vjp(
    function: Callable,
    reference: Callable,
    arguments: tuple,
    names: Sequence[str] | None,
    edges: Sequence[Sequence[PyTree]],
) -> Rule:
    """The rule that a function carries, as ``jax.vjp`` of it finds it."""

    def forward(*arguments: Any) -> tuple[PyTree, PyTree]:
        leaves, structure = jax.tree.flatten(arguments)
        places = float_places(leaves)

        def of_floats(floats: list[Any]) -> PyTree:
            return function(*jax.tree.unflatten(structure, replaced(leaves, places, floats)))

        y, pull_back = jax.vjp(of_floats, [leaves[i] for i in places])
        return y, (pull_back, y)

    def backward(arguments: tuple, kept: PyTree, d_y: PyTree) -> tuple:
        pull_back, y = kept
        leaves, structure = jax.tree.flatten(arguments)
        cotangents = iter(pull_back(_with_float0(d_y, y))[0])
        return jax.tree.unflatten(structure, [next(cotangents) if is_float(leaf) else None for leaf in leaves])

    given_names = argument_names(reference, len(arguments), names)
    return Rule(name_of(function), reference, forward, backward, arguments, given_names, tuple(map(tuple, edges)))


def of_gradient(
    manual_gradient: Callable, loss: Callable, params: PyTree, data: tuple, names: Sequence[str] | None
) -> Rule:
    """The rule of a whole gradient: its backward pass multiplies it with the scalar's cotangent."""
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
    """The layer as it would be written: fields that have their defaults are left out."""
    shown = [
        f"{field.name}={_describe_value(value)}"
        for field in dataclasses.fields(layer)  # pyright: ignore[reportArgumentType]  (every layer is a dataclass)
        if (value := getattr(layer, field.name)) is not field.default and value != field.default
    ]
    return f"{type(layer).__name__}({', '.join(shown)})"


def _describe_value(value: Any) -> str:
    if isinstance(value, Layer):
        return describe(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe_value, value))}{',' * (len(value) == 1)})"
    return getattr(value, "__name__", None) or repr(value)


def name_of(function: Callable) -> str:
    """What a function is called; its type's name where it has none."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func  # pyright: ignore[reportFunctionMemberAccess]  (a partial)
    return getattr(function, "__name__", type(function).__name__)
