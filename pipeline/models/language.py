"""Language models: ids (batch, time) to what is known at each position, and text that goes on from a prompt."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline import compiler
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.combinators import Objective, Serial, Tied
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import RMSNorm
from pipeline.layers.recurrent import LSTM
from pipeline.losses.vocabulary import VocabularyCrossEntropy
from pipeline.models.transformer import block, stack


def transformer(vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4, dropout: float = 0.0) -> Serial:
    """A decoder (Vaswani et al. 2017) of ``transformer.block``s under ids.

    width: of every position's vector, the same all the way up.
    """
    return stack(vocabulary, block(width, heads, dropout, causal=True), width, layers, dropout)


def lstm(vocabulary: int, width: int = 256, layers: int = 2, dropout: float = 0.0) -> Serial:
    """Stacked LSTMs (Zaremba et al. 2014), whose outputs a dense layer brings back to the embedding's space."""
    stack = [part for _ in range(layers) for part in (Dropout(dropout), LSTM(width))]
    return Serial((Embedding(vocabulary, width), *stack, Dropout(dropout), Dense(width), RMSNorm()))


def language_objective(model: Layer, vocabulary: int) -> Tied:
    """The model under the mean nats a token, with one table for what goes in and what comes out (Press & Wolf 2017).

    The model is a Serial that begins with an Embedding of ``vocabulary``, and ends with as many features.
    """
    return Tied(Objective(model, VocabularyCrossEntropy(vocabulary)), (("loss/embedding", "model/layers/0/embedding"),))


def make_continuation(
    objective: Tied, context: int, temperature: float = 1.0, top_k: int = 0
) -> Callable[[PyTree, np.ndarray, int, Any], np.ndarray]:
    """A function ``(params, prompt, length, key) -> ids`` that draws ``length`` tokens to follow a prompt.

    Every token is one step of the model, which keeps keys and values (or states) of those before it. Where ``context``
    positions are full, it starts anew from the last half of them: no position is further out than in training.

    temperature: what logits are divided by; 0: always the likeliest token. top_k: draws among so many; 0: among all.
    """
    inner = objective.layer
    assert isinstance(inner, Objective) and isinstance(inner.loss, VocabularyCrossEntropy)
    model, loss = inner.model, inner.loss

    def draw(key: Any, logits: Float[Array, "1 vocabulary"]) -> Int[Array, " 1"]:
        if temperature == 0:
            return logits.argmax(-1).astype(jnp.int32)
        if top_k:
            least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        return jax.random.categorical(key, logits / temperature).astype(jnp.int32)

    @partial(compiler.jit, static_argnums=2)
    def some(params: PyTree, prompt: Int[Array, "1 time"], count: int, key: Any) -> Int[Array, " count"]:
        both = objective.expand(params)
        cache = model.start(both["model"], prompt, prompt.shape[1] + count, Context())
        h, cache = model.step(both["model"], cache, prompt, Context())
        first = draw(jax.random.fold_in(key, 0), loss.logits(both["loss"], h[:, -1]))

        def one(carry: tuple[Array, PyTree], i: Array) -> tuple[tuple[Array, PyTree], Array]:
            token, cache = carry
            h, cache = model.step(both["model"], cache, token[:, None], Context())
            following = draw(jax.random.fold_in(key, i), loss.logits(both["loss"], h[:, -1]))
            return (following, cache), token[0]

        _, tokens = jax.lax.scan(one, (first, cache), jnp.arange(1, count + 1, dtype=jnp.int32))
        return tokens

    def continuation(params: PyTree, prompt: np.ndarray, length: int, key: Any) -> np.ndarray:
        ids = np.asarray(prompt, np.int32)
        end, kept = len(ids) + length, max(1, context // 2)
        while len(ids) < end:
            recent = ids[-kept:]
            count = min(max(1, context - len(recent)), -(-(end - len(ids)) // kept) * kept)
            drawn = some(params, jnp.asarray(recent[None]), count, jax.random.fold_in(key, len(ids)))
            ids = np.concatenate([ids, np.asarray(drawn)])
        return ids[len(prompt) : end]

    return continuation
