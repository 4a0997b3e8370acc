"""Transformer blocks (Vaswani et al. 2017) with the parts of Llama: RMSNorm, rotary positions, SwiGLU, no biases."""

from ..layers.attention import CrossAttention, SelfAttention
from ..layers.base import Layer
from ..layers.combinators import Residual, Serial
from ..layers.dropout import Dropout
from ..layers.embedding import Embedding
from ..layers.gated import SwiGLU
from ..layers.normalization import RMSNorm
from ..layers.repeat import Repeat


def block(
    width: int,
    heads: int,
    dropout: float = 0.0,
    *,
    causal: bool = False,
    memory: bool = False,
    post_norm: bool = False,
) -> Serial:
    """Self-attention, attention to a memory if there is one, and SwiGLU, each with a residual connection.

    width: of every position's vector. heads: must divide it.
    causal: whether a position sees only itself and earlier ones, as in a decoder.
    memory: whether the block attends to a memory, and so maps (x, memory) to y.
    post_norm: whether each norm comes after the sum, as in the paper; otherwise before each part, inside the residual
        connection, where deep models train without a warm-up (Xiong et al. 2020).

    >>> layer = block(width=8, heads=2, causal=True)
    >>> [type(part.layer.layers[1]).__name__ for part in layer.layers]
    ['SelfAttention', 'SwiGLU']
    """
    hidden = -(-width // 3) * 8  # 8/3 width: three kernels then have as many parameters as two of 4 width
    parts: list[Layer] = [SelfAttention(heads, causal=causal, rotary=True, use_bias=False)]
    if memory:
        parts.append(CrossAttention(heads, use_bias=False))
    parts.append(SwiGLU(hidden))
    if post_norm:
        after = [layer for part in parts for layer in (Residual(Serial((part, Dropout(dropout)))), RMSNorm())]
        return Serial(tuple(after))
    return Serial(tuple(Residual(Serial((RMSNorm(), part, Dropout(dropout)))) for part in parts))


def stack(vocabulary: int, block: Layer, width: int, layers: int, dropout: float = 0.0) -> Serial:
    """An embedding, ``layers`` blocks and a norm: from ids (batch, time) to vectors (batch, time, width).

    If the block reads a memory, the stack maps (ids, memory) to these vectors.
    """
    return Serial((Embedding(vocabulary, width), Dropout(dropout), Repeat(block, layers), RMSNorm()))
