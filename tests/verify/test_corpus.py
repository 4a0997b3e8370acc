"""The judge judged, on the corpus: wrong rules are caught, explained and located, and right ones are not accused.

``scripts/score_verifier.py`` does the same at other sizes and seeds, beside other checkers.
"""

import warnings

import jax
import pytest
from corpus.planted import PLANTED
from corpus.right import ILL_CONDITIONED, RIGHT
from corpus.wrong import RIGHT as FAMILIES
from corpus.wrong import STRUCTURE, WRONG

from pipeline.verify import check_custom_vjp, check_gradient, check_vjp, verify

EVERY = {"wrong": 48, "right": 32, "family": 32, "planted": 31}
"""One of so many is judged here: all of the corpus takes hours."""

ACCUSED_ONCE = ("filter of three taps, two apart", "softplus of a slope, from a maximum")
JUDGED_RIGHT = (*RIGHT[:: EVERY["right"]], *ILL_CONDITIONED, *(r for r in RIGHT if r.name in ACCUSED_ONCE))


@pytest.fixture(autouse=True)
def usual_promotion():
    """Rules by others are not written for our layers' strict promotion, and wrong ones may divide by zero."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def report_on(rule, **options):
    if hasattr(rule, "manual_gradient"):
        return check_gradient(rule.manual_gradient, rule.loss, rule.params, *rule.data, **options)
    if hasattr(rule, "reference"):
        return check_custom_vjp(rule.function, rule.reference, rule.arguments, **options)
    return check_vjp(rule.function, rule.forward, rule.backward, rule.arguments, edges=rule.edges, **options)


@pytest.mark.parametrize("wrong", dict.fromkeys((*WRONG[:: EVERY["wrong"]], *STRUCTURE)), ids=lambda wrong: wrong.name)
def test_a_wrong_rule_is_caught_and_explained(wrong):
    report = report_on(wrong.make(5, 0))
    assert report.verdict in ("fail", "oracles disagree"), f"{wrong.mistake} was missed"
    at_leaf = [diagnosis for diagnosis in report.diagnoses if diagnosis.leaf == wrong.leaf]
    assert at_leaf, f"{wrong.leaf or 'the rule'} is not accused: {report.explanation()}"
    # To say that nothing known explains it is honest; to explain it by something else is not. The score counts both.
    honest = set() if wrong in STRUCTURE else {"unknown"}
    assert {diagnosis.kind for diagnosis in at_leaf} & {*wrong.kinds, *honest}, report.explanation()
    assert all(any(word in diagnosis.text.lower() for diagnosis in at_leaf) for word in wrong.says), (
        report.explanation()
    )
    others = {d.leaf for d in report.diagnoses if d.kind != "structure"} - {wrong.leaf, *wrong.also}
    assert not others, f"another leaf is accused: {report.explanation()}"


@pytest.mark.parametrize("right", dict.fromkeys(JUDGED_RIGHT), ids=lambda right: right.name)
def test_a_right_rule_is_not_accused(right):
    report_on(right.make(0)).raise_if_failed()


@pytest.mark.parametrize("name, make", FAMILIES[:: EVERY["family"]])
def test_a_family_without_a_mistake_is_not_accused(name, make):
    report_on(make(6, 0)).raise_if_failed()


@pytest.mark.parametrize("planted", PLANTED[:: EVERY["planted"]], ids=lambda planted: planted.name)
def test_the_planted_layer_is_named(planted):
    layer, params, x, context = planted.make(0)
    report = verify(layer, params, x, context, checks=(), precisions=())
    assert {place.path for place in report.places} == set(planted.places), report.explanation()


def test_the_corpus_is_large_enough():
    assert len(WRONG) >= 120 and len(RIGHT) + len(FAMILIES) >= 120 and len(PLANTED) >= 15
    assert len({wrong.name for wrong in WRONG}) == len(WRONG)
