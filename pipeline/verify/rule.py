"""What is judged: a function's definition, a manual forward and backward pass, and example arguments.

Layers, pairs for ``jax.custom_vjp``, functions with a rule inside and whole gradients all become one ``Rule``, which
sees arguments as a flat list of arrays, each with its key path. ``make_rule`` makes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..errors import UserError
from ..layers.base import Context, Layer, PyTree
from .measure import path_of

_SMALL = 100_000
"""Up to so many numbers in the arguments, compiling a check takes longer than running it."""

MISSING = object()
"""Stands for a leaf that a backward pass left out."""


@dataclass(frozen=True)
class Breach:
    """A breach of the contract. kind: "structure", "shape", "dtype", "missing" or "exception"."""

    leaf: str
    kind: str
    message: str


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


@dataclass(frozen=True, eq=False)
class Rule:
    """A definition and a manual derivative of it, over ``arguments``.

    reference: the definition, ``(*arguments) -> out``, which autodiff differentiates.
    forward: ``(*arguments) -> (out, residuals)``.
    backward: ``(arguments, residuals, cotangent) -> cotangents``, one for each argument. ``cotangent`` has the
        structure of ``out``, with None for what is not a float.
    names: of the arguments; an empty one is left out of the leaves' paths.
    edges: further arguments at which the rule must hold.
    layer, context: those of a layer's rule.
    may_be_none: for each argument, whether None may stand for a cotangent that is zero.
    must_jit: whether the rule is wrong if it cannot be traced.
    differentiated: for each argument, whether its cotangent is checked; empty for all.
    primal: what is called where nothing is differentiated, if that is neither the definition nor the forward pass.
    derivative: how the definition is differentiated: by ``jax.vjp``, where it has a reverse mode.
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
    derivative: Callable[..., dict[str, Any]] = autodiff
    primal: Callable[..., PyTree] | None = None

    @cached_property
    def _flat(self) -> tuple[list[str], list[Any], Any]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tuple(self.arguments))
        return [self._name(path) for path, _ in leaves], [leaf for _, leaf in leaves], structure

    def _name(self, path: Any) -> str:
        name, rest = self.names[path[0].idx], path_of(path[1:])
        return f"{name}/{rest}" if name and rest else name or rest

    @cached_property
    def places(self) -> list[int]:
        """Which of the arguments' leaves are arrays; strings and Python integers are not."""
        return [i for i, leaf in enumerate(self._flat[1]) if is_array(leaf)]

    @cached_property
    def leaves(self) -> list[str]:
        """The arrays' key paths."""
        return [self._flat[0][i] for i in self.places]

    @cached_property
    def arrays(self) -> list[Any]:
        """The example arguments' arrays, in their own precision."""
        return [_as_array(self._flat[1][i]) for i in self.places]

    @cached_property
    def floats(self) -> list[str]:
        """The key paths of the leaves into which gradients flow."""
        has_cotangent = self.differentiated or (True,) * len(self.names)
        return [
            name
            for name, array in zip(self.leaves, self.arrays)
            if is_float(array) and has_cotangent[self._argument[name]]
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

    def jit(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` compiled: in less time, to run for longer, where the arguments are small."""
        small = sum(np.size(array) for array in self.arrays if not is_key(array)) <= _SMALL
        return compiler.jit_once(function) if small else compiler.jit(function)

    def autodiff(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        """The definition's: ``{"y": the value's floats, "d": every float argument's cotangent}``, by key path."""
        return self.derivative(self.define, self.leaves, arrays, d_y)

    def manual(self, arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        """The same by the rule. A leaf that it leaves out is MISSING; None where it stands for zero is zeros."""
        arguments = self.pack(arrays)
        y, residuals = as_pair(self.forward(*arguments))
        cotangents, _ = self.align(self.backward(arguments, residuals, spread(y, d_y)), arguments)
        zero = lambda d, primal: jnp.zeros_like(primal) if d is None else d  # noqa: E731
        primals = dict(zip(self.leaves, arrays))
        return {
            "y": outputs(y),
            "d": {name: zero(cotangents[name], primals[name]) for name in self.leaves if is_float(primals[name])},
        }

    def align(self, cotangents: Any, arguments: tuple) -> tuple[dict[str, Any], list[Breach]]:
        """Every array's cotangent by its key path, None or MISSING where there is none; and the breaches."""
        by_leaf: dict[str, Any] = {}
        breaches: list[Breach] = []
        if not isinstance(cotangents, tuple | list) or len(cotangents) != len(arguments):
            is_sequence = isinstance(cotangents, tuple | list)
            number = f"{len(cotangents)} of them" if is_sequence else f"{type(cotangents).__name__}"
            wanted = f"a tuple of {len(arguments)}, one for each argument ({', '.join(map(str, self.names))})"
            if len(arguments) == 1 and not is_sequence:
                cotangents = (cotangents,)
                wanted += "; a tuple of one is written (d,)"
            breaches.append(Breach("", "structure", f"the backward pass returns {number}; it must return {wanted}"))
            first = tuple(cotangents)[: len(arguments)] if isinstance(cotangents, tuple | list) else ()
            cotangents = first + (MISSING,) * (len(arguments) - len(first))
        for i, (d, primal) in enumerate(zip(cotangents, arguments)):
            of_argument, wrong = self._align_one(i, d, primal)
            by_leaf |= of_argument
            breaches += wrong
        return by_leaf, breaches

    def _align_one(self, i: int, d: Any, primal: PyTree) -> tuple[dict[str, Any], list[Breach]]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(primal)
        names = [self._name((jax.tree_util.SequenceKey(i), *path)) for path, _ in leaves]
        if d is MISSING:
            return dict.fromkeys(names, MISSING), []
        try:
            return dict(zip(names, structure.flatten_up_to(spread_none(d, primal)))), []
        except ValueError as error:
            reason = str(error)
        by_name = {
            self._name((jax.tree_util.SequenceKey(i), *path)): leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(d, is_leaf=lambda node: node is None)[0]
        }
        where = self.names[i]
        missing = [name for name in names if name not in by_name]
        surplus = [name for name, leaf in by_name.items() if name not in names and leaf is not None]
        breaches = [Breach(name, "structure", "the cotangent is missing") for name in missing]
        breaches += [Breach(name, "structure", "the cotangent belongs to no leaf of the arguments") for name in surplus]
        if not breaches:
            breaches = [Breach(where, "structure", f"the cotangent has another structure than its argument: {reason}")]
        return {name: by_name.get(name, MISSING) for name in names}, breaches

    def breaches(self, arrays: Sequence[Any]) -> list[Breach]:
        """The breaches of the contract at these arrays: structures, shapes, dtypes. Nothing is computed.

        Raises what the rule raises.
        """
        breaches: list[Breach] = []
        jax.eval_shape(lambda arrays: breaches.extend(self._breaches(arrays)), list(arrays))
        return breaches

    def _breaches(self, arrays: Sequence[Any]) -> list[Breach]:
        arguments = self.pack(arrays)
        expected = self.reference(*arguments)
        y, residuals = as_pair(self.forward(*arguments))
        breaches = _value_breaches(y, expected)
        if self.layer is not None:
            breaches += _residual_breaches(residuals)
        ones = [jnp.ones_like(leaf) for leaf in outputs(expected).values()]
        cotangents, wrong = self.align(self.backward(arguments, residuals, spread(expected, ones)), arguments)
        breaches += wrong
        for name, primal in zip(self.leaves, arrays):
            strict = bool(self.may_be_none) and not self.may_be_none[self._argument[name]]
            breach = _cotangent_breach(cotangents[name], primal, strict)
            if breach is not None:
                breaches.append(Breach(name, *breach))
        if self.layer is not None:
            breaches += self._statistics_breaches(self.layer, arguments[0], residuals)
        return breaches

    def _statistics_breaches(self, layer: Layer, params: PyTree, residuals: PyTree) -> list[Breach]:
        statistics = layer.statistics(params, residuals)
        by_leaf, breaches = self._align_one(0, statistics, params)
        primals = dict(zip(self.leaves, jax.tree.leaves(params)))
        for name, leaf in by_leaf.items():
            if leaf is not None and leaf is not MISSING:
                shape, dtype = primals[name].shape, primals[name].dtype
                if (leaf.shape, leaf.dtype) != (shape, dtype):
                    message = f"statistics returns {leaf.dtype}{list(leaf.shape)}; it must be {dtype}{list(shape)}"
                    breaches.append(Breach(name, "shape", message))
        return breaches


def float_places(leaves: Sequence[Any]) -> list[int]:
    """Which of the leaves gradients flow into."""
    return [i for i, leaf in enumerate(leaves) if is_float(leaf)]


def replaced(leaves: Sequence[Any], places: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """The leaves with ``values`` at ``places``."""
    result = list(leaves)
    for place, value in zip(places, values):
        result[place] = value
    return result


def paired(y: Sequence[Any], d_y: Sequence[Any]) -> Any:
    """The real part of <d_y, y>, the scalar whose gradient the cotangent ``d_y`` asks for."""
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


def as_pair(result: Any) -> tuple[PyTree, PyTree]:
    """What a forward pass returned. Raises TypeError where it is no pair of value and residuals."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"the forward pass returns {type(result).__name__}; it must return a pair (out, residuals)")
    return result


def _value_breaches(y: PyTree, expected: PyTree) -> list[Breach]:
    if jax.tree.structure(y) != jax.tree.structure(expected):
        own, wanted = jax.tree.structure(y), jax.tree.structure(expected)
        return [Breach("y", "structure", f"forward's value has the structure {own}; the function's has {wanted}")]
    breaches = []
    for (path, leaf), like in zip(jax.tree_util.tree_flatten_with_path(y)[0], jax.tree.leaves(expected)):
        name = "/".join(filter(None, ("y", path_of(path))))
        if jnp.shape(leaf) != jnp.shape(like):
            breaches.append(Breach(name, "shape", f"forward's value is {_kind(leaf)}; it must be {_kind(like)}"))
        elif is_float(like) and jnp.result_type(leaf) != jnp.result_type(like):
            breaches.append(Breach(name, "dtype", f"forward's value is {_kind(leaf)}; it must be {_kind(like)}"))
    return breaches


def _residual_breaches(residuals: PyTree) -> list[Breach]:
    return [
        Breach("", "structure", f"the residual {path_of(path)} is {leaf!r}, which is neither an array nor Static")
        for path, leaf in jax.tree_util.tree_flatten_with_path(residuals)[0]
        if not isinstance(leaf, jax.Array | np.ndarray)
    ]


def _cotangent_breach(d: Any, primal: Any, strict: bool) -> tuple[str, str] | None:
    """strict: for parameters of layers, whose cotangent is never None."""
    if d is MISSING:
        return None  # a breach of the structure says so
    if not is_float(primal):
        is_zero = d is None or getattr(d, "dtype", None) in (jax.dtypes.float0, getattr(primal, "dtype", None))
        return None if is_zero else ("dtype", f"the cotangent of {primal.dtype} must be None")
    if d is None:
        return (
            ("missing", "the cotangent of a parameter is None; where no gradient flows it must be zeros")
            if strict
            else None
        )
    if not isinstance(d, jax.Array | np.ndarray | np.generic):
        return "structure", f"the cotangent is {d!r}, which is not an array"
    if d.shape != primal.shape:
        return "shape", f"the cotangent is {_kind(d)}; it must be {_kind(primal)}"
    if d.dtype != primal.dtype:
        return "dtype", f"the cotangent is {_kind(d)}; it must be {_kind(primal)}"
    return None


def _kind(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
