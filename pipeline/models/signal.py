"""Classifiers of signals (batch, time, channels), giving logits; ``image.convnet_1d`` is the convolutional one."""

from pipeline.layers.activations import ReLU
from pipeline.layers.base import Layer
from pipeline.layers.combinators import Parallel, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.initializers import he_normal
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.pooling import GlobalAveragePool, GlobalMaxPool
from pipeline.layers.recurrent import GRU, Bidirectional


def gru(classes: int, channels: tuple[int, ...] = (32,), units: int = 32, dropout: float = 0.3) -> Serial:
    """GRUs in both directions over what strided convolutions make of a signal; their states' maximum and mean.

    channels: of each convolution, which halves the length: recurrence is over that much fewer steps.
    units: of each direction.
    """
    stem: list[Layer] = []
    for width in channels:
        stem += [Conv(width, (5,), strides=(2,), use_bias=False, kernel_init=he_normal), BatchNorm(), ReLU()]
    return Serial(
        (
            *stem,
            Bidirectional(GRU(units), GRU(units, reverse=True)),
            Parallel((GlobalMaxPool(), GlobalAveragePool()), "concatenate"),
            Dropout(dropout),
            Dense(classes),
        )
    )
