"""Translation: a sentence of one language becomes a sentence of another.

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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline.data import vocabulary as vocabularies
from pipeline.data.batches import evaluation_batches, padded, steps_per_epoch, train_batches
from pipeline.data.parallel_text import Pairs, ParallelText, Sentences, decode, encode, load
from pipeline.data.vocabulary import BEGIN, END, Subwords
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.evaluation.metrics import no_metrics
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.models import translation as models
from pipeline.options import require_at_least, require_equal_heads, require_shares
from pipeline.report import classification as shown
from pipeline.report import page, plots
from pipeline.training.checkpoints import load_params
from pipeline.training.gradient_check import gradient_check
from pipeline.training.loop import Result, fit
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.precision import in_precision
from pipeline.training.run import Run, read_config
from pipeline.training.state import init_params
from pipeline.verify import Report, verify
from tasks.framework import export as artifact
from tasks.framework import summary as summary_of_run
from tasks.framework.command_line import Predictions, Task, TaskConfig, command, main, open_run

CHECKED_PAIRS = 4  # in a gradient check: float64 autodiff of the whole model
TRANSLATED = 50  # sentences at a time
PICTURES, EXAMPLES = 3, 12  # in the report


@dataclass(frozen=True)
class Config(TaskConfig):
    """Trains a translator and leaves a run folder with its report."""

    data: str = "cldr"
    """cldr (dates, numbers, amounts), multi30k; or a folder with train.SOURCE, train.TARGET, maybe val.* and test.*."""
    source: str = "en"
    """The language to translate from: the ending of its files."""
    target: str = "de"
    """The language to translate into: the ending of its files."""
    model: Literal["transformer", "gru"] = "transformer"
    """Attention throughout; or recurrent networks, of which the second attends to the first."""
    vocabulary: int = 800
    """How many subwords there are at most, learnt from the training sentences of both languages."""
    longest: int = 64
    """Subwords of the longest sentence. Longer training pairs are left out; the end of longer sources is not seen."""
    layers: int = 2
    """Blocks, or GRUs, on either side."""
    width: int = 128
    """Features of every position."""
    heads: int = 4
    """Of the transformer's attention; they share the width."""
    dropout: float = 0.0
    """The share of features that each training step leaves out."""
    label_smoothing: float = 0.0
    """The share of every target that is spread over all subwords."""
    beam: int = 5
    """Hypotheses that the search goes on with. 1: always the likeliest subword."""
    length_penalty: float = 1.0
    """Exponent of the length that a hypothesis' log-probability is divided by: more favours longer ones."""
    bleu_tokens: Literal["13a", "none"] = "13a"
    """How BLEU splits sentences: as in WMT's 13a; or at spaces alone, where files are tokenised already."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, layers=1, width=1, heads=1, longest=2, beam=1, length_penalty=0, vocabulary=300)
        require_shares(self, "dropout", "label_smoothing")
        require_equal_heads(self.width, self.heads)


# What trains well on each data set; an option on the command line changes only itself. The last is for your own data.
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
    """Translates sentences, and draws what each of their words comes from."""

    sentences: Positional[tuple[str, ...]]
    """Each in quotation marks."""
    beam: int = 5
    """Hypotheses that the search goes on with. 1: always the likeliest subword."""
    pictures: Path | None = None
    """Folder for the pictures of attention. None: attention/ in the run's."""


class Trained(NamedTuple):
    """Of a run: its options, vocabulary, objective and the parameters of its best checkpoint."""

    config: Config
    vocabulary: Subwords
    objective: Objective
    params: PyTree


