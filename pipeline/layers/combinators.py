"""Combinators: layers made of layers. The chain rule is written here, and nowhere else.

The parameters of a combinator are keyed by the names of its fields, and a tuple of layers gives a list. So the path of
a parameter begins with the path of its layer: ``layers/3/kernel`` belongs to the layer ``layers/3``.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .base import Context, Layer, PyTree, Static, output


@dataclass(frozen=True)
class Serial(Layer):
    """One layer after the other: y = f_n(... f_2(f_1(x))).

    If some of the layers read a memory, the input is a pair (x, memory), and each of them gets the memory beside its
    own input.

    >>> from backhand.layers import Dense, ReLU
    >>> model, x = Serial((Dense(8), ReLU(), Dense(2))), jnp.ones((4, 3))
    >>> params = model.init(jax.random.key(0), x)
    >>> [sorted(layer) for layer in params["layers"]]
    [['bias', 'kernel'], [], ['bias', 'kernel']]
    >>> model.apply(params, x, Context()).shape
    (4, 2)
    """

    examplewise: ClassVar[bool] = True

    layers: tuple[Layer, ...]

    def _split(self, x: PyTree) -> tuple[PyTree, PyTree]:
        """x without the memory, and a tuple of the memory, which is empty if no layer reads one."""
        return (x[0], x[1:]) if self.reads_memory else (x, ())

    def init(self, key: Any, x: PyTree) -> PyTree:
        x, memory = self._split(x)
        params = []
        for i, layer in enumerate(self.layers):
            layer_input = _layer_input(layer, x, memory)
            params.append(layer.init(jax.random.fold_in(key, i), layer_input))
            x = output(layer, params[-1], layer_input)
        return {"layers": params}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        x, memory = self._split(x)
        for i, layer in enumerate(self.layers):
            x = layer.apply(params["layers"][i], _layer_input(layer, x, memory), context.child(i))
            context = layer.after(context)
        return x

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        x, memory = self._split(x)
        residuals = []
        for i, layer in enumerate(self.layers):
            x, layer_residuals = layer.forward(params["layers"][i], _layer_input(layer, x, memory), context.child(i))
            residuals.append(layer_residuals)
            context = layer.after(context)
        return x, residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The chain rule (Rumelhart, Hinton & Williams 1986): d_x = J_1^T J_2^T ... J_n^T d_y.

        It is evaluated from the right, so that every product is one of a matrix and a vector: the whole costs about as
        much as the forward pass. A memory is an input of several layers, so its cotangent is the sum of theirs.
        """
        d_params, d_memory = [], ()
        parts = zip(reversed(self.layers), reversed(params["layers"]), reversed(residuals))
        for layer, layer_params, layer_residuals in parts:
            d_layer_params, d_y = layer.backward(layer_params, layer_residuals, d_y)
            d_params.append(d_layer_params)
            if layer.reads_memory:
                d_y, *d_more = d_y
                d_memory = jax.tree.map(jnp.add, d_memory, tuple(d_more)) if d_memory else tuple(d_more)
        return {"layers": d_params[::-1]}, ((d_y, *d_memory) if d_memory else d_y)

    def after(self, context: Context) -> Context:
        for layer in self.layers:
            context = layer.after(context)
        return context

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        x, memory = self._split(x)
        caches = []
        for layer, layer_params in zip(self.layers, params["layers"]):
            layer_input = _layer_input(layer, x, memory)
            caches.append(layer.init_cache(layer_params, layer_input, length, context))
            x = output(layer, layer_params, layer_input)
        return caches

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        x, memory = self._split(x)
        caches = []
        for i, (layer, layer_params, layer_cache) in enumerate(zip(self.layers, params["layers"], cache)):
            x, layer_cache = layer.decode_step(
                layer_params, layer_cache, _layer_input(layer, x, memory), context.child(i)
            )
            caches.append(layer_cache)
        return x, caches

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        parts = zip(self.layers, params["layers"], residuals)
        return {"layers": [layer.statistics(p, r) for layer, p, r in parts]}


def _layer_input(layer: Layer, x: PyTree, memory: PyTree) -> PyTree:
    """``x``, with the memory beside it if the layer reads one."""
    return (x, *memory) if layer.reads_memory else x


def without_memory(x: PyTree) -> PyTree:
    """``x`` itself, or the first part of a pair (x, memory)."""
    return x[0] if isinstance(x, tuple) else x


@dataclass(frozen=True)
class Residual(Layer):
    """A residual connection, y = x + f(x) (He et al. 2016); for an input (x, memory), y = x + f(x, memory)."""

    examplewise: ClassVar[bool] = True

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return jax.tree.map(jnp.add, without_memory(x), self.layer.apply(params["layer"], x, context))

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = self.layer.forward(params["layer"], x, context)
        return jax.tree.map(jnp.add, without_memory(x), y), residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """d_x = d_y + J_f^T d_y, the sum over the two paths from x to y. There are no residuals but those of f."""
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
        return jax.tree.map(jnp.add, without_memory(x), y), cache

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class Parallel(Layer):
    """Applies every layer to the same input, and sums or concatenates their outputs.

    combine: "sum", or "concatenate" (along the last axis).
    """

    examplewise: ClassVar[bool] = True

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
        """Each layer gets d_y (sum) or its own slice of d_y (concatenate); d_x is the sum of the layers' d_x."""
        layer_residuals, widths = residuals
        if self.combine == "sum":
            d_outputs = [d_y] * len(self.layers)
        else:
            ends = [sum(widths.value[: i + 1]) for i in range(len(widths.value) - 1)]
            d_outputs = jnp.split(d_y, ends, axis=-1)
        parts = zip(self.layers, params["layers"], layer_residuals, d_outputs)
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
        return {"layers": [layer.statistics(p, r) for layer, p, r in parts]}


