"""Checks of recordings before training: which of them can be trained on, and notes on the others."""

import numpy as np

from ..display import visible
from ..errors import UserError
from .lexicon import Lexicon, Pronunciations, spelled_words
from .speech import Speech
from .utterances import FeatureUtterances, Utterances
from .vocabulary import Characters, Tokens


def trainable(
    utterances: Utterances | FeatureUtterances, name: str, rate: int | float, longest: float
) -> tuple[Utterances | FeatureUtterances, list[str]]:
    """The utterances that can be trained on, and notes on others: too long, too short for their texts, or silent.

    name: of the data, for messages; rate: samples or frames per second; longest: in seconds. Raises UserError if none
    is left.
    """
    notes, signals = [], utterances.recordings.signals
    fits = np.asarray([len(signal) <= longest * rate for signal in signals])
    sounds = np.asarray([np.ptp(signal) > 0 for signal in signals])
    reasons = (
        (~fits, f"they are longer than --longest {longest:g} seconds"),
        (~utterances.feasible, "they are too short for their texts: every character needs a step of the model"),
        (~sounds, "they are silent"),
    )
    for wrong, reason in reasons:
        if wrong.any():
            first = visible(utterances.recordings.names[int(wrong.argmax())])
            notes.append(f"{wrong.sum()} training recordings left out: {reason} (the first: {first})")
    rows = np.flatnonzero(fits & utterances.feasible & sounds)
    if not len(rows):
        raise UserError(f"no recording of {name} can be trained on:\n  " + "\n  ".join(notes))
    return utterances.of(rows.tolist()), notes


def unknown_units(alphabet: Characters | Tokens | Pronunciations, speech: Speech) -> list[str]:
    """Notes on what validation and test texts have and a recogniser never writes, and on words that it cannot spell.

    Raises UserError if it can spell none of a lexicon's words.
    """
    kind = "characters" if isinstance(alphabet, Characters) else "tokens"
    notes = []
    if not isinstance(alphabet, Pronunciations):
        notes += _unknown(speech, alphabet, f"{kind} that no training text has")
    if speech.lexicon is not None:
        notes += _unspelled(speech.lexicon, alphabet)
        notes += _unknown(speech, speech.lexicon, "words that the lexicon does not have")
    return notes


def _unspelled(lexicon: Lexicon, alphabet: Characters | Tokens | Pronunciations) -> list[str]:
    spelled = {word for word, _ in spelled_words(lexicon, alphabet)}
    without = [word for place, word in enumerate(lexicon.spellings, 1) if place not in spelled]
    if not without:
        return []
    what = "characters" if isinstance(alphabet, Characters) else "units"
    first = f"{visible(without[0])}, {visible(' '.join(lexicon.spellings[without[0]][0]))}"
    if not spelled:
        raise UserError(
            f"no word of the lexicon can be written in the {what} of the training texts (the first: {first}); give a "
            "lexicon of such, or choose --units lexicon if it has phones"
        )
    return [
        f"{len(without):,} of {len(lexicon):,} words of the lexicon are never written: they have {what} that no "
        f"training text has (the first: {first})"
    ]


def _unknown(speech: Speech, known: Characters | Tokens | Lexicon, what: str) -> list[str]:
    notes = []
    for part in ("validation", "test"):
        texts = getattr(speech, part).texts
        unknown = [known.unknown(text) for text in texts]
        count = sum(map(bool, unknown))
        if count:
            each = dict.fromkeys(unit for units in unknown for unit in units)
            notes.append(
                f"{count} {part} texts have {what}, and that count as mistakes: {visible(' '.join(map(repr, each)))}"
            )
    return notes
