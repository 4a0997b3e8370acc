"""The same layers, losses and models in idiomatic Flax and optax, by the name of their case."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.cases import Case
from benchmarks.gradients import by_vjp
from pipeline.layers.base import Context, PyTree
from pipeline.layers.random_convolutions import RandomConvolutions


class Block(nn.Module):
    """A dense layer with ReLU."""

    features: int = 256

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(nn.Dense(self.features)(x))


class ResidualBlock(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + Block()(x)


class ParallelBlocks(nn.Module):
    concatenate: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first, second = Block()(x), Block()(x)
        return jnp.concatenate([first, second], -1) if self.concatenate else first + second


class RepeatedBlocks(nn.Module):
    """Four blocks as one scan, each recomputed in the backward pass if ``remat``."""

    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        block = nn.remat(Block) if self.remat else Block
        step = nn.scan(
            lambda block, x, _: (block(x), None), variable_axes={"params": 0}, split_rngs={"params": True}, length=4
        )
        return step(block(), x, None)[0]


class TiedBlock(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = nn.Dense(256, use_bias=False)
        return dense(nn.relu(dense(x)))


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for width in (256, 128):
            x = nn.Dropout(0.2, deterministic=False)(nn.relu(nn.Dense(width)(x)))
        return nn.Dense(10)(x)


def normalize(x: jax.Array) -> jax.Array:
    """BatchNorm and ReLU; called inside a compact module."""
    return nn.relu(nn.BatchNorm(use_running_average=False)(x))


class ConvNet(nn.Module):
    """For images and signals alike: the input's axes say which."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        space = x.ndim - 2
        for width in self.channels:
            x = nn.Conv(width, (3,) * space, use_bias=False)(x)
            x = normalize(nn.max_pool(x, (2,) * space, strides=(2,) * space, padding="SAME"))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(0.5, deterministic=False)(nn.relu(nn.Dense(128)(x)))
        return nn.Dense(10)(x)


class Branch(nn.Module):
    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (3, 3), strides=(self.stride, self.stride), use_bias=False)(x)
        return nn.Conv(self.width, (3, 3), use_bias=False)(normalize(x))


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(32, (3, 3), use_bias=False)(x)
        x = x + Branch(32)(normalize(x))
        for width in (64, 128):
            x = normalize(x)
            x = nn.Conv(width, (1, 1), strides=(2, 2), use_bias=False)(x) + Branch(width, stride=2)(x)
        return nn.Dense(10)(normalize(x).mean((1, 2)))


class Attention(nn.Module):
    """Of 8 heads, over (x, memory) or over x alone."""

    causal: bool = False

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        x, memory = x if isinstance(x, tuple) else (x, x)
        mask = nn.make_causal_mask(x[..., 0]) if self.causal else None
        return nn.MultiHeadDotProductAttention(8)(x, memory, mask=mask)


class LSTMWithState(nn.Module):
    """An LSTM that maps (x, ((h, c),)) to (y, ((h, c),)): it takes its state and returns it."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x, ((h, c),) = x
        (c, h), y = nn.RNN(nn.OptimizedLSTMCell(128), return_carry=True)(x, initial_carry=(c, h))
        return y, ((h, c),)


def dot_product_attention(x: tuple[jax.Array, jax.Array, jax.Array], causal: bool = False) -> jax.Array:
    query, key, value = x
    key, value = (jnp.repeat(part, query.shape[2] // key.shape[2], axis=2) for part in (key, value))
    mask = nn.make_causal_mask(query[:, :, 0, 0]) if causal else None
    return nn.dot_product_attention(query, key, value, mask=mask)


class LearnedPositions(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + nn.Embed(256, x.shape[-1])(jnp.arange(x.shape[1]))


def waves(length: int, features: int) -> tuple[jax.Array, jax.Array]:
    frequencies = 10_000.0 ** -(jnp.arange(0, features, 2) / features)
    angles = jnp.arange(length)[:, None] * frequencies
    return jnp.sin(angles), jnp.cos(angles)


def rotary(x: jax.Array) -> jax.Array:
    sines, cosines = (wave[:, None] for wave in waves(x.shape[1], x.shape[-1]))
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cosines - b * sines, a * sines + b * cosines], -1)


class GatedUnits(nn.Module):
    activation: Callable[[jax.Array], jax.Array]
    hidden: int = 1024

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = nn.Dense(self.hidden, use_bias=False)(x), nn.Dense(self.hidden, use_bias=False)(x)
        return nn.Dense(x.shape[-1], use_bias=False)(self.activation(gate) * up)


def split_heads(x: jax.Array) -> jax.Array:
    """Projected onto 4 heads; called inside a compact module."""
    return nn.DenseGeneral((4, x.shape[-1] // 4), use_bias=False)(x)


def join_heads(answers: jax.Array) -> jax.Array:
    """Projected back; called inside a compact module."""
    return nn.DenseGeneral(answers.shape[-2] * answers.shape[-1], axis=(-2, -1), use_bias=False)(answers)


class TransformerBlock(nn.Module):
    """Rotary attention of 4 heads, attention to a memory where there is one, and SwiGLU."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: Any, memory: Any = None, memory_mask: Any = None) -> jax.Array:
        normed = nn.RMSNorm()(x)
        query, key, value = (split_heads(normed) for _ in range(3))
        x = x + join_heads(nn.dot_product_attention(rotary(query), rotary(key), value, mask=mask))
        if memory is not None:
            query, key, value = (split_heads(part) for part in (nn.RMSNorm()(x), memory, memory))
            x = x + join_heads(nn.dot_product_attention(query, key, value, mask=memory_mask))
        return x + GatedUnits(nn.silu, self.hidden)(nn.RMSNorm()(x))


