"""Layers: each is its definition, a forward pass that saves residuals, and a backward pass written by hand.

>>> import jax, jax.numpy as jnp
>>> from backhand.layers import Context, Dense, ReLU, Serial
>>> model, x = Serial((Dense(4), ReLU(), Dense(2))), jnp.ones((3, 5))
>>> params = model.init(jax.random.key(0), x)
>>> y, residuals = model.forward(params, x, Context())
>>> d_params, d_x = model.backward(params, residuals, jnp.ones_like(y))
>>> d_params["layers"][0]["kernel"].shape, d_x.shape
((5, 4), (3, 5))
"""

from .activations import (
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
from .attention import CrossAttention, SelfAttention
from .base import Context, Layer, Static, Wrapper
from .blockwise_attention import DotProductAttention
from .checking import LayerError, check
from .combinators import Cast, EncoderDecoder, Parallel, Remat, Residual, Serial, Transposed
from .convolution import Conv, ConvTranspose
from .dropout import Dropout, DropPath
from .embedding import Embedding, EmbeddingBag
from .factorization import BiasedFactorization, Interaction, SVDPlusPlus
from .gated import GEGLU, GLU, SwiGLU
from .linear import Dense, Scale
from .masking import Masked, MaskedByLength, MaskPadding
from .normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from .objective import Objective
from .pooling import AveragePool, GlobalAveragePool, GlobalMaxPool, MaxPool
from .positions import LearnedPositions, Rotary, SinusoidalPositions
from .random_convolutions import RandomConvolutions
from .recurrent import GRU, LSTM, RNN, Bidirectional
from .recurrent_state import SerialWithState, WithState
from .repeat import Repeat
from .shape import Flatten, Reshape
from .tying import Tied

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
    "EmbeddingBag",
    "EncoderDecoder",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNorm",
    "Interaction",
    "Layer",
    "LayerError",
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
    "RandomConvolutions",
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
    "SerialWithState",
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
    "WithState",
    "Wrapper",
    "check",
]
