"""Recurrent layers: the same cell at every position carries a state along the time axis.

Inside, time is the first axis, so that a step reads and writes contiguous blocks. The products with the input are one
matmul before the scan, and the gradient of each weight is one matmul after it; a step computes only what depends on the
previous state. One buffer holds first the products with the input, then the gates, then the gates' cotangents.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .base import Context, PyTree, reduction_dtype, vary_like
from .initializers import glorot_uniform, orthogonal
from .recurrent_state import Recurrent
from .scan_in_place import scan_in_place

State = tuple[Array, ...]
"""The arrays that one step passes to the next, each (batch, units); the first is h, the output."""
Residuals = tuple[Array, State, tuple[Array, Array | None], Array | None]
"""What a layer of one direction saves: x, the previous states, the gates with the cell's other array, and the mask."""


def _swap(x: Array) -> Array:
    """(batch, time, ...) to (time, batch, ...), and back."""
    return jnp.swapaxes(x, 0, 1)


def _outer_products(
    x: Float[Array, "time batch features"], d_y: Float[Array, "time batch gates"], sums: Any
) -> Float[Array, "features gates"]:
    """The sum over time and batch of x^T d_y.

    The two axes are contracted as they are: merged into one, a batch that is sharded over devices would be gathered.
    """
    return jnp.einsum("tbf,tbg->fg", x, d_y, preferred_element_type=sums)


def _select(mask: Array | None, new: PyTree, old: PyTree) -> PyTree:
    """``new`` where the mask is True, else ``old``."""
    if mask is None:
        return new
    return jax.tree.map(lambda new, old: jnp.where(mask[..., None], new, old), new, old)


