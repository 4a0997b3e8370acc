"""A trained translation model from text to text: beam search over subwords, and what each subword attends to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.attribution import cross_attention_weights
from pipeline.data.batches import padded
from pipeline.data.parallel_text import decode, encode
from pipeline.data.vocabulary import BEGIN, END, Subwords
from pipeline.decoding.beam_search import make_beam_search
from pipeline.layers.base import PyTree
from pipeline.layers.objective import Objective

TRANSLATED = 50  # sentences at a time


@dataclass(frozen=True, eq=False)
class Translator:
    """A model, its vocabulary, and how translations are searched for.

    objective, params: of ``models.translation.translation_objective``. longest: subwords of a source that the model
    sees. beam, length_penalty: see ``make_beam_search``.
    """

    objective: Objective
    params: PyTree
    vocabulary: Subwords
    longest: int
    beam: int = 5
    length_penalty: float = 1.0

    def translate(self, sentences: Sequence[str]) -> list[str]:
        """The best translation of every sentence, of at most twice as many subwords and ten."""
        search = make_beam_search(self.objective, BEGIN, END, self.beam, self.length_penalty)
        sources = [self._source(ids) for ids in encode(sentences, self.vocabulary)]
        order = np.argsort([len(ids) for ids in sources], kind="stable")
        translations = [""] * len(sentences)
        for start in range(0, len(order), TRANSLATED):
            rows = order[start : start + TRANSLATED]
            batch = padded([sources[row] for row in rows])
            filled = np.concatenate([batch, np.repeat(batch[:1], TRANSLATED - len(rows), axis=0)])
            ids, _ = search(self.params, filled if len(sentences) > TRANSLATED else batch, 2 * batch.shape[1] + 10)
            for row, best in zip(rows, ids[:, 0]):
                translations[row] = decode(best, self.vocabulary)
        return translations

    def attention(self, source: str, translation: str) -> tuple[np.ndarray, list[str], list[str]]:
        """The mean attention of the translation's subwords (rows) to the source's (columns), and these subwords."""
        source_ids, target_ids = encode([source, translation], self.vocabulary)
        source_ids, target_ids = self._source(source_ids), np.append(target_ids, np.int32(END))
        decoder_input = np.append(np.int32(BEGIN), target_ids[:-1])
        weights = cross_attention_weights(self.objective, self.params, source_ids[None], decoder_input[None])
        return weights, self.vocabulary.tokens(source_ids), self.vocabulary.tokens(target_ids)

    def _source(self, ids: np.ndarray) -> np.ndarray:
        return np.append(ids[: self.longest - 1], np.int32(END))
