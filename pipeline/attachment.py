"""The hand-written rules in other people's programs: behind ``jax.grad``, ``jit``, ``vmap`` and ``shard_map``.

``jax.custom_vjp`` would do for ``grad`` alone. But under ``vmap`` it maps forward and backward over single examples,
which takes from most rules what makes them fast, and it has no forward mode. So a layer is a primitive here, and its
derivative is another one:

    attached(params, x)                      -> y        vmap: one call for the whole batch
    derivative(params, x, residuals, tangents) -> d_y    linear in the tangents; its transpose is ``backward``

JAX's name for the second one's input and output is tangents. Forward mode computes it from the definition, reverse mode
transposes it, by the hand-written rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .layers.base import Context, Layer, PyTree, Wrapper, children, map_children, vary_like, varying_axes
from .layers.checking import check


@cache
def attach(layer: Layer, forward_mode: bool = True) -> Callable[..., PyTree]:
    """``layer`` as a function ``(params, x, context=Context()) -> y`` with the hand-written rule as its derivative.

    The function works in Flax, Equinox or plain JAX code, under

    - ``jax.grad``, ``jax.vjp``, ``jax.jacrev``: the hand-written rule; also of second order (``jax.hessian``,
      ``grad`` of ``grad``, ``jvp`` of ``grad``), where autodiff differentiates the hand-written backward pass;
    - ``jax.jvp``, ``jax.linearize``, ``jax.jacfwd``: the derivative of the layer's definition, ``apply``;
    - ``jit``, ``checkpoint``, ``scan``, and ``shard_map``, where cotangents of parameters that are the same on all
      devices are summed over the devices;
    - ``vmap`` over examples with the same parameters: all examples become one batch, in which the rule is as fast as
      without ``vmap``. Layers whose examples are not independent (BatchNorm, dropout, losses) are mapped one by one.

    Equal layers give the same function, so that attaching a layer again does not retrace.

    forward_mode: False: forward mode raises TypeError, so that the manual rule is the only derivative ever used.

    >>> from backhand.layers import MaxPool
    >>> max_pool = attach(MaxPool((2, 2)))
    >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> jax.grad(lambda x: max_pool({}, x).sum())(x).ravel().tolist()
    [0.0, 0.0, 0.0, 1.0]
    """

    def attached(params: PyTree, x: PyTree, context: Context = Context()) -> PyTree:  # noqa: B008  (frozen)
        flat, structure = jax.tree.flatten((params, x, context))
        call = _Call(layer, structure, forward_mode)
        y = _attached.bind(*flat, call=call)
        return jax.tree.unflatten(_outputs(call, *map(jax.typeof, flat))[1], y)

    return attached


@dataclass(frozen=True)
class _Call:
    """A layer, and the structure of its (params, x, context), whose leaves are a primitive's operands."""

    layer: Layer
    structure: Any
    forward_mode: bool

    def __call__(self, *flat: Any) -> PyTree:
        return self.layer.apply(*jax.tree.unflatten(self.structure, flat))

    def flat(self, *flat: Any) -> list[Any]:
        return jax.tree.leaves(self(*flat))


def _float_places(flat: Sequence[Any]) -> list[int]:
    return [i for i, leaf in enumerate(flat) if jnp.issubdtype(jax.typeof(leaf).dtype, jnp.inexact)]


def _replaced(flat: Sequence[Any], places: Sequence[int], new: Sequence[Any]) -> list[Any]:
    """``flat`` with ``new`` at ``places``."""
    result = list(flat)
    for place, leaf in zip(places, new):
        result[place] = leaf
    return result


