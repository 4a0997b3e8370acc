"""Decoding: from the outputs of a trained model to text.

>>> import numpy as np
>>> from pipeline.decoding import best_path
>>> best_path(np.log([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])).labels
(1, 1)
"""

from pipeline.decoding.beam_search import make_beam_search
from pipeline.decoding.ctc import Reading, align, best_path, prefix_beam_search
from pipeline.decoding.ngram import NGram
from pipeline.decoding.sampling import make_continuation
from pipeline.decoding.transcription import make_reader, spoken_words

__all__ = [
    "NGram",
    "Reading",
    "align",
    "best_path",
    "make_beam_search",
    "make_continuation",
    "make_reader",
    "prefix_beam_search",
    "spoken_words",
]
