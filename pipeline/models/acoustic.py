"""Acoustic models for CTC: from speech features (batch, frames, features) to logits (batch, fewer frames, symbols)."""

import numpy as np

from ..layers.activations import ReLU, SiLU
from ..layers.attention import SelfAttention
from ..layers.base import Context, Layer
from ..layers.combinators import Residual, Serial
from ..layers.convolution import Conv
from ..layers.dropout import Dropout
from ..layers.gated import GLU
from ..layers.initializers import he_normal
from ..layers.linear import Dense, Scale
from ..layers.masking import MaskPadding
from ..layers.normalization import LayerNorm
from ..layers.recurrent import GRU, LSTM, Bidirectional
from ..layers.repeat import Repeat


def convolutional_recurrent(
    symbols: int,
    channels: int = 128,
    units: int = 128,
    layers: int = 2,
    stride: int = 2,
    dropout: float = 0.1,
    cell: type[GRU] | type[LSTM] = GRU,
) -> Serial:
    """A strided convolution over time, then bidirectional recurrent layers, as in Deep Speech 2 (Amodei et al. 2016).

    If padding frames are 0 and masked in the context, an utterance's outputs do not depend on how far it is padded: the
    one convolution sees zeros after the end as it does before the beginning, and recurrent layers skip masked frames.

    symbols: the number of outputs per frame, including CTC's blank. channels: of the convolution. units: of each
    direction. layers: the number of bidirectional layers. stride: every ``stride``-th frame is kept. cell: GRU or LSTM.
    """
    block = (Bidirectional(cell(units), cell(units, reverse=True)), LayerNorm(), Dropout(dropout))
    return Serial((*_front(channels, stride, dropout), *(block * layers), Dense(symbols)))


def _front(channels: int, stride: int, dropout: float) -> tuple[Layer, ...]:
    """A convolution over time that keeps every ``stride``-th frame."""
    reach = 2 * stride + 1  # on both sides of a window's centre
    return (
        Conv(channels, (2 * reach + 1,), (stride,), padding=((reach, reach),), kernel_init=he_normal),
        LayerNorm(),
        ReLU(),
        Dropout(dropout),
    )


def conformer(
    symbols: int,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    window: int = 15,
    stride: int = 2,
    dropout: float = 0.1,
) -> Serial:
    """A strided convolution over time, then conformer blocks (Gulati et al. 2020).

    A block adds four outputs to its input, one after the other: half of a feed-forward layer's, self-attention's, a
    convolution's, and half of a second feed-forward layer's. Then it normalises. Two things differ from the paper:
    attention uses rotary instead of relative positions, and the convolution's output is normalised per frame, not over
    the batch, which contains padding. Attention ignores masked frames and convolutions see zeros there, so that an
    utterance's outputs do not depend on how far it is padded.

    symbols: the number of outputs per frame, including CTC's blank. width: of every frame's vector. window: of the
    convolution in a block; odd. stride: every ``stride``-th frame is kept.
    """
    feed_forward = Residual(
        Serial(
            (
                LayerNorm(),
                Dense(4 * width, kernel_init=he_normal),
                SiLU(),
                Dropout(dropout),
                Dense(width),
                Dropout(dropout),
                Scale(0.5),
            )
        )
    )
    attention = Residual(Serial((LayerNorm(), SelfAttention(heads, rotary=True), Dropout(dropout))))
    convolution = Residual(
        Serial(
            (
                LayerNorm(),
                Dense(2 * width),
                MaskPadding(),
                GLU(),
                Conv(width, (window,), groups=width),
                LayerNorm(),
                SiLU(),
                Dense(width),
                Dropout(dropout),
            )
        )
    )
    block = Serial((feed_forward, attention, convolution, feed_forward, LayerNorm()))
    return Serial((*_front(width, stride, dropout), Repeat(block, layers), Dense(symbols)))


def frames_after(model: Layer, lengths: np.ndarray, size: int) -> np.ndarray:
    """The number of output frames of each utterance, (batch,): the ``frames`` of CTC's ``Transcripts``.

    lengths: (batch,), the number of input frames of each utterance. size: the number of frames they are padded to.

    >>> frames_after(convolutional_recurrent(symbols=5, stride=2), np.array([3, 8]), size=8)
    array([2, 4], dtype=int32)
    """
    mask = np.arange(size)[None] < np.asarray(lengths)[:, None]
    return np.asarray(model.after(Context(mask=mask)).mask).sum(1, dtype=np.int32)
