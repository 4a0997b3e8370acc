"""The lexicon and the language model of a speech data set, and which of its texts they cover."""

import os
from dataclasses import replace
from pathlib import Path

from ..display import quoted, visible
from ..errors import UserError
from .arpa import read_arpa
from .lexicon import Lexicon, read_lexicon
from .manifests import Units
from .speech import Speech

TRAINING = "training"
"""The value of --lexicon that stands for the words of the training texts."""


def with_lexicon(speech: Speech, lexicon: str, language_model: str, units: Units, encoding: str = "") -> Speech:
    """A data set with the lexicon and the language model that the options name, and notes on what they do not cover.

    Where the lexicon gives the units, training utterances with words that it does not have are left out.
    Raises UserError for files that cannot be read, and for options that do not go together.
    """
    if not lexicon:
        if units == "lexicon":
            raise UserError("--units is lexicon, and there is none; name it with --lexicon, or choose other units")
        return speech
    if units == "tokens":
        raise UserError(
            "--lexicon spells words, and with --units tokens the texts have none: give texts of words and choose "
            "--units lexicon"
        )
    notes: list[str] = []
    if lexicon == TRAINING:
        words = Lexicon.of_words(word for text in speech.texts for word in text.split())
    else:
        words = read_lexicon(_existing("lexicon", lexicon), encoding, notes)
    if units == "lexicon":
        speech = _covered(speech, words, lexicon, notes)
    model = read_arpa(_existing("language-model", language_model), encoding) if language_model else None
    if model is not None:
        without = [word for word in words.spellings if (word,) not in model.log_p]
        if without:
            notes.append(
                f"{len(without):,} of {len(words):,} words of the lexicon are not in the language model (the first: "
                f"{visible(without[0])})"
            )
    return replace(speech, lexicon=words, language_model=model, notes=(*speech.notes, *notes))


def _existing(option: str, path: str) -> Path:
    if not os.path.isfile(path):
        raise UserError(f"--{option} is {quoted(path)}, which is not a file; give the path of one")
    return Path(path)


def _covered(speech: Speech, lexicon: Lexicon, name: str, notes: list[str]) -> Speech:
    """The data set without training utterances that have other words than the lexicon's."""
    rows = [row for row, text in enumerate(speech.train.texts) if not lexicon.unknown(text)]
    count = len(speech.train) - len(rows)
    if count:
        first = next(word for text in speech.train.texts for word in lexicon.unknown(text))
        message = f"they have words that the lexicon does not have (the first: {visible(first)})"
        if not rows:
            raise UserError(f"--lexicon {visible(name)}: no training utterance can be used: {message}")
        notes.append(f"{count} training utterances left out: {message}")
    texts = [text for text in speech.texts if not lexicon.unknown(text)]
    return replace(speech, train=speech.train.of(rows), texts=texts)