@dataclass(frozen=True)
class Transposed(Layer):
    """y = f(x^T)^T of a layer f and a matrix x (rows, columns): applies to columns what f applies to rows."""

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, jax.ShapeDtypeStruct(x.shape[::-1], x.dtype))}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x.T, context).T

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = self.layer.forward(params["layer"], x.T, context)
        return y.T, residuals

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """Transposition is linear and its own transpose: (1) d_x = (J_f^T d_y^T)^T. The residuals are those of f."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y.T)
        return {"layer": d_params}, d_x.T  # (1)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class Remat(Layer):
    """Rematerialisation: recomputes the layer's residuals in the backward pass instead of saving them.

    The output is the layer's own (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). It saves most
    memory inside ``Repeat``, where only one layer's residuals exist at a time.
    """

    examplewise: ClassVar[bool] = True

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.apply(params["layer"], x, context), (x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The layer's own backward, on residuals that a second forward pass computes from x: time for memory.

        The residuals are x and the context. The barrier makes the second forward pass depend on d_y, so that the
        compiler does not merge it with the first.
        """
        params, (x, context), d_y = jax.lax.optimization_barrier((params, residuals, d_y))
        _, layer_residuals = self.layer.forward(params["layer"], x, context)
        d_params, d_x = self.layer.backward(params["layer"], layer_residuals, d_y)
        return {"layer": d_params}, d_x

    def after(self, context: Context) -> Context:
        return self.layer.after(context)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return self.layer.init_cache(params["layer"], x, length, context)

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.decode_step(params["layer"], cache, x, context)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        x, context = residuals
        _, layer_residuals = self.layer.forward(params["layer"], x, context)
        return {"layer": self.layer.statistics(params["layer"], layer_residuals)}


@dataclass(frozen=True)
class Cast(Layer):
    """Casts floats to ``dtype``, in which the layers after it then compute. Other dtypes are left as they are.

    dtype: a name such as "bfloat16" or "float32".
    """

    examplewise: ClassVar[bool] = True

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
            lambda dtype, d: None if d is None else d.astype(dtype.value),
            residuals,
            d_y,
            is_leaf=lambda node: isinstance(node, Static),
        )
        return {}, d_x


Source = Int[Array, "batch source_time"]
Target = Int[Array, "batch target_time"]


@dataclass(frozen=True)
class EncoderDecoder(Layer):
    """y = decoder(target, encoder(source)), a model from one sequence to another (Sutskever et al. 2014).

    x is (source, target), each ids (batch, time) with a length of its own. The decoder's input is (target, memory),
    where the memory is the encoder's output; its layers must be causal. Positions whose id is ``padding`` are masked in
    both sequences.
    """

    examplewise: ClassVar[bool] = True

    encoder: Layer
    decoder: Layer
    padding: int = 0

    @property
    def reads_memory(self) -> bool:
        return False

    def contexts(self, source: Source, target: Target | None, context: Context) -> tuple[Context, Context]:
        """The contexts of encoder and decoder. target: None in decoding one by one, where no position is padding."""
        source_mask = source != self.padding
        target_mask = None if target is None else target != self.padding
        return (
            replace(context.child(0), mask=source_mask, memory_mask=None),
            replace(context.child(1), mask=target_mask, memory_mask=source_mask),
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
        memory, encoder_residuals = self.encoder.forward(params["encoder"], source, encoding)
        y, decoder_residuals = self.decoder.forward(params["decoder"], (target, memory), decoding)
        return y, (encoder_residuals, decoder_residuals)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, tuple[None, None]]:
        """The chain rule along the only path from the encoder to the output, which is the memory:

        (1) d_decoder and d_memory from d_y, by the decoder's rule, which sums over all layers that read the memory
        (2) d_encoder from d_memory, by the encoder's rule

        Ids have no cotangent. The residuals are those of the two.
        """
        encoder_residuals, decoder_residuals = residuals
        d_decoder, (d_target, d_memory) = self.decoder.backward(params["decoder"], decoder_residuals, d_y)  # (1)
        d_encoder, d_source = self.encoder.backward(params["encoder"], encoder_residuals, d_memory)  # (2)
        return {"encoder": d_encoder, "decoder": d_decoder}, (d_source, d_target)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        parts = zip((self.encoder, self.decoder), (params["encoder"], params["decoder"]), residuals)
        encoder, decoder = (layer.statistics(p, r) for layer, p, r in parts)
        return {"encoder": encoder, "decoder": decoder}