@dataclass(frozen=True)
class _OneDirection(Recurrent):
    """state_t = cell(state_{t-1}, x_t) for x (batch, time, features), starting from a state of zeros.

    A masked position leaves the state unchanged, and its output is 0. ``WithState`` starts from another state.

    units: the size of the state.
    reverse: whether to go from the last position to the first.
    outputs: "all": h at every position, (batch, time, units); "last": h at the end, (batch, units), that is at the last
        position that is not masked (the first, if ``reverse``), and the initial state if all are masked.
    """

    units: int
    reverse: bool = False
    outputs: str = "all"

    gates: ClassVar[int]
    """The number of gates: the weights have one block of ``units`` columns for each."""
    states: ClassVar[int] = 1
    """The number of arrays in the state."""

    def __post_init__(self) -> None:
        if self.outputs not in ("all", "last"):
            raise ValueError(f"{type(self).__name__}.outputs is {self.outputs!r}; it must be 'all' or 'last'")

    @abstractmethod
    def cell(self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]) -> State:
        """The definition of one step: the new state, from the previous one and a = x_t kernel + bias."""

    @abstractmethod
    def cell_forward(
        self, params: dict[str, Array], state: State, a: Float[Array, "batch gates"]
    ) -> tuple[State, Array, Array | None]:
        """The new state, an array of a's shape that overwrites a, and another; ``cell_backward`` reads these two."""

    @abstractmethod
    def cell_backward(
        self, params: dict[str, Array], gates: PyTree, previous: State, d_state: State
    ) -> tuple[PyTree, State]:
        """The cotangents of a and of the previous state.

        gates: the pair of arrays that ``cell_forward`` returned. The first result has the same structure: the cotangent
        of a, and another array for ``recurrent_cotangents``.
        """

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> dict[str, Array]:
        """Initialises each gate's weights by themselves: Glorot for the input, orthogonal for the state."""
        keys = jax.random.split(key, (2, self.gates))

        def draw(initializer: Any, keys: Any, rows: int) -> Array:
            return jnp.concatenate([initializer(key, (rows, self.units), jnp.float32) for key in keys], 1)

        return {
            "kernel": draw(glorot_uniform, keys[0], x.shape[-1]),
            "recurrent": draw(orthogonal, keys[1], self.units),
            "bias": jnp.zeros(self.gates * self.units, jnp.float32),
        }

    def initial_state(self, x: Array | jax.ShapeDtypeStruct) -> State:
        return self._zeros(x, x.dtype)

    def _zeros(self, x: Array | jax.ShapeDtypeStruct, dtype: Any) -> State:
        return (jnp.zeros((x.shape[0], self.units), dtype),) * self.states

    def inputs(self, params: dict[str, Array], x: Array) -> Float[Array, "time batch gates"]:
        """a = x kernel + bias at all positions."""
        a = jnp.tensordot(_swap(x), params["kernel"], 1)
        return a + jnp.broadcast_to(params["bias"], a.shape)

    def output(self, h: Array, state: State, mask: Array | None) -> Array:
        """The layer's output, from h at every position (time first) and the state at the end."""
        if self.outputs == "last":
            return state[0]
        return _swap(_select(mask, h, jnp.zeros_like(h)))

    def apply_from(
        self, params: dict[str, Array], x: Float[Array, "batch time features"], state: State, context: Context
    ) -> tuple[Array, State]:
        params = {name: value.astype(x.dtype) for name, value in params.items()}
        mask = None if context.mask is None else _swap(context.mask)
        state = vary_like(tuple(part.astype(x.dtype) for part in state), params, x, mask)

        def step(state: State, position: tuple[Array, Array | None]) -> tuple[State, Array]:
            a, mask = position
            state = _select(mask, self.cell(params, state, a), state)
            return state, state[0]

        state, h = lax.scan(step, state, (self.inputs(params, x), mask), reverse=self.reverse)
        return self.output(h, state, mask), state

    def forward_from(
        self, params: dict[str, Array], x: Float[Array, "batch time features"], state: State, context: Context
    ) -> tuple[tuple[Array, State], Residuals]:
        params = {name: value.astype(x.dtype) for name, value in params.items()}
        mask = None if context.mask is None else _swap(context.mask)

        def step(state: State, a: Array, mask: Array | None) -> tuple[State, Array, tuple[State, Array | None]]:
            a += jnp.broadcast_to(params["bias"], a.shape)
            new, gates, extra = self.cell_forward(params, state, a)
            return _select(mask, new, state), gates, (state, extra)

        products = jnp.tensordot(_swap(x), params["kernel"], 1)
        start = vary_like(tuple(part.astype(x.dtype) for part in state), params, x, mask)
        end, gates, (previous, extra) = scan_in_place(step, start, products, mask, self.reverse)
        # The state after a step is the previous state of the next one.
        parts = [end[0][None], previous[0][:-1]] if self.reverse else [previous[0][1:], end[0][None]]
        return (self.output(jnp.concatenate(parts), end, mask), end), (x, previous, (gates, extra), mask)

    def backward_from(
        self, params: dict[str, Array], residuals: Residuals, d_y: Array, d_state: State | None
    ) -> tuple[dict[str, Array], Float[Array, "batch time features"], State]:
        """Backpropagation through time (Werbos 1990). For t from the last step to the first:

        (1) d_h_t      += d_y_t, where d_h_t so far is what step t + 1 gave in (2)
        (2) d_a_t, d_state_{t-1} from d_state_t                           the cell's rule: ``cell_backward``
        (3) d_kernel    = sum_t x_t^T d_a_t
        (4) d_recurrent = sum_t h_{t-1}^T d_q_t                           with q_t = h_{t-1} recurrent
        (5) d_bias      = sum_t d_a_t, and over the batch
        (6) d_x_t       = d_a_t kernel^T

        It starts from the cotangent of the state at the end, and ends with that of the initial one, which is the last
        result of (2).

        Only (1) and (2) are in the scan, which returns d_a of all positions, so that (3), (4) and (6) are one matmul
        each. In the scan, the cotangents of the weights would be read and written in every step. A masked position
        passes d_state on unchanged, and its d_a is 0. The cotangent of a state is a sum over all later positions, and
        is accumulated in float32 (float64).

        The residuals are x, the previous state of every step, and the gates, which d_a overwrites.
        """
        x, previous, gates, mask = residuals
        weights = {name: value.astype(x.dtype) for name, value in params.items()}
        sums = reduction_dtype(x.dtype)
        d_end = self._zeros(x, sums) if d_state is None else tuple(d.astype(sums) for d in d_state)
        d_end, d_h = vary_like(d_end, residuals, weights, d_y), None
        if self.outputs == "last":
            d_end = (d_end[0] + d_y.astype(sums), *d_end[1:])
        else:
            d_h = _swap(d_y)

        def step(d_state: State, gates: PyTree, position: PyTree) -> tuple[State, PyTree, None]:
            previous, d_h, mask = position
            d_new = d_state if d_h is None else (d_state[0] + d_h.astype(sums), *d_state[1:])  # (1)
            d_new = _select(mask, d_new, jax.tree.map(jnp.zeros_like, d_new))
            d_a, d_previous = self.cell_backward(weights, gates, previous, d_new)  # (2)
            return _select(mask, d_previous, d_state), jax.tree.map(lambda d: d.astype(x.dtype), d_a), None

        positions = previous, d_h, mask
        d_start, (d_a, extra), _ = scan_in_place(step, d_end, gates, positions, not self.reverse)
        d_params = {
            "kernel": _outer_products(_swap(x), d_a, sums),  # (3)
            "bias": d_a.sum((0, 1), dtype=sums),  # (5)
            **self.recurrent_cotangents(previous[0], d_a, extra, sums),  # (4)
        }
        d_x = _swap(jnp.tensordot(d_a, weights["kernel"].T, 1))  # (6)
        return {name: d.astype(params[name].dtype) for name, d in d_params.items()}, d_x, d_start

    def recurrent_cotangents(self, previous: Array, d_a: Array, extra: PyTree, sums: Any) -> dict[str, Array]:
        """(4) of ``backward_from`` for cells that only add q and a, so that d_q = d_a. extra: see ``cell_backward``."""
        del extra
        return {"recurrent": _outer_products(previous, d_a, sums)}

    def after(self, context: Context) -> Context:
        return replace(context, mask=None) if self.outputs == "last" else context

    def init_cache(
        self, params: dict[str, Array], x: Array | jax.ShapeDtypeStruct, length: int, context: Context
    ) -> State:
        """The state of zeros before the first position, for inputs like ``x`` (batch, any time, features)."""
        del params, length, context
        if self.reverse:
            raise ValueError(f"{type(self).__name__}(reverse=True) starts at the end: it cannot decode one by one")
        return self.initial_state(x)

    def decode_step(
        self, params: dict[str, Array], cache: State, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Array, State]:
        """The output at the next position, or at several if x holds them, and the state after it."""
        return self.apply_from(params, x, cache, context)


