"""Models of our own layers in which one rule, or two, was replaced by a wrong one: which is it?"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradient_cases.case import Case
from pipeline.layers.activations import ReLU, Tanh
from pipeline.layers.base import Context, Layer, PyTree, Static, map_children
from pipeline.layers.combinators import Parallel, Remat, Residual, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm, LayerNorm
from pipeline.layers.objective import Objective
from pipeline.layers.pooling import GlobalAveragePool, MaxPool
from pipeline.layers.repeat import Repeat
from pipeline.layers.tying import Tied
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.models.image import convnet, convnet_1d, mlp, resnet

CLASSES = 4


@dataclass(frozen=True, eq=False)
class Planted:
    """A model with wrong rules in it.

    make: from a seed to what ``verify`` takes: the layer, its parameters, an input and a context.
    places: the paths of the layers whose own rule is wrong.
    """

    name: str
    make: Callable[[int], tuple[Layer, PyTree, PyTree, Context]]
    places: tuple[str, ...]


Change = Callable[[PyTree, PyTree, Any], tuple[PyTree, PyTree]]
"""From the right d_params and d_x, and d_y, to the wrong d_params and d_x."""


@dataclass(frozen=True, eq=False)
class Mistake:
    """A wrong subclass of ``kind`` in place of a layer: its backward pass ends in ``change``, or is ``backward``."""

    kind: type[Layer]
    change: Change | None = None
    backward: Callable[..., tuple[PyTree, PyTree]] | None = None

    def __call__(self, layer: Layer) -> Layer:
        assert type(layer) is self.kind, f"{layer} stands where {self.kind.__name__} was expected"
        right, change = self.kind.backward, self.change

        def backward(layer: Layer, params: PyTree, residuals: PyTree, d_y: Any) -> tuple[PyTree, PyTree]:
            assert change is not None
            return change(*right(layer, params, residuals, d_y), d_y)

        body = {"backward": self.backward or backward}
        wrong = dataclass(frozen=True)(type(f"Wrong{self.kind.__name__}", (self.kind,), body))
        fields = dataclasses.fields(layer)  # pyright: ignore[reportArgumentType]  (every layer is a dataclass)
        return wrong(**{field.name: getattr(layer, field.name) for field in fields})


def replaced(layer: Layer, path: str, change: Callable[[Layer], Layer]) -> Layer:
    """``layer`` with the one at ``path`` changed."""

    def at(name: str, child: Layer) -> Layer:
        if path == name or path.startswith(f"{name}/"):
            return replaced(child, path[len(name) + 1 :], change)
        return child

    return map_children(at, layer) if path else change(layer)


def of_leaf(name: str, change: Callable[[Any], Any]) -> Change:
    """A mistake in one parameter's cotangent."""
    return lambda d_params, d_x, d_y: (d_params | {name: change(d_params[name])}, d_x)


def of_input(change: Callable[[Any], Any]) -> Change:
    """A mistake in the input's cotangent."""
    return lambda d_params, d_x, d_y: (d_params, change(d_x))


# Leaves.

KERNEL_AVERAGED = Mistake(Dense, of_leaf("kernel", lambda d: d / 5))
KERNEL_TRANSPOSED = Mistake(Dense, of_leaf("kernel", lambda d: d.T))
BIAS_LACKS_LAST_ROW = Mistake(Dense, lambda d_params, d_x, d_y: (d_params | {"bias": d_y[:-1].sum(0)}, d_x))
INPUT_NEGATED = Mistake(Dense, of_input(jnp.negative))
RELU_PASSES_ALL = Mistake(ReLU, lambda d_params, d_x, d_y: (d_params, d_y))
DROPOUT_UNSCALED = Mistake(Dropout, of_input(lambda d: d / 2))
KERNEL_FLIPPED = Mistake(Conv, of_leaf("kernel", lambda d: d[::-1]))
KERNEL_NEGATED = Mistake(Conv, of_leaf("kernel", jnp.negative))
INPUT_SHIFTED = Mistake(Conv, of_input(lambda d: jnp.roll(d, 1, 1)))
POOL_SHIFTED = Mistake(MaxPool, of_input(lambda d: jnp.roll(d, 1, 1)))
POOL_NOT_AVERAGED = Mistake(GlobalAveragePool, of_input(lambda d: d * d.shape[1]))
SCALE_AVERAGED = Mistake(BatchNorm, of_leaf("scale", lambda d: d / 5))
LOSS_NOT_AVERAGED = Mistake(SoftmaxCrossEntropy, lambda d_params, d_x, d_y: (d_params, (5 * d_x[0], None)))
LOSS_DIVIDES = Mistake(SoftmaxCrossEntropy, lambda d_params, d_x, d_y: (d_params, (d_x[0] / d_y**2, None)))