def _jvp_of_floats(
    function: Callable[..., list[Any]], flat: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The outputs of ``function(*flat)`` and their tangents. tangents: of the operands that have a derivative."""
    places = _float_places(flat)
    floats = tuple(flat[i] for i in places)
    return jax.jvp(lambda *new: function(*_replaced(flat, places, new)), floats, tuple(tangents))


@lru_cache(maxsize=4096)
def _outputs(call: _Call, *types: Any) -> tuple[tuple[Any, ...], Any]:
    """The types of the outputs' leaves, and their structure. Raises LayerError for what the layer can't take."""
    check(call.layer, *jax.tree.unflatten(call.structure, types))
    jaxpr, y = jax.make_jaxpr(call, return_shape=True)(*types)
    return tuple(jaxpr.out_avals), jax.tree.structure(y)


def _apply(*flat: Any, call: _Call) -> list[Any]:
    return call.flat(*flat)


def _types(*types: Any, call: _Call) -> tuple[Any, ...]:
    return _outputs(call, *types)[0]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], call: _Call) -> tuple[list[Any], list[Any]]:
    """y and its tangents. The residuals are operands of the second, for its transpose."""
    params, x, context = jax.tree.unflatten(call.structure, primals)
    y, residuals = call.layer.forward(params, x, context)
    flat_residuals, structure = jax.tree.flatten(residuals)
    floats = [ad.instantiate_zeros(tangents[i]) for i in _float_places(primals)]
    y_tangents = iter(
        _derivative.bind(
            *primals, *flat_residuals, *floats, call=call, sizes=(len(primals), len(floats)), residuals=structure
        )
    )
    y = jax.tree.leaves(y)
    places = _float_places(y)
    none = [ad.Zero(jax.typeof(leaf).to_tangent_aval()) for leaf in y]
    return y, _replaced(none, places, list(y_tangents))


def _batched(axis: Any, args: Sequence[Any], dims: Sequence[Any], call: _Call) -> tuple[list[Any], list[Any]]:
    """One call for a batch of all examples, where the layer treats them independently; else an ordinary ``vmap``."""
    if all(dim is None for dim in dims):
        y = _attached.bind(*args, call=call)
        return y, [None] * len(y)
    size = axis.size
    of_params, of_x, of_context = call.structure.children()
    first, second = of_params.num_leaves, of_params.num_leaves + of_x.num_leaves
    context: Context = jax.tree.unflatten(of_context, args[second:])
    context_dims: Context = jax.tree.unflatten(of_context, dims[second:])
    shapes = [_without_axis(arg, dim).shape for arg, dim in zip(args[first:second], dims[first:second])]
    ranks = [len(shape) for shape in shapes]
    # Rows without a batch, (features,), become a batch of rows; all other examples are joined along their batch axis.
    rows = max(ranks, default=0) == 1
    masks = {name: getattr(context, name) for name in ("mask", "memory_mask") if getattr(context, name) is not None}
    if (
        not call.layer.independent_examples
        or any(dim is not None for dim in dims[:first])
        or min(ranks, default=0) == 0
        or (rows and masks)
        or (not rows and len({shape[0] for shape in shapes}) > 1)  # one array for all examples of a batch
    ):
        mapped = _Mapped(call.layer, size, axis.name, call.structure, tuple(dims))
        y = _attached.bind(*args, call=replace(call, layer=mapped))
        return y, [0] * len(y)

    def joined(array: Any, dim: int | None) -> Any:
        array = jnp.broadcast_to(array[None], (size, *array.shape)) if dim is None else jnp.moveaxis(array, dim, 0)
        return array if rows else array.reshape(-1, *array.shape[2:])

    x = jax.tree.unflatten(of_x, [joined(*pair) for pair in zip(args[first:second], dims[first:second])])
    joined_masks = {name: joined(mask, getattr(context_dims, name)) for name, mask in masks.items()}
    params = jax.tree.unflatten(of_params, args[:first])
    flat, structure = jax.tree.flatten((params, x, replace(context, key=None, **joined_masks)))
    y = _attached.bind(*flat, call=replace(call, structure=structure))
    of_one = _outputs(call, *(_without_axis(arg, dim) for arg, dim in zip(args, dims)))[0]
    return [leaf.reshape(size, *one.shape) for leaf, one in zip(y, of_one)], [0] * len(y)


@dataclass(frozen=True)
class _Mapped(Layer):
    """``layer`` under ``vmap``: definition and rule are mapped one by one, so that the rule stays the derivative.

    dims: the mapped axis of each leaf of (params, x, context), or None.
    """

    layer: Layer
    size: int
    axis_name: Any
    structure: Any
    dims: tuple[int | None, ...]

    def _vmap(self, function: Callable[..., PyTree], axes: tuple[PyTree, ...]) -> Callable[..., PyTree]:
        return jax.vmap(function, axes, axis_name=self.axis_name, axis_size=self.size)

    def _axes(self) -> tuple[PyTree, PyTree, PyTree]:
        return jax.tree.unflatten(self.structure, self.dims)

    def init(self, key: Any, x: PyTree) -> PyTree:
        raise NotImplementedError("the parameters are those of the layer that was attached")

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self._vmap(self.layer.apply, self._axes())(params, x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self._vmap(self.layer.forward, self._axes())(params, x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The cotangents of all examples; their sum for what all of them share."""
        axes = self._axes()
        d = self._vmap(self.layer.backward, (axes[0], 0, 0))(params, residuals, d_y)

        def gathered(d: Any, axis: int | None) -> Any:
            return d if d is None else d.sum(0) if axis is None else jnp.moveaxis(d, 0, axis)

        return tuple(_map_leaves(gathered, part, axis) for part, axis in zip(d, axes))  # pyright: ignore


def _map_leaves(function: Callable[[Any, Any], Any], tree: PyTree, other: PyTree) -> PyTree:
    """``function`` of the leaves of two trees that may have None for leaves; ``other`` has an integer or None."""
    is_none = lambda node: node is None  # noqa: E731
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_none)
    return structure.unflatten(map(function, leaves, jax.tree.leaves(other, is_leaf=is_none)))


