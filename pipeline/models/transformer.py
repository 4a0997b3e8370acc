"""Transformer blocks (Vaswani et al. 2017) with Llama's parts: RMSNorm, rotary positions, SwiGLU, no biases."""

from pipeline.layers.attention import CrossAttention, SelfAttention
from pipeline.layers.base import Layer
from pipeline.layers.combinators import Repeat, Residual, Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.gated import SwiGLU
from pipeline.layers.normalization import RMSNorm


def block(
    width: int,
    heads: int,
    dropout: float = 0.0,
    *,
    causal: bool = False,
    memory: bool = False,
    post_norm: bool = False,
) -> Serial:
    """Self-attention, then attention to a memory where there is one, then a gated unit: each added to what it is given.

    causal: whether a position sees none behind it, as in a decoder. memory: whether the block maps (x, memory) to y.
    post_norm: norms after each sum, as in the paper; otherwise in front of each part, on the path beside the sum, where
    deep models train without a warm-up (Xiong et al. 2020).
    """
    hidden = -(-width // 3) * 8  # two thirds of four widths: three kernels then have what two of four widths have
    parts: list[Layer] = [SelfAttention(heads, causal=causal, rotary=True, use_bias=False)]
    if memory:
        parts.append(CrossAttention(heads, use_bias=False))
    parts.append(SwiGLU(hidden))
    if post_norm:
        after = [layer for part in parts for layer in (Residual(Serial((part, Dropout(dropout)))), RMSNorm())]
        return Serial(tuple(after))
    return Serial(tuple(Residual(Serial((RMSNorm(), part, Dropout(dropout)))) for part in parts))


def stack(vocabulary: int, block: Layer, width: int, layers: int, dropout: float = 0.0) -> Serial:
    """Ids (batch, time) through ``layers`` blocks to (batch, time, width); beside a memory if the block reads one."""
    return Serial((Embedding(vocabulary, width), Dropout(dropout), Repeat(block, layers), RMSNorm()))
