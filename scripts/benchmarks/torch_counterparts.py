"""The same layers, losses and models in PyTorch, by the name of their case; imported only where PyTorch is.

float32 on the CPU, with a thread for each core. Images are laid out channels-last in memory, as ours are, signals and
group norm's images channels-first: with each PyTorch is faster.
"""
# pyright: reportMissingImports=false

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from benchmarks.cases import Case
from pipeline.layers.base import PyTree

torch.set_num_threads(os.cpu_count() or 1)


class OnImages(nn.Module):
    """A module over (batch, height, width, channels): the axes are renamed, and nothing moves in memory."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.module(x.permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1) if y.ndim == 4 else y


class Function(nn.Module):
    """A module without parameters."""

    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(x)


def block() -> nn.Module:
    """A dense layer with ReLU."""
    return nn.Sequential(nn.Linear(256, 256), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.module(x)


class Parallel(nn.Module):
    def __init__(self, *modules: nn.Module, concatenate: bool = False) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.concatenate = concatenate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (part(x) for part in self.parts)
        return torch.cat([first, second], -1) if self.concatenate else first + second


class Checkpointed(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.module, x, use_reentrant=False)  # pyright: ignore[reportReturnType]


class Recurrent(nn.Module):
    """The states of a recurrent module at every position."""

    def __init__(self, module: nn.RNNBase) -> None:
        super().__init__()
        self.module = module
        # Its second bias adds nothing to the first, but for a GRU's last third.
        directions = 2 if module.bidirectional else 1
        self.redundant = directions * module.hidden_size * {"RNN_TANH": 1, "GRU": 2, "LSTM": 4}[module.mode]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)[0]


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(512, 8, batch_first=True)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(256), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x, x, x, need_weights=False, attn_mask=self.mask, is_causal=True)[0]


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(512, 8, batch_first=True)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        return self.module(x, memory, memory, need_weights=False)[0]


class DotProductAttention(nn.Module):
    def __init__(self, causal: bool = False, grouped: bool = False) -> None:
        super().__init__()
        self.causal, self.grouped = causal, grouped

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads_first = (part.transpose(1, 2) for part in (query, key, value))
        y = functional.scaled_dot_product_attention(*heads_first, is_causal=self.causal, enable_gqa=self.grouped)
        return y.transpose(1, 2)


class LearnedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(256, 512))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.embedding


def waves(length: int, features: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    frequencies = 10_000.0 ** -(torch.arange(0, features, 2, device=device) / features)
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return angles.sin(), angles.cos()


def rotary(x: torch.Tensor) -> torch.Tensor:
    sines, cosines = (wave[:, None] for wave in waves(x.shape[1], x.shape[-1], x.device))
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], -1)


class GatedUnits(nn.Module):
    def __init__(
        self, activation: Callable[[torch.Tensor], torch.Tensor], features: int = 512, hidden: int = 1024
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate, self.up = (nn.Linear(features, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


class Heads(nn.Module):
    """Attention of 4 heads, between projections without biases; rotary to itself, without positions to a memory."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """mask: which keys each query sees, (batch, 1, queries or 1, keys); without one, those up to itself."""
        parts = ((self.query, x), *((layer, x if memory is None else memory) for layer in (self.key, self.value)))
        query, key, value = (layer(its).unflatten(-1, (4, -1)) for layer, its in parts)
        if memory is None:
            query, key = rotary(query), rotary(key)
        heads_first = (part.transpose(1, 2) for part in (query, key, value))
        y = functional.scaled_dot_product_attention(*heads_first, attn_mask=mask, is_causal=mask is None)
        return self.out(y.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention, attention to a memory where there is one, and SwiGLU."""

    def __init__(self, width: int, hidden: int, memory: bool = False) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(Heads(width) for _ in range(1 + memory))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2 + memory))
        self.feed_forward = GatedUnits(functional.silu, width, hidden)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = x + self.attentions[0](self.norms[0](x), mask=mask)
        if memory is not None:
            x = x + self.attentions[1](self.norms[1](x), memory, memory_mask)
        return x + self.feed_forward(self.norms[-1](x))


