"""Checks a call of a layer before it is computed, so that its error names the layer, what it got and what it needs."""

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .base import Context, Layer, PyTree, Wrapper, already_checked, children, layers_around, map_children


class LayerError(ValueError):
    """A layer was given parameters, an input or a context that it can't take."""


Shapes = frozenset[tuple[tuple[int, ...], tuple[int, ...]]]

_parts_of_tables: ContextVar[Shapes] = ContextVar("_parts_of_tables", default=frozenset())


@contextmanager
def only_rows(tables: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> Iterator[None]:
    """Within this, parameters may hold some rows of a table alone. tables: pairs (shape of these rows, whole shape)."""
    token = _parts_of_tables.set(frozenset(tables))
    try:
        yield
    finally:
        _parts_of_tables.reset(token)


def check(layer: Layer, params: PyTree, x: PyTree, context: Any) -> None:
    """Raises LayerError unless ``layer`` can be applied to what it is given.

    It compares the input's rank and dtype with those that the layer declares, the parameters' names and shapes with
    those that its ``init`` gives for such an input, and traces the layer. Nothing is computed, and a second call with
    equal shapes costs nothing. ``apply``, ``forward``, ``value_and_grad`` and ``attach`` do this by themselves.

    >>> import jax.numpy as jnp
    >>> from backhand.layers import Dense, ReLU, Serial
    >>> model = Serial((Dense(3), ReLU()))
    >>> params = model.init(jax.random.key(0), jnp.ones((4, 7)))
    >>> try:
    ...     check(model, params, jnp.ones((4, 5)), Context())
    ... except ValueError as error:
    ...     print(str(error).partition("; ")[2])
    for x float32[4,5] it must be float32[5,3]
    """
    if not isinstance(context, Context):
        raise LayerError(
            f"{layer_name(layer)}: the context is {_shown(context)}; it must be a Context, such as Context()"
        )
    types = jax.tree.map(lambda leaf: _type(layer, leaf), (params, x, context))
    leaves, structure = jax.tree.flatten(types)
    trace = _trace if _has_hash(layer) else _trace.__wrapped__
    trace(layer, structure, tuple(leaves), _parts_of_tables.get())


def _type(layer: Layer, leaf: Any) -> jax.ShapeDtypeStruct:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    if isinstance(leaf, bool | int | float | complex):
        return jax.eval_shape(jnp.asarray, leaf)
    raise LayerError(f"{layer_name(layer)}: got {leaf!r} among its parameters, x and context; they must be arrays")


@lru_cache(maxsize=4096)
def _trace(layer: Layer, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...], parts_of_tables: Shapes) -> None:
    del parts_of_tables  # ``_check_params`` reads them
    with already_checked():
        jax.eval_shape(_checked(layer, "").apply, *jax.tree.unflatten(structure, leaves))


def _has_hash(layer: Layer) -> bool:
    """Whether the layer can be a key of a cache; those that record what passes through them may not."""
    try:
        hash(layer)
    except TypeError:
        return False
    return True


def _checked(layer: Layer, path: str) -> "_Checked":
    """``layer`` with checks of itself and of all layers in it."""
    if layer.indivisible:
        return _Checked(layer, layer, path)
    inner = map_children(lambda name, child: _checked(child, f"{path}/{name}" if path else name), layer)
    return _Checked(inner, layer, path)


@dataclass(frozen=True)
class _Checked(Wrapper):
    """``layer``, whose parts are checked, with a check of ``original``, the same layer without checks, at ``path``."""

    layer: Layer
    original: Layer
    path: str

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        where = f"{self.path}, {layer_name(self.original)}" if self.path else layer_name(self.original)
        layer = self.original
        _check_input(layer, where, x)
        if layer.indivisible or not any(children(layer)):
            _check_params(layer, where, params, x)
            _check_mask(layer, where, x, context)
        elif not self.path:
            _check_names(layer, params, x)
        try:
            return self.layer.apply(params, x, context)
        except LayerError:
            raise
        except Exception as error:
            raise LayerError(_message(where, params, x, context, error)) from error


def _message(where: str, params: PyTree, x: PyTree, context: Context, error: Exception) -> str:
    return f"{where}: got x {_shown(x)}, parameters {_shown(params)} and mask {_shown(context.mask)}: {error}"


def _check_input(layer: Layer, where: str, x: PyTree) -> None:
    """Compares x with the annotation of ``apply``."""
    _check_part(where, "x", x, typing.get_type_hints(type(layer).apply).get("x"))