class Translation(Task[Config]):
    name = "translation"
    title = "Translation"
    config = Config
    predictions = Translate

    def recipe(self, data: str | None) -> Config:
        data = data or "cldr"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def model(self, config: Config, vocabulary: Subwords) -> Layer:
        if config.model == "gru":
            return models.attention_gru(len(vocabulary), config.width, config.layers, config.dropout)
        return models.transformer(len(vocabulary), config.width, config.layers, config.heads, config.dropout)

    def objective(self, config: Config, vocabulary: Subwords) -> Objective:
        model = in_precision(self.model(config, vocabulary), config.precision)
        return models.translation_objective(model, len(vocabulary), config.label_smoothing)

    def train(self, config: Config) -> None:
        text = load(config.data, config.source, config.target, config.seed)
        vocabulary = _learn(config, text.train)
        every = Sentences.of(text.train, vocabulary)
        pairs = every.at_most(config.longest)
        steps = steps_per_epoch(pairs, config.batch_size)
        held = Sentences.of(text.validation, vocabulary).at_most(config.longest)
        if not len(held):
            raise UserError(f"all validation sentences of {text.name} are longer than --longest {config.longest}")
        objective = self.objective(config, vocabulary)
        run = open_run(self, config)
        vocabularies.write(run.directory, vocabulary)

        params = initial_params(objective, config.seed)
        if not config.quiet:
            print(
                f"{config.model} with {summary_of_run.count(params):,} parameters on {text.name}, {config.source} to "
                f"{config.target}: {summary_of_run.sizes(text)} pairs, {len(vocabulary):,} subwords",
                *text.notes,
                sep="\n",
                flush=True,
            )
            if len(pairs) < len(every):
                print(f"{len(every) - len(pairs)} training pairs left out: they have more than --longest subwords")
        validate, validation = make_evaluation(objective, no_metrics), evaluation_batches(held, config.batch_size)
        result = fit(
            objective,
            params,
            train_batches(pairs, config.batch_size, config.seed),
            config,
            run,
            steps_per_epoch=steps,
            evaluate=lambda params: validate(params, validation),
            metrics=no_metrics,
        )
        self._conclude(Trained(config, vocabulary, objective, result.params), text, run, result)

    def _conclude(self, trained: Trained, text: ParallelText, run: Run, result: Result) -> None:
        """Tests the best checkpoint, checks its gradients, and tells: summary.json, report.html, a few lines."""
        test, translations = _tested(trained, text)
        (run.directory / "translations.txt").write_text("\n".join(translations) + "\n", encoding="utf-8")
        checked = Sentences.of(text.test[:CHECKED_PAIRS], trained.vocabulary)
        check = gradient_check(trained.objective, result.params, checked.take(np.arange(len(checked))))
        summary = summary_of_run.summary(self, trained.config, result, test, check)
        run.finish(summary)
        report = page.write(run.directory, self._page(trained, text, summary, run.metrics(), translations))
        summary_of_run.tell(
            summary,
            report,
            ("test BLEU", f"{test['bleu']:.2f}  (chrF {test['chrf']:.2f}, {test['exact_match']:.1%} word for word)"),
            ("test loss", f"{test['loss']:.4f} nats a subword"),
        )

    def _page(
        self,
        trained: Trained,
        text: ParallelText,
        summary: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]],
        translations: Sequence[str],
    ) -> page.Page:
        config, test = trained.config, summary["test"]
        attention = [
            page.Plot(
                f"attention_{i + 1}",
                f"What it looks at: {source[:60]}",
                "How much every subword of the translation (rows) attends to each of the source (columns), the mean of "
                "all layers and heads.",
                partial(plots.alignment, *_aligned(trained, source, translation)),
            )
            for i, ((source, _), translation) in enumerate(zip(text.test[:PICTURES], translations))
        ]
        rows = [(source, its, reference) for (source, reference), its in zip(text.test, translations)]
        return page.Page(
            title=f"{self.title}: {config.model} on {Path(text.name).name}, {config.source} to {config.target}",
            headline=summary_of_run.headline(
                summary, (f"{test['bleu']:.1f}", "test BLEU"), (f"{test['chrf']:.1f}", "test chrF")
            ),
            summary=(
                f"A {config.model} with {config.layers} layers of {config.width} features on either side learnt to "
                f"translate from {len(text.train):,} pairs of sentences, with {summary_of_run.BY[config.gradient]}. It "
                f"stopped after {summary['epochs']} epochs ({summary['stopped_because']}); the checkpoint that was "
                f"best on {len(text.validation):,} validation pairs is judged on {len(text.test):,} test sentences "
                "that neither training nor that choice has seen, translated by a search with "
                f"{config.beam} hypotheses."
            ),
            facts=summary_of_run.facts(
                config,
                summary,
                ("data", text.name),
                ("model", config.model),
                ("test BLEU", f"{test['bleu']:.2f}"),
                ("test chrF", f"{test['chrf']:.2f}"),
                ("translated word for word as the reference", f"{test['exact_match']:.1%}"),
                ("test loss, nats a subword", f"{test['loss']:.4f}"),
                ("subwords", f"{len(trained.vocabulary):,}"),
            ),
            sections=[
                page.Plot(
                    "loss",
                    "Loss",
                    "Nats a subword: training as each step saw it (with dropout and smoothing where the recipe has "
                    "them), and validation after every epoch.",
                    partial(plots.curves, metrics, None),
                ),
                page.Table(
                    "Translations",
                    "The first test sentences; all are in translations.txt.",
                    ("source", "translation", "reference"),
                    rows[:EXAMPLES],
                    sentences=True,
                ),
                *attention,
                shown.gradient_sizes(metrics),
                *shown.gradients(summary["gradient_check"]["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=summary_of_run.environment(config, summary),
        )

    def evaluate(self, run: Path) -> Mapping[str, float]:
        trained = self._trained(run)
        config = trained.config
        return _tested(trained, load(config.data, config.source, config.target, config.seed))[0]

    def predict(self, command: Translate) -> None:
        if not command.sentences:
            raise UserError('predict needs sentences to translate: predict RUN "Monday, March 3, 2025"')
        empty = next((i for i, sentence in enumerate(command.sentences) if not sentence.strip()), None)
        if empty is not None:
            raise UserError(f"sentence {empty + 1} is empty; give at least one word to translate")
        if command.beam < 1:
            raise UserError(f"--beam is {command.beam}; it must be at least 1")
        trained = self._trained(command.run)
        trained = trained._replace(config=dataclasses.replace(trained.config, beam=command.beam))
        folder = command.pictures or command.run / "attention"
        folder.mkdir(parents=True, exist_ok=True)
        for i, (sentence, its) in enumerate(zip(command.sentences, translate(trained, command.sentences))):
            picture = folder / f"{i + 1}.png"
            picture.write_bytes(plots.png(partial(plots.alignment, *_aligned(trained, sentence, its))))
            print(its, f"    what each part comes from: {picture}", sep="\n")

    def verify(self, config: Config) -> Report:
        text = load(config.data, config.source, config.target, config.seed)
        vocabulary = _learn(config, text.train)
        model = self.model(config, vocabulary)
        objective = models.translation_objective(model, len(vocabulary), config.label_smoothing)
        shortest = sorted(text.test, key=lambda pair: len(pair[0]))[: len(text.test) // 4 + 1]
        pairs = Sentences.of(shortest[-3:], vocabulary)
        context = Context(train=True, key=jax.random.key(config.seed))
        params = initial_params(objective, config.seed)
        batch = pairs.take(np.arange(len(pairs)))
        return verify(objective, params, batch, context, precisions=(), checks=())

    def export(self, run: Path) -> None:
        """Ids of source and target so far to the logarithm of every subword's probability of coming next."""
        config, vocabulary, objective, params = self._trained(run)
        inner: Any = objective.layer

        def log_probabilities(source: jax.Array, target: jax.Array) -> jax.Array:
            both = objective.expand(params)
            h = inner.model.apply(both["model"], (source, target), Context())
            return jax.nn.log_softmax(inner.loss.logits(both["loss"], h))

        ids = ((config.longest,), jnp.int32)
        folder = artifact.write(
            run,
            log_probabilities,
            [ids, ids],
            lambda random, shape: random.integers(len(vocabulary), size=shape, dtype=np.int32),
            takes=f"two int32 (batch, {config.longest}): the source and <end>; <begin> and the target so far; 0 behind",
            gives=f"float32 (batch, {config.longest}, {len(vocabulary)}): log-probabilities of the target's next",
        )
        vocabularies.write(folder, vocabulary)

    def _trained(self, run: Path) -> Trained:
        Run.open(run)
        config, vocabulary = read_config(run, Config), vocabularies.read(run)
        objective = self.objective(config, vocabulary)
        return Trained(config, vocabulary, objective, load_params(run, initial_params(objective, config.seed)))


def _learn(config: Config, pairs: Pairs) -> Subwords:
    """Of the training sentences of both languages."""
    return Subwords.learn((f" {text}" for pair in pairs for text in pair), config.vocabulary)


def initial_params(objective: Objective, seed: int) -> PyTree:
    """Untrained parameters, or the shapes that a run's are restored into."""
    ids = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    return init_params(objective, ((ids, ids), Targets(ids)), seed)


def translate(trained: Trained, sentences: Sequence[str]) -> list[str]:
    """Of every sentence the best translation that beam search finds, of at most twice as many subwords and ten."""
    config = trained.config
    search = models.make_beam_search(trained.objective, BEGIN, END, config.beam, config.length_penalty)
    sources = [_source(ids, config.longest) for ids in encode(sentences, trained.vocabulary)]
    order = np.argsort([len(ids) for ids in sources], kind="stable")
    found = [""] * len(sentences)
    for rows in _in_parts(order, TRANSLATED):
        batch = padded([sources[row] for row in rows])
        filled = np.concatenate([batch, np.repeat(batch[:1], TRANSLATED - len(rows), axis=0)])
        ids, _ = search(trained.params, filled if len(sentences) > TRANSLATED else batch, 2 * batch.shape[1] + 10)
        for row, its in zip(rows, ids[:, 0]):
            found[row] = decode(its, trained.vocabulary)
    return found


def _source(ids: np.ndarray, longest: int) -> np.ndarray:
    return np.append(ids[: longest - 1], np.int32(END))


def _in_parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    yield from (rows[i : i + size] for i in range(0, len(rows), size))


def _aligned(trained: Trained, source: str, translation: str) -> tuple[np.ndarray, list[str], list[str]]:
    """The weights of ``models.alignment``, and the subwords of source and translation beside them."""
    vocabulary = trained.vocabulary
    ids, its = encode([source, translation], vocabulary)
    ids, its = _source(ids, trained.config.longest), np.append(its, np.int32(END))
    given = np.append(np.int32(BEGIN), its[:-1])
    found = models.alignment(trained.objective, trained.params, ids[None], given[None])
    return found, vocabulary.tokens(ids), vocabulary.tokens(its)


def _tested(trained: Trained, text: ParallelText) -> tuple[dict[str, float], list[str]]:
    """The test set's metrics, and its translations. The loss is of sentences of at most ``longest`` subwords."""
    config = trained.config
    pairs = Sentences.of(text.test, trained.vocabulary).at_most(config.longest)
    loss = math.nan
    if len(pairs):
        batches = evaluation_batches(pairs, config.batch_size)
        loss = make_evaluation(trained.objective, no_metrics)(trained.params, batches)["loss"]
    sources, references = zip(*text.test)
    translations = translate(trained, sources)
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu = BLEU(tokenize=config.bleu_tokens, force=True).corpus_score(translations, [references])
    return {
        "bleu": bleu.score,
        "chrf": CHRF().corpus_score(translations, [references]).score,
        "exact_match": float(np.mean([its == reference for its, reference in zip(translations, references)])),
        "loss": loss,
    }, translations


if __name__ == "__main__":
    main(Translation())