class LanguageModel(nn.Module):
    """Four blocks under and over one table of 8,000 vectors."""

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        embed, mask = nn.Embed(8000, 256), nn.make_causal_mask(ids)
        x = embed(ids)
        for _ in range(4):
            x = TransformerBlock(688)(x, mask)
        return embed.attend(nn.RMSNorm()(x))


class Translator(nn.Module):
    """Three blocks on either side, and one table of 6,000 vectors."""

    @nn.compact
    def __call__(self, pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        source, target = pair
        embed = nn.Embed(6000, 192)
        memory, y = embed(source), embed(target)
        for _ in range(3):
            memory = TransformerBlock(512)(memory, nn.make_attention_mask(source != 0, source != 0))
        memory = nn.RMSNorm()(memory)
        before = nn.combine_masks(nn.make_attention_mask(target != 0, target != 0), nn.make_causal_mask(target))
        for _ in range(3):
            y = TransformerBlock(512)(y, before, memory, nn.make_attention_mask(target != 0, source != 0))
        return embed.attend(nn.RMSNorm()(y))


def dropped(x: jax.Array) -> jax.Array:
    """A tenth of x left out; called inside a compact module."""
    return nn.Dropout(0.1, deterministic=False)(x)


class HalfFeedForward(nn.Module):
    """Half a step along a feed-forward layer's output."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = dropped(nn.silu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x))))
        return x + 0.5 * dropped(nn.Dense(x.shape[-1])(hidden))


class ConformerBlock(nn.Module):
    """Rotary attention of 4 heads and a depthwise convolution between two half-steps."""

    @nn.compact
    def __call__(self, x: jax.Array, counts: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = HalfFeedForward()(x)
        normed = nn.LayerNorm()(x)
        query, key, value = (nn.DenseGeneral((4, width // 4))(normed) for _ in range(3))
        answers = nn.dot_product_attention(rotary(query), rotary(key), value, mask=counts[:, None, None])
        x = x + dropped(nn.DenseGeneral(width, axis=(-2, -1))(answers))
        gated = nn.glu(jnp.where(counts[..., None], nn.Dense(2 * width)(nn.LayerNorm()(x)), 0.0))
        convolved = nn.silu(nn.LayerNorm()(nn.Conv(width, (15,), feature_group_count=width)(gated)))
        x = x + dropped(nn.Dense(width)(convolved))
        return nn.LayerNorm()(HalfFeedForward()(x))


class Conformer(nn.Module):
    """Every second frame, then four blocks, then 40 symbols."""

    @nn.compact
    def __call__(self, utterances: tuple[jax.Array, jax.Array]) -> jax.Array:
        features, lengths = utterances
        x = nn.Conv(128, (11,), strides=(2,), padding=((5, 5),))(features)
        x = dropped(nn.relu(nn.LayerNorm()(x)))
        counts = 2 * jnp.arange(x.shape[1]) < lengths[:, None]
        for _ in range(4):
            x = ConformerBlock()(x, counts)
        return nn.Dense(40)(x)


class EmbeddingBag(nn.Module):
    """The sum of the rows of a bag's ids, of which 0 is padding."""

    count: int
    features: int

    @nn.compact
    def __call__(self, bags: jax.Array) -> jax.Array:
        return jnp.where((bags != 0)[..., None], nn.Embed(self.count, self.features)(bags), 0.0).sum(-2)


class TextClassifier(nn.Module):
    """Convolutions over 3, 4 and 5 words, their maxima over time and the words' mean."""

    @nn.compact
    def __call__(self, bags: jax.Array) -> jax.Array:
        counts = (bags != 0).any(-1)[..., None]
        x = nn.Dropout(0.5, deterministic=False)(jnp.where(counts, EmbeddingBag(8000, 128)(bags), 0.0))
        parts = [jnp.where(counts, nn.relu(nn.Conv(64, (window,))(x)), -jnp.inf).max(1) for window in (3, 4, 5)]
        parts.append(jnp.where(counts, x, 0.0).sum(1) / counts.sum(1))
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=False)(jnp.concatenate(parts, -1)))