def _check_part(where: str, name: str, x: PyTree, annotation: Any) -> None:
    """Compares x, or a part of it, with its annotation: an array, a tuple, or a class such as ``Targets``."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    if Ellipsis in parts:
        fits, parts = isinstance(x, tuple), ()
    elif parts:
        fits = isinstance(x, tuple) and len(x) == len(parts)
    elif hasattr(annotation, "dim_str"):
        fits = _is_array_of(x, annotation)
    else:
        is_class = isinstance(annotation, type) and issubclass(annotation, tuple)
        fits = isinstance(x, annotation) if is_class else True
    if not fits:
        raise LayerError(f"{where}: {name} is {_shown(x)}; it must be {_needed(annotation)}")
    for i, part in enumerate(parts):
        _check_part(where, f"{name}[{i}]", x[i], part)


_KINDS = {
    "Float": ("a float array", jnp.floating),
    "Int": ("an integer array", jnp.integer),
    "Bool": ("a bool array", np.bool_),
}


def _is_array_of(x: Any, annotation: Any) -> bool:
    """Whether x has the rank and the kind of numbers of a jaxtyping annotation."""
    dims = annotation.dim_str.split()
    _, dtype = _kind(annotation)
    if not hasattr(x, "shape") or not jnp.issubdtype(x.dtype, dtype):
        return False
    least = sum(not dim.startswith("*") for dim in dims)
    return len(x.shape) == least or (least < len(dims) and len(x.shape) > least)


def _kind(annotation: Any) -> tuple[str, Any]:
    return _KINDS.get(annotation.__name__.partition("[")[0], ("an array", np.generic))


def _needed(annotation: Any) -> str:
    """An annotation of x in words."""
    if hasattr(annotation, "dim_str"):
        return f"{_kind(annotation)[0]} ({', '.join(annotation.dim_str.split())})"
    if typing.get_origin(annotation) is tuple and Ellipsis not in (parts := typing.get_args(annotation)):
        return f"a tuple of {' and '.join(map(_needed, parts))}"
    return "anything" if annotation is Any else getattr(annotation, "__name__", "a tuple")


def _check_params(layer: Layer, where: str, params: PyTree, x: PyTree) -> None:
    """Compares names, shapes and kinds with those that ``init`` gives for x."""
    try:
        expected = _expected(layer, x)
    except jax.errors.ConcretizationTypeError:  # the parameters depend on the numbers in x
        return
    except Exception as error:
        raise LayerError(f"{where}: got x {_shown(x)}: {error}") from error
    given, needed = (_by_path(tree) for tree in (params, expected))
    for path, leaf in needed.items():
        if path not in given:
            raise LayerError(
                f"{where}: parameter {path} is missing; it must be {_shown(leaf)}. Given: {', '.join(given) or 'none'}"
            )
        floats = [jnp.issubdtype(part.dtype, jnp.floating) for part in (leaf, given[path])]
        is_part = (given[path].shape, leaf.shape) in _parts_of_tables.get()
        if (given[path].shape != leaf.shape and not is_part) or floats[0] != floats[1]:
            raise LayerError(
                f"{where}: parameter {path} is {_shown(given[path])}; for x {_shown(x)} it must be {_shown(leaf)}"
            )
    _refuse_unknown(where, given, needed)


def _check_names(layer: Layer, params: PyTree, x: PyTree) -> None:
    """Compares the names of a composite's parameters, in which ``init`` may fail for an input that a part refuses."""
    try:
        expected = _expected(layer, x)
    except Exception:  # the parts' own checks, which come next, say what is wrong with x
        return
    given, needed = (_by_path(tree) for tree in (params, expected))
    for path, leaf in needed.items():
        if path not in given:
            raise LayerError(
                f"{_owner(layer, path)}: parameter {path} is missing; it must be {_shown(leaf)}. Given: "
                f"{', '.join(given) or 'none'}"
            )
    _refuse_unknown(layer_name(layer), given, needed)


def _refuse_unknown(where: str, given: dict[str, Any], needed: dict[str, Any]) -> None:
    if unknown := [path for path in given if path not in needed]:
        raise LayerError(f"{where}: there is no parameter {unknown[0]}; it must have {', '.join(needed) or 'none'}")


def _expected(layer: Layer, x: PyTree) -> PyTree:
    """The shapes and dtypes of the parameters that ``layer`` needs for x."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), x)
    return jax.eval_shape(lambda key: layer.init(key, x), jax.random.key(0))


def _owner(layer: Layer, path: str) -> str:
    return layer_name(layers_around(layer, path)[-1])


def _check_mask(layer: Layer, where: str, x: PyTree, context: Context) -> None:
    """A layer that reads several positions of one array needs a mask of its batch and time."""
    mask = context.mask
    if mask is None or layer.positionwise or not hasattr(x, "shape") or len(x.shape) < 3:
        return
    if mask.dtype != bool or mask.shape != x.shape[:2]:
        needed = f"bool{list(x.shape[:2])}".replace(" ", "")
        raise LayerError(f"{where}: the mask is {_shown(mask)} for x {_shown(x)}; it must be {needed}")


def _by_path(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def layer_name(layer: Layer) -> str:
    """The layer as its user wrote it, without fields that have their defaults; its kind alone if it has parts."""
    kind = type(layer).__name__
    if any(children(layer)) or not dataclasses.is_dataclass(layer):
        return kind
    fields = ((field, getattr(layer, field.name)) for field in dataclasses.fields(layer) if field.repr)
    return f"{kind}({', '.join(f'{field.name}={value!r}' for field, value in fields if value != field.default)})"


def _shown(tree: PyTree) -> str:
    """Arrays as dtype[sizes], in the structure that they are in."""

    def leaf(part: Any) -> Any:
        return _Text(f"{part.dtype}{list(part.shape)}".replace(" ", "")) if hasattr(part, "shape") else part

    return repr(jax.tree.map(leaf, tree))


class _Text(str):
    """Text that containers show without quotes."""

    __repr__ = str.__str__
