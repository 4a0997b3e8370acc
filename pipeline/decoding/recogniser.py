"""A trained recogniser from recordings to text: features, frame log-probabilities, and the search for a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np

from ..data.audio import Spectrum
from ..data.speech import Recordings
from ..data.utterances import Utterances
from ..data.vocabulary import Characters
from ..layers.masking import MaskedByLength
from ..layers.objective import Objective
from ..models.acoustic import frames_after
from .ctc import Labels, Reading, align
from .transcription import Reader, SpokenWord, make_reader, spoken_words


@dataclass(frozen=True, eq=False)
class Recogniser:
    """An acoustic model, its alphabet, and how recordings become frames and frames become text.

    texts: of the training recordings, for the n-gram model. normalise: "bands" or "level". step: seconds between two
    output frames. beam, ngram, ngram_weight: see ``make_reader``.
    """

    objective: Objective
    alphabet: Characters
    texts: Sequence[str]
    spectrum: Spectrum
    normalise: Literal["bands", "level"]
    step: float
    beam: int = 1
    ngram: int = 0
    ngram_weight: float = 0.5

    def utterances(self, recordings: Recordings) -> Utterances:
        """The recordings as the model sees them."""
        model = self.objective.model
        assert isinstance(model, MaskedByLength)
        return Utterances(recordings, self.alphabet, self.spectrum, partial(frames_after, model.layer), self.normalise)

    @cached_property
    def read(self) -> Reader:
        """A function from an utterance's log-probabilities (frames, symbols) to its labels."""
        encoded = [self.alphabet.encode(text).tolist() for text in self.texts] if self.ngram else []
        return make_reader(self.beam, self.ngram, self.ngram_weight, encoded, len(self.alphabet))

    @property
    def search(self) -> str:
        """How a text is searched for, in words."""
        if self.beam == 1:
            return "the likeliest alignment"
        ngram = f" and a character {self.ngram}-gram model" if self.ngram else ""
        return f"prefix beam search with {self.beam} texts{ngram}"

    def text(self, labels: Labels) -> str:
        """The labels as text, with single spaces."""
        return " ".join(self.alphabet.decode(np.asarray(labels, int)).split())

    def words(self, log_y: np.ndarray) -> list[SpokenWord]:
        """The words of an utterance, with their times."""
        return spoken_words(log_y, self.read(log_y), self.alphabet.decode, self.step)

    def alignment(self, log_y: np.ndarray) -> tuple[Labels, Reading | None]:
        """The labels of an utterance, and their best alignment."""
        labels = self.read(log_y)
        return labels, align(log_y, labels)
