"""Acoustic models: features of sound (batch, frames, features) to logits (batch, fewer frames, symbols), for CTC."""

import numpy as np

from pipeline.layers.activations import ReLU
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.initializers import he_normal
from pipeline.layers.linear import Dense
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
    reach = 2 * stride + 1  # on both sides of a window's centre, which is the frame that is kept
    front = (
        Conv(channels, (2 * reach + 1,), (stride,), padding=((reach, reach),), kernel_init=he_normal),
        LayerNorm(),
        ReLU(),
        Dropout(dropout),
    )
    block = (Bidirectional(cell(units), cell(units, reverse=True)), LayerNorm(), Dropout(dropout))
    return Serial((*front, *(block * layers), Dense(symbols)))


def frames_after(model: Layer, lengths: np.ndarray, size: int) -> np.ndarray:
    """How many of each utterance's output frames count: what CTC's ``Transcripts`` need to know.

    lengths: (batch,), how many of ``size`` input frames count.
    """
    mask = np.arange(size)[None] < np.asarray(lengths)[:, None]
    return np.asarray(model.after(Context(mask=mask)).mask).sum(1, dtype=np.int32)