@dataclass(frozen=True)
class RNN(_OneDirection):
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
        self, params: dict[str, Array], gates: PyTree, previous: State, d_state: State
    ) -> tuple[PyTree, State]:
        """With s = a + h_{t-1} U and tanh' = 1 - tanh^2:

        (1) d_a = d_s = d_h (1 - h^2)
        (2) d_h_{t-1} = d_s U^T

        The residual is h, from which (1) follows.
        """
        del previous
        (d_h,) = d_state
        h = gates[0].astype(d_h.dtype)
        d_s = d_h * (1 - h * h)  # (1)
        return (d_s, None), (_matmul(d_s, params["recurrent"].T),)  # (2)


def _matmul(a: Array, b: Array) -> Array:
    """a @ b with factors in the dtype of b and sums in the dtype of a."""
    return jnp.matmul(a.astype(b.dtype), b, preferred_element_type=a.dtype)


@dataclass(frozen=True)
class LSTM(_OneDirection):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates (Gers et al. 2000):

        (s_i, s_f, s_g, s_o) = x_t W + b + h_{t-1} U
        i, f, o = sigmoid(s_i), sigmoid(s_f), sigmoid(s_o),   g = tanh(s_g)
        c_t = f c_{t-1} + i g
        h_t = o tanh(c_t)

    The bias of f starts at 1, so that c is remembered at first (Jozefowicz et al. 2015).

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
        self, params: dict[str, Array], gates: PyTree, previous: State, d_state: State
    ) -> tuple[PyTree, State]:
        """With sigmoid' = sigmoid (1 - sigmoid) and tanh' = 1 - tanh^2:

        (1) d_c += d_h o (1 - tanh(c)^2)                 c is read by h, and by the next step
        (2) d_s_o = d_h tanh(c) o (1 - o)
        (3) d_s_i = d_c g i (1 - i)
        (4) d_s_f = d_c c_{t-1} f (1 - f)
        (5) d_s_g = d_c i (1 - g^2)
        (6) d_c_{t-1} = d_c f
        (7) d_h_{t-1} = (d_s_i, d_s_f, d_s_g, d_s_o) U^T

        The residuals are the four gates, which would cost the products x W and h U again. c and tanh(c) are recomputed.
        """
        d_h, d_c = d_state
        i, f, g, o = jnp.split(gates[0].astype(d_h.dtype), 4, 1)
        c_previous = previous[1].astype(d_h.dtype)
        t = jnp.tanh(f * c_previous + i * g)
        d_c = d_c + d_h * o * (1 - t * t)  # (1)
        d_o = d_h * t * o * (1 - o)  # (2)
        d_i = d_c * g * i * (1 - i)  # (3)
        d_f = d_c * c_previous * f * (1 - f)  # (4)
        d_g = d_c * i * (1 - g * g)  # (5)
        d_s = jnp.concatenate([d_i, d_f, d_g, d_o], 1)
        return (d_s, None), (_matmul(d_s, params["recurrent"].T), d_c * f)  # (6), (7)


