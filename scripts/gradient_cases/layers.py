"""Every layer and loss, at ordinary inputs and at the edges where mistakes hide.

All sizes within a case differ from each other, so that a transposed or misplaced axis cannot pass. A layer joins every
check of ``tests/layers/test_rules.py`` and ``scripts/verify_gradients.py`` by one line here.
"""

from typing import Any

import jax
import numpy as np

from gradient_cases.case import Case, ended, ids, mask, normal, padded, shares, ties
from pipeline.layers.activations import (
    ELU,
    GELU,
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
from pipeline.layers.base import Layer
from pipeline.layers.blockwise_attention import DotProductAttention
from pipeline.layers.combinators import Cast, EncoderDecoder, Parallel, Remat, Residual, Serial, Transposed
from pipeline.layers.convolution import Conv, ConvTranspose
from pipeline.layers.dropout import Dropout, DropPath
from pipeline.layers.embedding import Embedding, EmbeddingBag
from pipeline.layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from pipeline.layers.gated import GEGLU, GLU, SwiGLU
from pipeline.layers.linear import Dense, Scale
from pipeline.layers.masking import Masked, MaskedByLength, MaskPadding
from pipeline.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pipeline.layers.objective import Objective
from pipeline.layers.pooling import AveragePool, GlobalAveragePool, GlobalMaxPool, MaxPool
from pipeline.layers.positions import LearnedPositions, Rotary, SinusoidalPositions
from pipeline.layers.random_convolutions import RandomConvolutions
from pipeline.layers.recurrent import GRU, LSTM, RNN, Bidirectional
from pipeline.layers.recurrent_state import Recurrent, SerialWithState, WithState
from pipeline.layers.repeat import Repeat
from pipeline.layers.shape import Flatten, Reshape
from pipeline.layers.tying import Tied
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import BinaryCrossEntropy, SoftmaxCrossEntropy
from pipeline.losses.ctc import CTC, Transcripts
from pipeline.losses.dice import Dice
from pipeline.losses.focal import Focal
from pipeline.losses.ranking import Candidates, PairwiseRanking, SampledSoftmax
from pipeline.losses.regression import Huber, MeanAbsoluteError, MeanSquaredError
from pipeline.losses.vocabulary import VocabularyCrossEntropy


def _activation(layer: Layer, name: str = "") -> tuple[Case, ...]:
    name = name or type(layer).__name__
    rows = np.concatenate([normal(3, 5), ties(3, 5), normal(2, 5, scale=1e-12)])
    return Case(name, layer, rows), Case(f"{name}/large", layer, normal(2, 3, 4, scale=1e4))


ACTIVATIONS = (
    *_activation(ReLU()),
    *_activation(LeakyReLU()),
    *_activation(LeakyReLU(0.3), "LeakyReLU/slope"),
    *_activation(ELU()),
    *_activation(ELU(1.7), "ELU/alpha"),
    *_activation(GELU()),
    *_activation(GELU(approximate=True), "GELU/tanh"),
    *_activation(SiLU()),
    *_activation(Sigmoid()),
    *_activation(Tanh()),
    *_activation(Softplus()),
    *_activation(Softmax()),
    *_activation(LogSoftmax()),
    Case("Softmax/axis 1", Softmax(axis=1), normal(2, 5, 3)),
    Case("Softmax/one class", Softmax(), normal(3, 1)),
    Case("LogSoftmax/axis 1", LogSoftmax(axis=1), normal(2, 5, 3)),
)

LINEAR = (
    Case("Dense", Dense(5), normal(3, 4)),
    Case("Dense/sequence", Dense(5), normal(2, 3, 4)),
    Case("Dense/no bias", Dense(5, use_bias=False), normal(3, 4)),
    Case("Dense/one of each", Dense(1), normal(1, 1)),
    Case("Dense/vector", Dense(3), normal(4)),
    Case("Dense/large", Dense(5), normal(3, 4, scale=1e4)),
    Case("Scale", Scale(0.5), normal(3, 4)),
    Case("Scale/negative, sequence", Scale(-3.7), normal(2, 3, 5)),
    Case("Embedding", Embedding(7, 3), ids(7, 2, 5)),
    Case("Embedding/duplicates", Embedding(6, 3), np.full((4,), 2, np.int32)),
    Case("Embedding/one id", Embedding(1, 3), np.zeros((1, 1), np.int32)),
    Case("EmbeddingBag", EmbeddingBag(7, 3), ids(7, 2, 5, 4)),
    Case(
        "EmbeddingBag/duplicates, and a bag of padding", EmbeddingBag(6, 3), np.array([[2, 2, 0], [0, 0, 0]], np.int32)
    ),
    Case("Flatten", Flatten(), normal(2, 3, 4)),
    Case("Flatten/vectors", Flatten(), normal(2, 3)),
    Case("Reshape", Reshape((4, 3)), normal(5, 2, 6)),
    Case("Reshape/rest", Reshape((3, -1)), normal(5, 2, 6)),
)

FACTORIZATION = (
    Case("BiasedFactorization", BiasedFactorization(6, 7, 4), (ids(6, 5), ids(7, 5))),
    Case("BiasedFactorization/candidates", BiasedFactorization(6, 7, 4), (ids(6, 5), ids(7, 5, 3))),
    Case("BiasedFactorization/sequence", BiasedFactorization(5, 7, 4), (ids(5, 2, 3), ids(7, 2, 3))),
    Case(
        "BiasedFactorization/one pair, again and again",
        BiasedFactorization(3, 4, 2),
        (np.full(5, 1, np.int32), np.full((5, 6), 2, np.int32)),
    ),
    Case("BiasedFactorization/one of each", BiasedFactorization(1, 1, 1), (ids(1, 1), ids(1, 1))),
    Case("Interaction", Interaction(6, 7, 4), (ids(6, 5), ids(7, 5))),
    Case("Interaction/candidates", Interaction(6, 7, 4), (ids(6, 5), ids(7, 5, 3))),
    Case(
        "Interaction/one pair, again and again",
        Interaction(3, 4, 2),
        (np.full(5, 1, np.int32), np.full((5, 6), 2, np.int32)),
    ),
    Case("SVDPlusPlus", SVDPlusPlus(7, 4), (ids(7, 5), shares(5, 6) < 0.5)),
    Case(
        "SVDPlusPlus/one user, again and again",
        SVDPlusPlus(3, 4),
        (np.full(5, 2, np.int32), mask(6, 0, 6, 3, 1, 2)),
    ),
)

CONVOLUTION = (
    Case("Conv", Conv(6, (3, 2)), normal(2, 7, 5, 4)),
    Case("Conv/1x1", Conv(6, (1, 1)), normal(2, 7, 5, 4)),
    Case("Conv/VALID, no bias", Conv(6, (3, 2), padding="VALID", use_bias=False), normal(2, 7, 5, 4)),
    Case("Conv/strides", Conv(6, (3, 2), strides=(2, 3)), normal(2, 9, 7, 4)),
    Case("Conv/strides skip places", Conv(6, (1, 2), strides=(2, 3), padding="VALID"), normal(2, 8, 7, 4)),
    Case("Conv/dilation", Conv(6, (3, 2), dilation=(2, 3)), normal(2, 9, 7, 4)),
    Case("Conv/strides and dilation", Conv(6, (3, 2), (2, 3), (3, 2), padding="VALID"), normal(2, 11, 9, 4)),
    Case("Conv/explicit padding", Conv(6, (3, 2), padding=((2, 0), (1, 3))), normal(2, 5, 7, 4)),
    Case("Conv/groups", Conv(6, (3, 2), groups=2), normal(3, 7, 5, 4)),
    Case("Conv/groups, strides, dilation", Conv(6, (3, 2), (2, 1), (1, 2), groups=2), normal(3, 7, 5, 4)),
    Case("Conv/depthwise", Conv(8, (3, 2), groups=4), normal(2, 7, 5, 4)),
    Case("Conv/one example", Conv(3, (2, 3), padding="VALID"), normal(1, 2, 3, 4)),
    Case("Conv/window larger than image", Conv(3, (5, 4)), normal(2, 3, 1, 4)),
    Case("Conv/patches beyond the cache", Conv(2, (3, 3)), normal(5, 65, 47, 5)),
    Case("Conv/signal", Conv(6, (3,)), normal(2, 7, 4)),
    Case("Conv/signal, strides and dilation", Conv(6, (3,), (2,), (3,), padding="VALID"), normal(2, 12, 4)),
    Case("Conv/signal, depthwise, causal", Conv(4, (3,), groups=4, padding=((2, 0),)), normal(2, 7, 4)),
    Case("Conv/signal, length 1", Conv(5, (3,)), normal(2, 1, 4)),
    Case("ConvTranspose", ConvTranspose(6, (3, 2)), normal(2, 5, 7, 4)),
    Case("ConvTranspose/strides", ConvTranspose(6, (3, 5), strides=(2, 3)), normal(2, 5, 4, 3)),
    Case("ConvTranspose/VALID, no bias", ConvTranspose(6, (3, 2), (2, 3), "VALID", False), normal(2, 5, 4, 3)),
    Case("ConvTranspose/cut", ConvTranspose(6, (4, 3), (2, 1), ((1, 2), (0, 1))), normal(2, 5, 4, 3)),
    Case("ConvTranspose/signal", ConvTranspose(6, (4,), strides=(2,)), normal(2, 5, 3)),
)

POOLING = (
    Case("MaxPool", MaxPool((2, 3)), normal(2, 6, 9, 4)),
    Case("MaxPool/ties and zeros", MaxPool((2, 3)), ties(2, 6, 9, 4)),
    Case("MaxPool/overlapping", MaxPool((3, 2), strides=(1, 1)), normal(2, 7, 5, 4)),
    Case("MaxPool/overlapping ties", MaxPool((3, 3), strides=(2, 1), padding="SAME"), ties(2, 7, 5, 4)),
    Case("MaxPool/odd sizes", MaxPool((2, 2)), normal(2, 7, 5, 3)),
    Case("MaxPool/SAME", MaxPool((3, 2), strides=(2, 2), padding="SAME"), normal(2, 7, 5, 3)),
    Case("MaxPool/explicit padding", MaxPool((3, 2), (2, 1), ((1, 0), (0, 1))), -shares(2, 7, 5, 3)),
    Case("MaxPool/gaps", MaxPool((1, 2), strides=(2, 3)), normal(2, 8, 7, 3)),
    Case("RandomConvolutions", RandomConvolutions(6, 5), normal(2, 13, 3)),
    Case("RandomConvolutions/shorter than a kernel", RandomConvolutions(4, seed=1), normal(3, 5, 2)),
    Case("RandomConvolutions/one of each", RandomConvolutions(1, 3), normal(1, 1, 1)),
    Case("MaxPool/signal", MaxPool((3,), strides=(2,), padding="SAME"), normal(2, 8, 5)),
    Case("MaxPool/signal, length 1", MaxPool((1,)), normal(2, 1, 5)),
    Case("MaxPool/more places than a byte counts", MaxPool((17, 16)), ties(2, 17, 32, 3)),
    Case("AveragePool", AveragePool((2, 3)), normal(2, 6, 9, 4)),
    Case("AveragePool/overlapping", AveragePool((3, 2), strides=(1, 1)), normal(2, 7, 5, 4)),
    Case("AveragePool/SAME", AveragePool((3, 2), strides=(2, 2), padding="SAME"), normal(2, 7, 5, 3)),
    Case("AveragePool/explicit padding", AveragePool((3, 2), (2, 1), ((1, 0), (0, 1))), normal(2, 7, 5, 3)),
    Case("AveragePool/gaps", AveragePool((1, 2), strides=(2, 3)), normal(2, 8, 7, 3)),
    Case("AveragePool/signal", AveragePool((3,), strides=(2,), padding="SAME"), normal(2, 8, 5)),
    Case("GlobalAveragePool", GlobalAveragePool(), normal(2, 3, 5, 4)),
    Case("GlobalAveragePool/mask", GlobalAveragePool(), normal(3, 5, 4), mask=mask(5, 3, 0, 5)),
    Case("GlobalMaxPool", GlobalMaxPool(), normal(2, 3, 5, 4)),
    Case("GlobalMaxPool/ties", GlobalMaxPool(), ties(2, 3, 5, 4)),
    Case("GlobalMaxPool/mask", GlobalMaxPool(), ties(3, 5, 4), mask=mask(5, 3, 0, 5)),
)

NORMALIZATION = (
    Case("BatchNorm/train", BatchNorm(), normal(5, 3), train=True),
    Case("BatchNorm/train, images", BatchNorm(), normal(4, 3, 5, 2), train=True),
    Case("BatchNorm/train, one example", BatchNorm(), normal(1, 3), train=True),
    Case("BatchNorm/train, large", BatchNorm(), normal(5, 3, scale=1e4), train=True),
    Case("BatchNorm/train, tiny", BatchNorm(), normal(5, 3, scale=1e-6), train=True),
    Case("BatchNorm/train, constant channels", BatchNorm(), np.tile(normal(3), (4, 1)), train=True),
    Case("BatchNorm", BatchNorm(), normal(5, 3)),
    Case("BatchNorm/images", BatchNorm(1e-3), normal(4, 3, 5, 2)),
    Case("LayerNorm", LayerNorm(), normal(3, 5)),
    Case("LayerNorm/sequence", LayerNorm(1e-3), normal(2, 3, 5)),
    Case("LayerNorm/large", LayerNorm(), normal(3, 4, scale=1e4)),
    Case("LayerNorm/tiny", LayerNorm(), normal(5, 2, scale=1e-6)),
    Case("LayerNorm/constant rows", LayerNorm(), np.ones((3, 5)) * 0.3),
    Case("LayerNorm/one feature", LayerNorm(), normal(3, 1)),
    Case("RMSNorm", RMSNorm(), normal(3, 5)),
    Case("RMSNorm/sequence", RMSNorm(1e-3), normal(2, 3, 5)),
    Case("RMSNorm/large", RMSNorm(), normal(3, 4, scale=1e4)),
    Case("RMSNorm/zero rows", RMSNorm(), ties(4, 1)),
    Case("GroupNorm", GroupNorm(2), normal(3, 5, 7, 4)),
    Case("GroupNorm/signal", GroupNorm(3, 1e-3), normal(2, 5, 6)),
    Case("GroupNorm/group of one", GroupNorm(4), normal(3, 2, 5, 4)),
    Case("GroupNorm/vectors", GroupNorm(2), normal(3, 6)),
)

DROPOUT = (
    Case("Dropout/train", Dropout(0.5), normal(3, 5), train=True),
    Case("Dropout/train, uneven", Dropout(0.3), normal(2, 3, 5), train=True),
    Case("Dropout/train, rate 0", Dropout(0.0), normal(3, 5), train=True),
    Case("Dropout", Dropout(0.5), normal(3, 5)),
    Case("DropPath/train", DropPath(0.5), normal(7, 3, 5), train=True),
    Case("DropPath", DropPath(0.5), normal(7, 3, 5)),
)


def _recurrent(kind: type) -> tuple[Case, ...]:
    name, ends = kind.__name__, mask(5, 3, 5, 0)
    gaps = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    return (
        Case(name, kind(4), normal(3, 5, 2)),
        Case(f"{name}/padding, reverse", kind(4, reverse=True), normal(3, 5, 2), mask=ends),
        Case(f"{name}/gaps", kind(4), normal(3, 5, 2), mask=gaps),
        Case(f"{name}/last, padding, reverse", kind(4, True, "last"), normal(3, 5, 2), mask=ends),
        Case(f"{name}/length 1", kind(4), normal(3, 1, 2)),
        Case(f"{name}/long", kind(3), normal(2, 100, 4)),
        Case(f"{name}/large", kind(4), normal(3, 5, 2, scale=1e4)),
    )


def _state(layer: Recurrent, *shape: int) -> Any:
    """A state that is not 0, and whose arrays differ, for sequences of that shape."""
    leaves, structure = jax.tree.flatten(layer.initial_state(jax.ShapeDtypeStruct(shape, np.float32)))
    return structure.unflatten([0.7 * normal(1 + i, *leaf.shape)[i] for i, leaf in enumerate(leaves)])


def _with_state(name: str, layer: Recurrent, *shape: int, **special: Any) -> Case:
    return Case(f"WithState{name}", WithState(layer), (normal(*shape), _state(layer, *shape)), **special)


_stack = SerialWithState((Dense(6), WithState(GRU(4)), Dropout(0.5), WithState(LSTM(5)), Tanh()))

STATES = (
    _with_state("", LSTM(4), 3, 5, 2),
    _with_state("/last, padding, an example of nothing else", LSTM(4, False, "last"), 3, 5, 2, mask=mask(5, 3, 5, 0)),
    _with_state("/reverse, gaps", GRU(4, True), 3, 5, 2, mask=normal(3, 5) > 0),
    _with_state("/both directions, padding", Bidirectional(RNN(4), LSTM(6, True)), 3, 5, 2, mask=mask(5, 3, 5, 0)),
    Case(
        "SerialWithState",
        _stack,
        (
            normal(3, 7, 2),
            (_state(GRU(4), 3, 7, 6), _state(LSTM(5), 3, 7, 4)),
        ),
        train=True,
        mask=mask(7, 3, 7, 0),
    ),
)

RECURRENT = (
    *_recurrent(RNN),
    *_recurrent(GRU),
    *_recurrent(LSTM),
    Case("Bidirectional", Bidirectional(LSTM(4), LSTM(6, reverse=True)), normal(3, 5, 2)),
    Case(
        "Bidirectional/last, padding",
        Bidirectional(GRU(4, outputs="last"), RNN(6, reverse=True, outputs="last")),
        normal(3, 5, 2),
        mask=mask(5, 3, 5, 0),
    ),
    Case(
        "Objective/stacked LSTM",
        Objective(Serial((LSTM(4), LSTM(6), LSTM(5, outputs="last"), Dense(3))), SoftmaxCrossEntropy()),
        (normal(4, 7, 2), Targets(ids(3, 4))),
        mask=mask(7, 3, 7, 0, 5),
    ),
    Case(
        "Objective/language model",
        Objective(Serial((Embedding(7, 5), GRU(4), Dense(7))), SoftmaxCrossEntropy()),
        (ids(7, 2, 6), Targets(ids(7, 2, 6), mask(6, 4, 6).astype(np.float64))),
        mask=mask(6, 4, 6),
    ),
)


def _attention(
    name: str,
    layer: DotProductAttention,
    batch: int,
    queries: int,
    keys: int,
    heads: int,
    groups: int,
    *,
    scale: float = 1.0,
    pairs: tuple[Any, ...] = (),
    **special: Any,
) -> Case:
    """pairs: a bias and a mask for each query, if there are any."""
    x = (normal(batch, queries, heads, 3), 0.8 * normal(batch, keys, groups, 3), normal(batch, keys, groups, 4))
    x = *(scale * part for part in x), *pairs
    return Case(f"DotProductAttention{name}", layer, x, **special)


ATTENTION = (
    _attention("", DotProductAttention(), 2, 5, 7, 6, 6),
    _attention("/padding, an example of nothing else", DotProductAttention(), 3, 5, 7, 4, 2, mask=mask(7, 4, 0, 7)),
    _attention("/causal, padding", DotProductAttention(causal=True), 2, 7, 7, 4, 2, mask=~mask(7, 3, 7)),
    _attention("/causal, large", DotProductAttention(causal=True), 2, 7, 7, 4, 2, scale=1e4),
    _attention("/length 1", DotProductAttention(causal=True), 2, 1, 1, 6, 3),
    _attention("/one key", DotProductAttention(), 2, 5, 1, 6, 3),
    _attention("/in blocks", DotProductAttention(rows=2), 2, 5, 7, 6, 3, mask=mask(7, 4, 0)),
    _attention("/causal, in blocks", DotProductAttention(causal=True, rows=2), 2, 5, 5, 4, 2, mask=mask(5, 3, 4)),
    _attention("/causal, head by head", DotProductAttention(causal=True), 2, 151, 151, 24, 6, mask=mask(151, 80, 7)),
    _attention("/causal, two heads of two at a time", DotProductAttention(causal=True), 74, 60, 60, 2, 2),
    _attention("/bias", DotProductAttention(), 3, 5, 7, 4, 4, pairs=(normal(3, 4, 5, 7),)),
    _attention("/bias, grouped, in blocks", DotProductAttention(rows=2), 3, 5, 7, 4, 2, pairs=(normal(3, 4, 5, 7),)),
    _attention("/bias of all examples", DotProductAttention(rows=2), 3, 5, 7, 4, 2, pairs=(normal(1, 4, 5, 7),)),
    _attention("/bias of all heads", DotProductAttention(rows=2), 3, 5, 7, 4, 2, pairs=(normal(3, 1, 5, 7),)),
    _attention("/bias of keys", DotProductAttention(rows=2), 3, 5, 7, 4, 2, pairs=(normal(1, 4, 1, 7),)),
    _attention("/bias of queries, large", DotProductAttention(), 3, 5, 7, 4, 2, pairs=(normal(3, 1, 5, 1, scale=1e4),)),
    _attention("/mask of pairs", DotProductAttention(rows=2), 3, 5, 7, 4, 2, pairs=(None, normal(3, 4, 5, 7) > 0)),
    _attention(
        "/mask of pairs, rows of nothing else",
        DotProductAttention(),
        3,
        5,
        7,
        4,
        2,
        pairs=(normal(3, 4, 5, 7), np.broadcast_to(mask(7, 4, 0, 7, 1, 0)[None, None], (1, 1, 5, 7))),
        mask=mask(7, 4, 0, 7),
    ),
    _attention("/bias that masks", DotProductAttention(), 3, 5, 7, 4, 2, pairs=(-1e9 * (normal(1, 4, 5, 7) > 0),)),
    _attention(
        "/causal, padding, bias and mask of pairs",
        DotProductAttention(causal=True, rows=3),
        3,
        7,
        7,
        4,
        2,
        pairs=(normal(1, 4, 7, 7), normal(3, 1, 7, 7) > -0.5),
        mask=mask(7, 5, 0, 7),
    ),
    _attention(
        "/head by head, bias and mask of pairs",
        DotProductAttention(),
        2,
        97,
        251,
        24,
        6,
        pairs=(normal(1, 24, 97, 251), normal(2, 1, 97, 251) > -1),
    ),
    Case("SelfAttention", SelfAttention(2), normal(3, 5, 6)),
    Case("SelfAttention/causal, no bias", SelfAttention(3, causal=True, use_bias=False), normal(2, 5, 6)),
    Case("SelfAttention/grouped, rotary", SelfAttention(4, 2, rotary=True), normal(3, 5, 8), mask=mask(5, 3, 5, 0)),
    Case("SelfAttention/repeated", Repeat(Residual(SelfAttention(2)), 3), normal(3, 5, 4), mask=mask(5, 3, 1, 5)),
    Case("CrossAttention", CrossAttention(2), (normal(3, 5, 6), normal(3, 7, 4))),
    Case(
        "CrossAttention/grouped, padding",
        CrossAttention(4, 2, use_bias=False),
        (normal(3, 5, 8), normal(3, 7, 6)),
        mask=mask(5, 3, 2, 5),
        memory_mask=mask(7, 4, 0, 7),
    ),
    Case(
        "CrossAttention/repeated",
        Repeat(Residual(CrossAttention(2)), 3),
        (normal(2, 5, 6), normal(2, 7, 4)),
        memory_mask=mask(7, 4, 7),
    ),
    Case("LearnedPositions", LearnedPositions(7), normal(3, 5, 4)),
    Case("LearnedPositions/all", LearnedPositions(5), normal(3, 5, 4)),
    Case("SinusoidalPositions", SinusoidalPositions(), normal(3, 5, 4)),
    Case("SinusoidalPositions/base", SinusoidalPositions(100.0), normal(3, 7, 6)),
    Case("Rotary", Rotary(), normal(2, 5, 3, 4)),
    Case("Rotary/base", Rotary(100.0), normal(2, 7, 3, 8)),
    Case("Rotary/length 1", Rotary(), normal(2, 1, 3, 4)),
    Case("SwiGLU", SwiGLU(5), normal(2, 3, 4)),
    Case("SwiGLU/rows", SwiGLU(7), normal(3, 4)),
    Case("GEGLU", GEGLU(5), normal(2, 3, 4)),
    Case("GLU", GLU(), normal(2, 3, 8)),
    Case("GLU/ties", GLU(), ties(5, 6)),
    Case("GLU/large", GLU(), normal(3, 4, scale=1e4)),
)

_recall = Serial((Residual(Serial((RMSNorm(), CrossAttention(2)))), Dropout(0.5)))

SEQUENCES = (
    Case("Serial/memory", Serial((Dense(6), _recall, Tanh(), _recall)), (normal(3, 5, 4), normal(3, 7, 2)), train=True),
    Case("Masked", Masked(Serial((Embedding(5, 4), SelfAttention(2), GRU(3)))), ids(5, 3, 7)),
    Case("Masked/bags", Masked(Serial((EmbeddingBag(5, 4), SelfAttention(2)))), ids(5, 3, 6, 2)),
    Case(
        "Masked/all padding, another id",
        Masked(Serial((Embedding(5, 4), GlobalMaxPool())), 2),
        ended(ids(5, 3, 6), 4, 0, 6, padding=2),
    ),
    Case(
        "MaskedByLength",
        MaskedByLength(Serial((SelfAttention(2), GRU(3)))),
        (normal(3, 5, 4), np.array([3, 0, 5], np.int32)),
    ),
    Case(
        "MaskedByLength/strides",
        MaskedByLength(Serial((MaskPadding(), Conv(6, (3,), (2,)), Bidirectional(GRU(4), GRU(2, reverse=True))))),
        (normal(3, 7, 4), np.array([4, 7, 1], np.int32)),
    ),
    Case("MaskPadding", MaskPadding(), normal(4, 5, 3), mask=mask(5, 3, 0, 5, 1)),
    Case("MaskPadding/no mask", MaskPadding(), normal(2, 5, 3)),
    Case("MaskPadding/numbers", MaskPadding(), normal(2, 5), mask=mask(5, 3, 1)),
    Case(
        "EncoderDecoder",
        EncoderDecoder(
            Serial((Embedding(7, 4), SelfAttention(2, rotary=True))),
            Serial((Embedding(5, 6), Repeat(Serial((Residual(SelfAttention(2, causal=True)), _recall)), 2), Dense(3))),
        ),
        (ended(ids(7, 3, 7), 4, 0, 7), ids(5, 3, 5)),
        train=True,
    ),
    Case(
        "EncoderDecoder/recurrent, length 1",
        EncoderDecoder(
            Serial((Embedding(7, 4), Bidirectional(GRU(3), GRU(2, reverse=True)))),
            Serial((Embedding(5, 4), GRU(4), Residual(CrossAttention(1)), Tanh())),
        ),
        (ids(7, 3, 1), ids(5, 3, 1)),
    ),
)

_block = Residual(Serial((Dense(4), Tanh(), Dropout(0.5))))

COMBINATORS = (
    Case("Serial", Serial((Dense(5), Tanh(), Dense(2))), normal(3, 4)),
    Case("Serial/empty", Serial(()), normal(3, 4)),
    Case(
        "Serial/mask through strides",
        Serial((Conv(5, (3,), strides=(2,)), MaxPool((2,)), GlobalAveragePool())),
        normal(3, 13, 4),
        mask=mask(13, 6, 0, 13),
    ),
    Case("Residual", Residual(Dense(4)), normal(3, 4)),
    Case("Parallel", Parallel((Dense(5), Serial((Dense(2), Dense(5))))), normal(3, 4)),
    Case("Parallel/concatenate", Parallel((Dense(5), Tanh(), Dense(2)), "concatenate"), normal(3, 4)),
    Case("Parallel/one path", Parallel((Dense(5),)), normal(3, 4)),
    Case("Transposed", Transposed(Serial((Dense(2), Tanh(), Dense(5)))), normal(4, 3)),
    Case("Repeat", Repeat(_block, 3), normal(2, 5, 4), train=True),
    Case("Repeat/once", Repeat(Dense(4), 1), normal(3, 4)),
    Case("Repeat/nested", Repeat(Serial((Repeat(Residual(Tanh()), 2), Dense(4))), 3), normal(2, 5, 4)),
    Case("Repeat/Remat", Repeat(Remat(_block), 3), normal(2, 5, 4), train=True),
    Case("Repeat/BatchNorm", Repeat(Serial((BatchNorm(), ReLU())), 2), normal(5, 3), train=True),
    Case("Remat", Remat(Serial((Dense(5), Dropout(0.5), BatchNorm()))), normal(6, 4), train=True),
    Case("Cast", Cast("float64"), normal(3, 4)),
    Case("Tied", Tied(Serial((Dense(4), Tanh(), Dense(4))), (("layers/2/kernel", "layers/0/kernel"),)), normal(3, 4)),
    Case(
        "Tied/three uses",
        Tied(
            Serial((Dense(4), Tanh(), Dense(4), Tanh(), Dense(4, use_bias=False))),
            (("layers/2/kernel", "layers/0/kernel"), ("layers/4/kernel", "layers/0/kernel")),
        ),
        normal(3, 4),
    ),
    Case(
        "Objective",
        Objective(Serial((Dense(6), BatchNorm(), ReLU(), Dropout(0.5), Dense(3))), SoftmaxCrossEntropy()),
        (normal(5, 4), Targets(ids(3, 5), padded(5))),
        train=True,
    ),
    Case(
        "Objective/Embedding",
        Objective(Serial((Embedding(7, 5), GlobalAveragePool(), Dense(3))), SoftmaxCrossEntropy()),
        (ids(7, 2, 4), Targets(ids(3, 2))),
        mask=mask(4, 3, 1),
    ),
)


def _regression(layer: Layer) -> tuple[Case, ...]:
    name = type(layer).__name__
    return (
        Case(name, layer, (normal(3, 5), Targets(shares(3, 5)))),
        Case(f"{name}/vector", layer, (normal(4), Targets(shares(4)))),
        Case(f"{name}/weights", layer, (normal(3, 5), Targets(shares(3, 5), shares(3)))),
        Case(f"{name}/padding", layer, (normal(3, 2, 5), Targets(shares(3, 2, 5), padded(3, 2)))),
        Case(f"{name}/all padding", layer, (normal(3, 5), Targets(shares(3, 5), np.zeros(3)))),
        Case(f"{name}/equal and at edges", layer, (ties(4, 3), Targets(np.abs(ties(4, 3))))),
        Case(f"{name}/large", layer, (normal(2, 5, scale=1e4), Targets(shares(2, 5)))),
    )


def _vocabulary(name: str, loss: VocabularyCrossEntropy, *shape: int, weights: Any = None, scale: float = 1.0) -> Case:
    labels = ids(loss.vocabulary, *shape[:-1])
    return Case(f"VocabularyCrossEntropy{name}", loss, (normal(*shape, scale=scale), Targets(labels, weights)))


VOCABULARY = (
    _vocabulary("", VocabularyCrossEntropy(7), 2, 5, 3),
    _vocabulary("/in chunks", VocabularyCrossEntropy(7, rows=4), 2, 6, 3),
    _vocabulary("/last chunk smaller", VocabularyCrossEntropy(7, 0.1, rows=4), 2, 5, 3),
    _vocabulary("/rows alone", VocabularyCrossEntropy(6, rows=2), 5, 3),
    _vocabulary("/padding", VocabularyCrossEntropy(7, 0.1, rows=3), 3, 5, 4, weights=padded(3, 5)),
    _vocabulary("/weights", VocabularyCrossEntropy(7, rows=3), 3, 5, 4, weights=shares(3, 5)),
    _vocabulary("/all padding", VocabularyCrossEntropy(7, 0.1, rows=3), 3, 5, 4, weights=np.zeros((3, 5))),
    _vocabulary("/one row", VocabularyCrossEntropy(7), 1, 1, 3),
    _vocabulary("/large", VocabularyCrossEntropy(7, 0.1, rows=3), 2, 5, 3, scale=1e3),
    Case(
        "VocabularyCrossEntropy/tied",
        Objective(
            Serial((Embedding(7, 3), Dense(3), Tanh())),
            VocabularyCrossEntropy(7, rows=4),
            (("loss/embedding", "model/layers/0/embedding"),),
        ),
        (ids(7, 2, 5), Targets(ids(7, 2, 5), padded(2, 5))),
    ),
)


def _ctc(name: str, labels: list[list[int]], frames: list[int], weights: Any = None, **special: Any) -> Case:
    """Transcripts of these labels on 4 symbols; labels are padded to one more than the longest, frames to 7."""
    size = 1 + max(map(len, labels))
    lengths = np.array([len(row) for row in labels], np.int32)
    rows = np.array([row + [3] * (size - len(row)) for row in labels], np.int32)
    loss, scale = special.get("loss", CTC()), special.get("scale", 1.0)
    logits = normal(len(labels), special.get("size", 7), 4, scale=scale)
    return Case(f"CTC{name}", loss, (logits, Targets(Transcripts(rows, lengths, np.array(frames, np.int32)), weights)))


CONNECTIONIST = (
    _ctc("", [[1, 2, 1], [3, 1]], [7, 7]),
    _ctc("/repeats, silence, padding", [[2, 2], [1, 1, 1], [], [3], [1, 2]], [7, 5, 4, 3, 2], padded(5)),
    _ctc("/too few frames", [[1, 2, 3], [1, 1], [2, 3]], [2, 2, 7]),
    _ctc("/too few frames are zero", [[1, 2, 3], [1, 1], [2, 3]], [2, 7, 7], shares(3), loss=CTC(infeasible="zero")),
    _ctc("/each row", [[1, 2, 1], [3, 1], [1, 1]], [7, 5, 2], shares(3), loss=CTC(reduction="none")),
    _ctc("/one frame", [[1], [], [3]], [1, 1, 1], size=1),
    _ctc("/no labels, no frames", [[], []], [6, 0]),
    _ctc("/all padding", [[1, 2], [3]], [7, 6], np.zeros(2)),
    _ctc("/large, blank is last", [[0, 2, 0], [1, 1]], [7, 6], scale=1e4, loss=CTC(blank=3)),
    _ctc("/long", [[1, 2, 3, 3, 1, 2, 1, 1, 3, 1], [2] * 12], [60, 41], size=60),
)


def _pairwise(name: str, *shape: int, weights: Any = None, x: Any = None, items: int = 7) -> Case:
    scores = normal(*shape) if x is None else x
    return Case(f"PairwiseRanking{name}", PairwiseRanking(), (scores, Targets(ids(items, *shape), weights)))


def _sampled(name: str, *shape: int, weights: Any = None, x: Any = None, items: int = 7) -> Case:
    candidates = Candidates(ids(items, *shape), np.log(shares(*shape)))
    scores = normal(*shape) if x is None else x
    return Case(f"SampledSoftmax{name}", SampledSoftmax(), (scores, Targets(candidates, weights)))


RANKING = tuple(
    case
    for ranking in (_pairwise, _sampled)
    for case in (
        ranking("", 5, 4),
        ranking("/sequence", 2, 3, 4),
        ranking("/weights", 5, 4, weights=shares(5)),
        ranking("/padding", 5, 2, 4, weights=padded(5, 2)),
        ranking("/all padding", 5, 4, weights=np.zeros(5)),
        ranking("/one example", 1, 3),
        ranking("/one negative", 5, 2),
        ranking("/no negative", 3, 1),
        ranking("/every negative the true item", 3, 4, items=1),
        ranking("/ties", 5, 4, x=ties(5, 4)),
        ranking("/large", 5, 4, x=normal(5, 4, scale=1e4)),
    )
)


def _focal(name: str, loss: Focal, *shape: int, weights: Any = None, x: Any = None) -> Case:
    labels = ids(shape[-1], *shape[:-1])
    return Case(f"Focal{name}", loss, (normal(*shape) if x is None else x, Targets(labels, weights)))


FOCAL = (
    _focal("", Focal(), 5, 3),
    _focal("/sequence", Focal(1.5), 2, 5, 3),
    _focal("/gamma 0", Focal(0.0), 5, 3),
    _focal("/gamma below 1", Focal(0.3), 5, 4),
    _focal("/factors", Focal(alpha=(0.3, 1.7, 0.0)), 5, 3),
    _focal("/weights", Focal(alpha=(0.3, 1.7, 0.9)), 4, 3, weights=shares(4)),
    _focal("/padding", Focal(), 4, 2, 3, weights=padded(4)),
    _focal("/all padding", Focal(0.3), 5, 3, weights=np.zeros(5)),
    _focal("/one example", Focal(), 1, 3),
    _focal("/one class", Focal(0.3), 4, 1),
    _focal("/one class, gamma 0", Focal(0.0), 4, 1),
    _focal("/ties", Focal(), 5, 3, x=ties(5, 3)),
    _focal("/large", Focal(), 5, 4, x=normal(5, 4, scale=1e4)),
    _focal("/large, gamma below 1", Focal(0.3), 5, 4, x=normal(5, 4, scale=1e4)),
)


def _dice(name: str, loss: Dice, *shape: int, weights: Any = None, x: Any = None, t: Any = None) -> Case:
    t = np.round(shares(*shape)) if t is None else t
    return Case(f"Dice{name}", loss, (normal(*shape) if x is None else x, Targets(t, weights)))


DICE = (
    _dice("", Dice(), 3, 5, 7, 2),
    _dice("/signal, soft masks", Dice(smoothing=0.1), 3, 5, 2, t=shares(3, 5, 2)),
    _dice("/batch", Dice("batch"), 3, 5, 4, 2),
    _dice("/batch, rows", Dice("batch"), 5, 3),
    _dice("/examples weighted", Dice(), 3, 5, 4, 2, weights=shares(3)),
    _dice("/positions weighted", Dice(), 3, 5, 4, 2, weights=shares(3, 5, 4)),
    _dice("/batch, weights", Dice("batch"), 3, 5, 2, weights=shares(3, 5)),
    _dice("/padding", Dice(), 4, 5, 3, 2, weights=padded(4)),
    _dice("/batch, padding", Dice("batch"), 4, 5, 2, weights=padded(4, 5)),
    _dice("/all padding", Dice(), 4, 5, 3, 2, weights=np.zeros(4)),
    _dice("/empty and full masks", Dice(), 2, 5, 3, t=np.stack([np.zeros((5, 3)), np.ones((5, 3))])),
    _dice("/one example", Dice(), 1, 5, 2),
    _dice("/one position", Dice(), 3, 1, 2),
    _dice("/ties", Dice(), 3, 5, 2, x=ties(3, 5, 2)),
    _dice("/large", Dice(), 3, 5, 2, x=normal(3, 5, 2, scale=1e4)),
)

LOSSES = (
    *VOCABULARY,
    *CONNECTIONIST,
    *RANKING,
    *FOCAL,
    *DICE,
    Case("SoftmaxCrossEntropy", SoftmaxCrossEntropy(), (normal(5, 3), Targets(ids(3, 5)))),
    Case("SoftmaxCrossEntropy/sequence", SoftmaxCrossEntropy(), (normal(2, 5, 3), Targets(ids(3, 2, 5)))),
    Case("SoftmaxCrossEntropy/smoothing", SoftmaxCrossEntropy(0.1), (normal(5, 3), Targets(ids(3, 5), shares(5)))),
    Case("SoftmaxCrossEntropy/weights", SoftmaxCrossEntropy(), (normal(5, 3), Targets(ids(3, 5), shares(5)))),
    Case(
        "SoftmaxCrossEntropy/each row", SoftmaxCrossEntropy(0.1, "none"), (normal(5, 3), Targets(ids(3, 5), padded(5)))
    ),
    Case("SoftmaxCrossEntropy/padding", SoftmaxCrossEntropy(), (normal(4, 2, 3), Targets(ids(3, 4, 2), padded(4)))),
    Case("SoftmaxCrossEntropy/all padding", SoftmaxCrossEntropy(0.1), (normal(5, 3), Targets(ids(3, 5), np.zeros(5)))),
    Case("SoftmaxCrossEntropy/one example", SoftmaxCrossEntropy(), (normal(1, 3), Targets(ids(3, 1)))),
    Case("SoftmaxCrossEntropy/one class", SoftmaxCrossEntropy(), (normal(4, 1), Targets(ids(1, 4)))),
    Case("SoftmaxCrossEntropy/ties", SoftmaxCrossEntropy(), (ties(5, 3), Targets(ids(3, 5)))),
    Case("SoftmaxCrossEntropy/large", SoftmaxCrossEntropy(0.1), (normal(5, 4, scale=1e4), Targets(ids(4, 5)))),
    *_regression(BinaryCrossEntropy()),
    *_regression(MeanSquaredError()),
    *_regression(MeanAbsoluteError()),
    *_regression(Huber()),
    Case("Huber/delta", Huber(0.3), (normal(3, 5), Targets(shares(3, 5)))),
)

CASES = (
    *ACTIVATIONS,
    *LINEAR,
    *FACTORIZATION,
    *CONVOLUTION,
    *POOLING,
    *NORMALIZATION,
    *DROPOUT,
    *RECURRENT,
    *STATES,
    *ATTENTION,
    *SEQUENCES,
    *COMBINATORS,
    *LOSSES,
)
