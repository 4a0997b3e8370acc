"""An acoustic model's outputs for whole utterances: the log-probabilities of each frame, and the loss."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .. import compiler
from ..data.batches import Sequences, by_length, evaluation_batches
from ..layers.base import Context, PyTree
from ..layers.objective import Objective

FrameEvaluation = Callable[[PyTree, Sequences, int], tuple[float, list[np.ndarray]]]


def make_frame_evaluation(objective: Objective) -> FrameEvaluation:
    """A function ``(params, utterances, batch_size) -> (loss, log_y)``; utterances are examples with ``Transcripts``.

    loss: mean over the utterances. log_y: for every utterance, in order, the log-probabilities of CTC's symbols in its
    own frames, (frames, symbols).
    """

    @compiler.jit
    def evaluate_batch(params: PyTree, batch: Any) -> tuple[jax.Array, jax.Array]:
        loss, logits = objective.evaluate(params, batch, Context())
        return loss * objective.count(batch[1]), jax.nn.log_softmax(logits)

    def evaluate(params: PyTree, utterances: Sequences, batch_size: int) -> tuple[float, list[np.ndarray]]:
        total, rows = 0.0, []
        for batch in evaluation_batches(utterances, batch_size):
            loss, log_y = evaluate_batch(params, batch)
            total += float(loss)
            rows += [row[:frames] for row, frames in zip(np.asarray(log_y), batch[1].values.frames)]
        order = by_length(utterances)
        log_y_of: list[Any] = [None] * len(order)
        for place, row in zip(order, rows):  # copies that fill the last batch have no place
            log_y_of[place] = row
        return total / len(order), log_y_of

    return evaluate
