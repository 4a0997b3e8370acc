"""Layers: each is its definition, a forward pass that saves residuals, and a backward pass written by hand.

>>> import jax, jax.numpy as jnp
>>> from pipeline.layers import Context, Dense, ReLU, Serial
>>> model, x = Serial((Dense(4), ReLU(), Dense(2))), jnp.ones((3, 5))
>>> params = model.init(jax.random.key(0), x)
>>> y, residuals = model.forward(params, x, Context())
>>> d_params, d_x = model.backward(params, residuals, jnp.ones_like(y))
>>> d_params["layers"][0]["kernel"].shape, d_x.shape
((5, 4), (3, 5))
"""

from pipeline.layers.activations import (
    ELU,
    GELU,
    Activation,
    Elementwise,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from pipeline.layers.attention import CrossAttention, SelfAttention
from pipeline.layers.base import Context, Layer, Static, Wrapper
from pipeline.layers.blockwise_attention import DotProductAttention
from pipeline.layers.combinators import Cast, EncoderDecoder, Parallel, Remat, Residual, Serial, Transposed
from pipeline.layers.convolution import Conv, ConvTranspose
from pipeline.layers.dropout import Dropout, DropPath
from pipeline.layers.embedding import Embedding
from pipeline.layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from pipeline.layers.gated import GEGLU, GLU, SwiGLU
from pipeline.layers.linear import Dense, Scale
from pipeline.layers.masking import Masked, MaskedByLength, MaskPadding
from pipeline.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pipeline.layers.objective import Objective
from pipeline.layers.pooling import AveragePool, GlobalAveragePool, GlobalMaxPool, MaxPool
from pipeline.layers.positions import LearnedPositions, Rotary, SinusoidalPositions
from pipeline.layers.recurrent import GRU, LSTM, RNN, Bidirectional
from pipeline.layers.repeat import Repeat
from pipeline.layers.shape import Flatten, Reshape
from pipeline.layers.tying import Tied

__all__ = [
    "ELU",
    "GEGLU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "AveragePool",
    "BatchNorm",
    "BiasedFactorization",
    "Bidirectional",
    "Cast",
    "Context",
    "Conv",
    "ConvTranspose",
    "CrossAttention",
    "Dense",
    "DotProductAttention",
    "DropPath",
    "Dropout",
    "Elementwise",
    "Embedding",
    "EncoderDecoder",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNorm",
    "Interaction",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositions",
    "LogSoftmax",
    "MaskPadding",
    "Masked",
    "MaskedByLength",
    "MaxPool",
    "Objective",
    "Parallel",
    "RMSNorm",
    "ReLU",
    "Remat",
    "Repeat",
    "Reshape",
    "Residual",
    "Rotary",
    "SVDPlusPlus",
    "Scale",
    "SelfAttention",
    "Serial",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "Static",
    "SwiGLU",
    "Tanh",
    "Tied",
    "Transposed",
    "Wrapper",
]
