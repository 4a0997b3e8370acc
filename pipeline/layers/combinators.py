"""The chain rule, written once: layers made of layers.

Each combinator's parameters are keyed by its own field names (a tuple of layers gives a list), so that the path of a
parameter and the path of its layer are one: ``layers/3/kernel`` belongs to ``layers/3``.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from pipeline.layers.base import Context, Layer, PyTree, Static, output


@dataclass(frozen=True)
class Serial(Layer):
    """One layer after the other: y = f_n(... f_2(f_1(x))).

    Where some of them read a memory, x is a pair (x, memory), and each of those is given the memory beside its input.
    """

    layers: tuple[Layer, ...]

    def _beside(self, x: PyTree) -> tuple[PyTree, PyTree]:
        """x, and what stands beside it: a tuple of the memory, or an empty one."""
        return (x[0], x[1:]) if self.reads_memory else (x, ())

    def init(self, key: Any, x: PyTree) -> PyTree:
        x, memory = self._beside(x)
        params = []
        for i, layer in enumerate(self.layers):
            given = _given(layer, x, memory)
            params.append(layer.init(jax.random.fold_in(key, i), given))
            x = output(layer, params[-1], given)
        return {"layers": params}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        x, memory = self._beside(x)
        for i, layer in enumerate(self.layers):
            x = layer.apply(params["layers"][i], _given(layer, x, memory), context.child(i))
            context = layer.after(context)
        return x

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        x, memory = self._beside(x)
        residuals = []
        for i, layer in enumerate(self.layers):
            x, kept = layer.forward(params["layers"][i], _given(layer, x, memory), context.child(i))
            residuals.append(kept)
            context = layer.after(context)
        return x, residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The chain rule (Rumelhart, Hinton & Williams 1986): d_x = J_1^T J_2^T ... J_n^T d_y, the last factor first.

        Bracketed from the right every product is with a vector: the whole costs about as much as the forward pass. A
        memory is one array that several layers read: its cotangent is the sum of what they hand back.
        """
        d_params, d_memory = [], ()
        for layer, its_params, kept in zip(reversed(self.layers), reversed(params["layers"]), reversed(residuals)):
            d_its_params, d_y = layer.backward(its_params, kept, d_y)
            d_params.append(d_its_params)
            if layer.reads_memory:
                d_y, *d_more = d_y
                d_memory = jax.tree.map(jnp.add, d_memory, tuple(d_more)) if d_memory else tuple(d_more)
        return {"layers": d_params[::-1]}, ((d_y, *d_memory) if d_memory else d_y)

    def after(self, context: Context) -> Context:
        for layer in self.layers:
            context = layer.after(context)
        return context

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        x, memory = self._beside(x)
        caches = []
        for layer, its_params in zip(self.layers, params["layers"]):
            given = _given(layer, x, memory)
            caches.append(layer.init_cache(its_params, given, length, context))
            x = output(layer, its_params, given)
        return caches

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        x, memory = self._beside(x)
        caches = []
        for i, (layer, its_params, its_cache) in enumerate(zip(self.layers, params["layers"], cache)):
            x, its_cache = layer.decode_step(its_params, its_cache, _given(layer, x, memory), context.child(i))
            caches.append(its_cache)
        return x, caches

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        parts = zip(self.layers, params["layers"], residuals)
        return {"layers": [layer.statistics(its_params, kept) for layer, its_params, kept in parts]}


def _given(layer: Layer, x: PyTree, memory: PyTree) -> PyTree:
    return (x, *memory) if layer.reads_memory else x


def _first(x: PyTree) -> PyTree:
    return x[0] if isinstance(x, tuple) else x