def _as_in_evaluation(layer: Layer, params: PyTree, residuals: Any, d_y: Any) -> tuple[PyTree, PyTree]:
    return BatchNorm.backward(layer, params, (*residuals[:3], Static(False)), d_y)  # pyright: ignore[reportArgumentType]


def _without_mean(layer: Layer, params: PyTree, residuals: Any, d_y: Any) -> tuple[PyTree, PyTree]:
    """LayerNorm's rule with the variance's share alone."""
    d_params, _ = LayerNorm.backward(layer, params, residuals, d_y)  # pyright: ignore[reportArgumentType]
    x, mean, r = residuals
    n, d_n = (x - mean) * r, d_y * params["scale"]
    return d_params, r * (d_n - n * (d_n * n).mean(-1, keepdims=True))


def _overwritten(layer: Layer, params: PyTree, residuals: Any, d_y: Any) -> tuple[PyTree, PyTree]:
    return {"embedding": jnp.zeros_like(params["embedding"]).at[residuals].set(d_y)}, None


STATISTICS_CONSTANT = Mistake(BatchNorm, backward=_as_in_evaluation)
MEAN_FORGOTTEN = Mistake(LayerNorm, backward=_without_mean)
DUPLICATES_OVERWRITTEN = Mistake(Embedding, backward=_overwritten)


# Layers made of layers.


def _forgetting(layer: Any, params: PyTree, residuals: PyTree, d_y: Any) -> tuple[PyTree, PyTree]:
    """Parallel's rule, in which only the first path's input cotangent arrives."""
    parts = zip(layer.layers, params["layers"], residuals[0])
    d_params, d_inputs = zip(*(part.backward(p, kept, d_y) for part, p, kept in parts))
    return {"layers": list(d_params)}, d_inputs[0]


def _overwriting(layer: Any, params: PyTree, residuals: PyTree, d_y: Any) -> tuple[PyTree, PyTree]:
    """Tied's rule without the sum: the source keeps the gradient of its own use."""
    d_params, d_x = layer.layer.backward(layer.expand(params), residuals, d_y)
    return {"layer": layer._reduce(d_params)}, d_x


def _afresh(layer: Any, params: PyTree, residuals: PyTree, d_y: Any) -> tuple[PyTree, PyTree]:
    """Remat's rule with another key in the second forward pass."""
    x, context = residuals
    _, kept = layer.layer.forward(params["layer"], x, context.child(1))
    d_params, d_x = layer.layer.backward(params["layer"], kept, d_y)
    return {"layer": d_params}, d_x


def _crossed(layer: Any, params: PyTree, residuals: PyTree, d_y: Any) -> tuple[PyTree, PyTree]:
    """Parallel's rule for concatenation, with the slices in the other order."""
    parts = list(zip(layer.layers, params["layers"], residuals[0], jnp.split(d_y, 2, -1)[::-1]))
    d_params, d_inputs = zip(*(part.backward(p, kept, d) for part, p, kept, d in parts))
    return {"layers": list(d_params)}, d_inputs[0] + d_inputs[1]


