"""What is measured: every layer, loss and model of ours at an ordinary size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

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
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.blockwise_attention import DotProductAttention
from pipeline.layers.combinators import Cast, Parallel, Remat, Residual, Serial, Transposed
from pipeline.layers.convolution import Conv, ConvTranspose
from pipeline.layers.dropout import Dropout, DropPath
from pipeline.layers.embedding import Embedding, EmbeddingBag
from pipeline.layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from pipeline.layers.gated import GEGLU, GLU, SwiGLU
from pipeline.layers.linear import Dense, Scale
from pipeline.layers.masking import MaskedByLength
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
from pipeline.models import recommenders as factorization
from pipeline.models import text as sentiment
from pipeline.models import translation
from pipeline.models.acoustic import conformer
from pipeline.models.image import convnet, convnet_1d, mlp, resnet
from pipeline.models.language import language_objective, transformer

Kind = Literal["layer", "loss", "step"]


@dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    kind: "layer" and "loss": the value and its derivatives by parameters and input; "step": the value and the gradient
        of a whole model's objective, by parameters only.
    example: makes the input, as numpy arrays, from a generator.
    definition: the layer whose ``apply`` autodiff differentiates, where it is not ``layer`` itself.
    """

    name: str
    kind: Kind
    layer: Layer
    example: Callable[[np.random.Generator], PyTree]
    definition: Layer | None = None

    def input(self) -> PyTree:
        """The same random input each time, as numpy arrays."""
        return self.example(np.random.default_rng(0))

    def shape(self) -> tuple[int, ...]:
        """The shape of the input's first array."""
        return jax.tree.leaves(self.input())[0].shape


