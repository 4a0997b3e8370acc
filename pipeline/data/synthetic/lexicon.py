"""Synthetic sentences with a sentiment: adjectives of VADER's lexicon, which people have rated, in a small grammar.

Negation reverses a rating, adverbs strengthen or weaken it, and in "... but ..." the second clause counts more.
"""

import random
from collections.abc import Iterable
from importlib.resources import files
from itertools import product
from typing import NamedTuple

from ...extras import extra

with extra("text"):
    from vaderSentiment.vaderSentiment import BOOSTER_DICT, N_SCALAR

SUBJECTS = (
    *("film", "movie", "story", "plot", "ending", "acting", "cast", "dialogue", "music", "soundtrack", "book", "poem"),
    *("meal", "soup", "service", "hotel", "room", "view", "staff", "waiter", "journey", "weather", "city", "garden"),
    *("lecture", "teacher", "author", "speech", "answer", "software", "manual", "game", "concert", "band", "painting"),
)
VERBS = {False: ("is", "was", "seems", "looked"), True: ("is not", "isn't", "was never", "wasn't", "never seemed")}
"""Verbs by whether they negate the adjective."""
ADVERBS = {"": 0.0} | {
    adverb: BOOSTER_DICT[adverb]
    for adverb in (
        *("very", "really", "extremely", "remarkably", "absolutely", "quite"),
        *("somewhat", "slightly", "kind of"),
    )
}
"""What each adverb adds to the size of a rating."""
BEFORE_BUT, AFTER_BUT = 0.5, 1.5  # VADER's weights, which it has no names for
LEAST = 0.6  # smallest size of a sentence's valence: below it the sentence is neutral
NO_ADJECTIVES = (
    *("anger", "bastard", "bitchy", "cheer", "coward", "cynic", "friend", "giggle", "heaven", "killing", "love"),
    *("lover", "miser", "mourning", "sluttish"),
)
"""Words that look like adjectives by the rule in ``adjectives`` but are none, or that are unsuitable for a default."""
NO_ADVERB = ("amazing", "awesome", "boring", "fantastic", "good", "great", "pleased")
"""Adjectives whose adverb is not in the lexicon."""

Combination = tuple[str, str, bool]
"""An adjective, the adverb before it (or ""), and whether it is negated."""


class Sentence(NamedTuple):
    """A sentence and its valence: positive or negative, as its sentiment is."""

    text: str
    valence: float


def adjectives() -> dict[str, float]:
    """Adjectives with the mean of ten people's ratings, from -4 to 4, where the raters agree on the sign.

    A word of the lexicon is taken for an adjective if its adverb is in the lexicon too.
    """
    content = files("vaderSentiment").joinpath("vader_lexicon.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in content.splitlines() if line.strip()]
    ratings = {word: (float(mean), float(deviation)) for word, mean, deviation, _ in rows}
    return {
        word: mean
        for word, (mean, deviation) in ratings.items()
        if word in NO_ADVERB or any(adverb in ratings for adverb in _adverbs(word))
        if word.isalpha() and word not in NO_ADJECTIVES and abs(mean) > max(deviation, 1.0)
    }


def _adverbs(word: str) -> Iterable[str]:
    yield word + "ly"
    for ending, adverb_ending in (("y", "ily"), ("le", "ly"), ("ic", "ically")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + adverb_ending


def valence(adjective: float, adverb: str, negated: bool) -> float:
    """The valence of a clause by VADER's constants (Hutto & Gilbert 2014).

    adjective: its rating. The adverb adds to the size of the rating; negation multiplies it by -0.74.
    """
    sized = adjective + (ADVERBS[adverb] if adjective > 0 else -ADVERBS[adverb])
    return N_SCALAR * sized if negated else sized


def sentences(sizes: dict[str, int], seed: int) -> dict[str, list[Sentence]]:
    """Different sentences for each part, half of them positive.

    sizes: number of sentences of each part. A combination of adjective, adverb and negation occurs in one part only: an
    eighth of all combinations in every part but the first, which gets the rest. So no part shares a clause with
    another.
    """
    rng = random.Random(seed)
    ratings = adjectives()
    combinations = list(product(ratings, ADVERBS, VERBS))
    rng.shuffle(combinations)
    eighth = len(combinations) // 8
    first, *others = sizes
    parts = {}
    for i, part in enumerate(others):
        parts[part] = _distinct(combinations[i * eighth : (i + 1) * eighth], ratings, sizes[part], rng)
    parts[first] = _distinct(combinations[len(others) * eighth :], ratings, sizes[first], rng)
    return parts


def _distinct(
    combinations: list[Combination], ratings: dict[str, float], count: int, rng: random.Random
) -> list[Sentence]:
    """Different sentences, in turn positive and negative."""
    sentences: dict[str, Sentence] = {}
    while len(sentences) < count:
        sentence = _sentence(combinations, ratings, rng)
        is_positive = len(sentences) % 2 == 0
        if abs(sentence.valence) >= LEAST and (sentence.valence > 0) == is_positive:
            sentences.setdefault(sentence.text, sentence)
    return list(sentences.values())


def _sentence(combinations: list[Combination], ratings: dict[str, float], rng: random.Random) -> Sentence:
    def clause() -> Sentence:
        adjective, adverb, negated = rng.choice(combinations)
        words = ("the", rng.choice(SUBJECTS), rng.choice(VERBS[negated]), adverb, adjective)
        return Sentence(" ".join(word for word in words if word), valence(ratings[adjective], adverb, negated))

    one, other = clause(), clause()
    match rng.choice(("alone", "and", "but")):
        case "alone":
            return one
        case "and":
            return Sentence(f"{one.text} and {other.text}", one.valence + other.valence)
        case _:
            text = f"{one.text} , but {other.text}"
            return Sentence(text, BEFORE_BUT * one.valence + AFTER_BUT * other.valence)
