"""Text drawn from a language model, token by token, to follow a prompt."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline import compiler
from pipeline.layers.base import Context, PyTree
from pipeline.layers.objective import Objective
from pipeline.losses.vocabulary import VocabularyCrossEntropy


def make_continuation(
    objective: Objective, context: int, temperature: float = 1.0, top_k: int = 0
) -> Callable[[PyTree, np.ndarray, int, Any], np.ndarray]:
    """A function ``(params, prompt, length, key) -> ids`` that draws ``length`` tokens to follow a prompt.

    Every token is one step of the model, which keeps keys and values (or states) of those before it. Where ``context``
    positions are full, it starts anew from the last half of them: no position is further out than in training.

    temperature: what logits are divided by; 0: always the likeliest token. top_k: draws among so many; 0: among all.
    """
    model, loss = objective.model, objective.loss
    assert isinstance(loss, VocabularyCrossEntropy)

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
        cache = model.init_cache(both["model"], prompt, prompt.shape[1] + count, Context())
        h, cache = model.decode_step(both["model"], cache, prompt, Context())
        first = draw(jax.random.fold_in(key, 0), loss.logits(both["loss"], h[:, -1]))

        def one(carry: tuple[Array, PyTree], i: Array) -> tuple[tuple[Array, PyTree], Array]:
            token, cache = carry
            h, cache = model.decode_step(both["model"], cache, token[:, None], Context())
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
