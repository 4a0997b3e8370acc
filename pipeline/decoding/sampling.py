"""Sampling: continues a prompt with tokens drawn from a language model."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import compiler
from ..layers.activations import LogSoftmax
from ..layers.base import Context, PyTree
from ..layers.objective import Objective
from ..losses.vocabulary import VocabularyCrossEntropy


def make_continuation(
    objective: Objective, context: int, temperature: float = 1.0, top_k: int = 0, excluded: Sequence[int] = ()
) -> Callable[[PyTree, np.ndarray, int, Any], np.ndarray]:
    """Returns a function ``(params, prompt, length, key) -> ids`` that draws ``length`` tokens after a prompt.

    objective: a language model under ``VocabularyCrossEntropy``.
    context: the number of positions that the model was trained on.
    temperature: divides the logits; 0 always takes the likeliest token.
    top_k: draws among this many of the likeliest tokens; 0: among all.
    excluded: ids that are never drawn, such as that of unknown characters.

    prompt and ids are int32 (tokens,). Each token takes one ``decode_step`` of the model, whose cache holds the keys
    and values (or the state) of the tokens before it. When ``context`` positions are full, the model starts again from
    the last half of them, so that no position is beyond those of training.

    >>> from backhand.losses.base import Targets
    >>> from backhand.models.language import language_objective, transformer
    >>> objective = language_objective(transformer(vocabulary=5, width=8, layers=1, heads=2), vocabulary=5)
    >>> prompt = np.array([1, 2, 3], np.int32)
    >>> ids = jnp.asarray(prompt[None])
    >>> params = objective.init(jax.random.key(0), (ids, Targets(ids)))
    >>> make_continuation(objective, context=8)(params, prompt, 6, jax.random.key(1)).shape
    (6,)
    """
    model, loss = objective.model, objective.loss
    assert isinstance(loss, VocabularyCrossEntropy)

    def draw(key: Any, logits: Float[Array, "1 vocabulary"]) -> Int[Array, " 1"]:
        logits = logits.at[:, list(excluded)].set(-jnp.inf) if len(excluded) else logits
        if temperature == 0:
            return logits.argmax(-1).astype(jnp.int32)
        if top_k:
            least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        return jax.random.categorical(key, logits / temperature).astype(jnp.int32)

    @partial(compiler.jit, static_argnums=2)
    def continue_once(params: PyTree, prompt: Int[Array, "1 time"], count: int, key: Any) -> Int[Array, " count"]:
        params = objective.expand(params)
        cache = model.init_cache(params["model"], prompt, prompt.shape[1] + count, Context())
        h, cache = model.decode_step(params["model"], cache, prompt, Context())
        first = draw(jax.random.fold_in(key, 0), loss.logits(params["loss"], h[:, -1]))

        def one(carry: tuple[Array, PyTree], i: Array) -> tuple[tuple[Array, PyTree], Array]:
            token, cache = carry
            h, cache = model.decode_step(params["model"], cache, token[:, None], Context())
            next_token = draw(jax.random.fold_in(key, i), loss.logits(params["loss"], h[:, -1]))
            return (next_token, cache), token[0]

        _, tokens = jax.lax.scan(one, (first, cache), jnp.arange(1, count + 1, dtype=jnp.int32))
        return tokens

    def continuation(params: PyTree, prompt: np.ndarray, length: int, key: Any) -> np.ndarray:
        ids = np.asarray(prompt, np.int32)
        end, half = len(ids) + length, max(1, context // 2)
        while len(ids) < end:
            recent = ids[-half:]
            # Counts are multiples of half a context where they can be, so that few programs are compiled.
            count = min(max(1, context - len(recent)), -(-(end - len(ids)) // half) * half)
            tokens = continue_once(params, jnp.asarray(recent[None]), count, jax.random.fold_in(key, len(ids)))
            ids = np.concatenate([ids, np.asarray(tokens)])
        return ids[len(prompt) : end]

    return continuation


def log_probabilities(objective: Objective, params: PyTree, inputs: PyTree) -> Float[Array, "batch time vocabulary"]:
    """The log-probability of every token coming next, at each position.

    inputs: of the model, such as ids (batch, time); or source and target ids.
    """
    assert isinstance(objective.loss, VocabularyCrossEntropy)
    expanded = objective.expand(params)
    h = objective.model.apply(expanded["model"], inputs, Context())
    return LogSoftmax().apply({}, objective.loss.logits(expanded["loss"], h), Context())