@dataclass(frozen=True)
class Checkpointed(Layer):
    """What autodiff has in Remat's place: ``jax.checkpoint`` around the definition."""

    layer: Layer

    def init(self, key: Any, x: PyTree) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return jax.checkpoint(self.layer.apply)(params["layer"], x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        raise NotImplementedError("only differentiated")

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        raise NotImplementedError("only differentiated")


def normal(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Standard normal float32."""
    return lambda random: random.standard_normal(shape, np.float32)


def whole(high: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Uniform int32 below ``high``."""
    return lambda random: random.integers(high, size=shape, dtype=np.int32)


def judged(
    outputs: Callable[[np.random.Generator], Any],
    values: Callable[[np.random.Generator], Any],
    weights: Callable[[np.random.Generator], np.ndarray] | None = None,
) -> Callable[[np.random.Generator], tuple[Any, Targets]]:
    """A loss's input: outputs, and targets with or without weights."""
    return lambda random: (outputs(random), Targets(values(random), weights and weights(random)))


def kept_share(share: float, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Weights that are 1 for a share of the examples and 0, padding, for the rest."""
    return lambda random: (random.random(shape) < share).astype(np.float32)


def transcripts(batch: int, frames: int, symbols: int, labels: int) -> Callable[[np.random.Generator], Transcripts]:
    """Uniform labels below ``symbols``, none of them the blank 0; all labels and all frames count."""
    return lambda random: Transcripts(
        random.integers(1, symbols, size=(batch, labels), dtype=np.int32),
        np.full(batch, labels, np.int32),
        np.full(batch, frames, np.int32),
    )


def lengths(batch: int, longest: int) -> Callable[[np.random.Generator], np.ndarray]:
    """int32, (batch,), all of them ``longest``."""
    return lambda random: np.full(batch, longest, np.int32)


def sampled(items: int, *shape: int) -> Callable[[np.random.Generator], Any]:
    """Candidates of a sampler that prefers some items to others."""
    return lambda random: Candidates(whole(items, *shape)(random), np.log(random.random(shape, np.float32)))


def together(
    *parts: Callable[[np.random.Generator], Any],
) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Several inputs, as a tuple."""
    return lambda random: tuple(part(random) for part in parts)


def heads(batch: int, time: int, count: int, features: int, groups: int | None = None) -> Any:
    """Queries, keys and values; the latter two with ``groups`` heads."""
    shared = normal(batch, time, groups or count, features)
    return together(normal(batch, time, count, features), shared, shared)


IMAGES = normal(128, 28, 28, 32)
LARGE_IMAGES = normal(64, 32, 32, 64)
ROWS = normal(8192, 512)
LOGITS = normal(4096, 1000)
LABELS = whole(1000, 4096)
PAIRS = judged(normal(4096, 256), normal(4096, 256))
FEATURES = normal(4096, 256)
SEQUENCES = normal(32, 100, 128)
WIDE_SEQUENCES = normal(64, 100, 256)
SEQUENCES_AND_STATES = together(SEQUENCES, together(together(normal(32, 128), normal(32, 128))))
LONG_SEQUENCES = normal(64, 784, 28)
TOKENS = normal(8, 256, 512)
DIGITS = judged(normal(128, 28, 28, 1), whole(10, 128))
TEXTS = judged(whole(8000, 100, 32, 24), whole(2, 100))
SIGNALS = judged(normal(128, 40, 1), whole(10, 128))
CANDIDATES = together(whole(6_000, 1024), whole(4_000, 1024, 21))
HISTORIES = together(whole(6_000, 512), lambda random: random.random((512, 4_000), np.float32) < 0.05)

BLOCK = Serial((Dense(256), ReLU()))

CASES: tuple[Case, ...] = (
    Case("dense", "layer", Dense(512), normal(4096, 512)),
    Case("conv", "layer", Conv(64, (3, 3)), normal(64, 28, 28, 32)),
    Case("conv_first", "layer", Conv(32, (3, 3)), normal(128, 28, 28, 1)),
    Case("conv_strided", "layer", Conv(64, (3, 3), strides=(2, 2)), normal(64, 28, 28, 32)),
    Case("conv_1x1", "layer", Conv(64, (1, 1)), normal(64, 28, 28, 32)),
    Case("conv_dilated", "layer", Conv(64, (3, 3), dilation=(2, 2)), normal(64, 28, 28, 32)),
    Case("conv_valid", "layer", Conv(64, (5, 5), padding="VALID"), normal(64, 28, 28, 32)),
    Case("conv_depthwise", "layer", Conv(64, (3, 3), groups=64), normal(64, 28, 28, 64)),
    Case("conv_grouped", "layer", Conv(64, (3, 3), groups=4), normal(16, 28, 28, 64)),
    Case("conv_1d", "layer", Conv(64, (5,)), normal(128, 40, 32)),
    Case("conv_transpose", "layer", ConvTranspose(32, (4, 4), strides=(2, 2)), normal(64, 14, 14, 64)),
    Case("random_convolutions", "layer", RandomConvolutions(200), normal(64, 96, 1)),
    Case("max_pool", "layer", MaxPool((2, 2)), LARGE_IMAGES),
    Case("max_pool_overlapping", "layer", MaxPool((3, 3), strides=(2, 2)), LARGE_IMAGES),
    Case("max_pool_padded", "layer", MaxPool((3, 3), strides=(2, 2), padding="SAME"), LARGE_IMAGES),
    Case("average_pool", "layer", AveragePool((2, 2)), LARGE_IMAGES),
    Case("average_pool_padded", "layer", AveragePool((3, 3), strides=(2, 2), padding="SAME"), LARGE_IMAGES),
    Case("global_average_pool", "layer", GlobalAveragePool(), LARGE_IMAGES),
    Case("global_max_pool", "layer", GlobalMaxPool(), LARGE_IMAGES),
    Case("batch_norm", "layer", BatchNorm(), IMAGES),
    Case("group_norm", "layer", GroupNorm(8), IMAGES),
    Case("layer_norm", "layer", LayerNorm(), ROWS),
    Case("rms_norm", "layer", RMSNorm(), ROWS),
    Case("relu", "layer", ReLU(), IMAGES),
    Case("leaky_relu", "layer", LeakyReLU(), IMAGES),
    Case("elu", "layer", ELU(), IMAGES),
    Case("gelu", "layer", GELU(), IMAGES),
    Case("gelu_tanh", "layer", GELU(approximate=True), IMAGES),
    Case("silu", "layer", SiLU(), IMAGES),
    Case("sigmoid", "layer", Sigmoid(), IMAGES),
    Case("tanh", "layer", Tanh(), IMAGES),
    Case("softplus", "layer", Softplus(), IMAGES),
    Case("softmax", "layer", Softmax(), ROWS),
    Case("log_softmax", "layer", LogSoftmax(), ROWS),
    Case("dropout", "layer", Dropout(0.5), IMAGES),
    Case("drop_path", "layer", DropPath(0.5), IMAGES),
    Case("embedding", "layer", Embedding(20_000, 256), whole(20_000, 8192)),
    Case("embedding_bag", "layer", EmbeddingBag(20_000, 64), whole(20_000, 64, 32, 24)),
    Case("biased_factorization", "layer", BiasedFactorization(6_000, 4_000, 64), CANDIDATES),
    Case("interaction", "layer", Interaction(6_000, 4_000, 64), CANDIDATES),
    Case("svd_plus_plus", "layer", SVDPlusPlus(6_000, 64), HISTORIES),
    Case("rnn", "layer", RNN(128), SEQUENCES),
    Case("rnn_wide", "layer", RNN(256), WIDE_SEQUENCES),
    Case("rnn_long", "layer", RNN(128), LONG_SEQUENCES),
    Case("gru", "layer", GRU(128), SEQUENCES),
    Case("gru_wide", "layer", GRU(256), WIDE_SEQUENCES),
    Case("gru_long", "layer", GRU(128), LONG_SEQUENCES),
    Case("lstm", "layer", LSTM(128), SEQUENCES),
    Case("lstm_wide", "layer", LSTM(256), WIDE_SEQUENCES),
    Case("lstm_long", "layer", LSTM(128), LONG_SEQUENCES),
    Case("bidirectional", "layer", Bidirectional(LSTM(128), LSTM(128, reverse=True)), SEQUENCES),
    Case("lstm_with_state", "layer", SerialWithState((WithState(LSTM(128)),)), SEQUENCES_AND_STATES),
    Case("attention", "layer", DotProductAttention(), heads(8, 256, 8, 64)),
    Case("attention_causal", "layer", DotProductAttention(causal=True), heads(8, 256, 8, 64)),
    Case("attention_grouped", "layer", DotProductAttention(causal=True), heads(8, 256, 8, 64, groups=2)),
    Case("attention_short", "layer", DotProductAttention(causal=True), heads(32, 64, 4, 32)),
    Case("attention_long", "layer", DotProductAttention(), heads(1, 1024, 8, 64)),
    Case("attention_long_causal", "layer", DotProductAttention(causal=True), heads(1, 1024, 8, 64)),
    Case("self_attention", "layer", SelfAttention(8, causal=True), TOKENS),
    Case("cross_attention", "layer", CrossAttention(8), together(TOKENS, normal(8, 192, 512))),
    Case("learned_positions", "layer", LearnedPositions(256), TOKENS),
    Case("sinusoidal_positions", "layer", SinusoidalPositions(), TOKENS),
    Case("rotary", "layer", Rotary(), normal(8, 256, 8, 64)),
    Case("swiglu", "layer", SwiGLU(1024), TOKENS),
    Case("geglu", "layer", GEGLU(1024), TOKENS),
    Case("glu", "layer", GLU(), TOKENS),
    Case("scale", "layer", Scale(0.5), IMAGES),
    Case("flatten", "layer", Flatten(), IMAGES),
    Case("reshape", "layer", Reshape((784, 32)), IMAGES),
    Case("serial", "layer", BLOCK, FEATURES),
    Case("residual", "layer", Residual(BLOCK), FEATURES),
    Case("parallel_sum", "layer", Parallel((BLOCK, BLOCK)), FEATURES),
    Case("parallel_concatenate", "layer", Parallel((BLOCK, BLOCK), combine="concatenate"), FEATURES),
    Case("transposed", "layer", Transposed(BLOCK), normal(256, 4096)),
    Case("repeat", "layer", Repeat(BLOCK, 4), FEATURES),
    Case("repeat_remat", "layer", Repeat(Remat(BLOCK), 4), FEATURES, definition=Repeat(Checkpointed(BLOCK), 4)),
    Case("cast", "layer", Cast("bfloat16"), IMAGES),
    Case(
        "tied",
        "layer",
        Tied(
            Serial((Dense(256, use_bias=False), ReLU(), Dense(256, use_bias=False))),
            (("layers/2/kernel", "layers/0/kernel"),),
        ),
        FEATURES,
    ),
    Case("softmax_cross_entropy", "loss", SoftmaxCrossEntropy(), judged(LOGITS, LABELS)),
    Case("softmax_cross_entropy_smoothed", "loss", SoftmaxCrossEntropy(label_smoothing=0.1), judged(LOGITS, LABELS)),
    Case(
        "softmax_cross_entropy_weighted",
        "loss",
        SoftmaxCrossEntropy(),
        judged(LOGITS, LABELS, kept_share(0.8, 4096)),
    ),
    Case(
        "binary_cross_entropy",
        "loss",
        BinaryCrossEntropy(),
        judged(normal(4096, 256), kept_share(0.5, 4096, 256)),
    ),
    Case(
        "vocabulary_cross_entropy_8k",
        "loss",
        VocabularyCrossEntropy(8000),
        judged(normal(32, 128, 256), whole(8000, 32, 128)),
    ),
    Case(
        "vocabulary_cross_entropy_50k",
        "loss",
        VocabularyCrossEntropy(50_000),
        judged(normal(8, 128, 256), whole(50_000, 8, 128)),
    ),
    Case("ctc", "loss", CTC(), judged(normal(32, 200, 40), transcripts(32, 200, 40, 30))),
    Case("ctc_long", "loss", CTC(), judged(normal(32, 800, 40), transcripts(32, 800, 40, 120))),
    Case("focal", "loss", Focal(), judged(LOGITS, LABELS)),
    Case("dice", "loss", Dice(), judged(normal(16, 128, 128, 4), kept_share(0.3, 16, 128, 128, 4))),
    Case("pairwise_ranking", "loss", PairwiseRanking(), judged(normal(8192, 101), whole(100_000, 8192, 101))),
    Case("sampled_softmax", "loss", SampledSoftmax(), judged(normal(4096, 513), sampled(100_000, 4096, 513))),
    Case("mean_squared_error", "loss", MeanSquaredError(), PAIRS),
    Case("mean_absolute_error", "loss", MeanAbsoluteError(), PAIRS),
    Case("huber", "loss", Huber(), PAIRS),
    Case("mlp", "step", Objective(mlp(10), SoftmaxCrossEntropy()), DIGITS),
    Case("convnet", "step", Objective(convnet(10), SoftmaxCrossEntropy()), DIGITS),
    Case("convnet_1d", "step", Objective(convnet_1d(10), SoftmaxCrossEntropy()), SIGNALS),
    Case("resnet", "step", Objective(resnet(10), SoftmaxCrossEntropy()), DIGITS),
    Case(
        "recommendation",
        "step",
        Objective(factorization.implicit(6_000, 4_000, features=64), SoftmaxCrossEntropy()),
        judged(HISTORIES, whole(4_000, 512)),
    ),
    Case("sentiment", "step", Objective(sentiment.cnn(8000, 2), SoftmaxCrossEntropy()), TEXTS),
    Case(
        "translation",
        "step",
        translation.translation_objective(
            translation.transformer(6000, width=192, layers=3, heads=4, dropout=0.0), 6000
        ),
        judged(together(whole(6000, 64, 24), whole(6000, 64, 24)), whole(6000, 64, 24)),
    ),
    Case(
        "speech_recognition",
        "step",
        Objective(MaskedByLength(conformer(40)), CTC()),
        judged(together(normal(16, 400, 40), lengths(16, 400)), transcripts(16, 200, 40, 60)),
    ),
    Case(
        "language_model",
        "step",
        language_objective(transformer(8000, width=256, layers=4, heads=4), 8000),
        judged(whole(8000, 32, 128), whole(8000, 32, 128)),
    ),
)
