"""Classifiers of images (batch, height, width, channels) and of signals (batch, time, channels), giving logits."""

from pipeline.layers.activations import ReLU
from pipeline.layers.base import Layer
from pipeline.layers.combinators import Parallel, Residual, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.initializers import he_normal
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.pooling import GlobalAveragePool, GlobalMaxPool, MaxPool
from pipeline.layers.recurrent import GRU, Bidirectional
from pipeline.layers.shape import Flatten


def mlp(classes: int, widths: tuple[int, ...] = (256, 128), dropout: float = 0.2) -> Serial:
    """Dense layers with ReLU on the flattened image."""
    hidden = [part for width in widths for part in (Dense(width, kernel_init=he_normal), ReLU(), Dropout(dropout))]
    return Serial((Flatten(), *hidden, Dense(classes)))


def convnet(
    classes: int, channels: tuple[int, ...] = (32, 64), hidden: int = 128, dropout: float = 0.5, space: int = 2
) -> Serial:
    """LeNet's plan (LeCun et al. 1998) with today's parts: 3x3 convolutions, each pooled by 2, then two dense layers.

    Normalisation and ReLU stand after the pool, on a quarter of the values; the maximum of a ReLU is the ReLU of the
    maximum.

    channels: of each convolution. hidden: width of the dense layer. space: 2 for images, 1 for signals.
    """
    stages = [part for width in channels for part in _stage(width, space)]
    head = (Flatten(), Dense(hidden, kernel_init=he_normal), ReLU(), Dropout(dropout), Dense(classes))
    return Serial((*stages, *head))


def _stage(width: int, space: int) -> tuple[Layer, ...]:
    conv = Conv(width, (3,) * space, use_bias=False, kernel_init=he_normal)  # BatchNorm has the bias
    return conv, MaxPool((2,) * space, padding="SAME"), BatchNorm(), ReLU()


def convnet_1d(
    classes: int, channels: tuple[int, ...] = (32, 64, 64), hidden: int = 128, dropout: float = 0.5
) -> Serial:
    """``convnet`` for signals (batch, time, channels)."""
    return convnet(classes, channels, hidden, dropout, space=1)


def resnet(classes: int, channels: tuple[int, ...] = (32, 64, 128), blocks: int = 1) -> Serial:
    """Pre-activation residual network (He et al. 2016, "Identity Mappings in Deep Residual Networks").

    A stage of ``blocks`` residual blocks for each of ``channels``; all but the first start with a stride of 2.
    """
    parts: list[Layer] = [Conv(channels[0], (3, 3), use_bias=False, kernel_init=he_normal)]
    for i, width in enumerate(channels):
        if i:
            shortcut = Conv(width, (1, 1), strides=(2, 2), use_bias=False, kernel_init=he_normal)
            parts += [BatchNorm(), ReLU(), Parallel((shortcut, _branch(width, stride=2)))]
        parts += [
            Residual(Serial((BatchNorm(), ReLU(), _branch(width)))) for _ in range(blocks if i == 0 else blocks - 1)
        ]
    return Serial((*parts, BatchNorm(), ReLU(), GlobalAveragePool(), Dense(classes)))


def _branch(width: int, stride: int = 1) -> Serial:
    first = Conv(width, (3, 3), strides=(stride, stride), use_bias=False, kernel_init=he_normal)
    second = Conv(width, (3, 3), use_bias=False, kernel_init=he_normal)
    return Serial((first, BatchNorm(), ReLU(), second))


def gru_1d(classes: int, channels: tuple[int, ...] = (32,), units: int = 32, dropout: float = 0.3) -> Serial:
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
