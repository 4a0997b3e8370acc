"""Language models: from ids (batch, time) to a vector at each position, and the objective that trains them."""

from ..layers.base import Layer
from ..layers.combinators import Serial
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.linear import Dense
from ..layers.normalization import RMSNorm
from ..layers.objective import Objective
from ..layers.recurrent import LSTM
from ..losses.vocabulary import VocabularyCrossEntropy
from .transformer import block, stack


def transformer(vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4, dropout: float = 0.0) -> Serial:
    """A decoder-only transformer (Vaswani et al. 2017) of ``layers`` causal ``transformer.block``s.

    width: of every position's vector, in all layers.
    """
    return stack(vocabulary, block(width, heads, dropout, causal=True), width, layers, dropout)


def lstm(vocabulary: int, width: int = 256, layers: int = 2, dropout: float = 0.0) -> Serial:
    """Stacked LSTMs with dropout (Zaremba et al. 2014), then a dense layer back to the space of the embedding."""
    stack = [part for _ in range(layers) for part in (Dropout(dropout), LSTM(width))]
    return Serial((Embedding(vocabulary, width), *stack, Dropout(dropout), Dense(width), RMSNorm()))


def language_objective(model: Layer, vocabulary: int) -> Objective:
    """The model under the mean cross entropy per token, in nats, with tied input and output embeddings.

    One table serves both (Press & Wolf 2017). The model must be a ``Serial`` whose first layer is an ``Embedding`` of
    ``vocabulary``, and whose outputs have the embedding's number of features.

    >>> objective = language_objective(lstm(vocabulary=50, width=8), vocabulary=50)
    >>> objective.ties
    (('loss/embedding', 'model/layers/0/embedding'),)
    """
    return Objective(model, VocabularyCrossEntropy(vocabulary), (("loss/embedding", "model/layers/0/embedding"),))