def _lost_between(layer: Any, params: PyTree, residuals: PyTree, d_y: Any) -> tuple[PyTree, PyTree]:
    """Serial's rule, in which the first layer gets what came into the last."""
    d_params, d_x = Serial.backward(layer, params, residuals, d_y)
    d_params["layers"][0], d_x = layer.layers[0].backward(params["layers"][0], residuals[0], d_y)
    return d_params, d_x


SKIP_LOST = Mistake(Residual, lambda d_params, d_x, d_y: (d_params, d_x - d_y))
SKIP_TWICE = Mistake(Residual, lambda d_params, d_x, d_y: (d_params, d_x + d_y))
BRANCH_FORGOTTEN = Mistake(Parallel, backward=_forgetting)
SLICES_CROSSED = Mistake(Parallel, backward=_crossed)
TIE_OVERWRITTEN = Mistake(Tied, backward=_overwriting)
DRAWN_AFRESH = Mistake(Remat, backward=_afresh)
CHAIN_CUT = Mistake(Serial, backward=_lost_between)
REPEATS_REVERSED = Mistake(Repeat, lambda d_params, d_x, d_y: (jax.tree.map(lambda d: d[::-1], d_params), d_x))
REPEAT_AVERAGED = Mistake(Repeat, of_input(lambda d: d / 3))


# Models.

MLP = mlp(CLASSES, (6, 6), dropout=0.5)
CONVNET = convnet(CLASSES, (3, 4), hidden=6)
CONVNET_1D = convnet_1d(CLASSES, (3, 4, 4), hidden=6)
RESNET = resnet(CLASSES, (3, 4))
_BLOCK = Residual(Serial((Dense(5), Tanh())))
DEEP = Serial((Dense(5), Repeat(_BLOCK, 3), LayerNorm(), Dense(CLASSES)))
TIED = Tied(Serial((Dense(4), Tanh(), Dense(4), Tanh())), (("layers/2/kernel", "layers/0/kernel"),))
RECOMPUTED = Serial((Dense(6), Remat(Serial((Dense(5), Dropout(0.5)))), Dense(CLASSES)))
BRANCHES = Serial((Parallel((Dense(5), Serial((Dense(5), Tanh()))), "concatenate"), Dense(CLASSES)))
CHAIN = Serial((Serial((Dense(4), Tanh(), Dense(4))), Dense(CLASSES)))
WORDS = Serial((Embedding(7, 5), GlobalAveragePool(), Dense(CLASSES)))

IMAGE, SIGNAL, VECTOR, IDS = (5, 8, 8, 1), (5, 16, 1), (5, 4), (5, 6)


def _make(
    model: Layer, shape: tuple[int, ...], mistakes: tuple[tuple[str, Mistake], ...], seed: int
) -> tuple[Layer, PyTree, PyTree, Context]:
    random = np.random.default_rng((seed, *shape))
    inputs = random.integers(0, 7, shape).astype(np.int32) if shape == IDS else random.normal(size=shape)
    layer: Layer = Objective(model, SoftmaxCrossEntropy())
    case = Case("", layer, (inputs, Targets(random.integers(0, CLASSES, shape[0]).astype(np.int32))), train=True)
    params = jax.tree.map(lambda leaf: leaf * random.uniform(0.8, 1.2, leaf.shape), case.params())
    for path, mistake in mistakes:
        layer = replaced(layer, path, mistake)
    return layer, params, case.x, case.context()


def planted(name: str, model: Layer, shape: tuple[int, ...], *mistakes: tuple[str, Mistake]) -> Planted:
    """A model under its loss, with a mistake at each of the paths."""
    return Planted(name, partial(_make, model, shape, mistakes), tuple(path for path, _ in mistakes))


