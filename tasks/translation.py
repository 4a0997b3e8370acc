"""Translation: turns a sentence of one language into a sentence of another.

scripts/run translation                                           dates, numbers and amounts, English to German
scripts/run translation --data multi30k                           descriptions of images
scripts/run translation --data my_folder --source en --target fr  files train.en, train.fr, and maybe val.*, test.*
scripts/run translation predict runs/... "Monday, March 3, 2025"
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline import storage
from pipeline.data import vocabulary as vocabularies
from pipeline.data.batches import Batch, evaluation_batches
from pipeline.data.parallel_text import KNOWN, ParallelText, Sentences, encode, load
from pipeline.data.vocabulary import Subwords
from pipeline.decoding.sampling import log_probabilities
from pipeline.decoding.translator import Translator
from pipeline.display import print_notes
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.evaluation.metrics import no_metrics
from pipeline.evaluation.translations import translation_metrics
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.models import translation as models
from pipeline.options import require_between, require_equal_heads, require_shares
from pipeline.report import page, plots
from pipeline.report import translation as report
from pipeline.report.training import learning_sections
from pipeline.training.config import TaskConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.precision import in_precision
from tasks.framework.answers import Answers, Predictions
from tasks.framework.command_line import main
from tasks.framework.export import Exported
from tasks.framework.stages import Evaluation, Metric, Outcome, Story, TaskModel, Training
from tasks.framework.summary import split_sizes
from tasks.framework.task import Task

CHECKED_PAIRS, VERIFIED_PAIRS = 4, 3  # in a gradient check, and in verify
PICTURES = 3  # in the report
MOST_HYPOTHESES = 100  # of a beam search


@dataclass(frozen=True)
class Config(TaskConfig):
    """Train a translation model and write a run folder with its report."""

    data: str = "cldr"
    """Data set: cldr (dates, numbers, amounts), multi30k; or the path of a folder with train.SOURCE and train.TARGET,
    and optionally val.* and test.*, or of a .tsv file with a pair in each line."""
    encoding: str = ""
    """Encoding of the files. Empty: UTF-8, or UTF-16 where a file shows it."""
    delimiter: str = ""
    """Delimiter of a table's fields: a character, or tab, semicolon, pipe or comma. Empty: recognised."""
    source: str = "en"
    """Language to translate from: the suffix of its files."""
    target: str = "de"
    """Language to translate into: the suffix of its files."""
    model: Literal["transformer", "gru"] = "transformer"
    """Kind of model: transformer, or gru (recurrent encoder and decoder with attention)."""
    vocabulary: int = 800
    """Maximum number of subwords, learned from the training sentences of both languages (byte-pair encoding)."""
    longest: int = 64
    """Maximum number of subwords of a sentence. Longer training pairs are left out, longer sources cut off."""
    layers: int = 2
    """Number of blocks, or of GRU layers, in encoder and decoder each."""
    width: int = 128
    """Number of features at every position."""
    heads: int = 4
    """Number of attention heads; they share the width."""
    dropout: float = 0.0
    """Dropout: share of features set to zero in each training step."""
    label_smoothing: float = 0.0
    """Label smoothing: share of every target that is spread over all subwords."""
    beam: int = 5
    """Beam width: number of hypotheses that the search keeps. 1: greedy search."""
    length_penalty: float = 1.0
    """Exponent of the length by which a hypothesis' log-probability is divided; larger values favour longer ones."""
    bleu_tokens: Literal["13a", "none"] = "13a"
    """Tokeniser of BLEU: 13a, as in WMT; or none, for files that are tokenised already."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, width=(1, 100_000), heads=(1, 1000), vocabulary=(300, 1_000_000))
        require_between(self, layers=(1, 100), longest=(2, 10_000), beam=(1, MOST_HYPOTHESES), length_penalty=(0, 10))
        require_shares(self, "dropout", "label_smoothing")
        require_equal_heads(self.width, self.heads)


# What trains well on each data set; an option on the command line changes only itself. OWN is for your own data.
RECIPES = {
    "cldr": Config(
        epochs=3,
        batch_size=64,
        log_every=20,
        optimizer=OptimizerConfig(name="muon", learning_rate=1e-2, schedule="one_cycle", warmup=0.1, clip=1.0),
    ),
}
OWN = Config(
    vocabulary=6000,
    epochs=16,
    batch_size=128,
    layers=3,
    width=192,
    heads=4,
    dropout=0.3,
    label_smoothing=0.1,
    log_every=20,
    save_seconds=300.0,
    optimizer=OptimizerConfig(
        name="muon", learning_rate=1e-2, weight_decay=0.05, schedule="one_cycle", warmup=0.1, clip=1.0
    ),
)
RECIPES["multi30k"] = dataclasses.replace(OWN, epochs=25, bleu_tokens="none")


@dataclass(frozen=True)
class Translate(Predictions):
    """Translate sentences, and draw which source words each word attends to."""

    sentences: Positional[tuple[str, ...]]
    """Sentences, each in quotation marks."""
    beam: int = 5
    """Beam width: number of hypotheses that the search keeps. 1: greedy search."""
    pictures: Path | None = None
    """Folder for the pictures of attention. None: attention/ in the run's folder."""


