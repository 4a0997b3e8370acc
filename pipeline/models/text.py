"""Classifiers of texts: from bags of ids (batch, time, bag) to logits.

A bag has the id of a word and those of its character n-grams, see ``data.vocabulary.SpelledWords``; the word's vector
is the sum of theirs (Bojanowski et al. 2017). Padding is 0, within a bag and after the end of a text.
"""

from typing import Literal

from ..layers.activations import ReLU
from ..layers.combinators import Parallel, Serial
from ..layers.convolution import Conv
from ..layers.dropout import Dropout
from ..layers.embedding import EmbeddingBag
from ..layers.initializers import he_normal
from ..layers.linear import Dense
from ..layers.masking import Masked, MaskPadding
from ..layers.normalization import RMSNorm
from ..layers.pooling import GlobalAveragePool, GlobalMaxPool
from ..layers.recurrent import GRU, Bidirectional
from ..layers.repeat import Repeat
from .transformer import block

Pooling = Literal["maximum", "mean"]


def cnn(
    vocabulary: int,
    classes: int,
    width: int = 128,
    features: int = 64,
    windows: tuple[int, ...] = (3, 4, 5),
    dropout: float = 0.5,
    pooling: Pooling = "maximum",
) -> Masked:
    """Convolutions over words, pooled over time (Kim 2014, CNN-rand), beside the mean of the word vectors.

    The mean of the vectors (Iyyer et al. 2015) generalises from few texts, which maxima alone would memorise. Padding
    is 0 to the convolutions, like the positions beyond the ends of a text.

    width: of a word's vector. windows: sizes of the convolutions' windows, in words. features: of each convolution.
    pooling: the maximum or the mean of a feature over time; the mean, too, generalises better from few texts.
    """
    pool = GlobalMaxPool() if pooling == "maximum" else GlobalAveragePool()
    branches = tuple(Serial((Conv(features, (window,), kernel_init=he_normal), ReLU(), pool)) for window in windows)
    return Masked(
        Serial(
            (
                EmbeddingBag(vocabulary, width),
                MaskPadding(),
                Dropout(dropout),
                Parallel((*branches, GlobalAveragePool()), "concatenate"),
                Dropout(dropout),
                Dense(classes),
            )
        )
    )


def gru(vocabulary: int, classes: int, width: int = 128, dropout: float = 0.5) -> Masked:
    """A bidirectional GRU, and the maximum and the mean of its states over time (Conneau et al. 2017).

    width: of a word's vector, and of the two directions' states together.
    """
    half = width // 2
    return Masked(
        Serial(
            (
                EmbeddingBag(vocabulary, width),
                Dropout(dropout),
                Bidirectional(GRU(half), GRU(width - half, reverse=True)),
                Parallel((GlobalMaxPool(), GlobalAveragePool()), "concatenate"),
                Dropout(dropout),
                Dense(classes),
            )
        )
    )


def transformer(
    vocabulary: int, classes: int, width: int = 128, layers: int = 2, heads: int = 4, dropout: float = 0.5
) -> Masked:
    """A transformer encoder (Vaswani et al. 2017), and the mean of its outputs over time."""
    return Masked(
        Serial(
            (
                EmbeddingBag(vocabulary, width),
                Dropout(dropout),
                Repeat(block(width, heads, dropout), layers),
                RMSNorm(),
                GlobalAveragePool(),
                Dropout(dropout),
                Dense(classes),
            )
        )
    )