class BiasedFactorization(nn.Module):
    """Vectors and biases of 6,000 users and 4,000 items."""

    @nn.compact
    def __call__(self, ids: tuple[jax.Array, jax.Array]) -> jax.Array:
        users, items = ids
        p, q = nn.Embed(6_000, 64)(users)[:, None], nn.Embed(4_000, 64)(items)
        return ((p * q).sum(-1, keepdims=True) + nn.Embed(6_000, 1)(users)[:, None] + nn.Embed(4_000, 1)(items))[..., 0]


class Interaction(nn.Module):
    @nn.compact
    def __call__(self, ids: tuple[jax.Array, jax.Array]) -> jax.Array:
        users, items = ids
        q = nn.Embed(4_000, 64)(items)
        p = jnp.broadcast_to(nn.Embed(6_000, 64)(users)[:, None], q.shape)
        return jnp.concatenate([p * q, p, q], -1)


class SVDPlusPlus(nn.Module):
    """What 6,000 users rated of 4,000 items, and who they are."""

    @nn.compact
    def __call__(self, given: tuple[jax.Array, jax.Array]) -> jax.Array:
        users, known = given
        counts = known.astype(jnp.float32)
        rated = counts / jnp.sqrt(jnp.maximum(counts.sum(-1, keepdims=True), 1))
        return nn.Embed(6_000, 64)(users) + nn.Dense(64, use_bias=False)(rated)


class Recommender(nn.Module):
    @nn.compact
    def __call__(self, given: tuple[jax.Array, jax.Array]) -> jax.Array:
        return nn.Dense(4_000)(SVDPlusPlus()(given))


