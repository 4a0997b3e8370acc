"""Beam search: the likeliest output sequences of an encoder-decoder model."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import compiler
from ..layers.activations import LogSoftmax
from ..layers.base import Context, PyTree
from ..layers.combinators import EncoderDecoder
from ..layers.objective import Objective
from ..losses.vocabulary import VocabularyCrossEntropy


class _Search(NamedTuple):
    """The state of a beam search after ``time`` tokens.

    ``alive`` hypotheses are extended by further tokens. ``done`` ones have ended; better ones may still displace them.

    Ids are (batch, beam, length). Scores are (batch, beam): sums of log-probabilities, and for ``done`` hypotheses
    these sums divided by the length penalty.
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
    """Returns a function ``(params, source, length) -> (ids, scores)`` that decodes by beam search.

    objective: an ``EncoderDecoder`` under ``VocabularyCrossEntropy``.
    begin, end: the ids that a decoder's input starts with and that an output sequence ends with.
    beam: how many hypotheses are kept; 1 is greedy decoding.
    length_penalty: exponent of the penalty; 0 compares sums of log-probabilities, larger values favour longer outputs.

    The function's arguments and results:

    source: ids (batch, time), padded with the model's padding id.
    length: the largest number of output tokens, including ``end``.
    ids: int32 (batch, beam, length), the best hypothesis first, padded with 0 after ``end``. If no hypothesis has
        ended, the first one is the likeliest unfinished one.
    scores: (batch, beam), the sum of a hypothesis' log-probabilities divided by ((5 + tokens) / 6) ** length_penalty
        (Wu et al. 2016, without their coverage penalty); minus infinity where no hypothesis of that rank has ended.

    >>> from backhand.losses.base import Targets
    >>> from backhand.models.translation import transformer, translation_objective
    >>> objective = translation_objective(transformer(vocabulary=7, width=8, layers=1, heads=2), vocabulary=7)
    >>> source = np.array([[3, 4, 5, 2], [6, 2, 0, 0]], np.int32)
    >>> ids = jnp.asarray(source)
    >>> params = objective.init(jax.random.key(0), ((ids, ids), Targets(ids)))
    >>> ids, scores = make_beam_search(objective, begin=1, end=2, beam=3)(params, source, 5)
    >>> ids.shape, scores.shape
    ((2, 3, 5), (2, 3))
    """
    model, loss = objective.model, objective.loss
    assert isinstance(model, EncoderDecoder) and isinstance(loss, VocabularyCrossEntropy)

    def penalty(tokens: Any) -> Any:
        return ((5.0 + tokens) / 6.0) ** length_penalty

    @partial(compiler.jit, static_argnums=2)
    def search(params: PyTree, source: Int[Array, "batch time"], length: int) -> tuple[Array, Array]:
        params = objective.expand(params)
        model_params = params["model"]
        batch, vocabulary = source.shape[0], loss.vocabulary
        encoding, _ = model.contexts(source, None, Context())
        encoded = model.encoder.apply(model_params["encoder"], source, encoding)
        repeated, memory = (jnp.repeat(array, beam, axis=0) for array in (source, encoded))
        _, decoding = model.contexts(repeated, None, Context())

        def start(memory: Array) -> PyTree:
            tokens = jnp.zeros((memory.shape[0], 1), jnp.int32)
            context = Context(memory_mask=jnp.ones(memory.shape[:2], bool))
            return model.decoder.init_cache(model_params["decoder"], (tokens, memory), length, context)

        cache = model.decoder.init_cache(model_params["decoder"], (repeated[:, :1], memory), length, decoding)
        batch_axes = _batch_axes(start, memory)

        def one(at: _Search) -> _Search:
            last = jnp.where(at.time == 0, begin, at.alive[:, :, jnp.maximum(at.time - 1, 0)])
            x = last.reshape(-1, 1), memory
            h, cache = model.decoder.decode_step(model_params["decoder"], at.cache, x, Context())
            log_p = LogSoftmax().apply({}, loss.logits(params["loss"], h[:, -1]), Context())
            log_p = log_p.reshape(batch, beam, vocabulary)
            log_p = log_p.at[:, :, model.padding].set(-jnp.inf)  # padding is never an output
            total = (at.scores[:, :, None] + log_p).reshape(batch, -1)
            # Each hypothesis has one continuation that ends, so 2 beam candidates hold at least beam that do not.
            scores, places = jax.lax.top_k(total, 2 * beam)
            parents, tokens = places // vocabulary, (places % vocabulary).astype(jnp.int32)
            ids = jnp.take_along_axis(at.alive, parents[:, :, None], 1).at[:, :, at.time].set(tokens)
            ends = tokens == end

            # Only ends among the likeliest ``beam`` candidates are accepted, so that a beam of 1 is greedy decoding.
            accepted = ends & (jnp.arange(2 * beam) < beam)[None]
            ended = jnp.where(accepted, scores / penalty(at.time + 1.0), -jnp.inf)
            done, done_scores = _best(
                jnp.concatenate([at.done, ids], 1), jnp.concatenate([at.done_scores, ended], 1), beam
            )
            alive_scores, order = jax.lax.top_k(jnp.where(ends, -jnp.inf, scores), beam)
            alive = jnp.take_along_axis(ids, order[:, :, None], 1)
            parents = jnp.take_along_axis(parents, order, 1) + beam * jnp.arange(batch)[:, None]
            cache = jax.tree.map(
                lambda leaf, axis: leaf if axis is None else jnp.take(leaf, parents.reshape(-1), axis=axis),
                cache,
                batch_axes,
                is_leaf=lambda node: node is None,
            )
            return _Search(at.time + 1, alive, alive_scores, done, done_scores, cache)

        def is_unfinished(at: _Search) -> Bool[Array, ""]:
            # Log-probabilities only fall as a hypothesis grows, so no extension of the best alive one can score more
            # than its present sum divided by the largest penalty.
            bound = at.scores[:, 0] / penalty(float(length))
            return (at.time < length) & (bound > at.done_scores[:, -1]).any()

        empty = jnp.zeros((batch, beam, length), jnp.int32)
        unlikely = jnp.full((batch, beam), -jnp.inf)
        first = unlikely.at[:, 0].set(0.0)  # a single hypothesis: equal ones would fill the beam with copies
        at = jax.lax.while_loop(is_unfinished, one, _Search(jnp.int32(0), empty, first, empty, unlikely, cache))
        none = at.done_scores[:, :1] == -jnp.inf
        done = jnp.where(none[:, :, None] & (jnp.arange(beam) == 0)[None, :, None], at.alive, at.done)
        return done, at.done_scores

    def beam_search(params: PyTree, source: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        ids, scores = search(params, jnp.asarray(source), length)
        return np.asarray(ids), np.asarray(scores)

    return beam_search


def _best(ids: Array, scores: Array, count: int) -> tuple[Array, Array]:
    """The ``count`` hypotheses of the highest scores, best first."""
    scores, places = jax.lax.top_k(scores, count)
    return jnp.take_along_axis(ids, places[:, :, None], 1), scores


def _batch_axes(start: Callable[[Any], PyTree], memory: Array) -> PyTree:
    """The batch axis of every array of a cache, None where it has none: the axis that grows with the batch."""
    more = jax.ShapeDtypeStruct((memory.shape[0] + 1, *memory.shape[1:]), memory.dtype)

    def axis(one: Any, other: Any) -> int | None:
        return next((i for i, sizes in enumerate(zip(one.shape, other.shape)) if sizes[0] != sizes[1]), None)

    return jax.tree.map(axis, jax.eval_shape(start, memory), jax.eval_shape(start, more))
