"""Every kind of model that a task trains: its rules give one gradient, chained by hand or by ``jax.grad``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.case import ids, normal, shares
from pipeline.backprop import value_and_grad
from pipeline.layers.base import Context
from pipeline.layers.masking import MaskedByLength
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.ctc import CTC, Transcripts
from pipeline.losses.regression import MeanSquaredError
from pipeline.models import acoustic, autoencoder, image, language, recommenders, text, translation
from pipeline.verify import relative_errors
from pipeline.verify.targets import draw_params

IMAGES, SIGNALS, WORDS, TOKENS = normal(4, 8, 8, 2), normal(4, 16, 2), ids(9, 4, 6, 3), ids(9, 4, 6)
CLASSES = Targets(ids(3, 4))
FRAMES = normal(2, 12, 4), np.array([12, 9], np.int32)
SPOKEN = Targets(Transcripts(ids(3, 2, 2) + 1, np.array([2, 1], np.int32), np.array([6, 5], np.int32)))
PAIRS, RATINGS = (ids(5, 4), ids(7, 4)), Targets(shares(4))
TABLE = normal(5, 7), Targets(shares(5, 7), shares(5, 7))

MODELS = {
    "image mlp": (Objective(image.mlp(3, (8,)), SoftmaxCrossEntropy()), (IMAGES, CLASSES)),
    "image convnet": (Objective(image.convnet(3, (4, 6), 8), SoftmaxCrossEntropy()), (IMAGES, CLASSES)),
    "image resnet": (Objective(image.resnet(3, (4, 6)), SoftmaxCrossEntropy()), (IMAGES, CLASSES)),
    "signal convnet": (Objective(image.convnet_1d(3), SoftmaxCrossEntropy()), (SIGNALS, CLASSES)),
    "signal gru": (Objective(image.gru_1d(3, (4,), 4), SoftmaxCrossEntropy()), (SIGNALS, CLASSES)),
    "text cnn": (Objective(text.cnn(9, 3, 8, 4), SoftmaxCrossEntropy()), (WORDS, CLASSES)),
    "text gru": (Objective(text.gru(9, 3, 8), SoftmaxCrossEntropy()), (WORDS, CLASSES)),
    "text transformer": (Objective(text.transformer(9, 3, 8, 2, 2), SoftmaxCrossEntropy()), (WORDS, CLASSES)),
    "language transformer": (
        language.language_objective(language.transformer(9, 8, 2, 2), 9),
        (TOKENS, Targets(TOKENS[:, ::-1])),
    ),
    "language lstm": (language.language_objective(language.lstm(9, 8, 2), 9), (TOKENS, Targets(TOKENS[:, ::-1]))),
    "translation transformer": (
        translation.translation_objective(translation.transformer(9, 8, 2, 2), 9, 0.1),
        ((TOKENS, TOKENS[:, :5]), Targets(TOKENS[:, 1:])),
    ),
    "translation gru": (
        translation.translation_objective(translation.attention_gru(9, 8, 2), 9, 0.1),
        ((TOKENS, TOKENS[:, :5]), Targets(TOKENS[:, 1:])),
    ),
    "speech recurrent": (
        Objective(MaskedByLength(acoustic.convolutional_recurrent(4, 6, 4)), CTC()),
        (FRAMES, SPOKEN),
    ),
    "speech conformer": (Objective(MaskedByLength(acoustic.conformer(4, 8, 2, 2, 3)), CTC()), (FRAMES, SPOKEN)),
    "recommender factorization": (Objective(recommenders.biased(5, 7, 3), MeanSquaredError()), (PAIRS, RATINGS)),
    "recommender neural": (
        Objective(recommenders.neural(5, 7, 3, 4), MeanSquaredError()),
        (PAIRS, Targets(shares(4, 1))),
    ),
    "recommender implicit": (
        Objective(recommenders.implicit(5, 7, 3), MeanSquaredError()),
        ((ids(5, 5), shares(5, 7) < 0.5), TABLE[1]),
    ),
    "recommender autoencoder": (Objective(recommenders.autoencoder(5, 7, 3), MeanSquaredError()), TABLE),
    "anomalies dense": (
        Objective(autoencoder.dense((16, 2), (8,), 2), MeanSquaredError()),
        (SIGNALS, Targets(SIGNALS)),
    ),
    "anomalies convolutional": (
        Objective(autoencoder.convolutional((8, 8, 2), (3, 4), 4), MeanSquaredError()),
        (IMAGES, Targets(IMAGES)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_attached_gradient_of_every_model(name):
    objective, batch = MODELS[name]
    batch = jax.tree.map(jnp.asarray, batch)
    params = jax.tree.map(jnp.asarray, draw_params(objective, batch))
    context = Context(train=True, key=jax.random.key(0))
    (value, _), manual = jax.jit(value_and_grad(objective))(params, batch, context)
    (other, _), attached = jax.jit(value_and_grad(objective, "attached"))(params, batch, context)
    np.testing.assert_allclose(value, other, rtol=1e-12)
    # A bias before BatchNorm and that of an attention's keys have no gradient: what they have is rounding.
    rounding = 1e-12 * max(float(abs(d).max()) for d in jax.tree.leaves(manual) if d.size)
    for (path, d), e in zip(jax.tree_util.tree_leaves_with_path(manual), relative_errors(attached, manual).values()):
        assert e < 1e-10 or abs(d).max() < rounding, (jax.tree_util.keystr(path), e)
