"""Classifiers of images (batch, height, width, channels) and signals (batch, time, channels): they return logits."""

from ..layers.activations import ReLU
from ..layers.base import Layer
from ..layers.combinators import Parallel, Residual, Serial
from ..layers.convolution import Conv
from ..layers.dropout import Dropout
from ..layers.initializers import he_normal
from ..layers.linear import Dense
from ..layers.normalization import BatchNorm
from ..layers.pooling import GlobalAveragePool, GlobalMaxPool, MaxPool
from ..layers.recurrent import GRU, Bidirectional
from ..layers.shape import Flatten

POSITIONS = 64
"""Longest side of what the first convolution leaves of a larger image."""


def stem_stride(input_shape: tuple[int, ...]) -> int:
    """The stride of the first convolution over images or signals of a shape: a power of 2, and 1 for small images.

    Most time and memory go into the first layers, and photographs say little at their full resolution: the networks
    made for them begin by a stride of 4 at 224x224, too (He et al. 2016; Liu et al. 2022, "A ConvNet for the 2020s").

    >>> [stem_stride((side, side, 3)) for side in (28, 64, 65, 128, 224, 512)]
    [1, 1, 2, 2, 4, 8]
    """
    return 1 if len(input_shape) < 3 else 2 ** ((max(input_shape[:2]) - 1) // POSITIONS).bit_length()


def mlp(classes: int, widths: tuple[int, ...] = (256, 128), dropout: float = 0.2) -> Serial:
    """A multilayer perceptron: dense layers with ReLU and dropout on the flattened image.

    widths: of the hidden layers.
    """
    hidden = [part for width in widths for part in (Dense(width, kernel_init=he_normal), ReLU(), Dropout(dropout))]
    return Serial((Flatten(), *hidden, Dense(classes)))


def convnet(
    classes: int,
    channels: tuple[int, ...] = (32, 64),
    hidden: int = 128,
    dropout: float = 0.5,
    space: int = 2,
    stride: int = 1,
) -> Serial:
    """A convolutional network on the plan of LeNet (LeCun et al. 1998), with BatchNorm, ReLU and dropout.

    3x3 convolutions, each followed by max-pooling by 2, then two dense layers. BatchNorm and ReLU come after the pool,
    where there are a quarter of the values; for ReLU the order does not matter, since it is monotonic.

    channels: of each convolution. hidden: width of the first dense layer. space: 2 for images, 1 for signals.
    stride: of the first convolution, see ``stem_stride``.
    """
    stages = [part for i, width in enumerate(channels) for part in _stage(width, space, 1 if i else stride)]
    head = (Flatten(), Dense(hidden, kernel_init=he_normal), ReLU(), Dropout(dropout), Dense(classes))
    return Serial((*stages, *head))


def _stage(width: int, space: int, stride: int) -> tuple[Layer, ...]:
    return _conv(width, space, stride), MaxPool((2,) * space, padding="SAME"), BatchNorm(), ReLU()


def convnet_1d(
    classes: int, channels: tuple[int, ...] = (32, 64, 64), hidden: int = 128, dropout: float = 0.5
) -> Serial:
    """``convnet`` for signals (batch, time, channels)."""
    return convnet(classes, channels, hidden, dropout, space=1)


def _conv(width: int, space: int, stride: int) -> Conv:
    """A convolution whose windows overlap by about half: of 3 positions a side, or 2 stride - 1 if that is more."""
    kernel, strides = (max(3, 2 * stride - 1),) * space, (stride,) * space
    return Conv(width, kernel, strides=strides, use_bias=False, kernel_init=he_normal)  # BatchNorm adds a bias


def resnet(classes: int, channels: tuple[int, ...] = (32, 64, 128), blocks: int = 1, stride: int = 1) -> Serial:
    """A pre-activation residual network (He et al. 2016, "Identity Mappings in Deep Residual Networks").

    channels: of each stage; every stage but the first begins with a stride of 2. blocks: residual blocks per stage.
    stride: of the first convolution, see ``stem_stride``.
    """
    parts: list[Layer] = [_conv(channels[0], 2, stride)]
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
    """Strided convolutions, a bidirectional GRU, and the maximum and mean of its states over time, for signals.

    channels: of each convolution, which halves the length and with it the number of recurrent steps.
    units: of each direction of the GRU.
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