@dataclass(frozen=True)
class GRU(_OneDirection):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after the recurrent product, as in cuDNN:

        (a_r, a_z, a_n) = x_t W + b,   (q_r, q_z, q_n) = h_{t-1} U
        r, z = sigmoid(a_r + q_r), sigmoid(a_z + q_z)
        n = tanh(a_n + r (q_n + u))
        h_t = (1 - z) n + z h_{t-1}

    PyTorch and Flax compute the same. PyTorch also has a second bias for r and z, which is redundant with b.

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
        self, params: dict[str, Array], gates: PyTree, previous: State, d_state: State
    ) -> tuple[PyTree, State]:
        """With m = q_n + u, sigmoid' = sigmoid (1 - sigmoid) and tanh' = 1 - tanh^2:

        (1) d_a_n = d_h (1 - z) (1 - n^2)
        (2) d_a_z = d_h (h_{t-1} - n) z (1 - z)
        (3) d_a_r = d_a_n m r (1 - r)
        (4) d_q = (d_a_r, d_a_z, d_m),  d_m = d_a_n r      r multiplies q_n, but not a_n
        (5) d_h_{t-1} = d_q U^T + d_h z

        The residuals are r, z and n, which d_a overwrites, and m, which d_m overwrites.
        """
        (d_h,) = d_state
        r, z, n = jnp.split(gates[0].astype(d_h.dtype), 3, 1)
        d_n = d_h * (1 - z) * (1 - n * n)  # (1)
        d_z = d_h * (previous[0].astype(d_h.dtype) - n) * z * (1 - z)  # (2)
        d_r = d_n * gates[1].astype(d_h.dtype) * r * (1 - r)  # (3)
        d_m = d_n * r  # (4)
        d_q = jnp.concatenate([d_r, d_z, d_m], 1)
        d_previous = _matmul(d_q, params["recurrent"].T) + d_h * z  # (5)
        return (jnp.concatenate([d_r, d_z, d_n], 1), d_m), (d_previous,)

    def recurrent_cotangents(self, previous: Array, d_a: Array, extra: PyTree, sums: Any) -> dict[str, Array]:
        """With d_q from (4) of ``cell_backward``: d_U = sum h_{t-1}^T d_q, and d_u = sum d_m, since m = q_n + u.

        extra: d_m.
        """
        d_q = jnp.concatenate([d_a[..., : 2 * self.units], extra], -1)
        d_recurrent = _outer_products(previous, d_q, sums)
        return {"recurrent": d_recurrent, "recurrent_bias": extra.sum((0, 1), dtype=sums)}


