"""Synthetic sentences with a sentiment: the words of VADER's lexicon, which people have rated, in a small grammar.

The grammar has frames for adjectives, adverbs, nouns and the forms of verbs, and others in which any word may stand.
Negation reverses a rating, adverbs strengthen or weaken it, and in "... but ..." the second clause counts more. Words
without a rating stand around the clauses, as most words of most sentences do.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from ...extras import extra

with extra("text"):
    from vaderSentiment.vaderSentiment import BOOSTER_DICT, N_SCALAR

THINGS = (
    *("film", "movie", "story", "plot", "acting", "cast", "dialogue", "music", "soundtrack", "book", "poem", "comic"),
    *("meal", "soup", "service", "hotel", "room", "view", "journey", "weather", "city", "garden", "kitchen", "beach"),
    *("lecture", "speech", "answer", "software", "manual", "game", "concert", "painting", "scene", "chapter", "song"),
    *("phone", "camera", "car", "train", "flight", "bed", "coffee", "bread", "dress", "shirt", "box", "screen"),
    *("letter", "meeting", "project", "lesson", "school", "museum", "street", "house", "bathroom", "show", "series"),
    *("price", "colour", "sound", "shape", "design", "app", "website", "voice", "evening", "morning", "week", "trip"),
)
PEOPLE = (
    *("teacher", "author", "waiter", "band", "staff", "driver", "doctor", "director", "actor", "singer", "neighbour"),
    *("manager", "guide", "cook", "writer", "team", "crowd", "nurse", "seller", "lawyer", "painter", "audience"),
)
AROUND = (
    *("in the evening", "on the second day", "at the station", "for two hours", "after the break", "last summer"),
    *("on tuesday", "this year", "again", "at first", "in the middle", "to me", "for us", "as usual", "by the way"),
    *("from the first page", "until the last day", "when we came in", "while i was there", "before we went home"),
    *("with my sister", "with all of them", "for my mother", "next to the door", "in our street", "over the phone"),
    *("so far", "at night", "every time", "all day", "the whole time", "for the most part", "in the first place"),
    *("since april", "during the flight", "between the two parts", "under the table", "near the river", "at work"),
    *("for a child", "about this one", "of course", "here", "there", "today", "yesterday", "this time", "then", "now"),
    *("on the way back", "through and through", "more than once", "from one moment to the next", "at the very top"),
)
"""Words without a rating, before or after a clause."""
COMMON = (
    *("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state"),
    *("family", "student", "group", "country", "part", "place", "case", "week", "company", "system"),
    *("program", "question", "work", "number", "night", "point", "home", "water", "room", "mother", "area", "money"),
    *("story", "fact", "month", "lot", "study", "book", "eye", "job", "word", "business", "side", "head"),
    *("house", "father", "hour", "line", "end", "member", "law", "car", "city", "community", "name", "president"),
    *("minute", "idea", "kid", "body", "information", "back", "parent", "face", "others", "level", "office", "door"),
    *("person", "art", "history", "result", "change", "morning", "reason", "research", "girl", "guy", "moment", "air"),
    *("teacher", "education", "foot", "boy", "age", "process", "figure", "body", "food", "table", "window", "paper"),
)
"""The most common nouns of English that have no rating."""
PASSING = (
    *("from {common} to {common}", "in every {common}", "near {a} {common}", "for many {common}s", "of {common}"),
    *("with {common} and {common}", "at the {common} of the {common}", "on my {common}", "after ten {common}s"),
    *(
        "between {common} and {common}",
        "and i have seen the {common}",
        "before the {common} came",
        "about their {common}",
    ),
    *(
        "by the {common}",
        "as you could see",
        "which had been on the {common}",
        "if you ask the {common}",
        "all over it",
    ),
    *(
        "because the {common} said so",
        "although he should know the {common}",
        "when she gets the {common}",
        "to be made",
    ),
    *("while they put it into the {common}", "who goes there", "where we were", "what they want", "i have ever seen"),
)
"""More words without a rating, with places for the most common nouns."""
OPENINGS = (
    *(
        "i think",
        "i must say",
        "in my opinion ,",
        "to be short ,",
        "as far as i know ,",
        "oh ,",
        "you know ,",
    ),
    *("my brother says", "they told me that", "it turned out that", "after that ,", "once more ,", "i would say that"),
)
IS = {
    False: ("is", "is", "was", "was", "seems", "looked", "are", "were", "has been", "could have been", "will be"),
    True: ("is not", "isn't", "was never", "wasn't", "are not", "could not be", "won't be", "has never been"),
}
"""Verbs by whether they negate what follows."""
ADVERBS = {"": 0.0} | {
    adverb: BOOSTER_DICT[adverb]
    for adverb in (
        *("very", "really", "extremely", "remarkably", "absolutely", "quite", "so", "totally", "completely"),
        *("somewhat", "slightly"),
    )
}
"""What each adverb adds to the size of a rating."""
FRAMES: Mapping[str, Mapping[bool, Sequence[str]]] = {
    "adjective": {
        False: (
            *(
                "{subject} {is} {word}",
                "{subject} {is} {word}",
                "{a} {word} {thing}",
                "{subject} is {a} {word} {thing}",
            ),
            *("i found {subject} {word}", "we had {a} {word} {thing}", "{word} {thing}", "{it} {is} {word}"),
            *("the {person} and the {person} were {word}", "such {a} {word} {thing}", "everything was {word}"),
        ),
        True: (
            *("{subject} {is} {word}", "{it} {is} {word}", "not {word}", "not {a} {word} {thing}", "i am not {word}"),
            *(
                "nothing was {word}",
                "nobody was {word}",
                "there is nothing {word} about {it}",
                "no one in the {common} was {word}",
                "we did not find {subject} {word}",
                "{subject} is not {a} {word} {thing}",
            ),
        ),
    },
    "adverb": {
        False: ("the {person} spoke {word}", "{it} went {word}", "they did it {word}", "{word} made", "{word} written"),
        True: ("the {person} did not speak {word}", "{it} did not go {word}", "not {word} made"),
    },
    "noun": {
        False: (
            *("{subject} {is} {a} {word}", "{a} {word}", "what {a} {word}", "nothing but {word}", "full of {word}"),
            *(
                "it brought us {word}",
                "there was {word} in {subject}",
                "{it} {is} {a} {word}",
                "{a} {word} of {a} {thing}",
            ),
            *("the {word} of {subject}", "we spoke of the {word}", "{word} , {around}"),
        ),
        True: ("there was no {word} in {subject}", "{subject} {is} {a} {word}", "without {word}", "not {a} {word}"),
    },
    "verb": {
        False: (
            *("i {word} {subject}", "they {word} us", "you will {word} {it}", "we {word} it when they come"),
            *("{it} made us {word}", "i would {word} {subject}", "people {word} the {person}"),
        ),
        True: (
            "i do not {word} {subject}",
            "we did not {word} {it}",
            "you will never {word} {it}",
            "they don't {word}",
        ),
    },
    "verb -s": {
        False: ("the {person} {word}", "{it} {word} me", "she {word} {subject}", "he {word} all of it"),
        True: ("the {person} never {word}", "{it} never {word} me"),
    },
    "verb -ed": {
        False: (
            *("i {word} {subject}", "we {word} {it}", "the {person} {word} us", "i was {word} by {subject}"),
            *("they {word} the {thing}", "she {word} it", "{subject} {word} the {thing}", "{it} has {word} my {thing}"),
        ),
        True: ("i never {word} {subject}", "i was not {word} by {subject}", "the {person} never {word} us"),
    },
    "verb -ing": {
        False: (
            *("{subject} {is} {word}", "the {person} kept {word}", "we are {word} {it}", "{word} {thing}"),
            *("{it} is {word}", "{word}"),
        ),
        True: ("{subject} {is} {word}", "nobody was {word}", "not {word}"),
    },
    "any": {
        False: (
            *("{word}", "in a word : {word}", "{word} , that is what it is", "just {word}", "{thing} : {word}"),
            *("i would call it {word}", "pure {word}", "{word} again", "one word : {word}", "{a} {word}", "the {word}"),
            *("{subject} {is} {word}", "{subject} {is} the {word}", "the {word} {thing}", "it was {a} {word}"),
        ),
        True: ("not {word}", "i would not call it {word}", "never {word}", "{subject} {is} {word}"),
    },
}
"""Frames for each kind of word, by whether they negate it."""
ENDINGS = {
    "noun": (
        *("ness", "ity", "ment", "ion", "ism", "ist", "ance", "ence", "ancy", "ency", "ship", "dom", "ure", "or"),
        *("nesses", "ities", "ments", "ions", "isms", "ists", "ances", "ences", "ships", "ures", "ors", "ers"),
    ),
    "adjective": ("ful", "ous", "ive", "able", "ible", "less", "ic", "al", "ish", "ant", "ent", "iest", "ier", "some"),
}
"""Endings that tell the kind of a word which is no form of a verb and has no adverb in the lexicon."""
BEFORE_BUT, AFTER_BUT = 0.5, 1.5  # VADER's weights, which it has no names for
LEAST = 0.6  # smallest size of a sentence's valence: below it the sentence is neutral
HELD_OUT = 0.06
"""Share of the words that only one of the parts after the first has."""
FAMILY, SISTERS = 5, 3
"""Words that share so many first letters are a family; so many of them must there be for one to be held out."""
UNSUITABLE = re.compile(
    r"fuc?k|shit|cunt|slut|whore|bitch|bastard|nigg|fagg?|dick|cock|piss|pervert|twat|douche|arse|ass$|asse|asshole"
    "|^rap(e|ing|ist)|molest|retard|killing"
)
"""Words that do not belong into a default."""


class Sentence(NamedTuple):
    """A sentence and its valence: positive or negative, as its sentiment is."""

    text: str
    valence: float


@cache
def _lexicon() -> dict[str, tuple[float, float]]:
    """The mean and the standard deviation of the ratings of every word, in lower case and of letters alone."""
    content = files("vaderSentiment").joinpath("vader_lexicon.txt").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in content.splitlines() if line.strip())
    return {word: (float(mean), float(deviation)) for word, mean, deviation, _ in rows if word.isalpha()}


def ratings() -> dict[str, float]:
    """Words with the mean of ten people's ratings, from -4 to 4, where the raters agree on the sign."""
    return {
        word: mean
        for word, (mean, deviation) in _lexicon().items()
        if abs(mean) > max(deviation, 1.0) and word != "no" and not UNSUITABLE.search(word)  # "no" negates
    }


