"""Sentences of which human ratings say whether they are positive: adjectives of VADER's lexicon, composed by a grammar.

A sentiment task that is on every machine: negation turns a rating round, adverbs strengthen or weaken it, and of two
clauses with "but" between them the second counts more.
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
"""By whether they deny what follows."""
ADVERBS = {"": 0.0} | {
    adverb: BOOSTER_DICT[adverb]
    for adverb in (
        *("very", "really", "extremely", "remarkably", "absolutely", "quite"),
        *("somewhat", "slightly", "kind of"),
    )
}
"""What they add to the size of a rating, or take from it."""
BEFORE_BUT, AFTER_BUT = 0.5, 1.5  # as VADER weighs them, in a method and not by name
LEAST = 0.6  # a sentence's valence: what is nearer to 0 says neither
NO_ADJECTIVES = (
    *("anger", "bastard", "bitchy", "cheer", "coward", "cynic", "friend", "giggle", "heaven", "killing", "love"),
    *("lover", "miser", "mourning", "sluttish"),
)
"""Words that have an adverb of theirs in the lexicon, and are none, or are no words for a default."""
NO_ADVERB = ("amazing", "awesome", "boring", "fantastic", "good", "great", "pleased")
"""Adjectives whose adverb is not there."""

Combination = tuple[str, str, bool]
"""An adjective, the adverb before it, and whether it is denied."""


class Sentence(NamedTuple):
    text: str
    valence: float


def adjectives() -> dict[str, float]:
    """Words with the mean of ten people's ratings, from -4 to 4: those that are clear, and have an adverb."""
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
    for ending, its in (("y", "ily"), ("le", "ly"), ("ic", "ically")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + its


def valence(adjective: float, adverb: str, denied: bool) -> float:
    """Of a clause, by VADER's constants (Hutto & Gilbert 2014): an adverb adds to the rating's size, "not" turns it."""
    sized = adjective + (ADVERBS[adverb] if adjective > 0 else -ADVERBS[adverb])
    return N_SCALAR * sized if denied else sized


def sentences(sizes: dict[str, int], seed: int) -> dict[str, list[Sentence]]:
    """So many different sentences for each part, half of them positive.

    A combination of adjective, adverb and negation occurs in one part only, an eighth of them in every part but the
    first: the first has every word, but the others have none of its clauses.
    """
    drawn = random.Random(seed)
    ratings = adjectives()
    combinations = list(product(ratings, ADVERBS, VERBS))
    drawn.shuffle(combinations)
    held = len(combinations) // 8
    first, *others = sizes
    found = {}
    for i, part in enumerate(others):
        found[part] = _distinct(combinations[i * held : (i + 1) * held], ratings, sizes[part], drawn)
    found[first] = _distinct(combinations[len(others) * held :], ratings, sizes[first], drawn)
    return found


def _distinct(
    combinations: list[Combination], ratings: dict[str, float], count: int, drawn: random.Random
) -> list[Sentence]:
    found: dict[str, Sentence] = {}
    while len(found) < count:
        sentence = _sentence(combinations, ratings, drawn)
        wanted = len(found) % 2 == 0
        if abs(sentence.valence) >= LEAST and (sentence.valence > 0) == wanted:
            found.setdefault(sentence.text, sentence)
    return list(found.values())


def _sentence(combinations: list[Combination], ratings: dict[str, float], drawn: random.Random) -> Sentence:
    def clause() -> Sentence:
        adjective, adverb, denied = drawn.choice(combinations)
        words = ("the", drawn.choice(SUBJECTS), drawn.choice(VERBS[denied]), adverb, adjective)
        return Sentence(" ".join(word for word in words if word), valence(ratings[adjective], adverb, denied))

    one, other = clause(), clause()
    match drawn.choice(("alone", "and", "but")):
        case "alone":
            return one
        case "and":
            return Sentence(f"{one.text} and {other.text}", one.valence + other.valence)
        case _:
            text = f"{one.text} , but {other.text}"
            return Sentence(text, BEFORE_BUT * one.valence + AFTER_BUT * other.valence)
