"""The contract that every layer meets: a definition, and beside it a backward pass written by hand.

A layer is a frozen dataclass of hyper-parameters; its arrays are in a parameter tree outside it. It has four pure
methods:

    init(key, x)                      -> params         x: an example input, or its ShapeDtypeStruct
    apply(params, x, context)         -> y              the definition: what jax.grad differentiates
    forward(params, x, context)       -> y, residuals   the same y, and what backward needs
    backward(params, residuals, d_y)  -> d_params, d_x  written by hand, without autodiff

and a few that most layers inherit: ``after``, ``init_cache``, ``decode_step`` and ``statistics``.

A cotangent is named like its primal with ``d_`` in front, and has the primal's structure, shapes and dtypes. The
cotangent of what is not a float, or of what ``apply`` wraps in ``stop_gradient``, is None.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp

PyTree = Any


@partial(jax.tree_util.register_dataclass, data_fields=["key", "mask", "memory_mask"], meta_fields=["train"])
@dataclass(frozen=True)
class Context:
    """What a layer reads besides its parameters and its input. No gradient flows through it.

    train: whether this is a training step, in which dropout drops units and BatchNorm uses the batch's statistics;
        static under ``jit``.
    key: a typed PRNG key (``jax.random.key``); None if nothing random is drawn.
    mask: bool (batch, time), True at the positions of the input that are not padding; None: all of them.
    memory_mask: the same for a second input, the memory that a decoder attends to.
    """

    train: bool = False
    key: Any = None
    mask: Any = None
    memory_mask: Any = None

    def child(self, position: Any) -> "Context":
        """The context of the child layer at ``position``, with a key of its own.

        The key depends on the position alone, so that ``apply`` and ``forward`` drop the same units.
        """
        if self.key is None:
            return self
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, position))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Static:
    """A residual known while tracing, such as a shape: part of the tree's structure, so that scans do not stack it."""

    value: Hashable


_is_checked: ContextVar[bool] = ContextVar("_is_checked", default=False)


@contextmanager
def already_checked() -> Iterator[None]:
    """Layers that are called within this are not checked: what they are part of has been, or is just being checked."""
    token = _is_checked.set(True)
    try:
        yield
    finally:
        _is_checked.reset(token)


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """``apply`` or ``forward`` of a layer, with a check of its arguments unless another layer's call is around it."""

    @wraps(method)
    def checked(self: "Layer", params: PyTree, x: PyTree, context: Any) -> Any:
        if _is_checked.get():
            return method(self, params, x, context)
        from .checking import check  # which imports this module

        check(self, params, x, context)
        with already_checked():
            return method(self, params, x, context)

    return checked


def _around_checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose arguments come from a call that was checked: the layers that it calls need no check."""

    @wraps(method)
    def around(*arguments: Any, **named: Any) -> Any:
        with already_checked():
            return method(*arguments, **named)

    return around


_WRAPPERS = {
    "apply": _checked,
    "forward": _checked,
    "backward": _around_checked,
    "decode_step": _around_checked,
}


class Layer(ABC):
    """A pure function of (params, x, context) with a hand-written backward pass; see the module for the contract.

    ``apply`` and ``forward`` raise LayerError for what the layer can't take; see ``layers.checking``.

    positionwise: whether the output at a position of the time axis depends only on the input at that position.
    examplewise: whether the first axis of all arrays of x and y is a batch of examples, each computed by itself. Not so
        if examples share statistics or random numbers.
    indivisible: whether its parts can't be replaced by other layers, because it reads more of them than the contract.
    decayed: names of the parameters that weight decay applies to.
    batch_statistics: names of the parameters that hold statistics of the data, which no gradient sets.

    >>> from backhand.layers.linear import Dense
    >>> layer, x = Dense(2), jnp.ones((3, 4))
    >>> params = layer.init(jax.random.key(0), x)
    >>> y, residuals = layer.forward(params, x, Context())
    >>> d_params, d_x = layer.backward(params, residuals, jnp.ones_like(y))
    >>> d_params["kernel"].shape, d_params["bias"].shape, d_x.shape
    ((4, 2), (2,), (3, 4))
    """

    positionwise: ClassVar[bool] = True
    examplewise: ClassVar[bool] = False
    indivisible: ClassVar[bool] = False
    decayed: ClassVar[tuple[str, ...]] = ("kernel",)
    batch_statistics: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _WRAPPERS.keys() & vars(cls).keys():
            setattr(cls, name, _WRAPPERS[name](vars(cls)[name]))

    @property
    def reads_memory(self) -> bool:
        """Whether the input is a pair (x, memory), where the memory is, for instance, an encoder's output."""
        return any(part.reads_memory for _, part in children(self))

    @property
    def independent_examples(self) -> bool:
        """Whether the layer and all of its parts are examplewise, so that examples can be joined into one batch."""
        return self.examplewise and all(part.independent_examples for _, part in children(self))

    @abstractmethod
    def init(self, key: Any, x: PyTree) -> PyTree:
        """Initial parameters for inputs like ``x``, which holds arrays or ShapeDtypeStructs. key: a typed PRNG key."""

    @abstractmethod
    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        """The definition, in plain ``jax.numpy``."""

    @abstractmethod
    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        """The output of ``apply``, and the residuals: a tree of the arrays that ``backward`` needs, and no more."""

    @abstractmethod
    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The cotangents of ``params`` and of ``x``, from the cotangent of ``y``."""

    def after(self, context: Context) -> Context:
        """The context of the layers after this one: a layer that changes the time axis changes the mask with it."""
        return context

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        """The cache for decoding up to ``length`` positions, one at a time, of inputs like ``x`` (batch, time, ...).

        None for a positionwise layer, which needs no cache. Raises ValueError for a layer that reads later positions.
        """
        del params, x, length, context
        if not self.positionwise:
            raise ValueError(f"{type(self).__name__} reads several positions at once: it cannot decode one by one")
        return None

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        """The output at the next position, for x (batch, 1, ...), and the cache for the position after it.

        Called for all positions in turn, it returns what ``apply`` returns for all of them at once.
        """
        return self.apply(params, x, context), cache

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        """New values of the ``batch_statistics``, in the structure of ``params``; None for all other parameters."""
        del residuals
        return jax.tree.map(lambda _: None, params)


class Wrapper(Layer):
    """A layer around ``layer`` with the same parameters; subclasses define ``apply`` and override what differs."""

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return self.layer.init(key, x)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.forward(params, x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        return self.layer.backward(params, residuals, d_y)

    def after(self, context: Context) -> Context:
        return self.layer.after(context)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return self.layer.init_cache(params, x, length, context)

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.decode_step(params, cache, x, context)


L = TypeVar("L", bound=Layer)


def output(layer: Layer, params: PyTree, x: PyTree) -> PyTree:
    """The shapes and dtypes (ShapeDtypeStructs) of ``layer``'s output for an input like ``x``."""
    with already_checked():
        return jax.eval_shape(layer.apply, params, x, Context())


