"""Translation: a sentence's ids to those of another language, by an encoder and a decoder that attends to it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline import compiler
from pipeline.layers.activations import LogSoftmax, Tanh
from pipeline.layers.attention import CrossAttention
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.combinators import Objective, Repeat, Residual, Serial, Tied
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.recurrent import GRU, Bidirectional
from pipeline.layers.sequences import EncoderDecoder
from pipeline.losses.vocabulary import VocabularyCrossEntropy
from pipeline.models.transformer import block, stack


def transformer(
    vocabulary: int, width: int = 256, layers: int = 3, heads: int = 4, dropout: float = 0.1
) -> EncoderDecoder:
    """``layers`` blocks on either side (Vaswani et al. 2017), over (source, target) ids of one vocabulary."""
    encoder = stack(vocabulary, block(width, heads, dropout), width, layers, dropout)
    decoder = stack(vocabulary, block(width, heads, dropout, causal=True, memory=True), width, layers, dropout)
    return EncoderDecoder(encoder, decoder)


def attention_gru(vocabulary: int, width: int = 256, layers: int = 1, dropout: float = 0.1) -> EncoderDecoder:
    """GRUs in both directions over the source, GRUs over the target that attend to them (Luong et al. 2015, global).

    layers: GRUs on either side. What a decoder's position answers is tanh of a mixture of its state and of what it
    attends to.
    """
    half = width // 2
    encoder, decoder = ([Embedding(vocabulary, width)] for _ in range(2))
    for _ in range(layers):
        encoder += [Dropout(dropout), Bidirectional(GRU(half), GRU(width - half, reverse=True))]
        decoder += [Dropout(dropout), GRU(width)]
    attentive = (Dropout(dropout), Residual(CrossAttention(1)), Dense(width), Tanh(), Dropout(dropout))
    return EncoderDecoder(Serial(tuple(encoder)), Serial((*decoder, *attentive)))


def translation_objective(model: Layer, vocabulary: int, label_smoothing: float = 0.0) -> Tied:
    """The model under the mean nats a token of the target, with one table of vectors for source, target and output."""
    source = "model/decoder/layers/0/embedding"
    return Tied(
        Objective(model, VocabularyCrossEntropy(vocabulary, label_smoothing)),
        (("loss/embedding", source), ("model/encoder/layers/0/embedding", source)),
    )


class _Search(NamedTuple):
    """A beam search between two tokens. ``alive`` hypotheses go on; ``done`` ones have ended and can be displaced.

    Ids are (batch, beam, length), scores (batch, beam): sums of log-probabilities; of what is done, over their penalty.
    """

    time: Int[Array, ""]
    alive: Int[Array, "batch beam length"]
    scores: Float[Array, "batch beam"]
    done: Int[Array, "batch beam length"]
    done_scores: Float[Array, "batch beam"]
    cache: PyTree


def make_translation(
    objective: Tied, begin: int, end: int, beam: int = 5, length_penalty: float = 1.0
) -> Callable[[PyTree, np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
    """A function ``(params, source, length) -> (ids, scores)``, by beam search; greedy where ``beam`` is 1.

    source: ids (batch, time). length: how many tokens, the end among them, a translation may have. ids: int32 (batch,
    beam, length), the best first, padding (0) behind the ``end``; scores (batch, beam): the sum of a translation's
    log-probabilities over ((5 + tokens) / 6) ** length_penalty (Wu et al. 2016, without coverage), minus infinity where
    no translation of that rank has ended. Where none at all has, the likeliest unfinished one is given.
    """
    inner = objective.layer
    assert isinstance(inner, Objective) and isinstance(inner.loss, VocabularyCrossEntropy)
    model, loss = _encoder_decoder(inner.model), inner.loss

    def penalty(tokens: Any) -> Any:
        return ((5.0 + tokens) / 6.0) ** length_penalty

    @partial(compiler.jit, static_argnums=2)
    def search(params: PyTree, source: Int[Array, "batch time"], length: int) -> tuple[Array, Array]:
        both = objective.expand(params)
        its = both["model"]
        batch, vocabulary = source.shape[0], loss.vocabulary
        encoding, _ = model.contexts(source, None, Context())
        encoded = model.encoder.apply(its["encoder"], source, encoding)
        repeated, memory = (jnp.repeat(array, beam, axis=0) for array in (source, encoded))
        _, decoding = model.contexts(repeated, None, Context())

        def start(memory: Array) -> PyTree:
            tokens = jnp.zeros((memory.shape[0], 1), jnp.int32)
            context = Context(memory_mask=jnp.ones(memory.shape[:2], bool))
            return model.decoder.start(its["decoder"], (tokens, memory), length, context)

        cache = model.decoder.start(its["decoder"], (repeated[:, :1], memory), length, decoding)
        along = _batch_axes(start, memory)

        def one(at: _Search) -> _Search:
            last = jnp.where(at.time == 0, begin, at.alive[:, :, jnp.maximum(at.time - 1, 0)])
            h, cache = model.decoder.step(its["decoder"], at.cache, (last.reshape(-1, 1), memory), Context())
            log_p = LogSoftmax().apply({}, loss.logits(both["loss"], h[:, -1]), Context())
            log_p = log_p.reshape(batch, beam, vocabulary)
            log_p = log_p.at[:, :, model.padding].set(-jnp.inf)  # which is no token
            total = (at.scores[:, :, None] + log_p).reshape(batch, -1)
            # As many as there can be ends among them leave a beam of those that go on.
            scores, places = jax.lax.top_k(total, 2 * beam)
            parents, tokens = places // vocabulary, (places % vocabulary).astype(jnp.int32)
            ids = jnp.take_along_axis(at.alive, parents[:, :, None], 1).at[:, :, at.time].set(tokens)
            ends = tokens == end

            # Only an end among the likeliest ``beam`` counts, so that a beam of one is greedy.
            among = ends & (jnp.arange(2 * beam) < beam)[None]
            ended = jnp.where(among, scores / penalty(at.time + 1.0), -jnp.inf)
            done, done_scores = _best(
                jnp.concatenate([at.done, ids], 1), jnp.concatenate([at.done_scores, ended], 1), beam
            )
            going, order = jax.lax.top_k(jnp.where(ends, -jnp.inf, scores), beam)
            alive = jnp.take_along_axis(ids, order[:, :, None], 1)
            parents = jnp.take_along_axis(parents, order, 1) + beam * jnp.arange(batch)[:, None]
            cache = jax.tree.map(
                lambda leaf, axis: leaf if axis is None else jnp.take(leaf, parents.reshape(-1), axis=axis),
                cache,
                along,
                is_leaf=lambda node: node is None,
            )
            return _Search(at.time + 1, alive, going, done, done_scores, cache)

        def goes_on(at: _Search) -> Bool[Array, ""]:
            # A log-probability only falls; the most that a longer translation can come to has the largest penalty.
            could = at.scores[:, 0] / penalty(float(length))
            return (at.time < length) & (could > at.done_scores[:, -1]).any()

        empty = jnp.zeros((batch, beam, length), jnp.int32)
        unlikely = jnp.full((batch, beam), -jnp.inf)
        first = unlikely.at[:, 0].set(0.0)  # one hypothesis: equal ones would fill the beam with copies
        at = jax.lax.while_loop(goes_on, one, _Search(jnp.int32(0), empty, first, empty, unlikely, cache))
        none = at.done_scores[:, :1] == -jnp.inf
        done = jnp.where(none[:, :, None] & (jnp.arange(beam) == 0)[None, :, None], at.alive, at.done)
        return done, at.done_scores

    def translation(params: PyTree, source: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        ids, scores = search(params, jnp.asarray(source), length)
        return np.asarray(ids), np.asarray(scores)

    return translation


def _best(ids: Array, scores: Array, count: int) -> tuple[Array, Array]:
    scores, places = jax.lax.top_k(scores, count)
    return jnp.take_along_axis(ids, places[:, :, None], 1), scores


def _batch_axes(start: Callable[[Any], PyTree], memory: Array) -> PyTree:
    """Along which axis of every array of a cache its examples stand; None: along none. Known from another batch's."""
    more = jax.ShapeDtypeStruct((memory.shape[0] + 1, *memory.shape[1:]), memory.dtype)

    def axis(one: Any, other: Any) -> int | None:
        return next((i for i, sizes in enumerate(zip(one.shape, other.shape)) if sizes[0] != sizes[1]), None)

    return jax.tree.map(axis, jax.eval_shape(start, memory), jax.eval_shape(start, more))


