"""Language models: ids (batch, time) to what is known at each position, and text that goes on from a prompt."""

from pipeline.layers.base import Layer
from pipeline.layers.combinators import Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import RMSNorm
from pipeline.layers.objective import Objective
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


def language_objective(model: Layer, vocabulary: int) -> Objective:
    """The model under the mean nats a token, with one table for what goes in and what comes out (Press & Wolf 2017).

    The model is a Serial that begins with an Embedding of ``vocabulary``, and ends with as many features.
    """
    return Objective(model, VocabularyCrossEntropy(vocabulary), (("loss/embedding", "model/layers/0/embedding"),))
