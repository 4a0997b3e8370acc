"""A trained recogniser from recordings to text: features, frame log-probabilities, and the search for a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from ..data.arpa import Arpa
from ..data.lexicon import Lexicon, Pronunciations, spelled_words
from ..data.speech import Recordings
from ..data.speech_input import SpeechInput
from ..data.utterances import FeatureUtterances, Utterances
from ..data.vocabulary import Characters, Tokens
from ..errors import UserError
from ..layers.masking import MaskedByLength
from ..layers.objective import Objective
from ..models.acoustic import frames_after
from ..options import require_between
from .ctc import Labels, Reading, Scorer, align, best_path
from .lexicon_search import LexiconSearch
from .ngram import BackoffNGram, NGram
from .transcription import SpokenWord, Transcript, make_reader, split_words, spoken_words

MOST_TEXTS = 1000
"""The largest beam width."""
VALIDATION_BEAM = 8
"""Beam width of the search through a lexicon after each epoch."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search for a text."""

    beam: int = 1
    """Beam width: number of texts that the search keeps. 1: the characters of the likeliest alignment."""
    ngram: int = 0
    """Order of the character n-gram model, learned from the training texts, that a beam search without a lexicon uses.
    0: none."""
    ngram_weight: float = 0.5
    """Weight of the n-gram model beside the recogniser."""
    lexicon: str = ""
    """Words that the beam search may write: a file with a word and its units in each line, as Kaldi and CMU have it, or
    with words alone; or training, the words of the training texts. Empty: any sequence of characters."""
    language_model: str = ""
    """File in ARPA's format with the word n-gram model that a search with a lexicon uses. Empty: one that is learned
    from the training texts."""
    word_ngram: int = 2
    """Order of the word n-gram model, learned from the training texts, that a search with a lexicon uses. 0: none."""
    word_bonus: float = 0.0
    """Added to the log-probability of a text for each word, in a search with a lexicon: larger values give more and
    shorter words."""

    def __post_init__(self) -> None:
        require_between(self, beam=(1, MOST_TEXTS), ngram_weight=(0, 100), ngram=(0, 100), word_ngram=(0, 20))
        require_between(self, word_bonus=(-100, 100))
        for name in ("lexicon", "ngram"):
            if getattr(self, name) and self.beam == 1:
                what = {"ngram": "an n-gram model", "lexicon": "a lexicon"}[name]
                raise UserError(
                    f"--{name} is {getattr(self, name)} and --beam is 1: {what} needs a beam, such as --beam 16"
                )
        if self.language_model and not self.lexicon:
            raise UserError("--language-model is of words, and needs their spellings: give a --lexicon too")


@dataclass(frozen=True, eq=False)
class Recogniser:
    """An acoustic model, its alphabet, and how recordings become frames and frames become text.

    texts: of the training recordings, for the n-gram models. input: how recordings become the model's inputs. stride:
    number of input frames in an output frame. lexicon: the words that a search may write; None: any. language_model: of
    words; None: one that is counted in ``texts``.
    """

    objective: Objective
    alphabet: Characters | Tokens | Pronunciations
    texts: Sequence[str]
    input: SpeechInput
    stride: int
    search_options: SearchOptions
    lexicon: Lexicon | None = None
    language_model: Arpa | None = None

    @property
    def step(self) -> float:
        """Seconds between two output frames."""
        return self.input.hop * self.stride

    def utterances(self, recordings: Recordings) -> Utterances | FeatureUtterances:
        """The recordings as the model sees them."""
        model = self.objective.model
        assert isinstance(model, MaskedByLength)
        return self.input.utterances(recordings, self.alphabet, partial(frames_after, model.layer))

    @property
    def separator(self) -> int | None:
        """The label between words; None if there is none."""
        symbols = self.alphabet.symbols
        return symbols.index(" ") if isinstance(self.alphabet, Characters) and " " in symbols else None

    @property
    def search(self) -> str:
        """How a text is searched for, in words."""
        options = self.search_options
        if options.beam == 1:
            return "the likeliest alignment"
        unit = "character" if isinstance(self.alphabet, Characters) else "unit"
        model = f" and a {unit} {options.ngram}-gram model" if options.ngram else ""
        if self.lexicon is not None:
            order = self.language_model.order if self.language_model else options.word_ngram
            model = f", {len(self.lexicon):,} words" + (f" and a word {order}-gram model" if order else "")
        return f"prefix beam search with {options.beam} texts{model}"

    @cached_property
    def transcribe(self) -> Callable[[np.ndarray], Transcript]:
        """A function from an utterance's log-probabilities (frames, symbols) to its transcript."""
        if self.lexicon is not None:
            return self._lexicon_reader(self.lexicon)
        options, symbols = self.search_options, self.alphabet.symbols
        encoded = [self.alphabet.encode(text).tolist() for text in self.texts] if options.ngram else []
        read = make_reader(options.beam, options.ngram, options.ngram_weight, encoded, len(self.alphabet))
        return lambda log_y: self._split(read(log_y), symbols)

    @cached_property
    def transcribe_quickly(self) -> Callable[[np.ndarray], Transcript]:
        """``transcribe`` for the end of every epoch: by the likeliest alignment, where that writes words."""
        if not isinstance(self.alphabet, Pronunciations):
            symbols = self.alphabet.symbols
            return lambda log_y: self._split(best_path(log_y).labels, symbols)
        options = replace(self.search_options, beam=min(VALIDATION_BEAM, self.search_options.beam))
        return replace(self, search_options=options).transcribe

    def _split(self, labels: Labels, symbols: Sequence[str]) -> Transcript:
        one_word = isinstance(self.alphabet, Characters) and self.separator is None
        return split_words(labels, symbols, -1 if one_word else self.separator)

    def _lexicon_reader(self, lexicon: Lexicon) -> Callable[[np.ndarray], Transcript]:
        words, options, separator = list(lexicon.spellings), self.search_options, self.separator
        search = LexiconSearch(
            spelled_words(lexicon, self.alphabet),
            options.beam,
            separator,
            self._word_scorer(words),
            options.ngram_weight,
            options.word_bonus,
        )

        def transcribe(log_y: np.ndarray) -> Transcript:
            best = search(log_y)[0]
            return Transcript(tuple(words[word - 1] for word in best.words), best.labels, best.spans)

        return transcribe

    def _word_scorer(self, words: Sequence[str]) -> Scorer | None:
        """The word n-gram model: word i has the id i + 1."""
        if self.language_model is not None:
            return BackoffNGram.of(self.language_model, words)
        if not self.search_options.word_ngram:
            return None
        ids = {word: id_ for id_, word in enumerate(words, 1)}
        texts = ([ids[word] for word in text.split() if word in ids] for text in self.texts)
        return NGram.of([(0, *text, 0) for text in texts], self.search_options.word_ngram, len(words) + 1)

    def words(self, log_y: np.ndarray) -> list[SpokenWord]:
        """The words of an utterance, with their times."""
        return spoken_words(log_y, self.transcribe(log_y), self.step)

    def alignment(self, log_y: np.ndarray) -> tuple[Labels, Reading | None]:
        """The labels of an utterance, and their best alignment."""
        labels = self.transcribe(log_y).labels
        return labels, align(log_y, labels)