PLANTED = (
    planted("mlp/kernel averaged", MLP, IMAGE, ("model/layers/1", KERNEL_AVERAGED)),
    planted("mlp/kernel transposed", MLP, IMAGE, ("model/layers/4", KERNEL_TRANSPOSED)),
    planted("mlp/relu passes all", MLP, IMAGE, ("model/layers/2", RELU_PASSES_ALL)),
    planted("mlp/dropout unscaled", MLP, IMAGE, ("model/layers/3", DROPOUT_UNSCALED)),
    planted("mlp/input negated", MLP, IMAGE, ("model/layers/7", INPUT_NEGATED)),
    planted("convnet/kernel flipped", CONVNET, IMAGE, ("model/layers/4", KERNEL_FLIPPED)),
    planted("convnet/input shifted", CONVNET, IMAGE, ("model/layers/4", INPUT_SHIFTED)),
    planted("convnet/pool shifted", CONVNET, IMAGE, ("model/layers/5", POOL_SHIFTED)),
    planted("convnet/statistics constant", CONVNET, IMAGE, ("model/layers/6", STATISTICS_CONSTANT)),
    planted("convnet/scale averaged", CONVNET, IMAGE, ("model/layers/2", SCALE_AVERAGED)),
    planted("convnet_1d/last row dropped", CONVNET_1D, SIGNAL, ("model/layers/16", BIAS_LACKS_LAST_ROW)),
    planted("convnet_1d/kernel negated", CONVNET_1D, SIGNAL, ("model/layers/8", KERNEL_NEGATED)),
    planted("resnet/kernel in a branch", RESNET, IMAGE, ("model/layers/1/layer/layers/2/layers/0", KERNEL_FLIPPED)),
    planted("resnet/skip lost", RESNET, IMAGE, ("model/layers/1", SKIP_LOST)),
    planted("resnet/branch forgotten", RESNET, IMAGE, ("model/layers/4", BRANCH_FORGOTTEN)),
    planted("resnet/pool not averaged", RESNET, IMAGE, ("model/layers/7", POOL_NOT_AVERAGED)),
    planted("mlp/loss not averaged", MLP, IMAGE, ("loss", LOSS_NOT_AVERAGED)),
    planted("convnet_1d/loss divides by its gradient", CONVNET_1D, SIGNAL, ("loss", LOSS_DIVIDES)),
    planted("deep/kernel in a repeat", DEEP, VECTOR, ("model/layers/1/layer/layer/layers/0", KERNEL_TRANSPOSED)),
    planted("deep/skip twice", DEEP, VECTOR, ("model/layers/1/layer", SKIP_TWICE)),
    planted("deep/repeats reversed", DEEP, VECTOR, ("model/layers/1", REPEATS_REVERSED)),
    planted("deep/repeat averaged", DEEP, VECTOR, ("model/layers/1", REPEAT_AVERAGED)),
    planted("deep/mean forgotten", DEEP, VECTOR, ("model/layers/2", MEAN_FORGOTTEN)),
    planted("tied/overwritten", TIED, VECTOR, ("model", TIE_OVERWRITTEN)),
    planted("tied/kernel transposed", TIED, VECTOR, ("model/layer/layers/0", KERNEL_TRANSPOSED)),
    planted("recomputed/drawn afresh", RECOMPUTED, VECTOR, ("model/layers/1", DRAWN_AFRESH)),
    planted("branches/slices crossed", BRANCHES, VECTOR, ("model/layers/0", SLICES_CROSSED)),
    planted("chain/cut", CHAIN, VECTOR, ("model/layers/0", CHAIN_CUT)),
    planted("words/duplicates overwritten", WORDS, IDS, ("model/layers/0", DUPLICATES_OVERWRITTEN)),
    planted(
        "convnet/two: relu and dense",
        CONVNET,
        IMAGE,
        ("model/layers/7", RELU_PASSES_ALL),
        ("model/layers/9", KERNEL_AVERAGED),
    ),
    planted(
        "resnet/two: skip and its branch",
        RESNET,
        IMAGE,
        ("model/layers/1/layer/layers/2/layers/0", KERNEL_NEGATED),
        ("model/layers/1", SKIP_LOST),
    ),
)