class LanguageModel(nn.Module):
    """Four blocks under and over one table of 8,000 vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8000, 256)
        self.blocks = nn.Sequential(*(TransformerBlock(256, 688) for _ in range(4)), nn.RMSNorm(256))
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.embedding(ids)) @ self.embedding.weight.T


class Translator(nn.Module):
    """Three blocks on either side, and one table of 6,000 vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6000, 192)
        self.encoder = nn.ModuleList(TransformerBlock(192, 512) for _ in range(3))
        self.decoder = nn.ModuleList(TransformerBlock(192, 512, memory=True) for _ in range(3))
        self.norms = nn.ModuleList(nn.RMSNorm(192) for _ in range(2))
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        memory, y = self.embedding(source), self.embedding(target)
        of_source, of_target = ((ids != 0)[:, None, None] for ids in (source, target))
        before = of_target & torch.ones(target.shape[1:] * 2, dtype=torch.bool, device=target.device).tril()
        for block in self.encoder:
            memory = block(memory, of_source)
        memory = self.norms[0](memory)
        for block in self.decoder:
            y = block(y, before, memory, of_source)
        return self.norms[1](y) @ self.embedding.weight.T


class EmbeddingBag(nn.Module):
    """The sum of the rows of a bag's ids, of which 0 is padding."""

    def __init__(self, count: int, features: int) -> None:
        super().__init__()
        self.bags = nn.EmbeddingBag(count, features, mode="sum", padding_idx=0)

    def forward(self, bags: torch.Tensor) -> torch.Tensor:
        return self.bags(bags.flatten(0, -2)).unflatten(0, bags.shape[:-1])