def _without_axis(array: Any, dim: int | None) -> Any:
    """The type of ``array`` without axis ``dim``."""
    shape = list(array.shape)
    if dim is not None:
        del shape[dim]
    return jax.ShapeDtypeStruct(tuple(shape), array.dtype)


_attached = Primitive("attached")
_attached.multiple_results = True
_attached.def_impl(_apply)
_attached.def_abstract_eval(_types)
mlir.register_lowering(_attached, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[_attached] = _jvp
batching.fancy_primitive_batchers[_attached] = _batched


# The derivative: y's tangents for those of params and x. Its operands are these three, the residuals and the tangents.


def _split(operands: Sequence[Any], sizes: tuple[int, int]) -> tuple[list[Any], list[Any], list[Any]]:
    """The primals, the residuals and the tangents."""
    primals, tangents = sizes
    end = len(operands) - tangents
    return list(operands[:primals]), list(operands[primals:end]), list(operands[end:])


def _differentiate(*operands: Any, call: _Call, sizes: tuple[int, int], residuals: Any) -> list[Any]:
    """The derivative of the definition, in forward mode."""
    del residuals
    primals, _, tangents = _split(operands, sizes)
    if not call.forward_mode:
        raise TypeError(
            f"attach({call.layer}, forward_mode=False) has the manual rule alone, which is one of reverse mode: use "
            "jax.grad or jax.vjp, or attach the layer with forward_mode=True"
        )
    d_y = _jvp_of_floats(call.flat, primals, tangents)[1]
    return [d for d in d_y if d.dtype != jax.dtypes.float0]


def _derivative_types(*operands: Any, call: _Call, sizes: tuple[int, int], residuals: Any) -> list[Any]:
    del residuals
    types = _outputs(call, *operands[: sizes[0]])[0]
    return [y.to_tangent_aval() for y in types if jnp.issubdtype(y.dtype, jnp.inexact)]


def _transpose(d_y: Sequence[Any], *operands: Any, call: _Call, sizes: tuple[int, int], residuals: Any) -> list[Any]:
    """The cotangents of the tangents, by the hand-written rule."""
    primals, saved, tangents = _split(operands, sizes)
    params, x, _ = jax.tree.unflatten(call.structure, primals)
    types, structure = _outputs(call, *map(jax.typeof, primals))
    d_floats = iter(d_y)
    d_leaves = [ad.instantiate_zeros(next(d_floats)) if jnp.issubdtype(y.dtype, jnp.inexact) else None for y in types]
    d_params, d_x = call.layer.backward(
        params, jax.tree.unflatten(residuals, saved), jax.tree.unflatten(structure, d_leaves)
    )
    cotangents = [*_checked(call.layer, "params", params, d_params), *_checked(call.layer, "x", x, d_x)]
    wanted = [cotangents[i] for i in _float_places(primals)]
    return [None] * (len(primals) + len(saved)) + [
        d if ad.is_undefined_primal(tangent) else None for d, tangent in zip(wanted, tangents)
    ]


def _checked(layer: Layer, name: str, primal: PyTree, cotangent: PyTree) -> list[Any]:
    """The cotangents of the primal's leaves, with the types of these. None stands for zeros, also for a whole subtree.

    A cotangent that differs from device to device, of a primal that does not, is summed over the devices.
    """

    def of_leaf(path: Any, leaf: Any, d: Any) -> Any:
        wanted = jax.typeof(leaf)
        if not jnp.issubdtype(wanted.dtype, jnp.inexact):
            return None
        if d is None:
            return vary_like(jnp.zeros(wanted.shape, wanted.dtype), leaf)
        if (d.shape, d.dtype) != (wanted.shape, wanted.dtype):
            where = name + jax.tree_util.keystr(path)
            given, wanted = (f"{type_.dtype}{list(type_.shape)}" for type_ in (d, wanted))
            raise TypeError(f"{type(layer).__name__}.backward gives {given} for d_{where}, which is {wanted}")
        axes = varying_axes(d) - varying_axes(leaf)
        return lax.psum(d, tuple(sorted(axes))) if axes else vary_like(d, leaf)

    cotangents = []

    def of_subtree(path: Any, d: Any, part: PyTree) -> None:
        leaves = jax.tree_util.tree_leaves_with_path(part)
        cotangents.extend(of_leaf((*path, *below), leaf, d) for below, leaf in leaves)

    try:
        jax.tree_util.tree_map_with_path(of_subtree, cotangent, primal, is_leaf=lambda node: node is None)
    except ValueError as error:
        raise TypeError(f"{type(layer).__name__}.backward: d_{name} and {name} differ in structure: {error}") from None
    return cotangents


def _derivative_jvp(primals: Sequence[Any], tangents: Sequence[Any], **options: Any) -> tuple[list[Any], list[Any]]:
    floats = [ad.instantiate_zeros(tangents[i]) for i in _float_places(primals)]
    return _jvp_of_floats(partial(_differentiate, **options), primals, floats)


def _derivative_batched(
    axis: Any, args: Sequence[Any], dims: Sequence[Any], **options: Any
) -> tuple[list[Any], list[Any]]:
    if all(dim is None for dim in dims):
        y = _derivative.bind(*args, **options)
        return y, [None] * len(y)
    function = partial(_differentiate, **options)
    y = jax.vmap(function, in_axes=tuple(dims), axis_name=axis.name, axis_size=axis.size)(*args)
    return y, [0] * len(y)


_derivative = Primitive("attached_derivative")
_derivative.multiple_results = True
_derivative.def_impl(_differentiate)
_derivative.def_abstract_eval(_derivative_types)
mlir.register_lowering(_derivative, mlir.lower_fun(_differentiate, multiple_results=True))
ad.primitive_jvps[_derivative] = _derivative_jvp
ad.primitive_transposes[_derivative] = _transpose
batching.fancy_primitive_batchers[_derivative] = _derivative_batched


@dataclass(frozen=True)
class Attached(Wrapper):
    """``layer`` with its hand-written rule attached to ``apply``, under the same parameters."""

    layer: Layer

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return attach(self.layer)(params, x, context)


def attach_leaves(layer: Layer) -> Layer:
    """The same model with the rule of every leaf layer attached, so that ``jax.grad`` only applies the chain rule."""
    if layer.indivisible or not any(children(layer)):
        return Attached(layer)
    return map_children(lambda _, child: attach_leaves(child), layer)
