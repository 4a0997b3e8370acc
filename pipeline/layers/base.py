"""The contract every layer meets: a definition, and a derivative written by hand beside it.

A layer is a frozen dataclass of hyper-parameters; arrays live in a parameter tree outside it. Four pure methods:

    init(key, x)                      -> params        x: an example input, or its ShapeDtypeStruct
    apply(params, x, context)         -> y             the definition: what jax.grad differentiates
    forward(params, x, context)       -> y, residuals  the same y, and the least that backward needs
    backward(params, residuals, d_y)  -> d_params, d_x by hand: no autodiff anywhere below it

A cotangent is its primal's name with ``d_`` before it, and has its primal's structure, shapes and dtypes. ``None``
stands for the cotangent of what is not a float, or of what ``apply`` wraps in ``stop_gradient``.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp

PyTree = Any


@partial(jax.tree_util.register_dataclass, data_fields=["key", "mask", "memory_mask"], meta_fields=["train"])
@dataclass(frozen=True)
class Context:
    """What a layer may look at besides its input, and through which no gradient flows.

    train: whether this is a training step (dropout drops, BatchNorm normalises with the batch); static under ``jit``.
    key: a typed PRNG key (``jax.random.key``), or None where nothing is drawn.
    mask: bool, (batch, time): which positions of the input count; None: all.
    memory_mask: the same for a second input that is attended to.
    """

    train: bool = False
    key: Any = None
    mask: Any = None
    memory_mask: Any = None

    def child(self, position: Any) -> "Context":
        """The context of the child at ``position``, with its own key: ``apply`` and ``forward`` drop the same units."""
        if self.key is None:
            return self
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, position))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Static:
    """A residual known while tracing (a shape, a dtype): part of the tree's structure, so that no scan stacks it."""

    value: Hashable


class Layer(ABC):
    """A pure function of (params, x, context) with a hand-written backward pass. See the module's docstring.

    positionwise: whether the output at a position of the time axis depends on the input there alone.
    """

    positionwise: ClassVar[bool] = True

    @property
    def reads_memory(self) -> bool:
        """Whether its input is a pair (x, memory), as that of a decoder's attention to what an encoder made."""
        return any(part.reads_memory for _, part in children(self))

    @abstractmethod
    def init(self, key: Any, x: PyTree) -> PyTree:
        """Parameters for inputs like ``x`` (arrays or ShapeDtypeStructs); ``key`` is a typed PRNG key."""

    @abstractmethod
    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        """The definition, in plain ``jax.numpy``."""

    @abstractmethod
    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        """The same value as ``apply``, and the residuals: a tree of arrays, the least that ``backward`` needs."""

    @abstractmethod
    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The cotangents of ``params`` and ``x`` from that of ``y``."""

    def after(self, context: Context) -> Context:
        """The context of what follows: a layer that changes the time axis changes the mask with it."""
        return context

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        """What ``decode_step`` needs at the first of ``length`` positions of inputs like ``x`` (batch, time, ...).

        Nothing, for a layer that sees every position alone. Raises ValueError for one that looks ahead.
        """
        del params, x, length, context
        if not self.positionwise:
            raise ValueError(f"{type(self).__name__} sees several positions at once: it cannot go one by one")
        return None

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        """The output at the next position alone, for x (batch, 1, ...), and the cache for the one after it.

        Position by position it gives what ``apply`` gives for all of them.
        """
        return self.apply(params, x, context), cache

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        """What calibration writes, in the structure of ``params``; None where it writes nothing."""
        del residuals
        return jax.tree.map(lambda _: None, params)


class Wrapper(Layer):
    """``layer`` under the same parameters: a subclass says what ``apply`` is, and changes what else it will."""

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
    return jax.eval_shape(layer.apply, params, x, Context())


def reduction_dtype(dtype: Any) -> Any:
    """The dtype in which sums over values of ``dtype`` are taken: float64 for float64, float32 for all else."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def children(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """The layers in ``layer``'s own fields, each with its path in the parameter tree (``inner``, ``layers/0``)."""
    for field in dataclasses.fields(layer):  # pyright: ignore[reportArgumentType]  (every layer is a dataclass)
        value = getattr(layer, field.name)
        if isinstance(value, Layer):
            yield field.name, value
        elif isinstance(value, tuple):
            yield from ((f"{field.name}/{i}", part) for i, part in enumerate(value) if isinstance(part, Layer))


def leaves(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Every layer without layers of its own, in the order of the fields, with its path in the parameter tree."""
    parts = list(children(layer))
    if not parts:
        yield path, layer
    for name, part in parts:
        yield from leaves(part, f"{path}/{name}" if path else name)


def map_children(function: Callable[[str, Layer], Layer], layer: L) -> L:
    """A copy of ``layer`` with ``function(path, child)`` in place of each of its own layers."""
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
