"""Recurrent layers: a state carried along the time axis, by the same cell at every position.

Inside, time is the first axis: a step reads and writes contiguous blocks. The input's products are one matmul before
the scan, and each weight's gradient is one matmul after it; only what depends on the previous state is a step's own.
One buffer holds the input's products, then the gates in their place, then the gates' cotangents.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pipeline.layers.base import Context, Layer, PyTree, reduction_dtype
from pipeline.layers.initializers import glorot_uniform, orthogonal

State = tuple[Array, ...]
"""What a step hands to the next, each (batch, units); the first is h, the output."""


def _swap(x: Array) -> Array:
    """(batch, time, ...) to (time, batch, ...), and back."""
    return jnp.swapaxes(x, 0, 1)


def _select(counts: Array | None, new: PyTree, old: PyTree) -> PyTree:
    """``new`` where the position counts, else ``old``."""
    if counts is None:
        return new
    return jax.tree.map(lambda new, old: jnp.where(counts[..., None], new, old), new, old)


def _scan_in_place(
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree, PyTree]],
    carry: PyTree,
    rows: PyTree,
    xs: PyTree,
    length: int,
    reverse: bool,
) -> tuple[PyTree, PyTree, PyTree]:
    """A scan whose step (carry, block, xs[t]) -> (carry, new, y) puts ``new`` in the place of block t of ``rows``.

    rows: arrays (time * batch, ...), time outermost. Gives the last carry, the rows and the stacked y.

    A stacked output of its own would be filled with zeros first, and be as much memory again. What a step makes is
    written at the beginning of the next one: of rows that a step reads and then writes, XLA may make a copy, the whole
    of them at every step.
    """
    first, last = (length - 1, 0) if reverse else (0, length - 1)

    batch = len(jax.tree.leaves(rows)[0]) // length

    def read(rows: PyTree, t: Any) -> PyTree:
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, t * batch, batch, 0), rows)

    def write(rows: PyTree, new: PyTree, t: Any) -> PyTree:
        return jax.tree.map(lambda a, new: lax.dynamic_update_slice_in_dim(a, new, t * batch, 0), rows, new)

    def one(carried: PyTree, position: tuple[Any, PyTree]) -> tuple[PyTree, PyTree]:
        carry, rows, new, place = carried
        t, x = position
        rows = write(rows, new, place)
        carry, new, y = step(carry, read(rows, t), x)
        return (carry, rows, new, t), y

    start = (carry, rows, read(rows, first), jnp.int32(first))
    (carry, rows, new, _), ys = lax.scan(one, start, (jnp.arange(length, dtype=jnp.int32), xs), reverse=reverse)
    return carry, write(rows, new, last), ys


@dataclass(frozen=True)
class _Recurrent(Layer):
    """state_t = cell(state_{t-1}, x_t) from a state of zeros, over x (batch, time, features).

    Where the context has a mask (batch, time), a position that does not count keeps the state, and its output is 0.

    units: the size of the state.
    reverse: from the last position to the first.
    outputs: "all": the state at every position, (batch, time, units); "last": the one at which it ends, (batch, units):
        after the last position that counts, or the first if ``reverse``; 0 where none does.
    """

    units: int
    reverse: bool = False
    outputs: str = "all"

    gates: ClassVar[int]
    """How many blocks of ``units`` columns the weights have."""
    positionwise: ClassVar[bool] = False
    states: ClassVar[int] = 1
    """How many arrays the state has."""

    def __post_init__(self) -> None:
        if self.outputs not in ("all", "last"):
            raise ValueError(f"{type(self).__name__}.outputs is {self.outputs!r}; it must be 'all' or 'last'")

    @abstractmethod
    def cell(self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]) -> State:
        """One step by definition, of the state and of a = x_t kernel + bias."""

    @abstractmethod
    def cell_forward(
        self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]
    ) -> tuple[State, Array, Array | None]:
        """The same, what ``cell_backward`` needs in the place of a, and what else it needs besides the state before."""

    @abstractmethod
    def cell_backward(
        self, params: dict[str, Array], kept: PyTree, before: State, d_state: State
    ) -> tuple[PyTree, State]:
        """The cotangents of a, in the place of what was kept, and of the state before the step."""

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> dict[str, Array]:
        """Every gate's block is drawn for itself: input weights by Glorot, recurrent ones orthogonal."""
        keys = jax.random.split(key, (2, self.gates))

        def draw(initializer: Any, keys: Any, rows: int) -> Array:
            return jnp.concatenate([initializer(key, (rows, self.units), jnp.float32) for key in keys], 1)

        return {
            "kernel": draw(glorot_uniform, keys[0], x.shape[-1]),
            "recurrent": draw(orthogonal, keys[1], self.units),
            "bias": jnp.zeros(self.gates * self.units, jnp.float32),
        }

    def zeros(self, batch: int, dtype: Any) -> State:
        return (jnp.zeros((batch, self.units), dtype),) * self.states

    def inputs(self, params: dict[str, Array], x: Array) -> Float[Array, "time batch gates"]:
        """a = x kernel + bias, of all positions at once."""
        a = jnp.tensordot(_swap(x), params["kernel"], 1)
        return a + jnp.broadcast_to(params["bias"], a.shape)

    def joined(self, h: Array, state: State, counts: Array | None) -> Array:
        """The output, of h at every position, time first, and of the state at the end."""
        if self.outputs == "last":
            return state[0]
        return _swap(_select(counts, h, jnp.zeros_like(h)))

    def run(
        self, params: dict[str, Array], state: State, x: Float[Array, "batch time features"], mask: Array | None
    ) -> tuple[Array, State]:
        """The output from a given state on, and the state at the end."""
        params = {name: value.astype(x.dtype) for name, value in params.items()}
        counts = None if mask is None else _swap(mask)

        def step(state: State, position: tuple[Array, Array | None]) -> tuple[State, Array]:
            a, counts = position
            state = _select(counts, self.cell(params, state, a), state)
            return state, state[0]

        state, h = lax.scan(step, state, (self.inputs(params, x), counts), reverse=self.reverse)
        return self.joined(h, state, counts), state

    def apply(self, params: dict[str, Array], x: Float[Array, "batch time features"], context: Context) -> Array:
        return self.run(params, self.zeros(x.shape[0], x.dtype), x, context.mask)[0]

    def forward(
        self, params: dict[str, Array], x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Array, tuple[Array, State, tuple[Array, Array | None], Array | None]]:
        params = {name: value.astype(x.dtype) for name, value in params.items()}
        counts = None if context.mask is None else _swap(context.mask)

        def step(state: State, a: Array, counts: Array | None) -> tuple[State, Array, tuple[State, Array | None]]:
            a += jnp.broadcast_to(params["bias"], a.shape)
            new, kept, more = self.cell_forward(params, state, a)
            return _select(counts, new, state), kept, (state, more)

        products = _swap(x).reshape(-1, x.shape[-1]) @ params["kernel"]
        start = self.zeros(x.shape[0], x.dtype)
        end, kept, (before, more) = _scan_in_place(step, start, products, counts, x.shape[1], self.reverse)
        more = None if more is None else more.reshape(-1, self.units)
        # The state after a step is the one before the next.
        parts = [end[0][None], before[0][:-1]] if self.reverse else [before[0][1:], end[0][None]]
        return self.joined(jnp.concatenate(parts), end, counts), (x, before, (kept, more), counts)

    def backward(
        self,
        params: dict[str, Array],
        residuals: tuple[Array, State, tuple[Array, Array | None], Array | None],
        d_y: Array,
    ) -> tuple[dict[str, Array], Float[Array, "batch time features"]]:
        """Backpropagation through time (Werbos 1990): the cell is one function, used at every t. From the last step on,

        (1) d_h_t = d_y_t + what step t + 1 hands back
        (2) d_a_t, d_state_{t-1} from d_state_t                           the cell's own: ``cell_backward``
        (3) d_kernel    = sum_t x_t^T d_a_t
        (4) d_recurrent = sum_t h_{t-1}^T d_q_t                           with q = h_{t-1} recurrent
        (5) d_bias      = sum_t d_a_t, over the batch, too
        (6) d_x_t       = d_a_t kernel^T

        Only (1) and (2) are steps of the scan; the d_a of all positions leave it, so that (3), (4) and (6) are one
        matmul each, where a weight's cotangent in the scan would be read and written at every step. A position that
        does not count hands d_state on as it is, and takes no part in (3) to (6). The cotangent of a state is a sum
        over all later positions: it is in float32 (float64). Residuals: x, the state before every step, and what the
        cell keeps; d_a takes its place.
        """
        x, before, kept, counts = residuals
        weights = {name: value.astype(x.dtype) for name, value in params.items()}
        sums = reduction_dtype(x.dtype)
        d_end, d_h = self.zeros(x.shape[0], sums), None
        if self.outputs == "last":
            d_end = (d_y.astype(sums), *d_end[1:])
        else:
            d_h = _swap(d_y)

        def step(d_state: State, kept: PyTree, position: PyTree) -> tuple[State, PyTree, None]:
            before, d_h, counts = position
            d_new = d_state if d_h is None else (d_state[0] + d_h.astype(sums), *d_state[1:])  # (1)
            d_new = _select(counts, d_new, jax.tree.map(jnp.zeros_like, d_new))
            d_a, d_before = self.cell_backward(weights, kept, before, d_new)  # (2)
            return _select(counts, d_before, d_state), jax.tree.map(lambda d: d.astype(x.dtype), d_a), None

        positions = before, d_h, counts
        _, (d_a, more), _ = _scan_in_place(step, d_end, kept, positions, x.shape[1], not self.reverse)
        by_time = _swap(x)
        d_params = {
            "kernel": jnp.matmul(by_time.reshape(-1, x.shape[-1]).T, d_a, preferred_element_type=sums),  # (3)
            "bias": d_a.sum(0, dtype=sums),  # (5)
            **self.recurrent_cotangents(before[0].reshape(-1, self.units), d_a, more, sums),  # (4)
        }
        d_x = _swap((d_a @ weights["kernel"].T).reshape(by_time.shape))  # (6)
        return {name: d.astype(params[name].dtype) for name, d in d_params.items()}, d_x

    def recurrent_cotangents(self, before: Array, d_a: Array, more: PyTree, sums: Any) -> dict[str, Array]:
        """(4) of ``backward`` where q and a are only added: d_q = d_a."""
        del more
        return {"recurrent": jnp.matmul(before.T, d_a, preferred_element_type=sums)}

    def after(self, context: Context) -> Context:
        return replace(context, mask=None) if self.outputs == "last" else context

    def init_cache(
        self, params: dict[str, Array], x: Array | jax.ShapeDtypeStruct, length: int, context: Context
    ) -> State:
        """The state before the first position, for inputs like ``x`` (batch, any time, features)."""
        del params, length, context
        if self.reverse:
            raise ValueError(
                f"{type(self).__name__}(reverse=True) begins at the last position: it cannot go step by step"
            )
        return self.zeros(x.shape[0], x.dtype)

    def decode_step(
        self, params: dict[str, Array], cache: State, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Array, State]:
        """The output at the next position (or positions: x may hold several) and the state after it."""
        return self.run(params, cache, x, context.mask)