def reduction_dtype(dtype: Any) -> Any:
    """The dtype that sums over values of ``dtype`` are accumulated in: float64 for float64, float32 for all others."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def varying_axes(tree: PyTree) -> frozenset[str]:
    """The mesh axes along which the arrays differ from device to device, inside of ``jax.shard_map``; else none."""
    return frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(tree)))


def vary_like(tree: PyTree, *like: PyTree) -> PyTree:
    """``tree``, with the types of arrays that differ from device to device as those of ``like`` do.

    The first carry of a loop needs it where later ones are computed from ``like``: ``jax.shard_map`` checks that they
    have equal types. The numbers stay the same, and outside of ``shard_map`` so does the type.
    """
    axes = varying_axes(like)

    def vary(leaf: Any) -> Any:
        missing = axes - varying_axes(leaf)
        return jax.lax.pcast(leaf, tuple(sorted(missing)), to="varying") if missing else leaf

    return jax.tree.map(vary, tree)


def children(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """The layers in ``layer``'s fields, each with its path in the parameter tree: ``layer``, ``layers/0``, ..."""
    for field in dataclasses.fields(layer):  # pyright: ignore[reportArgumentType]  (every layer is a dataclass)
        value = getattr(layer, field.name)
        if isinstance(value, Layer):
            yield field.name, value
        elif isinstance(value, tuple):
            yield from ((f"{field.name}/{i}", part) for i, part in enumerate(value) if isinstance(part, Layer))


def leaves(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Every layer that has no child layers, in the order of the fields, with its path in the parameter tree.

    >>> from backhand.layers import Dense, ReLU, Residual, Serial
    >>> [path for path, _ in leaves(Serial((Dense(4), Residual(ReLU()))))]
    ['layers/0', 'layers/1/layer']
    """
    parts = list(children(layer))
    if not parts:
        yield path, layer
    for name, part in parts:
        yield from leaves(part, f"{path}/{name}" if path else name)


def layers_around(layer: Layer, path: str) -> list[Layer]:
    """The layers around the parameter at ``path``, from ``layer`` itself to the one that the parameter belongs to."""
    for name, part in children(layer):
        if isinstance(layer, Wrapper):  # its parameters are those of its layer, under the same paths
            return [layer, *layers_around(part, path)]
        if path.startswith(f"{name}/"):
            return [layer, *layers_around(part, path.removeprefix(f"{name}/"))]
    return [layer]


def parameter_roles(layer: Layer, params: PyTree) -> PyTree:
    """The role of every parameter as its layer declares it: "decayed", "statistic" or "plain"; a tree like ``params``.

    Weight decay applies to "decayed" parameters alone. Optimisers leave "statistic" ones as they are.
    """

    def role(path: jax.tree_util.KeyPath, _: Any) -> str:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        owner, name = layers_around(layer, place)[-1], place.rpartition("/")[2]
        return "decayed" if name in owner.decayed else "statistic" if name in owner.batch_statistics else "plain"

    return jax.tree_util.tree_map_with_path(role, params)


def map_children(function: Callable[[str, Layer], Layer], layer: L) -> L:
    """A copy of ``layer`` with ``function(path, child)`` in place of each of its child layers."""
    changed = {}
    for field in dataclasses.fields(layer):  # pyright: ignore[reportArgumentType]
        value = getattr(layer, field.name)
        if isinstance(value, Layer):
            changed[field.name] = function(field.name, value)
        elif isinstance(value, tuple) and any(isinstance(part, Layer) for part in value):
            changed[field.name] = tuple(
                function(f"{field.name}/{i}", part) if isinstance(part, Layer) else part for i, part in enumerate(value)
            )
    return dataclasses.replace(layer, **changed) if changed else layer  # pyright: ignore[reportArgumentType]
