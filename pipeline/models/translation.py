"""Translation: a sentence's ids to those of another language, by an encoder and a decoder that attends to it."""

from pipeline.layers.activations import Tanh
from pipeline.layers.attention import CrossAttention
from pipeline.layers.base import Layer
from pipeline.layers.combinators import EncoderDecoder, Residual, Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.layers.recurrent import GRU, Bidirectional
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


def translation_objective(model: Layer, vocabulary: int, label_smoothing: float = 0.0) -> Objective:
    """The model under the mean nats a token of the target, with one table of vectors for source, target and output."""
    source = "model/decoder/layers/0/embedding"
    ties = (("loss/embedding", source), ("model/encoder/layers/0/embedding", source))
    return Objective(model, VocabularyCrossEntropy(vocabulary, label_smoothing), ties)
