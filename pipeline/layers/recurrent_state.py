"""The state of recurrent layers: where it starts, and what a sequence leaves behind.

A recurrent layer starts from a state of zeros and drops the one at the end. ``WithState`` takes the first and returns
the second, and ``SerialWithState`` does so for a stack of layers. A long sequence can so be trained in pieces:
truncated backpropagation through time (Williams & Peng 1990) gives each piece the state that the piece before it left.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import Context, Layer, PyTree, Static, Wrapper, output

Sequence = Float[Array, "batch time features"]
Example = Float[Array | jax.ShapeDtypeStruct, "batch time features"]


class Recurrent(Layer):
    """A layer over sequences (batch, time, features) that carries a state from one position to the next.

    Subclasses define how it starts from a given state; without one, they start from ``initial_state``.
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    @abstractmethod
    def initial_state(self, x: Array | jax.ShapeDtypeStruct) -> PyTree:
        """The state of zeros before the first position of sequences like ``x``: arrays (batch, units)."""

    @abstractmethod
    def apply_from(self, params: PyTree, x: Sequence, state: PyTree, context: Context) -> tuple[Array, PyTree]:
        """The definition: the output when starting from ``state``, and the state at the end."""

    @abstractmethod
    def forward_from(
        self, params: PyTree, x: Sequence, state: PyTree, context: Context
    ) -> tuple[tuple[Array, PyTree], PyTree]:
        """What ``apply_from`` returns, and the residuals."""

    @abstractmethod
    def backward_from(
        self, params: PyTree, residuals: PyTree, d_y: Array, d_state: PyTree
    ) -> tuple[PyTree, Sequence, PyTree]:
        """The cotangents of the parameters, of x, and of the initial state in the dtype of sums.

        d_state: that of the state at the end; None: zeros.
        """

    def apply(self, params: PyTree, x: Sequence, context: Context) -> Array:
        return self.apply_from(params, x, self.initial_state(x), context)[0]

    def forward(self, params: PyTree, x: Sequence, context: Context) -> tuple[Array, PyTree]:
        (y, _), residuals = self.forward_from(params, x, self.initial_state(x), context)
        return y, residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: Array) -> tuple[PyTree, Sequence]:
        """``backward_from`` without a cotangent of the state at the end, which is dropped; zeros at the start have
        none either.
        """
        d_params, d_x, _ = self.backward_from(params, residuals, d_y, None)
        return d_params, d_x


@dataclass(frozen=True)
class WithState(Wrapper):
    """A recurrent layer that is given its initial state, and returns the one at the end: (x, state) to (y, state).

    layer: an RNN, GRU, LSTM or Bidirectional, whose parameters these are.

    The state is a tuple of arrays (batch, units): (h,) for an RNN or a GRU, (h, c) for an LSTM, and for a Bidirectional
    the pair of both layers' states. ``initial_state`` gives one of zeros. Positions that are masked leave it unchanged,
    so the one at the end is that of each example's last position that is not masked (the first, if ``reverse``).

    >>> from backhand.layers import LSTM
    >>> layer, x = WithState(LSTM(4)), jnp.ones((2, 6, 3))
    >>> state = layer.initial_state(x)
    >>> params = layer.init(jax.random.key(0), (x, state))
    >>> whole, _ = layer.apply(params, (x, state), Context())
    >>> first, state = layer.apply(params, (x[:, :2], state), Context())
    >>> second, state = layer.apply(params, (x[:, 2:], state), Context())
    >>> bool(jnp.allclose(whole, jnp.concatenate([first, second], 1)))
    True
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True
    indivisible: ClassVar[bool] = True

    layer: Recurrent  # pyright: ignore[reportIncompatibleVariableOverride]  (both are frozen)

    def initial_state(self, x: Array | jax.ShapeDtypeStruct) -> PyTree:
        """The state of zeros for sequences like ``x`` (batch, time, features), in its dtype."""
        return self.layer.initial_state(x)

    def init(self, key: Any, x: tuple[Example, PyTree]) -> PyTree:
        self._check(*x)
        return self.layer.init(key, x[0])

    def apply(self, params: PyTree, x: tuple[Sequence, PyTree], context: Context) -> tuple[Array, PyTree]:
        self._check(*x, context.mask)
        return self.layer.apply_from(params, *x, context)

    def forward(
        self, params: PyTree, x: tuple[Sequence, PyTree], context: Context
    ) -> tuple[tuple[Array, PyTree], tuple[PyTree, PyTree]]:
        self._check(*x, context.mask)
        y, residuals = self.layer.forward_from(params, *x, context)
        return y, (residuals, jax.tree.map(lambda part: Static(str(part.dtype)), x[1]))

    def backward(
        self, params: PyTree, residuals: tuple[PyTree, PyTree], d_y: tuple[Array, PyTree]
    ) -> tuple[PyTree, tuple[Sequence, PyTree]]:
        """The layer's ``backward_from``. Beside its residuals, the dtypes of the initial state are kept."""
        layer_residuals, dtypes = residuals
        d_params, d_x, d_state = self.layer.backward_from(params, layer_residuals, *d_y)
        return d_params, (d_x, jax.tree.map(lambda d, dtype: d.astype(dtype.value), d_state, dtypes))

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        """Raises ValueError: the state that ``apply`` returns after one position is the cache of the next."""
        del params, x, length, context
        raise ValueError("WithState: it cannot decode one by one; give each position the state of the one before it")

    def _check(self, x: Any, state: PyTree, mask: Any = None) -> None:
        """Raises ValueError unless the state and the mask fit the layer and the sequences."""
        if any(not jnp.issubdtype(part.dtype, jnp.floating) for part in jax.tree.leaves(state)):
            raise ValueError(
                f"WithState: the state is {jax.tree.map(lambda part: part.dtype, state)}; it must be float"
            )
        needed = jax.eval_shape(lambda: self.layer.initial_state(x))
        given, wanted = (jax.tree.map(lambda part: part.shape, tree) for tree in (state, needed))
        if given != wanted:
            raise ValueError(
                f"WithState: the state of {self.layer} is {given} for x of shape {x.shape}; it must be {wanted}"
            )
        if mask is not None and mask.shape != x.shape[:2]:
            raise ValueError(f"WithState: the mask is {mask.shape} for x of shape {x.shape}; it must be {x.shape[:2]}")