class Translation(Task[Config]):
    name = "translation"
    title = "Translation"
    config = Config
    sizes = ("width", "layers", "vocabulary")
    predictions = Translate
    known = KNOWN
    signature_parts = "sentences"
    test_metrics = {  # noqa: RUF012  (a ClassVar)
        "bleu": Metric("test BLEU", "{:.2f}"),
        "chrf": Metric("test chrF", "{:.2f}"),
        "exact_match": Metric("exact matches", "{:.1%}", headline=False),
        "loss": Metric("test loss", "{:.4f} nats per subword", headline=False),
    }

    def recipe(self, data: str | None) -> Config:
        data = data or "cldr"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> ParallelText:
        return load(config.data, config.source, config.target, config.seed, config.encoding, config.delimiter)

    def signature(self, config: Config, data: ParallelText) -> Subwords:
        """The vocabulary of the training sentences of both languages."""
        return Subwords.learn((f" {text}" for pair in data.train for text in pair), config.vocabulary)

    def write_signature(self, folder: Path, signature: Subwords) -> None:
        vocabularies.write(folder, signature)

    def read_signature(self, run_directory: Path) -> Subwords:
        return vocabularies.read(run_directory)

    def objective(self, config: Config, signature: Subwords) -> Objective:
        if config.model == "gru":
            model = models.attention_gru(len(signature), config.width, config.layers, config.dropout)
        else:
            model = models.transformer(len(signature), config.width, config.layers, config.heads, config.dropout)
        model = in_precision(model, config.precision)
        return models.translation_objective(model, len(signature), config.label_smoothing)

    def example(self, config: Config, signature: Subwords) -> Batch:
        del config, signature
        ids = jax.ShapeDtypeStruct((1, 8), jnp.int32)
        return (ids, ids), Targets(ids)

    def training(self, model: TaskModel, data: ParallelText) -> Training:
        config, vocabulary = model.config, model.signature
        pairs, held_out = (Sentences.of(part, vocabulary) for part in (data.train, data.validation))
        short, validation = pairs.at_most(config.longest), held_out.at_most(config.longest)
        for part, fitting in (("training", short), ("validation", validation)):
            if not len(fitting):
                raise UserError(f"all {part} pairs of {data.name} are longer than --longest {config.longest} subwords")
        notes = list(data.notes)
        if len(short) < len(pairs):
            notes.append(f"{len(pairs) - len(short)} training pairs left out: they have more than --longest subwords")
        validate = make_evaluation(model.objective, no_metrics)
        return Training(
            short,
            lambda params: validate(params, evaluation_batches(validation, config.batch_size)),
            f"{data.name}, {config.source} to {config.target}: {split_sizes(data)} pairs, {len(vocabulary):,} subwords",
            notes,
        )

    def check_batch(self, model: TaskModel, data: ParallelText) -> Batch:
        pairs = Sentences.of(data.test[:CHECKED_PAIRS], model.signature)
        return pairs.take(np.arange(len(pairs)))

    def verify_batch(self, model: TaskModel, data: ParallelText) -> Batch:
        shortest = sorted(data.test, key=lambda pair: len(pair[0]))[: len(data.test) // 4 + 1]
        pairs = Sentences.of(shortest[-VERIFIED_PAIRS:], model.signature)
        return pairs.take(np.arange(len(pairs)))

    def test(self, model: TaskModel, data: ParallelText, run_directory: Path) -> Evaluation:
        """The answers are translations; the loss is of sentences of at most ``longest`` subwords."""
        del run_directory
        config = model.config
        pairs = Sentences.of(data.test, model.signature).at_most(config.longest)
        loss = math.nan
        if len(pairs):
            batches = evaluation_batches(pairs, config.batch_size)
            loss = make_evaluation(model.objective, no_metrics)(model.params, batches)["loss"]
        sources, references = zip(*data.test)
        translations = _translator(model).translate(sources)
        metrics = translation_metrics(references, translations, config.bleu_tokens)
        return Evaluation({**metrics, "loss": loss}, translations)

    def write_results(self, outcome: Outcome) -> None:
        path = outcome.run.directory / "translations.txt"
        storage.write(path, "\n".join(outcome.evaluation.answers) + "\n")

    def subtitle(self, config: Config) -> str:
        return f", {config.source} to {config.target}"

    def story(self, outcome: Outcome) -> Story:
        config, data = outcome.config, outcome.data
        return Story(
            f"A {config.model} with {config.layers} layers of {config.width} features in encoder and decoder learned "
            f"to translate from {len(data.train):,} pairs of sentences",
            f"{len(data.validation):,} validation pairs",
            f"{len(data.test):,} test sentences",
            f" Translations are found by beam search with {config.beam} hypotheses.",
        )

    def learning(self, metrics: Sequence[Mapping[str, Any]], config: Config) -> Sequence[page.Part]:
        del config
        return learning_sections(metrics, "nats per subword")

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        test, translations, translator = outcome.data.test, outcome.evaluation.answers, _translator(outcome.model)
        return [
            report.examples(test, translations),
            *(
                report.attention(i, source, *translator.attention(source, translation))
                for i, ((source, _), translation) in enumerate(zip(test[:PICTURES], translations), 1)
            ),
        ]

    def predict(self, command: Translate) -> Answers:
        require_between(command, beam=(1, MOST_HYPOTHESES))
        if not command.sentences:
            raise UserError('predict needs sentences to translate: predict RUN "Monday, March 3, 2025"')
        empty = next((i for i, sentence in enumerate(command.sentences) if not sentence.strip()), None)
        if empty is not None:
            raise UserError(f"sentence {empty + 1} is empty; give at least one word to translate")
        model = self.trained(command.run)
        translator = dataclasses.replace(_translator(model), beam=command.beam)
        print_notes(_notes(command.sentences, model))
        folder = command.pictures or command.run / "attention"
        folder.mkdir(parents=True, exist_ok=True)
        records, lines = [], []
        for i, (sentence, translation) in enumerate(zip(command.sentences, translator.translate(command.sentences))):
            picture = folder / f"{i + 1}.png"
            draw = partial(plots.alignment, *translator.attention(sentence, translation))
            picture.write_bytes(plots.png(draw))
            records.append({"sentence": sentence, "translation": translation, "picture": str(picture)})
            lines += [translation, f"    what each part comes from: {picture}"]
        return Answers(records, "\n".join(lines))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Ids of the source and of the target so far to the log-probability of every subword coming next."""
        del run_directory
        config, vocabulary, objective, params = model
        ids = ((config.longest,), jnp.int32)
        return Exported(
            lambda source, target: log_probabilities(objective, params, (source, target)),
            [ids, ids],
            lambda random, shape: random.integers(len(vocabulary), size=shape, dtype=np.int32),
            takes=f"two int32 (batch, {config.longest}): the source and <end>; <begin> and the target so far; then 0",
            gives=f"float32 (batch, {config.longest}, {len(vocabulary)}): log-probabilities of the target's next",
        )


def _notes(sentences: Sequence[str], model: TaskModel) -> Iterator[str]:
    """Which characters of sentences the model does not know, and which sentences are cut."""
    most = model.config.longest - 1
    for i, (sentence, ids) in enumerate(zip(sentences, encode(sentences, model.signature)), 1):
        if unknown := model.signature.unknown(sentence):
            yield f"sentence {i}: the model does not know the characters {unknown!r}, and reads their bytes"
        if len(ids) > most:
            yield f"sentence {i}: the model reads the first {most} of {len(ids):,} subwords"


def _translator(model: TaskModel) -> Translator:
    config, vocabulary, objective, params = model
    return Translator(objective, params, vocabulary, config.longest, config.beam, config.length_penalty)


if __name__ == "__main__":
    main(Translation())