class TransposedBlock(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Block()(x.T).T


def pooled(pool: Callable, window: int, stride: int, padding: str = "VALID") -> nn.Module:
    return nn.Sequential([partial(pool, window_shape=(window, window), strides=(stride, stride), padding=padding)])


def function(f: Callable[[Any], jax.Array]) -> nn.Module:
    """A module without parameters."""
    return nn.Sequential([f])


def random_features(x: jax.Array) -> jax.Array:
    """Shares of positive values and means of ReLU of dilated convolutions by fixed kernels."""
    convolved = [
        jax.lax.conv_general_dilated(
            x, kernel, (1,), "SAME", rhs_dilation=(dilation,), dimension_numbers=("NHC", "HIO", "NHC")
        )
        + bias
        for dilation, kernel, bias in RandomConvolutions(200).groups(x.shape, x.dtype)
    ]
    return jnp.concatenate([(z > 0).mean(1) for z in convolved] + [nn.relu(z).mean(1) for z in convolved], 1)


MODULES: dict[str, nn.Module] = {
    "dense": nn.Dense(512),
    "conv": nn.Conv(64, (3, 3)),
    "conv_first": nn.Conv(32, (3, 3)),
    "conv_strided": nn.Conv(64, (3, 3), strides=(2, 2)),
    "conv_1x1": nn.Conv(64, (1, 1)),
    "conv_dilated": nn.Conv(64, (3, 3), kernel_dilation=(2, 2)),
    "conv_valid": nn.Conv(64, (5, 5), padding="VALID"),
    "conv_depthwise": nn.Conv(64, (3, 3), feature_group_count=64),
    "conv_grouped": nn.Conv(64, (3, 3), feature_group_count=4),
    "conv_1d": nn.Conv(64, (5,)),
    "conv_transpose": nn.ConvTranspose(32, (4, 4), strides=(2, 2)),
    "random_convolutions": function(random_features),
    "max_pool": pooled(nn.max_pool, 2, 2),
    "max_pool_overlapping": pooled(nn.max_pool, 3, 2),
    "max_pool_padded": pooled(nn.max_pool, 3, 2, "SAME"),
    "average_pool": pooled(nn.avg_pool, 2, 2),
    "average_pool_padded": pooled(partial(nn.avg_pool, count_include_pad=False), 3, 2, "SAME"),
    "global_average_pool": function(lambda x: x.mean((1, 2))),
    "global_max_pool": function(lambda x: x.max((1, 2))),
    "batch_norm": nn.BatchNorm(use_running_average=False),
    "group_norm": nn.GroupNorm(8),
    "layer_norm": nn.LayerNorm(),
    "rms_norm": nn.RMSNorm(),
    "relu": function(nn.relu),
    "leaky_relu": function(nn.leaky_relu),
    "elu": function(nn.elu),
    "gelu": function(partial(nn.gelu, approximate=False)),
    "gelu_tanh": function(nn.gelu),
    "silu": function(nn.silu),
    "sigmoid": function(nn.sigmoid),
    "tanh": function(nn.tanh),
    "softplus": function(nn.softplus),
    "softmax": function(nn.softmax),
    "log_softmax": function(nn.log_softmax),
    "dropout": nn.Dropout(0.5, deterministic=False),
    "drop_path": nn.Dropout(0.5, broadcast_dims=(1, 2, 3), deterministic=False),
    "embedding": nn.Embed(20_000, 256),
    "embedding_bag": EmbeddingBag(20_000, 64),
    "biased_factorization": BiasedFactorization(),
    "interaction": Interaction(),
    "svd_plus_plus": SVDPlusPlus(),
    "rnn": nn.RNN(nn.SimpleCell(128)),
    "rnn_wide": nn.RNN(nn.SimpleCell(256)),
    "rnn_long": nn.RNN(nn.SimpleCell(128)),
    "gru": nn.RNN(nn.GRUCell(128)),
    "gru_wide": nn.RNN(nn.GRUCell(256)),
    "gru_long": nn.RNN(nn.GRUCell(128)),
    "lstm": nn.RNN(nn.OptimizedLSTMCell(128)),
    "lstm_wide": nn.RNN(nn.OptimizedLSTMCell(256)),
    "lstm_long": nn.RNN(nn.OptimizedLSTMCell(128)),
    "lstm_with_state": LSTMWithState(),
    "bidirectional": nn.Bidirectional(nn.RNN(nn.OptimizedLSTMCell(128)), nn.RNN(nn.OptimizedLSTMCell(128))),
    "attention": function(dot_product_attention),
    "attention_causal": function(partial(dot_product_attention, causal=True)),
    "attention_grouped": function(partial(dot_product_attention, causal=True)),
    "attention_short": function(partial(dot_product_attention, causal=True)),
    "attention_long": function(dot_product_attention),
    "attention_long_causal": function(partial(dot_product_attention, causal=True)),
    "self_attention": Attention(causal=True),
    "cross_attention": Attention(),
    "learned_positions": LearnedPositions(),
    "sinusoidal_positions": function(lambda x: x + jnp.concatenate(waves(*x.shape[1:]), -1)),
    "rotary": function(rotary),
    "swiglu": GatedUnits(nn.silu),
    "geglu": GatedUnits(partial(nn.gelu, approximate=False)),
    "glu": function(nn.glu),
    "scale": function(lambda x: 0.5 * x),
    "flatten": function(lambda x: x.reshape(x.shape[0], -1)),
    "reshape": function(lambda x: x.reshape(x.shape[0], 784, 32)),
    "serial": Block(),
    "residual": ResidualBlock(),
    "parallel_sum": ParallelBlocks(),
    "parallel_concatenate": ParallelBlocks(concatenate=True),
    "transposed": TransposedBlock(),
    "repeat": RepeatedBlocks(),
    "repeat_remat": RepeatedBlocks(remat=True),
    "cast": function(lambda x: x.astype(jnp.bfloat16)),
    "tied": TiedBlock(),
    "mlp": MLP(),
    "convnet": ConvNet((32, 64)),
    "convnet_1d": ConvNet((32, 64, 64)),
    "resnet": ResNet(),
    "recommendation": Recommender(),
    "sentiment": TextClassifier(),
    "translation": Translator(),
    "speech_recognition": Conformer(),
    "language_model": LanguageModel(),
}


def cross_entropy(outputs: jax.Array, targets: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets.values).mean()


def smoothed_cross_entropy(outputs: jax.Array, targets: Any) -> jax.Array:
    labels = optax.smooth_labels(jax.nn.one_hot(targets.values, outputs.shape[-1]), 0.1)
    return optax.softmax_cross_entropy(outputs, labels).mean()


def weighted_cross_entropy(outputs: jax.Array, targets: Any) -> jax.Array:
    each = optax.softmax_cross_entropy_with_integer_labels(outputs, targets.values)
    return jnp.average(each, weights=targets.weights)


def vocabulary_cross_entropy(h: jax.Array, targets: Any, embedding: jax.Array) -> jax.Array:
    return cross_entropy(h @ embedding.T, targets)


def ctc(logits: jax.Array, targets: Any) -> jax.Array:
    labels, lengths, frames = targets.values
    padding = lambda size, lengths: (jnp.arange(size) >= lengths[:, None]).astype(logits.dtype)  # noqa: E731
    frame_padding, label_padding = padding(logits.shape[1], frames), padding(labels.shape[1], lengths)
    return optax.ctc_loss(logits, frame_padding, labels, label_padding).mean()


def focal(outputs: jax.Array, targets: Any) -> jax.Array:
    log_p = jnp.take_along_axis(jax.nn.log_softmax(outputs), targets.values[:, None], -1)
    return -((1 - jnp.exp(log_p)) ** 2 * log_p).mean()


def dice(outputs: jax.Array, targets: Any) -> jax.Array:
    p, t = jax.nn.sigmoid(outputs), targets.values
    overlap, size = (p * t).sum((1, 2)), (p**2 + t**2).sum((1, 2))
    return (1 - (2 * overlap + 1) / (size + 1)).mean()


def pairwise_ranking(outputs: jax.Array, targets: Any) -> jax.Array:
    differ = targets.values[:, 1:] != targets.values[:, :1]
    return jnp.average(-jax.nn.log_sigmoid(outputs[:, :1] - outputs[:, 1:]), weights=differ)


def sampled_softmax(outputs: jax.Array, targets: Any) -> jax.Array:
    items, log_probabilities = targets.values
    hits = (items == items[:, :1]).at[:, 0].set(False)
    logits = jnp.where(hits, -jnp.inf, outputs - log_probabilities)
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.zeros(len(items), jnp.int32)).mean()


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "focal": focal,
    "dice": dice,
    "pairwise_ranking": pairwise_ranking,
    "sampled_softmax": sampled_softmax,
    "vocabulary_cross_entropy_8k": vocabulary_cross_entropy,
    "vocabulary_cross_entropy_50k": vocabulary_cross_entropy,
    "softmax_cross_entropy": cross_entropy,
    "softmax_cross_entropy_smoothed": smoothed_cross_entropy,
    "softmax_cross_entropy_weighted": weighted_cross_entropy,
    "binary_cross_entropy": lambda z, targets: optax.sigmoid_binary_cross_entropy(z, targets.values).mean(),
    "ctc": ctc,
    "ctc_long": ctc,
    "mean_squared_error": lambda z, targets: optax.squared_error(z, targets.values).mean(),
    "mean_absolute_error": lambda z, targets: jnp.abs(z - targets.values).mean(),
    "huber": lambda z, targets: optax.huber_loss(z, targets.values).mean(),
}