@dataclass(frozen=True)
class Residual(Layer):
    """y = x + f(x) (He et al. 2016). Of a pair (x, memory) the first part is skipped around: y = x + f(x, memory)."""

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return jax.tree.map(jnp.add, _first(x), self.layer.apply(params["layer"], x, context))

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = self.layer.forward(params["layer"], x, context)
        return jax.tree.map(jnp.add, _first(x), y), residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """d_x = d_y + J_f^T d_y: the sum of what arrives over the two paths. A sum saves nothing of its own."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y)
        if isinstance(d_x, tuple):
            d_x = (jax.tree.map(jnp.add, d_y, d_x[0]), *d_x[1:])
        else:
            d_x = jax.tree.map(jnp.add, d_y, d_x)
        return {"layer": d_params}, d_x

    def after(self, context: Context) -> Context:
        return self.layer.after(context)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return self.layer.init_cache(params["layer"], x, length, context)

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, cache = self.layer.decode_step(params["layer"], cache, x, context)
        return jax.tree.map(jnp.add, _first(x), y), cache

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class Parallel(Layer):
    """Every layer on the same input; their outputs summed, or concatenated along the last axis.

    combine: "sum" or "concatenate".
    """

    layers: tuple[Layer, ...]
    combine: str = "sum"

    def __post_init__(self) -> None:
        if self.combine not in ("sum", "concatenate"):
            raise ValueError(f"Parallel.combine is {self.combine!r}; it must be 'sum' or 'concatenate'")

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layers": [layer.init(jax.random.fold_in(key, i), x) for i, layer in enumerate(self.layers)]}

    def _join(self, parts: list[PyTree]) -> PyTree:
        if self.combine == "sum":
            return jax.tree.map(lambda *y: sum(y[1:], start=y[0]), *parts)
        return jnp.concatenate(parts, axis=-1)

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        parts = zip(self.layers, params["layers"])
        return self._join([layer.apply(p, x, context.child(i)) for i, (layer, p) in enumerate(parts)])

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        parts = zip(self.layers, params["layers"])
        outputs, residuals = zip(*(layer.forward(p, x, context.child(i)) for i, (layer, p) in enumerate(parts)))
        widths = () if self.combine == "sum" else tuple(y.shape[-1] for y in outputs)
        return self._join(list(outputs)), (list(residuals), Static(widths))

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """Each path gets d_y (sum) or its own slice of it (concatenate); d_x sums what the paths hand back."""
        kept, widths = residuals
        if self.combine == "sum":
            d_outputs = [d_y] * len(self.layers)
        else:
            ends = [sum(widths.value[: i + 1]) for i in range(len(widths.value) - 1)]
            d_outputs = jnp.split(d_y, ends, axis=-1)
        parts = zip(self.layers, params["layers"], kept, d_outputs)
        d_params, d_inputs = zip(*(layer.backward(p, r, d) for layer, p, r, d in parts))
        return {"layers": list(d_params)}, jax.tree.map(lambda *d: sum(d[1:], start=d[0]), *d_inputs)

    def after(self, context: Context) -> Context:
        return self.layers[0].after(context)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return [layer.init_cache(p, x, length, context) for layer, p in zip(self.layers, params["layers"])]

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        parts = enumerate(zip(self.layers, params["layers"], cache))
        outputs, caches = zip(*(layer.decode_step(p, c, x, context.child(i)) for i, (layer, p, c) in parts))
        return self._join(list(outputs)), list(caches)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        parts = zip(self.layers, params["layers"], residuals[0])
        return {"layers": [layer.statistics(its_params, kept) for layer, its_params, kept in parts]}


@dataclass(frozen=True)
class Transposed(Layer):
    """y = f(x^T)^T, of a layer f and a matrix x (rows, columns): what f does to each row is done to each column."""

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, jax.ShapeDtypeStruct(x.shape[::-1], x.dtype))}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x.T, context).T

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = self.layer.forward(params["layer"], x.T, context)
        return y.T, residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """Transposing moves elements and does no more: (1) d_x = (J_f^T d_y^T)^T. Nothing is kept for it."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y.T)
        return {"layer": d_params}, d_x.T  # (1)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class Repeat(Layer):
    """``times`` equal layers with parameters of their own, stacked along a first axis and run as one scan.

    The program holds the layer once, however deep the model is. The layer's output must look like its input (of a pair
    (x, memory): like x; every layer is given the same memory).
    """

    layer: Layer
    times: int

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": jax.vmap(lambda key: self.layer.init(key, x))(jax.random.split(key, self.times))}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        def step(y: PyTree, indexed: tuple[PyTree, Any]) -> tuple[PyTree, None]:
            its_params, i = indexed
            return self.layer.apply(its_params, _with_first(x, y), context.child(i)), None

        return jax.lax.scan(step, _first(x), (params["layer"], jnp.arange(self.times, dtype=jnp.int32)))[0]

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        given = jax.tree.leaves((x[1:] if isinstance(x, tuple) else (), context))
        shared: dict[int, int] = {}
        structure = None

        def step(y: PyTree, indexed: tuple[PyTree, Any]) -> tuple[PyTree, PyTree]:
            nonlocal structure
            its_params, i = indexed
            y, kept = self.layer.forward(its_params, _with_first(x, y), context.child(i))
            kept, structure = jax.tree.flatten(kept)
            # A residual that is the very array every layer was given (memory, mask) is kept once, not stacked.
            for place, leaf in enumerate(kept):
                for source, array in enumerate(given):
                    if leaf is array:
                        shared[place] = source
            return y, [leaf for place, leaf in enumerate(kept) if place not in shared]

        y, stacked = jax.lax.scan(step, _first(x), (params["layer"], jnp.arange(self.times, dtype=jnp.int32)))
        places = tuple(sorted(shared))
        return y, (stacked, [given[shared[place]] for place in places], Static((places, structure)))

    def _residuals_of(self, own: PyTree, shared: PyTree, static: Static) -> PyTree:
        places, structure = static.value  # pyright: ignore[reportGeneralTypeIssues]
        own, shared = list(own), list(shared)
        return jax.tree.unflatten(
            structure, [shared.pop(0) if i in places else own.pop(0) for i in range(structure.num_leaves)]
        )

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """Serial's chain rule as a scan from the last layer to the first.

        d_y is the carry, each layer's d_params are stacked as its parameters are, and the cotangents of what every
        layer was given (a memory) are summed, since it is one array used ``times`` times. The residuals are the
        layer's own, ``times`` over, less those that are shared.
        """
        stacked, shared, static = residuals

        def one(d_y: PyTree, its_params: PyTree, own: PyTree) -> tuple[PyTree, PyTree, PyTree]:
            d_params, d_x = self.layer.backward(its_params, self._residuals_of(own, shared, static), d_y)
            return (d_params, d_x[0], d_x[1:]) if isinstance(d_x, tuple) else (d_params, d_x, ())

        def step(carry: tuple[PyTree, PyTree], saved: tuple[PyTree, PyTree]) -> tuple[tuple[PyTree, PyTree], PyTree]:
            d_y, d_rest = carry
            d_params, d_y, d_its_rest = one(d_y, *saved)
            return (d_y, jax.tree.map(jnp.add, d_rest, d_its_rest)), d_params

        first = jax.tree.map(lambda leaf: leaf[0], (params["layer"], stacked))
        d_rest = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, d_y, *first)[2])
        (d_first, d_rest), d_params = jax.lax.scan(
            step, (d_y, d_rest), (params["layer"], stacked), length=self.times, reverse=True
        )
        return {"layer": d_params}, ((d_first, *d_rest) if d_rest else d_first)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return jax.vmap(lambda its_params: self.layer.init_cache(its_params, x, length, context))(params["layer"])

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        def one(y: PyTree, indexed: tuple[PyTree, PyTree, Any]) -> tuple[PyTree, PyTree]:
            its_params, its_cache, i = indexed
            return self.layer.decode_step(its_params, its_cache, _with_first(x, y), context.child(i))

        return jax.lax.scan(one, _first(x), (params["layer"], cache, jnp.arange(self.times, dtype=jnp.int32)))

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        stacked, shared, static = residuals
        of_one = lambda p, own: self.layer.statistics(p, self._residuals_of(own, shared, static))  # noqa: E731
        return {"layer": jax.vmap(of_one)(params["layer"], stacked)}


