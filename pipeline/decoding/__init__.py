"""Decoding: from the outputs of a trained model to text.

>>> import numpy as np
>>> from backhand.decoding import best_path
>>> best_path(np.log([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])).labels
(1, 1)
"""

from .beam_search import make_beam_search
from .ctc import Reading, align, best_path, prefix_beam_search
from .lexicon_search import LexiconSearch, WordReading
from .ngram import BackoffNGram, NGram
from .sampling import make_continuation
from .transcription import Transcript, make_reader, split_words, spoken_words

__all__ = [
    "BackoffNGram",
    "LexiconSearch",
    "NGram",
    "Reading",
    "Transcript",
    "WordReading",
    "align",
    "best_path",
    "make_beam_search",
    "make_continuation",
    "make_reader",
    "prefix_beam_search",
    "split_words",
    "spoken_words",
]
