"""Beam search: the likeliest sequences that an encoder and a decoder give."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline import compiler
from pipeline.layers.activations import LogSoftmax
from pipeline.layers.base import Context, PyTree
from pipeline.layers.combinators import EncoderDecoder
from pipeline.layers.objective import Objective
from pipeline.losses.vocabulary import VocabularyCrossEntropy


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


def make_beam_search(
    objective: Objective, begin: int, end: int, beam: int = 5, length_penalty: float = 1.0
) -> Callable[[PyTree, np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
    """A function ``(params, source, length) -> (ids, scores)``, by beam search; greedy where ``beam`` is 1.

    source: ids (batch, time). length: how many tokens, the end among them, a translation may have. ids: int32 (batch,
    beam, length), the best first, padding (0) behind the ``end``; scores (batch, beam): the sum of a translation's
    log-probabilities over ((5 + tokens) / 6) ** length_penalty (Wu et al. 2016, without coverage), minus infinity where
    no translation of that rank has ended. Where none at all has, the likeliest unfinished one is given.
    """
    model, loss = objective.model, objective.loss
    assert isinstance(model, EncoderDecoder) and isinstance(loss, VocabularyCrossEntropy)

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
            return model.decoder.init_cache(its["decoder"], (tokens, memory), length, context)

        cache = model.decoder.init_cache(its["decoder"], (repeated[:, :1], memory), length, decoding)
        along = _batch_axes(start, memory)

        def one(at: _Search) -> _Search:
            last = jnp.where(at.time == 0, begin, at.alive[:, :, jnp.maximum(at.time - 1, 0)])
            h, cache = model.decoder.decode_step(its["decoder"], at.cache, (last.reshape(-1, 1), memory), Context())
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
