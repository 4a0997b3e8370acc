"""Sentiment: assigns a text to one of several classes, such as positive or negative.

scripts/run sentiment                                       sentences composed from words that people have rated
scripts/run sentiment --data movie-review --folds 10        ten-fold cross-validation
scripts/run sentiment --data my_reviews.tsv --model gru     columns label and text; or a folder of class-named folders
scripts/run sentiment predict runs/... "not bad at all"
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline.attribution import word_contributions
from pipeline.data.augmentation import drop_words
from pipeline.data.batches import padded
from pipeline.data.labelled_text import KNOWN, LabelledText, TextOptions, Texts, load
from pipeline.data.vocabulary import BAG, UNKNOWN_WORD
from pipeline.display import print_notes
from pipeline.errors import UserError
from pipeline.layers.base import Context, Layer
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.models import text
from pipeline.options import require_at_least, require_between, require_shares, require_sizes
from pipeline.report import classification, page
from pipeline.training.config import SeedsConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.signatures import TextSignature
from pipeline.training.step import Augment
from tasks.framework.answers import Answers, Classify, Table, likeliest, ranking, with_classes
from tasks.framework.classification import CrossValidatedClassification
from tasks.framework.command_line import main
from tasks.framework.export import Exported
from tasks.framework.stages import TaskModel

HEADS = 4  # of the transformer's attention


@dataclass(frozen=True)
class Config(TextOptions, SeedsConfig):
    """Train a text classifier and write a run folder with its report."""

    data: str = "lexicon"
    """Data set: lexicon (composed sentences), movie-review; or the path of a file (.tsv, .csv, .jsonl and others) with
    the columns label and text, of a folder with train.csv and test.csv, of class-named folders of .txt files, or with
    files *.pos and *.neg."""
    model: Literal["cnn", "gru", "transformer"] = "cnn"
    """Kind of model: cnn (convolutions over words), gru (a recurrent network in both directions) or transformer."""
    words: int = 20_000
    """Number of words in the vocabulary: the most frequent ones of the training texts."""
    ngrams: int = 20_000
    """Number of character n-grams in the vocabulary, by which words are judged that no training text has. 0: none."""
    longest: int = 256
    """Number of words of a text that the model sees; the rest is cut off."""
    width: int = 64
    """Size of a word's vector."""
    features: int = 64
    """Number of features of the cnn's convolutions, for each of its windows."""
    windows: tuple[int, ...] = (3, 4, 5)
    """Window sizes of the cnn's convolutions, in words."""
    pooling: text.Pooling = "maximum"
    """How the cnn pools each feature over the words of a text."""
    layers: int = 1
    """Number of the transformer's blocks."""
    dropout: float = 0.3
    """Dropout: share of features set to zero in each training step."""
    word_dropout: float = 0.05
    """Share of words that each training step replaces by the unknown word."""
    label_smoothing: float = 0.0
    """Share of every label that is spread over all classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, words=3, ngrams=0, width=1, features=1)
        require_between(self, longest=(1, 10_000), layers=(1, 100))
        require_shares(self, "dropout", "word_dropout", "label_smoothing")
        require_sizes(self, "windows")
        if self.model == "transformer" and self.width % (2 * HEADS):
            raise UserError(f"--width is {self.width}; for a transformer it must be a multiple of {2 * HEADS}")


# What trains well on each data set; an option on the command line changes only itself. OWN is for your own data.
RECIPES = {
    "lexicon": Config(
        epochs=6,
        batch_size=64,
        windows=(1, 2, 4),
        word_dropout=0.1,
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
class Judge(Classify):
    """Classify sentences, and show the words that contributed most."""

    sentences: Positional[tuple[str, ...]]
    """Sentences, each in quotation marks."""


class Sentiment(CrossValidatedClassification[Config, TextSignature]):
    name = "sentiment"
    title = "Sentiment"
    config = Config
    sizes = ("width", "words", "ngrams", "features", "windows", "layers")
    predictions = Judge
    known = KNOWN
    signature_class = TextSignature

    def recipe(self, data: str | None) -> Config:
        data = data or "lexicon"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> LabelledText:
        return load(
            config.data,
            seed=config.seed,
            words=config.words,
            ngrams=config.ngrams,
            longest=config.longest,
            options=config,
            folds=config.folds,
            fold=config.fold or 1,
        )

    def signature(self, config: Config, data: LabelledText) -> TextSignature:
        return TextSignature(data.classes, data.vocabulary, config.longest)

    def model(self, config: Config, signature: TextSignature) -> Layer:
        sizes = len(signature.vocabulary), len(signature.classes), config.width
        if config.model == "cnn":
            return text.cnn(*sizes, config.features, config.windows, config.dropout, config.pooling)
        if config.model == "gru":
            return text.gru(*sizes, config.dropout)
        return text.transformer(*sizes, config.layers, HEADS, config.dropout)

    def loss(self, config: Config) -> Layer:
        return SoftmaxCrossEntropy(config.label_smoothing)

    def augment(self, config: Config) -> Augment | None:
        return partial(drop_words, config.word_dropout) if config.word_dropout else None

    def mistakes(self, splits: Sequence[Texts], probabilities: np.ndarray, classes: Sequence[str]) -> page.Table:
        texts, labels = (np.concatenate([getattr(split, name) for split in splits]) for name in ("texts", "labels"))
        return classification.mistaken_texts(texts, labels, probabilities, classes)

    def predict(self, command: Judge) -> Answers:
        if not command.sentences:
            raise UserError('predict needs sentences to judge: predict RUN "not bad at all"')
        model = self.trained(command.run)
        signature, network, params = model.signature, model.objective.model, model.params["model"]
        split = [signature.vocabulary.split(sentence) for sentence in command.sentences]
        for i, words in enumerate(split, 1):
            if not words:
                raise UserError(f"sentence {i} is empty; give at least one word to judge")
        records, rows, several, notes = [], [], [], []
        for i, (sentence, words) in enumerate(zip(command.sentences, split), 1):
            bags = signature.vocabulary.bags(words)
            unknown = ", ".join(map(repr, dict.fromkeys(signature.vocabulary.unknown(sentence))))
            if (bags[:, 0] == UNKNOWN_WORD).all() and not bags[:, 1:].any():
                notes.append(f"sentence {i}: the model knows none of its words, so its answer is a guess: {unknown}")
            elif unknown:
                notes.append(f"sentence {i}: the model does not know {unknown}")
            if len(words) > signature.longest:
                notes.append(f"sentence {i}: the model reads the first {signature.longest} of {len(words):,} words")
            words = words[: signature.longest]
            places = padded([np.arange(1, len(words) + 1)])
            bags = np.concatenate([np.zeros_like(bags[:1]), bags])[places]
            logits, contributions = word_contributions(network, params, bags)
            probabilities = np.asarray(jax.nn.softmax(logits[0]))
            of_words = np.asarray(contributions[0, : len(words)])
            strongest = [{"word": words[j], "contribution": of_words[j]} for j in classification.strongest_of(of_words)]
            ranked = likeliest(probabilities, signature.classes, command.top)
            answer = {"class": ranked[0][0], "probability": ranked[0][1], "words": strongest}
            records.append({"sentence": sentence, **answer, **ranking(ranked)})
            rows.append((sentence, ranked[0][0], f"{ranked[0][1]:.4f}", classification.strongest(words, of_words)))
            several.append(ranked)
        columns = ("sentence", "class", "probability", "words for it (+) and against it (-)")
        print_notes(notes)
        return Answers(records, with_classes(Table(columns, rows, ("probability",)), several))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Ids of words and their n-grams (batch, longest, BAG) to class probabilities."""
        del run_directory
        signature, network = model.signature, model.objective.model

        def probabilities(ids: jax.Array) -> jax.Array:
            return jax.nn.softmax(network.apply(model.params["model"], ids, Context()))

        return Exported(
            probabilities,
            [((signature.longest, BAG), jnp.int32)],
            lambda random, shape: random.integers(len(signature.vocabulary), size=shape, dtype=np.int32),
            takes=f"int32 (batch, {signature.longest}, {BAG}): of each word its id in vocabulary.json (1 where it has "
            "none), then those of its n-grams, which follow the words; 0 after them and after the text; any batch",
            gives=f"float32 (batch, {len(signature.classes)}): probabilities, classes in signature.json",
        )


if __name__ == "__main__":
    main(Sentiment())