@dataclass(frozen=True)
class Bidirectional(Recurrent):
    """Two recurrent layers in opposite directions over the same input, with concatenated outputs (Schuster 1997).

    forward_layer, backward_layer: must have the same ``outputs``; the second has ``reverse=True``.

    Its state is the pair of both layers' states.

    >>> layer, x = Bidirectional(LSTM(4), LSTM(4, reverse=True)), jnp.ones((2, 5, 3))
    >>> layer.apply(layer.init(jax.random.key(0), x), x, Context()).shape
    (2, 5, 8)
    """

    indivisible: ClassVar[bool] = True

    forward_layer: _OneDirection
    backward_layer: _OneDirection

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

    def initial_state(self, x: Array | jax.ShapeDtypeStruct) -> tuple[State, State]:
        return self.forward_layer.initial_state(x), self.backward_layer.initial_state(x)

    def apply_from(
        self, params: PyTree, x: Float[Array, "batch time features"], state: tuple[State, State], context: Context
    ) -> tuple[Array, tuple[State, State]]:
        y_forward, end_forward = self.forward_layer.apply_from(params["forward_layer"], x, state[0], context)
        y_backward, end_backward = self.backward_layer.apply_from(params["backward_layer"], x, state[1], context)
        return jnp.concatenate([y_forward, y_backward], -1), (end_forward, end_backward)

    def forward_from(
        self, params: PyTree, x: Float[Array, "batch time features"], state: tuple[State, State], context: Context
    ) -> tuple[tuple[Array, tuple[State, State]], tuple[Residuals, Residuals]]:
        (y_forward, end_forward), forward = self.forward_layer.forward_from(
            params["forward_layer"], x, state[0], context
        )
        (y_backward, end_backward), backward = self.backward_layer.forward_from(
            params["backward_layer"], x, state[1], context
        )
        return (jnp.concatenate([y_forward, y_backward], -1), (end_forward, end_backward)), (forward, backward)

    def backward_from(
        self, params: PyTree, residuals: tuple[Residuals, Residuals], d_y: Array, d_state: tuple[State, State] | None
    ) -> tuple[PyTree, Float[Array, "batch time features"], tuple[State, State]]:
        """Each layer gets its slice of d_y. Both read x, so d_x is the sum of their cotangents of it."""
        d_y_forward, d_y_backward = jnp.split(d_y, (self.forward_layer.units,), -1)
        d_forward_end, d_backward_end = (None, None) if d_state is None else d_state
        d_forward, d_x, d_start = self.forward_layer.backward_from(
            params["forward_layer"], residuals[0], d_y_forward, d_forward_end
        )
        d_backward, d_x_backward, d_backward_start = self.backward_layer.backward_from(
            params["backward_layer"], residuals[1], d_y_backward, d_backward_end
        )
        d_params = {"forward_layer": d_forward, "backward_layer": d_backward}
        return d_params, d_x + d_x_backward, (d_start, d_backward_start)

    def after(self, context: Context) -> Context:
        return self.forward_layer.after(context)