def _encoder_decoder(model: Layer) -> EncoderDecoder:
    assert isinstance(model, EncoderDecoder)
    return model


def alignment(objective: Tied, params: PyTree, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How much every position of a target attends to each of the source: (target time, source time); rows add up to 1.

    The mean over all layers and heads that attend to the source. source, target: ids (1, time), without padding.
    """
    inner = objective.layer
    assert isinstance(inner, Objective)
    model, its = _encoder_decoder(inner.model), objective.expand(params)["model"]
    encoding, decoding = model.contexts(jnp.asarray(source), jnp.asarray(target), Context())
    memory = model.encoder.apply(its["encoder"], jnp.asarray(source), encoding)
    found: list[Array] = []
    _attended(model.decoder, its["decoder"], (jnp.asarray(target), memory), decoding, found)
    return np.asarray(jnp.concatenate(found, 1)[0].mean(0))


def _attended(layer: Layer, params: PyTree, x: PyTree, context: Context, found: list[Array]) -> PyTree:
    """What ``apply`` gives; the weights of every CrossAttention on the way are added to ``found``."""
    if not layer.reads_memory:
        return layer.apply(params, x, context)
    y, memory = x
    if isinstance(layer, CrossAttention):
        found.append(layer.weights(params, x, context))
        return layer.apply(params, x, context)
    if isinstance(layer, Residual):
        return y + _attended(layer.layer, params["layer"], x, context, found)
    if isinstance(layer, Repeat):
        for i in range(layer.times):
            its = jax.tree.map(lambda leaf, i=i: leaf[i], params["layer"])
            y = _attended(layer.layer, its, (y, memory), context, found)
        return y
    assert isinstance(layer, Serial)
    for part, its in zip(layer.layers, params["layers"]):
        y = _attended(part, its, (y, memory) if part.reads_memory else y, context, found)
    return y
