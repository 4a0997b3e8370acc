"""Classifiers of texts: ids of words (batch, time), 0 behind the shorter ones, to logits; and what drove them."""

from typing import Literal

from pipeline.layers.activations import ReLU
from pipeline.layers.combinators import Parallel, Repeat, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.initializers import he_normal
from pipeline.layers.linear import Dense
from pipeline.layers.masking import Masked, MaskPadding
from pipeline.layers.normalization import RMSNorm
from pipeline.layers.pooling import GlobalAveragePool, GlobalMaxPool
from pipeline.layers.recurrent import GRU, Bidirectional
from pipeline.models.transformer import block

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
    """Convolutions over words, each feature's maximum over time (Kim 2014, CNN-rand), beside the mean of the words'
    vectors (Iyyer et al. 2015), which generalises from few texts where maxima learn them by heart.

    width: of a word's vector; features: of each of ``windows``. A text's padding is as the emptiness around it.
    pooling: what becomes of a feature over time; its mean generalises from few texts, too.
    """
    pool = GlobalMaxPool() if pooling == "maximum" else GlobalAveragePool()
    branches = tuple(Serial((Conv(features, (window,), kernel_init=he_normal), ReLU(), pool)) for window in windows)
    return Masked(
        Serial(
            (
                Embedding(vocabulary, width),
                MaskPadding(),
                Dropout(dropout),
                Parallel((*branches, GlobalAveragePool()), "concatenate"),
                Dropout(dropout),
                Dense(classes),
            )
        )
    )


def gru(vocabulary: int, classes: int, width: int = 128, dropout: float = 0.5) -> Masked:
    """GRUs in both directions, the maximum and the mean of their states over time (Conneau et al. 2017)."""
    half = width // 2
    return Masked(
        Serial(
            (
                Embedding(vocabulary, width),
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
    """An encoder (Vaswani et al. 2017), and the mean over time of what it makes of the words."""
    return Masked(
        Serial(
            (
                Embedding(vocabulary, width),
                Dropout(dropout),
                Repeat(block(width, heads, dropout), layers),
                RMSNorm(),
                GlobalAveragePool(),
                Dropout(dropout),
                Dense(classes),
            )
        )
    )