@dataclass(frozen=True)
class RNN(_Recurrent):
    """h_t = tanh(x_t W + b + h_{t-1} U) (Elman 1990).

    Parameters: kernel W (features, units), recurrent U (units, units), bias b (units,).
    """

    gates: ClassVar[int] = 1

    def cell(self, params: dict[str, Array], state: State, a: Float[Array, "batch units"]) -> State:
        return (jnp.tanh(a + state[0] @ params["recurrent"]),)

    def cell_forward(
        self, params: dict[str, Array], state: State, a: Float[Array, "batch units"]
    ) -> tuple[State, Array, None]:
        (h,) = self.cell(params, state, a)
        return (h,), h, None

    def cell_backward(
        self, params: dict[str, Array], kept: PyTree, before: State, d_state: State
    ) -> tuple[PyTree, State]:
        """With s = a + h_{t-1} U and tanh' = 1 - tanh^2:

        (1) d_a = d_s = d_h (1 - h^2)
        (2) d_h_{t-1} = d_s U^T

        Kept is h, of which (1) is made.
        """
        del before
        (d_h,) = d_state
        h = kept[0].astype(d_h.dtype)
        d_s = d_h * (1 - h * h)  # (1)
        return (d_s, None), (_matmul(d_s, params["recurrent"].T),)  # (2)