def gradient_of(case: Case) -> Callable[..., PyTree]:
    """As ours is: of (params, x, context), and of the output's cotangent d_y for layers and losses."""
    if case.kind == "loss":
        loss = LOSSES[case.name]
        return by_vjp(lambda params, x, context: loss(*x, **params))
    apply = model(case)
    if case.kind == "layer":
        return by_vjp(apply)
    loss = ctc if case.name == "speech_recognition" else cross_entropy

    def objective(params: PyTree, x: PyTree, context: Context) -> tuple[jax.Array, jax.Array]:
        inputs, targets = x
        outputs = apply(params, inputs, context)
        return loss(outputs, targets), outputs

    return jax.value_and_grad(objective, has_aux=True)


def parameters(case: Case, x: PyTree) -> PyTree:
    """The counterpart's own initial parameters for inputs like ``x``."""
    if case.kind == "loss":
        return case.layer.init(jax.random.key(0), x)
    example = x[0] if case.kind == "step" else x
    return MODULES[case.name].init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, example)


def model(case: Case) -> Callable[[PyTree, Any, Context], jax.Array]:
    """The case's module as a function of (params, x, context)."""
    module = MODULES[case.name]

    def apply(variables: PyTree, x: Any, context: Context) -> Any:
        # A module with running averages hands back the new ones; nothing reads them, as in the other columns.
        state = [name for name in variables if name != "params"]
        y = module.apply(variables, x, rngs={"dropout": context.key}, mutable=state or False)
        return y[0] if state else y

    return apply
