"""Acoustic models: features of sound (batch, frames, features) to logits (batch, fewer frames, symbols), for CTC."""

import numpy as np

from pipeline.layers.activations import ReLU, SiLU
from pipeline.layers.attention import SelfAttention
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Repeat, Residual, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.gated import GLU
from pipeline.layers.initializers import he_normal
from pipeline.layers.linear import Dense, Scale
from pipeline.layers.masking import MaskPadding
from pipeline.layers.normalization import LayerNorm
from pipeline.layers.recurrent import GRU, LSTM, Bidirectional


def convolutional_recurrent(
    symbols: int,
    channels: int = 128,
    units: int = 128,
    layers: int = 2,
    stride: int = 2,
    dropout: float = 0.1,
    cell: type[GRU] | type[LSTM] = GRU,
) -> Serial:
    """A convolution over time that keeps every ``stride``-th frame, then recurrent layers in both directions.

    The plan of Deep Speech 2 (Amodei et al. 2016). With zeros for padding (``normalise`` leaves them) and a mask in the
    context, an utterance's outputs are the same whatever it is padded to: there is one convolution, which sees zeros
    behind the end as it does before the beginning, and recurrent layers pass over what does not count.

    units: of each direction.
    """
    block = (Bidirectional(cell(units), cell(units, reverse=True)), LayerNorm(), Dropout(dropout))
    return Serial((*_front(channels, stride, dropout), *(block * layers), Dense(symbols)))


def _front(channels: int, stride: int, dropout: float) -> tuple[Layer, ...]:
    """A convolution over time that keeps every ``stride``-th frame."""
    reach = 2 * stride + 1  # on both sides of a window's centre, which is the frame that is kept
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
    """A convolution over time that keeps every ``stride``-th frame, then conformer blocks (Gulati et al. 2020).

    A block adds to what it is given half of a feed-forward layer's output, attention's, a convolution's, and half of a
    second feed-forward layer's; then it normalises. Attention tells places apart by rotary positions, where the paper
    has relative ones, and the convolution is normalised frame by frame, not over the batch, in which there is padding.
    What is padding is no key of attention, and 0 where a convolution sees it: as ``convolutional_recurrent``, it makes
    the same of an utterance whatever that is padded to.

    window: of the convolution in a block, odd, in frames that are kept.
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
    """How many of each utterance's output frames count: what CTC's ``Transcripts`` need to know.

    lengths: (batch,), how many of ``size`` input frames count.
    """
    mask = np.arange(size)[None] < np.asarray(lengths)[:, None]
    return np.asarray(model.after(Context(mask=mask)).mask).sum(1, dtype=np.int32)