class TextClassifier(nn.Module):
    """Convolutions over 3, 4 and 5 words, their maxima over time and the words' mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = EmbeddingBag(8000, 128)
        self.convolutions = nn.ModuleList(nn.Conv1d(128, 64, window, padding=window // 2) for window in (3, 4, 5))
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(3 * 64 + 128, 2)

    def forward(self, bags: torch.Tensor) -> torch.Tensor:
        counts = (bags != 0).any(-1)[:, None]
        x = self.dropout(self.embedding(bags).movedim(-1, 1) * counts)
        features = (functional.relu(layer(x)[..., -bags.shape[1] :]) for layer in self.convolutions)
        parts = [feature.masked_fill(~counts, -torch.inf).amax(-1) for feature in features]
        parts.append((x * counts).sum(-1) / counts.sum(-1))
        return self.dense(self.dropout(torch.cat(parts, -1)))


class TiedBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(256, 256, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(functional.relu(self.dense(x)))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2)),
        nn.Linear(128, 10),
    )


def convnet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64), nn.ReLU()),
        *_head(7 * 7 * 64),
    )


def convnet_1d() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(1, 32, 3, padding=1, bias=False), nn.MaxPool1d(2), nn.BatchNorm1d(32), nn.ReLU()),
        *(nn.Conv1d(32, 64, 3, padding=1, bias=False), nn.MaxPool1d(2), nn.BatchNorm1d(64), nn.ReLU()),
        *(nn.Conv1d(64, 64, 3, padding=1, bias=False), nn.MaxPool1d(2), nn.BatchNorm1d(64), nn.ReLU()),
        *_head(5 * 64),
    )


def _head(inputs: int) -> tuple[nn.Module, ...]:
    return nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)


def branch(inputs: int, width: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False),
        *(nn.BatchNorm2d(width), nn.ReLU()),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
    )


def resnet() -> nn.Module:
    parts: list[nn.Module] = [
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        Residual(nn.Sequential(nn.BatchNorm2d(32), nn.ReLU(), branch(32, 32))),
    ]
    for inputs, width in ((32, 64), (64, 128)):
        shortcut = nn.Conv2d(inputs, width, 1, stride=2, bias=False)
        parts += [nn.BatchNorm2d(inputs), nn.ReLU(), Parallel(shortcut, branch(inputs, width, stride=2))]
    return nn.Sequential(
        *parts, nn.BatchNorm2d(128), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    )


# Without drop_path, which PyTorch does not have, and without flatten and reshape, which are views there: nothing is
# computed, while a jitted function alone has to copy.
MODULES: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Linear(512, 512),
    "conv": lambda: OnImages(nn.Conv2d(32, 64, 3, padding=1)),
    "conv_first": lambda: OnImages(nn.Conv2d(1, 32, 3, padding=1)),
    "conv_strided": lambda: OnImages(nn.Conv2d(32, 64, 3, stride=2, padding=1)),
    "conv_1x1": lambda: OnImages(nn.Conv2d(32, 64, 1)),
    "conv_dilated": lambda: OnImages(nn.Conv2d(32, 64, 3, dilation=2, padding=2)),
    "conv_valid": lambda: OnImages(nn.Conv2d(32, 64, 5)),
    "conv_depthwise": lambda: OnImages(nn.Conv2d(64, 64, 3, padding=1, groups=64)),
    "conv_grouped": lambda: OnImages(nn.Conv2d(64, 64, 3, padding=1, groups=4)),
    "conv_1d": lambda: nn.Conv1d(32, 64, 5, padding=2),
    "conv_transpose": lambda: OnImages(nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)),
    "max_pool": lambda: OnImages(nn.MaxPool2d(2)),
    "max_pool_overlapping": lambda: OnImages(nn.MaxPool2d(3, stride=2)),
    "max_pool_padded": lambda: OnImages(nn.MaxPool2d(3, stride=2, padding=1)),
    "average_pool": lambda: OnImages(nn.AvgPool2d(2)),
    "average_pool_padded": lambda: OnImages(nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)),
    "global_average_pool": lambda: OnImages(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "global_max_pool": lambda: OnImages(nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())),
    "batch_norm": lambda: OnImages(nn.BatchNorm2d(32)),
    "group_norm": lambda: nn.GroupNorm(8, 32),
    "layer_norm": lambda: nn.LayerNorm(512),
    "rms_norm": lambda: nn.RMSNorm(512),
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "softmax": lambda: nn.Softmax(-1),
    "log_softmax": lambda: nn.LogSoftmax(-1),
    "dropout": lambda: nn.Dropout(0.5),
    "embedding": lambda: nn.Embedding(20_000, 256),
    "embedding_bag": lambda: EmbeddingBag(20_000, 64),
    "rnn": lambda: Recurrent(nn.RNN(128, 128, batch_first=True)),
    "rnn_wide": lambda: Recurrent(nn.RNN(256, 256, batch_first=True)),
    "rnn_long": lambda: Recurrent(nn.RNN(28, 128, batch_first=True)),
    "gru": lambda: Recurrent(nn.GRU(128, 128, batch_first=True)),
    "gru_wide": lambda: Recurrent(nn.GRU(256, 256, batch_first=True)),
    "gru_long": lambda: Recurrent(nn.GRU(28, 128, batch_first=True)),
    "lstm": lambda: Recurrent(nn.LSTM(128, 128, batch_first=True)),
    "lstm_wide": lambda: Recurrent(nn.LSTM(256, 256, batch_first=True)),
    "lstm_long": lambda: Recurrent(nn.LSTM(28, 128, batch_first=True)),
    "bidirectional": lambda: Recurrent(nn.LSTM(128, 128, batch_first=True, bidirectional=True)),
    "attention": DotProductAttention,
    "attention_causal": lambda: DotProductAttention(causal=True),
    "attention_grouped": lambda: DotProductAttention(causal=True, grouped=True),
    "attention_short": lambda: DotProductAttention(causal=True),
    "attention_long": DotProductAttention,
    "attention_long_causal": lambda: DotProductAttention(causal=True),
    "self_attention": SelfAttention,
    "cross_attention": CrossAttention,
    "learned_positions": LearnedPositions,
    "sinusoidal_positions": lambda: Function(lambda x: x + torch.cat(waves(x.shape[1], x.shape[2], x.device), -1)),
    "rotary": lambda: Function(rotary),
    "swiglu": lambda: GatedUnits(functional.silu),
    "geglu": lambda: GatedUnits(functional.gelu),
    "glu": nn.GLU,
    "scale": lambda: Function(lambda x: 0.5 * x),
    "serial": block,
    "residual": lambda: Residual(block()),
    "parallel_sum": lambda: Parallel(block(), block()),
    "parallel_concatenate": lambda: Parallel(block(), block(), concatenate=True),
    "repeat": lambda: nn.Sequential(*(block() for _ in range(4))),
    "repeat_remat": lambda: nn.Sequential(*(Checkpointed(block()) for _ in range(4))),
    "cast": lambda: Function(lambda x: x.to(torch.bfloat16)),
    "tied": TiedBlock,
    "mlp": mlp,
    "convnet": lambda: OnImages(convnet()),
    "convnet_1d": convnet_1d,
    "resnet": lambda: OnImages(resnet()),
    "sentiment": TextClassifier,
    "translation": Translator,
    "language_model": LanguageModel,
}


def weighted_cross_entropy(outputs: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (functional.cross_entropy(outputs, values, reduction="none") * weights).sum() / weights.sum()


def vocabulary_cross_entropy(h: torch.Tensor, values: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy((h @ embedding.T).flatten(0, 1), values.flatten())


def ctc(logits: torch.Tensor, labels: torch.Tensor, lengths: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    log_y = functional.log_softmax(logits, -1).transpose(0, 1)
    return functional.ctc_loss(log_y, labels, frames, lengths, reduction="none").mean()


def focal(outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    log_p = -functional.cross_entropy(outputs, values, reduction="none")
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def dice(outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    p = outputs.sigmoid()
    overlap, size = (p * values).sum((1, 2)), (p**2 + values**2).sum((1, 2))
    return (1 - (2 * overlap + 1) / (size + 1)).mean()


def pairwise_ranking(outputs: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    differ = items[:, 1:] != items[:, :1]
    losses = -functional.logsigmoid(outputs[:, :1] - outputs[:, 1:])
    return (losses * differ).sum() / differ.sum()


def sampled_softmax(outputs: torch.Tensor, items: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
    hits = items == items[:, :1]
    hits[:, 0] = False
    logits = (outputs - log_probabilities).masked_fill(hits, -torch.inf)
    return functional.cross_entropy(logits, torch.zeros(len(items), dtype=torch.int64))


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "focal": focal,
    "dice": dice,
    "pairwise_ranking": pairwise_ranking,
    "sampled_softmax": sampled_softmax,
    "vocabulary_cross_entropy_8k": vocabulary_cross_entropy,
    "vocabulary_cross_entropy_50k": vocabulary_cross_entropy,
    "softmax_cross_entropy": functional.cross_entropy,
    "softmax_cross_entropy_smoothed": partial(functional.cross_entropy, label_smoothing=0.1),
    "softmax_cross_entropy_weighted": weighted_cross_entropy,
    "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    "ctc": ctc,
    "ctc_long": ctc,
    "mean_squared_error": functional.mse_loss,
    "mean_absolute_error": functional.l1_loss,
    "huber": functional.huber_loss,
}

CHANNELS_FIRST = ("conv_1d", "group_norm", "convnet_1d")


def has(case: Case) -> bool:
    return case.name in MODULES or case.name in LOSSES


def gradient_of(case: Case, x: PyTree, d_y: Any, compile: bool) -> Callable[[], Any]:
    """A call of what the other columns compute, eager or behind ``torch.compile``. The arrays are numpy's."""
    wrap: Callable[[Any], Any] = _compiler() if compile else lambda function: function
    if case.kind == "loss":
        outputs, *targets = (tensor(case, leaf) for leaf in jax.tree.leaves(x))
        loss = wrap(LOSSES[case.name])
        shapes = jax.eval_shape(case.layer.init, jax.random.key(0), x)
        params = {name: torch.randn(*leaf.shape) * 0.02 for name, leaf in shapes.items()}
        wanted = [leaf.requires_grad_() for leaf in (outputs, *params.values())]
        return lambda: torch.autograd.grad(loss(outputs, *targets, **params), wanted)

    module = MODULES[case.name]()
    model, parameters = wrap(module), list(module.parameters())
    if case.kind == "step":
        *inputs, labels = (tensor(case, leaf) for leaf in jax.tree.leaves(x))
        return lambda: torch.autograd.grad(
            functional.cross_entropy(model(*inputs).flatten(0, -2), labels.flatten()), parameters
        )
    inputs, d_outputs = [tensor(case, leaf) for leaf in jax.tree.leaves(x)], tensor(case, d_y)
    parameters += [leaf.requires_grad_() for leaf in inputs if leaf.is_floating_point()]  # pyright: ignore
    return lambda: torch.autograd.grad(model(*inputs), parameters, d_outputs)


def _compiler() -> Callable[[Any], Any]:
    torch.compiler.reset()  # drops what was made for earlier cases, with which each new one would be compared
    return partial(torch.compile, dynamic=False)


def tensor(case: Case, array: Any) -> torch.Tensor:
    """An array of ``case`` as PyTorch has it: int64 labels and ids, and channels first where the module wants that."""
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":  # which numpy cannot hand over
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    if array.dtype == np.int32:
        return torch.from_numpy(array.astype(np.int64))
    x = torch.from_numpy(array.copy())
    return x.movedim(-1, 1).contiguous() if case.name in CHANNELS_FIRST else x