def _with_first(x: PyTree, y: PyTree) -> PyTree:
    return (y, *x[1:]) if isinstance(x, tuple) else y


@dataclass(frozen=True)
class Remat(Layer):
    """The same function, recomputed in the backward pass instead of saved (Chen et al. 2016, sublinear memory).

    Worth most inside ``Repeat``, where a scan keeps the recomputation in its own iteration.
    """

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.apply(params["layer"], x, context), (x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The layer's own backward, on residuals that its forward makes again from x: time for memory.

        The barrier ties the second forward to d_y, so that a compiler does not merge it with the first.
        """
        params, (x, context), d_y = jax.lax.optimization_barrier((params, residuals, d_y))
        _, kept = self.layer.forward(params["layer"], x, context)
        d_params, d_x = self.layer.backward(params["layer"], kept, d_y)
        return {"layer": d_params}, d_x

    def after(self, context: Context) -> Context:
        return self.layer.after(context)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return self.layer.init_cache(params["layer"], x, length, context)

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.decode_step(params["layer"], cache, x, context)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        x, context = residuals
        _, kept = self.layer.forward(params["layer"], x, context)
        return {"layer": self.layer.statistics(params["layer"], kept)}


@dataclass(frozen=True)
class Cast(Layer):
    """x in another float dtype: what follows computes in it, since the compute dtype is the input's. Integers stay.

    dtype: a name: "bfloat16", "float32", ...
    """

    dtype: str

    def init(self, key: Any, x: PyTree) -> PyTree:
        del key, x
        return {}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        del params, context
        is_float = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype) if is_float(leaf) else leaf, x)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.apply(params, x, context), jax.tree.map(lambda leaf: Static(jnp.dtype(leaf.dtype).name), x)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """A cast is the identity up to rounding: d_x is d_y in x's dtype."""
        del params
        d_x = jax.tree.map(
            lambda kept, d: None if d is None else d.astype(kept.value),
            residuals,
            d_y,
            is_leaf=lambda node: isinstance(node, Static),
        )
        return {}, d_x


Source = Int[Array, "batch source_time"]


Target = Int[Array, "batch target_time"]


@dataclass(frozen=True)
class EncoderDecoder(Layer):
    """y = decoder(target, encoder(source)): one sequence from another (Sutskever et al. 2014).

    x is (source, target), ids (batch, time) of lengths of their own. The encoder sees the source alone; the decoder is
    given (target, memory), where the memory is what the encoder made of the source, and sees no target behind the
    position it stands at. What has the id ``padding`` counts not, in either.
    """

    encoder: Layer
    decoder: Layer
    padding: int = 0

    @property
    def reads_memory(self) -> bool:
        return False

    def contexts(self, source: Source, target: Target | None, context: Context) -> tuple[Context, Context]:
        """The encoder's and the decoder's. target: None where its positions come one by one, none of them padding."""
        counts = source != self.padding
        seen = None if target is None else target != self.padding
        return (
            replace(context.child(0), mask=counts, memory_mask=None),
            replace(context.child(1), mask=seen, memory_mask=counts),
        )

    def init(self, key: Any, x: PyTree) -> PyTree:
        source, target = x
        keys = jax.random.split(key)
        encoder = self.encoder.init(keys[0], source)
        return {
            "encoder": encoder,
            "decoder": self.decoder.init(keys[1], (target, output(self.encoder, encoder, source))),
        }

    def apply(self, params: PyTree, x: tuple[Source, Target], context: Context) -> PyTree:
        source, target = x
        encoding, decoding = self.contexts(source, target, context)
        memory = self.encoder.apply(params["encoder"], source, encoding)
        return self.decoder.apply(params["decoder"], (target, memory), decoding)

    def forward(self, params: PyTree, x: tuple[Source, Target], context: Context) -> tuple[PyTree, PyTree]:
        source, target = x
        encoding, decoding = self.contexts(source, target, context)
        memory, kept_by_encoder = self.encoder.forward(params["encoder"], source, encoding)
        y, kept_by_decoder = self.decoder.forward(params["decoder"], (target, memory), decoding)
        return y, (kept_by_encoder, kept_by_decoder)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, tuple[None, None]]:
        """The chain rule along the only path from the encoder to the loss, which is the memory:

        (1) d_decoder, d_memory   from d_y: the decoder's own, summed over every place that reads the memory
        (2) d_encoder             from d_memory: the encoder's own

        Ids have no cotangent. Nothing is kept but what the two keep.
        """
        kept_by_encoder, kept_by_decoder = residuals
        d_decoder, (d_target, d_memory) = self.decoder.backward(params["decoder"], kept_by_decoder, d_y)  # (1)
        d_encoder, d_source = self.encoder.backward(params["encoder"], kept_by_encoder, d_memory)  # (2)
        return {"encoder": d_encoder, "decoder": d_decoder}, (d_source, d_target)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        parts = zip((self.encoder, self.decoder), (params["encoder"], params["decoder"]), residuals)
        encoder, decoder = (layer.statistics(its_params, kept) for layer, its_params, kept in parts)
        return {"encoder": encoder, "decoder": decoder}