def _matmul(a: Array, b: Array) -> Array:
    """a @ b at the precision of b, summed in the dtype of a."""
    return jnp.matmul(a.astype(b.dtype), b, preferred_element_type=a.dtype)


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates (Gers et al. 2000):

        (s_i, s_f, s_g, s_o) = x_t W + b + h_{t-1} U
        i, f, o = sigmoid(s_i), sigmoid(s_f), sigmoid(s_o),   g = tanh(s_g)
        c_t = f c_{t-1} + i g
        h_t = o tanh(c_t)

    The bias of f begins at 1: what is in c stays there at first (Jozefowicz et al. 2015).

    Parameters: kernel W (features, 4 units), recurrent U (units, 4 units), bias b (4 units,); blocks i, f, g, o.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> dict[str, Array]:
        params = super().init(key, x)
        return params | {"bias": params["bias"].at[self.units : 2 * self.units].set(1.0)}

    def cell(self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]) -> State:
        h, c = state
        i, f, g, o = jnp.split(a + h @ params["recurrent"], 4, 1)
        c = lax.logistic(f) * c + lax.logistic(i) * jnp.tanh(g)
        return lax.logistic(o) * jnp.tanh(c), c

    def cell_forward(
        self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]
    ) -> tuple[State, Array, None]:
        h, c = state
        s_i, s_f, s_g, s_o = jnp.split(a + h @ params["recurrent"], 4, 1)
        i, f, g, o = lax.logistic(s_i), lax.logistic(s_f), jnp.tanh(s_g), lax.logistic(s_o)
        c = f * c + i * g
        return (o * jnp.tanh(c), c), jnp.concatenate([i, f, g, o], 1), None

    def cell_backward(
        self, params: dict[str, Array], kept: PyTree, before: State, d_state: State
    ) -> tuple[PyTree, State]:
        """With sigmoid' = sigmoid (1 - sigmoid) and tanh' = 1 - tanh^2:

        (1) d_c += d_h o (1 - tanh(c)^2)                 c reaches the loss through h, and through the next step
        (2) d_s_o = d_h tanh(c) o (1 - o)
        (3) d_s_i = d_c g i (1 - i)
        (4) d_s_f = d_c c_{t-1} f (1 - f)
        (5) d_s_g = d_c i (1 - g^2)
        (6) d_c_{t-1} = d_c f
        (7) d_h_{t-1} = (d_s_i, d_s_f, d_s_g, d_s_o) U^T

        Kept are the four gates. Made again from h they would cost a second x W and h U; c and tanh(c) are made again.
        """
        d_h, d_c = d_state
        i, f, g, o = jnp.split(kept[0].astype(d_h.dtype), 4, 1)
        c_before = before[1].astype(d_h.dtype)
        t = jnp.tanh(f * c_before + i * g)
        d_c = d_c + d_h * o * (1 - t * t)  # (1)
        d_o = d_h * t * o * (1 - o)  # (2)
        d_i = d_c * g * i * (1 - i)  # (3)
        d_f = d_c * c_before * f * (1 - f)  # (4)
        d_g = d_c * i * (1 - g * g)  # (5)
        d_s = jnp.concatenate([d_i, d_f, d_g, d_o], 1)
        return (d_s, None), (_matmul(d_s, params["recurrent"].T), d_c * f)  # (6), (7)