@cache
def kinds_of(word: str) -> tuple[str, ...]:
    """The kinds of ``FRAMES`` that a word is taken for, by its ending and by the lexicon's other words.

    A verb is a word with a past, a third person and a present participle in the lexicon. It is taken for a noun too, as
    most are ("a laugh"), and its participles for adjectives. An adjective is a word whose adverb is in the lexicon.

    >>> kinds_of("laugh"), kinds_of("amused"), kinds_of("beautiful"), kinds_of("happiness"), kinds_of("loser")
    (('verb', 'noun'), ('verb -ed', 'adjective'), ('adjective',), ('noun',), ('any',))
    """
    words = _lexicon()
    kinds = ["verb", "noun"] if _is_verb(word) else []
    for kind, stems in _stems(word).items():
        if any(_is_verb(stem) for stem in stems):
            kinds += [kind, "noun" if kind == "verb -s" else "adjective"]
    if word.endswith("ly") and any(form in words for form in (word[:-2], word[:-3] + "y", word[:-1] + "e", word[:-4])):
        kinds.append("adverb")
    elif any(adverb in words for adverb in _adverbs(word)):
        kinds.append("adjective")
    return (
        tuple(dict.fromkeys(kinds))
        or tuple(kind for kind, ends in ENDINGS.items() if word.endswith(ends))[:1]
        or ("any",)
    )


