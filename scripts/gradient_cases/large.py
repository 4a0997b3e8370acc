"""Every layer and loss once, at a size of real training: large, odd, and different along every axis.

A compiler chooses other kernels for large arrays than for small ones, and has been wrong in those only.
"""

import numpy as np

from gradient_cases.case import Case, ids, mask, normal, shares
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
from pipeline.layers.recurrent_state import SerialWithState, WithState
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

ROWS = normal(33_013, 37)
IMAGES = normal(67, 31, 29, 24)
SEQUENCES = normal(41, 203, 37)
TOKENS = normal(5, 259, 48)
LOGITS = normal(33_013, 19)
LABELS = Targets(ids(19, 33_013))
LENGTHS = np.random.default_rng(7).integers(1, 204, 41, np.int32)
MASK = mask(203, *LENGTHS.tolist())
BLOCK = Serial((Dense(37), Tanh()))


def _transcripts() -> Targets:
    lengths = np.random.default_rng(8).integers(0, 31, 41, np.int32)
    return Targets(Transcripts(1 + ids(28, 41, 30), lengths, np.maximum(LENGTHS, 2 * lengths + 1).clip(max=203)))


LARGE = (
    *(
        Case(type(layer).__name__, layer, ROWS)
        for layer in (
            *(ELU(), GELU(), LeakyReLU(), LogSoftmax(), ReLU(), Sigmoid(), SiLU(), Softmax(), Softplus(), Tanh()),
            *(Dense(29), Scale(0.3), LayerNorm(), RMSNorm(), GEGLU(23), SwiGLU(23), Cast("float64"), Flatten()),
            *(Residual(BLOCK), Parallel((BLOCK, Dense(37))), Remat(BLOCK), Repeat(BLOCK, 3), Transposed(Tanh())),
        )
    ),
    Case("GLU", GLU(), normal(33_013, 38)),
    Case("BatchNorm", BatchNorm(), ROWS, train=True),
    Case("Dropout", Dropout(0.3), ROWS, train=True),
    Case("DropPath", DropPath(0.3), ROWS, train=True),
    Case("Tied", Tied(Serial((Dense(37), Tanh(), Dense(37))), (("layers/2/kernel", "layers/0/kernel"),)), ROWS),
    Case("Reshape", Reshape((37, 1)), ROWS),
    Case("GroupNorm", GroupNorm(4), IMAGES),
    Case("Conv", Conv(22, (3, 3)), IMAGES),
    Case("Conv/strides", Conv(22, (3, 3), strides=(2, 2)), IMAGES),
    Case("Conv/valid", Conv(22, (5, 3), padding="VALID"), IMAGES),
    Case("Conv/one by one", Conv(22, (1, 1)), IMAGES),
    Case("Conv/depthwise", Conv(24, (3, 3), groups=24), IMAGES),
    Case("Conv/grouped", Conv(36, (3, 3), groups=6), IMAGES),
    Case("Conv/signal", Conv(22, (5,)), SEQUENCES),
    Case("RandomConvolutions", RandomConvolutions(70), SEQUENCES),
    Case("ConvTranspose", ConvTranspose(22, (4, 4), strides=(2, 2)), IMAGES),
    Case("MaxPool", MaxPool((2, 2)), IMAGES),
    Case("MaxPool/overlapping", MaxPool((3, 3), strides=(2, 2), padding="SAME"), IMAGES),
    Case("AveragePool", AveragePool((3, 3), strides=(2, 2), padding="SAME"), IMAGES),
    Case("GlobalAveragePool", GlobalAveragePool(), IMAGES),
    Case("GlobalMaxPool", GlobalMaxPool(), IMAGES),
    Case("Embedding", Embedding(1_009, 37), ids(1_009, 41, 801)),
    Case("EmbeddingBag", EmbeddingBag(1_009, 37), ids(1_009, 41, 81, 11)),
    Case("BiasedFactorization", BiasedFactorization(1_009, 2_003, 37), (ids(1_009, 801), ids(2_003, 801, 41))),
    Case("Interaction", Interaction(1_009, 2_003, 37), (ids(1_009, 801), ids(2_003, 801, 41))),
    Case("SVDPlusPlus", SVDPlusPlus(1_009, 37), (ids(1_009, 801), normal(801, 2_003) > 1.5)),
    Case("RNN", RNN(29), SEQUENCES, mask=MASK),
    Case("GRU", GRU(29), SEQUENCES, mask=MASK),
    Case("LSTM", LSTM(29), SEQUENCES, mask=MASK),
    Case("Bidirectional", Bidirectional(GRU(29), GRU(29, reverse=True)), SEQUENCES, mask=MASK),
    Case("WithState", WithState(GRU(29)), (SEQUENCES, (normal(len(SEQUENCES), 29),)), mask=MASK),
    Case(
        "SerialWithState",
        SerialWithState((WithState(RNN(29)),)),
        (SEQUENCES, ((normal(len(SEQUENCES), 29),),)),
        mask=MASK,
    ),
    Case(
        "DotProductAttention",
        DotProductAttention(),
        (normal(2, 1_031, 3, 16), normal(2, 1_033, 3, 16), shares(2, 1_033, 3, 16)),
    ),
    Case("SelfAttention", SelfAttention(4, causal=True), TOKENS),
    Case("CrossAttention", CrossAttention(4), (TOKENS, normal(5, 301, 48))),
    Case("LearnedPositions", LearnedPositions(259), TOKENS),
    Case("SinusoidalPositions", SinusoidalPositions(), TOKENS),
    Case("Rotary", Rotary(), normal(5, 259, 3, 16)),
    Case("MaskPadding", MaskPadding(), SEQUENCES, mask=MASK),
    Case("Masked", Masked(Serial((Embedding(1_009, 37), GRU(29)))), ids(1_009, 41, 203)),
    Case("MaskedByLength", MaskedByLength(GRU(29)), (SEQUENCES, LENGTHS)),
    Case(
        "EncoderDecoder",
        EncoderDecoder(
            Serial((Embedding(1_009, 48), LayerNorm(), Residual(SelfAttention(4)))),
            Serial((Embedding(1_009, 48), LayerNorm(), CrossAttention(4))),
        ),
        (ids(1_009, 5, 259), ids(1_009, 5, 301)),
    ),
    Case("Objective", Objective(Serial((Dense(29), ReLU(), Dense(19))), SoftmaxCrossEntropy()), (ROWS, LABELS)),
    Case("SoftmaxCrossEntropy", SoftmaxCrossEntropy(0.1), (LOGITS, Targets(LABELS.values, shares(33_013)))),
    Case("Focal", Focal(), (LOGITS, LABELS)),
    Case("BinaryCrossEntropy", BinaryCrossEntropy(), (LOGITS, Targets(shares(33_013, 19)))),
    Case("MeanSquaredError", MeanSquaredError(), (LOGITS, Targets(shares(33_013, 19)))),
    Case("MeanAbsoluteError", MeanAbsoluteError(), (LOGITS, Targets(shares(33_013, 19)))),
    Case("Huber", Huber(), (LOGITS, Targets(shares(33_013, 19)))),
    Case("Dice", Dice(), (normal(19, 101, 103, 3), Targets(np.round(shares(19, 101, 103, 3))))),
    Case("PairwiseRanking", PairwiseRanking(), (LOGITS, Targets(ids(2_003, 33_013, 19)))),
    Case(
        "SampledSoftmax",
        SampledSoftmax(),
        (LOGITS, Targets(Candidates(ids(2_003, 33_013, 19), np.log(shares(33_013, 19))))),
    ),
    Case("VocabularyCrossEntropy", VocabularyCrossEntropy(1_009), (SEQUENCES, Targets(ids(1_009, 41, 203)))),
    Case("CTC", CTC(), (normal(41, 203, 29), _transcripts())),
)