@dataclass(frozen=True)
class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate behind the recurrent product, as in cuDNN:

        (a_r, a_z, a_n) = x_t W + b,   (q_r, q_z, q_n) = h_{t-1} U
        r, z = sigmoid(a_r + q_r), sigmoid(a_z + q_z)
        n = tanh(a_n + r (q_n + u))
        h_t = (1 - z) n + z h_{t-1}

    PyTorch and Flax compute the same; PyTorch has a second bias for r and z, too, which adds nothing to b.

    Parameters: kernel W (features, 3 units), recurrent U (units, 3 units), bias b (3 units,), blocks r, z, n;
    recurrent_bias u (units,).
    """

    gates: ClassVar[int] = 3

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> dict[str, Array]:
        return super().init(key, x) | {"recurrent_bias": jnp.zeros(self.units, jnp.float32)}

    def parts(self, params: dict[str, Array], h: Array, a: Array) -> tuple[Array, Array, Array, Array]:
        """r, z, n, and m = q_n + u."""
        q = h @ params["recurrent"]
        both = lax.logistic(a[:, : 2 * self.units] + q[:, : 2 * self.units])
        r, z = jnp.split(both, 2, 1)
        m = q[:, 2 * self.units :] + jnp.broadcast_to(params["recurrent_bias"], r.shape)
        return r, z, jnp.tanh(a[:, 2 * self.units :] + r * m), m

    def cell(self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]) -> State:
        _, z, n, _ = self.parts(params, state[0], a)
        return ((1 - z) * n + z * state[0],)

    def cell_forward(
        self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]
    ) -> tuple[State, Array, Array]:
        r, z, n, m = self.parts(params, state[0], a)
        return ((1 - z) * n + z * state[0],), jnp.concatenate([r, z, n], 1), m

    def cell_backward(
        self, params: dict[str, Array], kept: PyTree, before: State, d_state: State
    ) -> tuple[PyTree, State]:
        """With m = q_n + u, sigmoid' = sigmoid (1 - sigmoid) and tanh' = 1 - tanh^2:

        (1) d_a_n = d_h (1 - z) (1 - n^2)
        (2) d_a_z = d_h (h_{t-1} - n) z (1 - z)
        (3) d_a_r = d_a_n m r (1 - r)
        (4) d_q = (d_a_r, d_a_z, d_m),  d_m = d_a_n r      r stands between a_n and q_n
        (5) d_h_{t-1} = d_q U^T + d_h z

        Kept are r, z, n, whose place d_a takes, and m, whose place d_m takes.
        """
        (d_h,) = d_state
        r, z, n = jnp.split(kept[0].astype(d_h.dtype), 3, 1)
        d_n = d_h * (1 - z) * (1 - n * n)  # (1)
        d_z = d_h * (before[0].astype(d_h.dtype) - n) * z * (1 - z)  # (2)
        d_r = d_n * kept[1].astype(d_h.dtype) * r * (1 - r)  # (3)
        d_m = d_n * r  # (4)
        d_q = jnp.concatenate([d_r, d_z, d_m], 1)
        d_before = _matmul(d_q, params["recurrent"].T) + d_h * z  # (5)
        return (jnp.concatenate([d_r, d_z, d_n], 1), d_m), (d_before,)

    def recurrent_cotangents(self, before: Array, d_a: Array, more: PyTree, sums: Any) -> dict[str, Array]:
        """With d_q from (4) of ``cell_backward``: d_U = sum h_{t-1}^T d_q, and d_u = sum d_m, since m = q_n + u.

        ``more`` is d_m.
        """
        d_q = jnp.concatenate([d_a[:, : 2 * self.units], more], 1)
        d_recurrent = jnp.matmul(before.T, d_q, preferred_element_type=sums)
        return {"recurrent": d_recurrent, "recurrent_bias": more.sum(0, dtype=sums)}


@dataclass(frozen=True)
class Bidirectional(Layer):
    """Two recurrent layers on the same input, one in each direction; their outputs side by side (Schuster 1997).

    forward_layer, backward_layer: equal in ``outputs``; the second has ``reverse=True``.
    """

    positionwise: ClassVar[bool] = False

    forward_layer: _Recurrent
    backward_layer: _Recurrent

    def __post_init__(self) -> None:
        if self.forward_layer.reverse or not self.backward_layer.reverse:
            raise ValueError("Bidirectional: backward_layer must have reverse=True, and forward_layer must not")
        if self.forward_layer.outputs != self.backward_layer.outputs:
            raise ValueError("Bidirectional: outputs of both layers must be equal, 'all' or 'last'")

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> PyTree:
        first, second = jax.random.split(key)
        return {
            "forward_layer": self.forward_layer.init(first, x),
            "backward_layer": self.backward_layer.init(second, x),
        }

    def apply(self, params: PyTree, x: Float[Array, "batch time features"], context: Context) -> Array:
        along = self.forward_layer.apply(params["forward_layer"], x, context.child(0))
        against = self.backward_layer.apply(params["backward_layer"], x, context.child(1))
        return jnp.concatenate([along, against], -1)

    def forward(
        self, params: PyTree, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Array, tuple[PyTree, PyTree]]:
        along, kept_along = self.forward_layer.forward(params["forward_layer"], x, context.child(0))
        against, kept_against = self.backward_layer.forward(params["backward_layer"], x, context.child(1))
        return jnp.concatenate([along, against], -1), (kept_along, kept_against)

    def backward(
        self, params: PyTree, residuals: tuple[PyTree, PyTree], d_y: Array
    ) -> tuple[PyTree, Float[Array, "batch time features"]]:
        """Each layer gets its slice of d_y; x goes into both, so d_x is the sum of what they hand back."""
        d_along, d_against = jnp.split(d_y, (self.forward_layer.units,), -1)
        d_first, d_x = self.forward_layer.backward(params["forward_layer"], residuals[0], d_along)
        d_second, d_other = self.backward_layer.backward(params["backward_layer"], residuals[1], d_against)
        return {"forward_layer": d_first, "backward_layer": d_second}, d_x + d_other

    def after(self, context: Context) -> Context:
        return self.forward_layer.after(context)
