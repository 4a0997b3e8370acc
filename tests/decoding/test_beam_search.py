"""Beam search against the enumeration of all translations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.decoding.beam_search import make_beam_search
from pipeline.layers.base import Context
from pipeline.losses.base import Targets
from pipeline.models.translation import attention_gru, transformer, translation_objective

BEGIN, END, VOCABULARY = 1, 2, 5
MODELS = {
    "transformer": transformer(VOCABULARY, 8, 2, 2, dropout=0.3),
    "gru": attention_gru(VOCABULARY, 8, 2, dropout=0.3),
}
SOURCE = np.array([[3, 4, 2, 0], [4, 4, 3, 2], [2, 0, 0, 0]], np.int32)


@pytest.fixture(params=MODELS, scope="module")
def trained(request):
    """An objective, and parameters large enough that what comes next depends on what came before."""
    objective = translation_objective(MODELS[request.param], VOCABULARY)
    ids = jax.ShapeDtypeStruct(SOURCE.shape, jnp.int32)
    params = objective.init(jax.random.key(0), ((ids, ids), Targets(ids)))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return objective, jax.tree.map(lambda leaf: leaf + 0.5 * jax.random.normal(next(keys), leaf.shape), params)


def log_p(objective, params, source, targets):
    """The log-probabilities (translations,) of translations of one source, from one pass of the whole model."""
    params, longest = objective.expand(params), max(map(len, targets))
    inputs, labels = (np.zeros((len(targets), longest), np.int32) for _ in range(2))
    for i, target in enumerate(targets):
        inputs[i, : len(target)], labels[i, : len(target)] = [BEGIN, *target[:-1]], target
    x = jnp.tile(jnp.asarray(source), (len(targets), 1)), jnp.asarray(inputs)
    h = jax.jit(objective.model.apply)(params["model"], x, Context())
    logs = np.asarray(jax.nn.log_softmax(objective.loss.logits(params["loss"], h)))
    return np.where(labels == 0, 0, np.take_along_axis(logs, labels[:, :, None], 2)[:, :, 0]).sum(1)


def every_translation(length):
    """Those that end within ``length`` tokens; 0 is padding, and no token."""
    for count in range(length):
        yield from ((*tokens, END) for tokens in itertools.product((1, 3, 4), repeat=count))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_translations(trained, penalty):
    objective, params = trained
    every = list(every_translation(3))
    ids, scores = make_beam_search(objective, BEGIN, END, beam=36, length_penalty=penalty)(params, SOURCE, 3)
    for source, beams, beam_scores in zip(SOURCE, ids, scores):
        expected = log_p(objective, params, source, every) / [((5 + len(tokens)) / 6) ** penalty for tokens in every]
        order = np.argsort(-expected)[:5]
        assert [tuple(row[row != 0]) for row in beams[:5]] == [every[i] for i in order]
        np.testing.assert_allclose(beam_scores[:5], expected[order], rtol=1e-5)


def test_a_beam_of_one_is_greedy(trained):
    objective, params = trained
    ids, scores = make_beam_search(objective, BEGIN, END, beam=1, length_penalty=0.0)(params, SOURCE, 6)
    for source, row, score in zip(SOURCE, ids[:, 0], scores[:, 0]):
        tokens = row[row != 0]
        prefixes = [(*tokens[:count], token) for count in range(len(tokens)) for token in range(1, VOCABULARY)]
        at_each = log_p(objective, params, source, prefixes).reshape(len(tokens), -1)
        assert (at_each.argmax(1) + 1).tolist() == tokens.tolist()
        assert score == (pytest.approx(at_each[-1].max(), rel=1e-5) if tokens[-1] == END else -np.inf)


def test_padding_of_the_source_changes_nothing(trained):
    objective, params = trained
    translation = make_beam_search(objective, BEGIN, END, beam=3)
    alone = translation(params, SOURCE[2:, :1], 4)
    within = translation(params, SOURCE, 4)
    np.testing.assert_array_equal(alone[0][0], within[0][2])
    np.testing.assert_allclose(alone[1][0], within[1][2], rtol=1e-6)
