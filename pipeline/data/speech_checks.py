"""Checks of recordings before training: which of them can be trained on, and notes on the others."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..display import visible
from ..errors import UserError
from .speech import Speech
from .utterances import Utterances
from .vocabulary import Characters


def trainable(utterances: Utterances, name: str, rate: int, longest: float) -> tuple[Utterances, list[str]]:
    """The utterances that can be trained on, and notes on others: too long, too short for their texts, or silent.

    name: of the data, for messages; rate: samples per second; longest: in seconds. Raises UserError if none is left.
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
    return dataclasses.replace(utterances, recordings=utterances.recordings.of(rows.tolist())), notes


def unknown_characters(alphabet: Characters, speech: Speech) -> Sequence[str]:
    """Notes on characters in validation and test texts that no training text has: the model never writes them."""
    notes = []
    for part in ("validation", "test"):
        texts = getattr(speech, part).texts
        unknown = alphabet.unknown("".join(texts))
        if unknown:
            count = sum(bool(set(text) & set(unknown)) for text in texts)
            notes.append(
                f"{count} {part} texts have characters that no training text has, and that count as mistakes: "
                f"{visible(' '.join(map(repr, unknown)))}"
            )
    return notes