@dataclass(frozen=True)
class SerialWithState(Layer):
    """A stack of layers of which some are ``WithState``: (x, states) to (y, states), one state for each of these.

    Its parameters are those of ``Serial``.

    >>> from backhand.layers import GRU, LSTM, Dense, Embedding
    >>> layer = SerialWithState((Embedding(9, 4), WithState(GRU(5)), WithState(LSTM(3)), Dense(9)))
    >>> ids = jnp.ones((2, 6), int)
    >>> states = layer.initial_state(ids)
    >>> params = layer.init(jax.random.key(0), (ids, states))
    >>> logits, states = layer.apply(params, (ids, states), Context())
    >>> logits.shape, [len(state) for state in states]
    ((2, 6, 9), [1, 2])
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    layers: tuple[Layer, ...]

    def initial_state(self, x: PyTree) -> tuple[PyTree, ...]:
        """The states of zeros, for inputs like ``x``."""
        states = []
        for layer in self.layers:
            if isinstance(layer, WithState):
                states.append(layer.initial_state(x))
                layer_input = x, states[-1]
            else:
                layer_input = x
            y = output(layer, jax.eval_shape(layer.init, jax.random.key(0), layer_input), layer_input)
            x = y[0] if isinstance(layer, WithState) else y
        return tuple(states)

    def init(self, key: Any, x: tuple[PyTree, tuple[PyTree, ...]]) -> PyTree:
        h, states = self._split(x)
        params = []
        for i, layer in enumerate(self.layers):
            layer_input = (h, next(states)) if _has_state(layer) else h
            params.append(layer.init(jax.random.fold_in(key, i), layer_input))
            y = output(layer, params[-1], layer_input)
            h = y[0] if _has_state(layer) else y
        return {"layers": params}

    def apply(
        self, params: PyTree, x: tuple[PyTree, tuple[PyTree, ...]], context: Context
    ) -> tuple[PyTree, tuple[PyTree, ...]]:
        h, states = self._split(x)
        ends = []
        for i, layer in enumerate(self.layers):
            layer_input = (h, next(states)) if _has_state(layer) else h
            y = layer.apply(params["layers"][i], layer_input, context.child(i))
            h = y[0] if _has_state(layer) else y
            ends += [y[1]] if _has_state(layer) else []
            context = layer.after(context)
        return h, tuple(ends)

    def forward(
        self, params: PyTree, x: tuple[PyTree, tuple[PyTree, ...]], context: Context
    ) -> tuple[tuple[PyTree, tuple[PyTree, ...]], PyTree]:
        h, states = self._split(x)
        ends, residuals = [], []
        for i, layer in enumerate(self.layers):
            layer_input = (h, next(states)) if _has_state(layer) else h
            y, layer_residuals = layer.forward(params["layers"][i], layer_input, context.child(i))
            h = y[0] if _has_state(layer) else y
            ends += [y[1]] if _has_state(layer) else []
            residuals.append(layer_residuals)
            context = layer.after(context)
        return (h, tuple(ends)), residuals

    def backward(
        self, params: PyTree, residuals: PyTree, d_y: tuple[PyTree, tuple[PyTree, ...]]
    ) -> tuple[PyTree, tuple[PyTree, tuple[PyTree, ...]]]:
        """The chain rule, as in ``Serial``. The cotangent of each state at the end enters where its layer does."""
        d_x, d_ends = d_y[0], list(d_y[1])
        d_params, d_states = [], []
        for layer, layer_params, layer_residuals in zip(self.layers[::-1], params["layers"][::-1], residuals[::-1]):
            if _has_state(layer):
                d_layer_params, (d_x, d_state) = layer.backward(layer_params, layer_residuals, (d_x, d_ends.pop()))
                d_states.append(d_state)
            else:
                d_layer_params, d_x = layer.backward(layer_params, layer_residuals, d_x)
            d_params.append(d_layer_params)
        return {"layers": d_params[::-1]}, (d_x, tuple(d_states[::-1]))

    def after(self, context: Context) -> Context:
        for layer in self.layers:
            context = layer.after(context)
        return context

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        parts = zip(self.layers, params["layers"], residuals)
        return {"layers": [layer.statistics(p, r) for layer, p, r in parts]}

    def _split(self, x: tuple[PyTree, tuple[PyTree, ...]]) -> tuple[PyTree, Iterator[PyTree]]:
        """x without the states, and these. Raises ValueError if there are more or fewer than there must be."""
        h, states = x
        needed = sum(_has_state(layer) for layer in self.layers)
        if len(states) != needed:
            raise ValueError(f"SerialWithState: there are {len(states)} states for {needed} layers with a state")
        return h, iter(states)


def _has_state(layer: Layer) -> bool:
    """Whether it is a ``WithState``, perhaps within a wrapper: checks and ``attach`` wrap the layers of a stack."""
    return isinstance(layer, WithState) or (isinstance(layer, Wrapper) and _has_state(layer.layer))
