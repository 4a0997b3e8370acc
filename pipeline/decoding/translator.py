"""Translation from text to text: beam search over subwords, and the attention between subwords."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..attribution import cross_attention_weights
from ..data.batches import padded
from ..data.parallel_text import decode, encode
from ..data.vocabulary import BEGIN, END, Subwords
from ..layers.base import PyTree
from ..layers.objective import Objective
from .beam_search import make_beam_search

SENTENCES_AT_A_TIME = 50


@dataclass(frozen=True, eq=False)
class Translator:
    """A trained translation model with its vocabulary and the options of its beam search.

    objective, params: of ``models.translation.translation_objective``.
    longest: the largest number of subwords of a source sentence; longer ones are cut.
    beam, length_penalty: see ``make_beam_search``.
    """

    objective: Objective
    params: PyTree
    vocabulary: Subwords
    longest: int
    beam: int = 5
    length_penalty: float = 1.0

    def translate(self, sentences: Sequence[str]) -> list[str]:
        """The best translation of every sentence, by beam search.

        A translation has at most 10 subwords more than twice those of the longest source that it is batched with.
        """
        search = make_beam_search(self.objective, BEGIN, END, self.beam, self.length_penalty)
        sources = [self._source(ids) for ids in encode(sentences, self.vocabulary)]
        order = np.argsort([len(ids) for ids in sources], kind="stable")
        translations = [""] * len(sentences)
        for start in range(0, len(order), SENTENCES_AT_A_TIME):
            rows = order[start : start + SENTENCES_AT_A_TIME]
            batch = padded([sources[row] for row in rows])
            if len(sentences) > SENTENCES_AT_A_TIME:  # the last batch is filled up, so that its program is the others'
                batch = np.concatenate([batch, np.repeat(batch[:1], SENTENCES_AT_A_TIME - len(rows), axis=0)])
            ids, _ = search(self.params, batch, 2 * batch.shape[1] + 10)
            for row, best in zip(rows, ids[:, 0]):
                translations[row] = decode(best, self.vocabulary)
        return translations

    def attention(self, source: str, translation: str) -> tuple[np.ndarray, list[str], list[str]]:
        """The attention of a translation's subwords to its source's, averaged over layers and heads.

        Returns the weights (target subwords, source subwords), the source's subwords and the target's.
        """
        source_ids, target_ids = encode([source, translation], self.vocabulary)
        source_ids, target_ids = self._source(source_ids), np.append(target_ids, np.int32(END))
        decoder_input = np.append(np.int32(BEGIN), target_ids[:-1])
        weights = cross_attention_weights(self.objective, self.params, source_ids[None], decoder_input[None])
        return weights, self.vocabulary.tokens(source_ids), self.vocabulary.tokens(target_ids)

    def _source(self, ids: np.ndarray) -> np.ndarray:
        return np.append(ids[: self.longest - 1], np.int32(END))