def _adverbs(word: str) -> Iterator[str]:
    yield word + "ly"
    for ending, adverb_ending in (("y", "ily"), ("le", "ly"), ("ic", "ically")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + adverb_ending


@cache
def _is_verb(word: str) -> bool:
    """Whether the lexicon has the forms of a verb ``word``."""
    stem, words = word.removesuffix("e"), _lexicon()
    doubled = word + word[-1:]
    past = (f"{stem}ed", f"{doubled}ed", f"{word[:-1]}ied")
    present = (f"{word}s", f"{word}es", f"{word[:-1]}ies")
    participle = (f"{stem}ing", f"{doubled}ing")
    return word in words and all(any(form in words for form in forms) for forms in (past, present, participle))


def _stems(word: str) -> dict[str, tuple[str, ...]]:
    """What the verb may be, of which ``word`` is a form."""
    stems = {}
    if word.endswith("ed"):
        stems["verb -ed"] = (word[:-2], word[:-1], word[:-3], f"{word[:-3]}y")
    if word.endswith("ing"):
        stems["verb -ing"] = (word[:-3], f"{word[:-3]}e", word[:-4])
    if word.endswith("s"):
        stems["verb -s"] = (word[:-1], word[:-2], f"{word[:-3]}y")
    return stems


def valence(rating: float, adverb: str, negated: bool) -> float:
    """The valence of a clause by VADER's constants (Hutto & Gilbert 2014).

    rating: of its word. The adverb adds to the size of the rating; negation multiplies it by -0.74.
    """
    sized = rating + (ADVERBS[adverb] if rating > 0 else -ADVERBS[adverb])
    return N_SCALAR * sized if negated else sized


def sentences(sizes: dict[str, int], seed: int) -> dict[str, list[Sentence]]:
    """Different sentences for each part, half of them positive.

    sizes: number of sentences of each part. The rated words of each part occur in no other: those of every part but
    the first are ``HELD_OUT`` of all, from families of which the first has other words of the same sign.
    """
    rng = random.Random(seed)
    rated = ratings()
    candidates = _with_sisters(rated)
    rng.shuffle(candidates)
    first, *others = sizes
    count = round(HELD_OUT * len(rated))
    words = {part: candidates[i * count : (i + 1) * count] for i, part in enumerate(others)}
    held_out = {word for of_part in words.values() for word in of_part}
    words[first] = [word for word in rated if word not in held_out]
    return {part: _distinct(words[part], rated, sizes[part], rng) for part in (*others, first)}


def _with_sisters(rated: Mapping[str, float]) -> list[str]:
    """The words whose family has ``SISTERS`` words, all of one sign."""
    families = defaultdict(list)
    for word in rated:
        if len(word) >= FAMILY:
            families[word[:FAMILY]].append(word)
    return [
        word
        for family in families.values()
        if len(family) >= SISTERS and len({rated[word] > 0 for word in family}) == 1
        for word in family
    ]


def _distinct(words: Sequence[str], rated: Mapping[str, float], count: int, rng: random.Random) -> list[Sentence]:
    """Different sentences, in turn positive and negative."""
    sentences: dict[str, Sentence] = {}
    while len(sentences) < count:
        sentence = _sentence(words, rated, rng)
        is_positive = len(sentences) % 2 == 0
        if abs(sentence.valence) >= LEAST and (sentence.valence > 0) == is_positive:
            sentences.setdefault(sentence.text, sentence)
    return list(sentences.values())


def _sentence(words: Sequence[str], rated: Mapping[str, float], rng: random.Random) -> Sentence:
    one, other = (_clause(words, rated, rng) for _ in range(2))
    match rng.choice(("alone", "alone", "and", "but")):
        case "alone":
            text, size = one.text, one.valence
        case "and":
            text, size = f"{one.text} and {other.text}", one.valence + other.valence
        case _:
            text = f"{one.text} , but {other.text}"
            size = BEFORE_BUT * one.valence + AFTER_BUT * other.valence
    opening, end = rng.choice(OPENINGS) if rng.random() < 0.2 else "", rng.choice(("", ".", ".", "!"))
    return Sentence(" ".join(f"{opening} {text} {end}".split()), size)


def _clause(words: Sequence[str], rated: Mapping[str, float], rng: random.Random) -> Sentence:
    word, negated = rng.choice(words), rng.random() < 0.25
    kind = rng.choice(kinds_of(word))
    adverb = rng.choice(list(ADVERBS)) if kind == "adjective" and rng.random() < 0.6 else ""
    frame = rng.choice(FRAMES[kind][negated])
    if rng.random() < 0.5:
        around = rng.choice((rng.choice(AROUND), rng.choice(PASSING)))
        frame = f"{frame} {around}" if rng.random() < 0.7 else f"{around} {frame}"
    text = re.sub(r"\{(\w+)\}", _filler(f"{adverb} {word}".strip(), negated, rng), frame)
    text = re.sub(r"\barticle (\w+)", _with_article, text)
    return Sentence(text, valence(rated[word], adverb, negated))


def _with_article(match: re.Match[str]) -> str:
    """The word with "a" or "an" before it, or alone if it is a plural by its ending."""
    word = match[1]
    return word if re.search("[^s]s$", word) else f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _filler(word: str, negated: bool, rng: random.Random) -> Callable[[re.Match[str]], str]:
    """What fills a slot of a frame."""
    choices = {
        "word": (word,),
        "a": ("article",),
        "is": IS[negated],
        "it": ("it", "this", "that"),
        "thing": THINGS,
        "person": PEOPLE,
        "around": AROUND,
        "common": COMMON,
        "subject": [
            f"{which} {noun}" for which in ("the", "the", "my", "this") for noun in (*THINGS, *PEOPLE, *COMMON)
        ],
    }
    return lambda match: rng.choice(choices[match[1]])
