"""Translation models: an encoder of the source sentence, and a decoder of the target that attends to it."""

from ..layers.activations import Tanh
from ..layers.attention import CrossAttention
from ..layers.base import Layer
from ..layers.combinators import EncoderDecoder, Residual, Serial
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.linear import Dense
from ..layers.objective import Objective
from ..layers.recurrent import GRU, Bidirectional
from ..losses.vocabulary import VocabularyCrossEntropy
from .transformer import block, stack


def transformer(
    vocabulary: int, width: int = 256, layers: int = 3, heads: int = 4, dropout: float = 0.1
) -> EncoderDecoder:
    """A transformer encoder and decoder of ``layers`` blocks each (Vaswani et al. 2017).

    Source and target share one vocabulary of subwords.
    """
    encoder = stack(vocabulary, block(width, heads, dropout), width, layers, dropout)
    decoder = stack(vocabulary, block(width, heads, dropout, causal=True, memory=True), width, layers, dropout)
    return EncoderDecoder(encoder, decoder)


def attention_gru(vocabulary: int, width: int = 256, layers: int = 1, dropout: float = 0.1) -> EncoderDecoder:
    """A bidirectional GRU encoder, and a GRU decoder with global attention to it (Luong et al. 2015).

    layers: of the encoder and of the decoder. A position's output is tanh of a linear map of the decoder's state plus
    the output of its attention.
    """
    half = width // 2
    encoder, decoder = ([Embedding(vocabulary, width)] for _ in range(2))
    for _ in range(layers):
        encoder += [Dropout(dropout), Bidirectional(GRU(half), GRU(width - half, reverse=True))]
        decoder += [Dropout(dropout), GRU(width)]
    attentive = (Dropout(dropout), Residual(CrossAttention(1)), Dense(width), Tanh(), Dropout(dropout))
    return EncoderDecoder(Serial(tuple(encoder)), Serial((*decoder, *attentive)))


def translation_objective(model: Layer, vocabulary: int, label_smoothing: float = 0.0) -> Objective:
    """The model under the mean cross entropy per target token, in nats, with tied embeddings.

    One table serves source, target and output.
    """
    source = "model/decoder/layers/0/embedding"
    ties = (("loss/embedding", source), ("model/encoder/layers/0/embedding", source))
    return Objective(model, VocabularyCrossEntropy(vocabulary, label_smoothing), ties)
