"""Sentiment: a text gets one of several classes, such as positive or negative.

scripts/run sentiment                                       sentences composed from words that people have rated
scripts/run sentiment --data movie-review --folds 10        ten-fold cross-validation
scripts/run sentiment --data my_reviews.tsv --model gru     columns label and text; or a folder of class-named folders
scripts/run sentiment predict runs/... "not bad at all"
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from tyro.conf import Positional

from pipeline.data import vocabulary as vocabularies
from pipeline.data.augmentation import drop_words
from pipeline.data.batches import padded
from pipeline.data.labelled_text import LabelledText, Texts, load
from pipeline.data.vocabulary import UNKNOWN_WORD, Words
from pipeline.errors import UserError
from pipeline.layers.base import Context, Layer
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.models import text as models
from pipeline.options import require_at_least, require_shares
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.training.optimizer import OptimizerConfig
from tasks.framework import export as artifact
from tasks.framework.classification import Signature, drivers, read_signature, write_signature
from tasks.framework.command_line import Predictions, console, main
from tasks.framework.cross_validation import CrossValidated, SeedsConfig

HEADS = 4  # of the transformer's attention


@dataclass(frozen=True)
class Config(SeedsConfig):
    """Trains a classifier of texts and leaves a run folder with its report."""

    data: str = "lexicon"
    """lexicon (composed sentences), movie-review; or a .tsv or .csv file with the columns label and text, a folder of
    class-named folders of .txt files, a folder with files *.pos and *.neg."""
    model: Literal["cnn", "gru", "transformer"] = "cnn"
    """Convolutions over words; a recurrent network in both directions; attention."""
    encoding: str = ""
    """Of the files. Nothing: UTF-8, and latin-1 for movie-review."""
    words: int = 20_000
    """How many words there are at most, learnt from the training texts."""
    longest: int = 256
    """Words of a text that are seen; its end is cut off."""
    width: int = 64
    """Features of every word."""
    features: int = 64
    """Of the cnn's convolutions: as many for each of its windows."""
    windows: tuple[int, ...] = (3, 4, 5)
    """How many words the cnn's convolutions see at once."""
    pooling: models.Pooling = "maximum"
    """What becomes of a convolution's feature over all words of a text."""
    layers: int = 1
    """The transformer's blocks."""
    dropout: float = 0.3
    """The share of features that each training step leaves out."""
    word_dropout: float = 0.05
    """The share of words that each training step takes for unknown ones."""
    label_smoothing: float = 0.0
    """The share of every label that is spread over all classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, words=3, longest=1, width=1, features=1, layers=1)
        require_shares(self, "dropout", "word_dropout", "label_smoothing")
        if not self.windows or min(self.windows) < 1:
            raise UserError(f"--windows is {' '.join(map(str, self.windows))}; give numbers that are at least 1")
        if self.model == "transformer" and self.width % (2 * HEADS):
            raise UserError(f"--width is {self.width}; for a transformer it must be a multiple of {2 * HEADS}")


# What trains well on each data set; an option on the command line changes only itself. The last is for your own data.
RECIPES = {
    "lexicon": Config(
        epochs=8,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=4e-3, weight_decay=0.02, schedule="one_cycle"),
    ),
}
OWN = Config(
    epochs=5,
    batch_size=100,
    words=8_000,
    features=32,
    windows=(1, 2, 3),
    pooling="mean",
    dropout=0.5,
    word_dropout=0.3,
    label_smoothing=0.1,
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.05, schedule="one_cycle", warmup=0.1),
)
RECIPES["movie-review"] = dataclasses.replace(OWN, longest=64)


@dataclass(frozen=True)
class Judge(Predictions):
    """The classes of sentences, and the words that drove the model."""

    sentences: Positional[tuple[str, ...]]
    """Each in quotation marks."""


@dataclass(frozen=True)
class TextSignature(Signature):
    """vocabulary: what ids stand for; ``vocabulary.json``. longest: words of a text that are seen."""

    vocabulary: Words
    longest: int

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, 8), jnp.int32)

    @property
    def kind(self) -> str:
        return f"of {len(self.vocabulary):,} different words"

    def write(self, folder: Path) -> None:
        write_signature(folder, {"longest": self.longest, "classes": self.classes})
        vocabularies.write(folder, self.vocabulary)

    @classmethod
    def read(cls, run: Path) -> "TextSignature":
        def parsed(stored: Mapping[str, Any]) -> TextSignature:
            return cls(tuple(stored["classes"]), vocabularies.read(run), int(stored["longest"]))

        return read_signature(run, parsed)


class Sentiment(CrossValidated[Config, TextSignature]):
    name = "sentiment"
    title = "Sentiment"
    config = Config
    predictions = Judge

    def recipe(self, data: str | None) -> Config:
        data = data or "lexicon"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> LabelledText:
        return load(
            config.data,
            seed=config.seed,
            words=config.words,
            longest=config.longest,
            encoding=config.encoding,
            folds=config.folds,
            fold=config.fold or 1,
        )

    def notes(self, data: LabelledText) -> Sequence[str]:
        return data.notes

    def signature(self, config: Config, data: LabelledText) -> TextSignature:
        return TextSignature(data.classes, data.vocabulary, config.longest)

    def read_signature(self, run: Path) -> TextSignature:
        return TextSignature.read(run)

    def model(self, config: Config, signature: TextSignature) -> Layer:
        sizes = len(signature.vocabulary), len(signature.classes), config.width
        if config.model == "cnn":
            return models.cnn(*sizes, config.features, config.windows, config.dropout, config.pooling)
        if config.model == "gru":
            return models.gru(*sizes, config.dropout)
        return models.transformer(*sizes, config.layers, HEADS, config.dropout)

    def loss(self, config: Config) -> Layer:
        return SoftmaxCrossEntropy(config.label_smoothing)

    def augment(self, config: Config) -> Callable[[Any, Any], Any] | None:
        return partial(drop_words, config.word_dropout) if config.word_dropout else None

    def mistakes(self, tests: Sequence[Texts], probabilities: np.ndarray, classes: Sequence[str]) -> page.Table:
        texts, labels = (np.concatenate([getattr(test, name) for test in tests]) for name in ("texts", "labels"))
        return shown.mistaken_texts(texts, labels, probabilities, classes)

    def predict(self, command: Judge) -> None:
        if not command.sentences:
            raise UserError('predict needs sentences to judge: predict RUN "not bad at all"')
        _, signature, objective, params = self.trained(command.run)
        ids = signature.vocabulary.encode_all(command.sentences)
        for i, (sentence, its) in enumerate(zip(command.sentences, ids), 1):
            if not len(its):
                raise UserError(f"sentence {i} is empty; give at least one word to judge")
            if (its == UNKNOWN_WORD).all():
                raise UserError(
                    f"the model has seen no word of sentence {i}, {sentence!r}: there is nothing to judge it by"
                )
        table = Table("sentence", "class")
        table.add_column("probability", justify="right")
        table.add_column("words for it (+) and against it (-)")
        for sentence, its in zip(command.sentences, ids):
            seen = its[: signature.longest]
            logits, added = models.word_contributions(objective.model, params["model"], padded([seen]))
            probabilities = np.asarray(jax.nn.softmax(logits[0]))
            words = signature.vocabulary.tokens(seen)
            strongest = drivers(words, np.asarray(added[0, : len(seen)]))
            table.add_row(sentence, signature.classes[probabilities.argmax()], f"{probabilities.max():.4f}", strongest)
        console().print(table)

    def export(self, run: Path) -> None:
        """Ids of words (batch, longest) to class probabilities."""
        _, signature, objective, params = self.trained(run)

        def probabilities(ids: jax.Array) -> jax.Array:
            return jax.nn.softmax(objective.model.apply(params["model"], ids, Context()))

        folder = artifact.write(
            run,
            probabilities,
            [((signature.longest,), jnp.int32)],
            lambda random, shape: random.integers(len(signature.vocabulary), size=shape, dtype=np.int32),
            takes=f"int32 (batch, {signature.longest}): ids of vocabulary.json, 0 behind the text, any batch",
            gives=f"float32 (batch, {len(signature.classes)}): probabilities, classes in signature.json",
        )
        signature.write(folder)


if __name__ == "__main__":
    main(Sentiment())
