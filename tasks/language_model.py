"""Language modelling: which character, or subword, comes next.

scripts/run language_model                                        trains on the text of Python's own library
scripts/run language_model --data shakespeare
scripts/run language_model --data my_diary.txt --model lstm       any UTF-8 text
scripts/run language_model --units subwords --context 128
scripts/run language_model predict runs/... "ROMEO: "             goes on from a prompt
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline.data.batches import evaluation_batches, steps_per_epoch, train_batches
from pipeline.data.text import Corpus, load
from pipeline.data.vocabulary import Characters, Subwords
from pipeline.data.vocabulary import read as read_vocabulary
from pipeline.data.vocabulary import write as write_vocabulary
from pipeline.decoding.sampling import make_continuation
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.evaluation.metrics import no_metrics
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.models.language import language_objective, lstm, transformer
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

CHECKED_WINDOWS = 4  # in a gradient check: float64 autodiff of the whole model
SAMPLE = 500  # characters


@dataclass(frozen=True)
class Config(TaskConfig):
    """Trains a model of a text, token by token, and leaves a run folder with its report."""

    data: str = "python"
    """python (its own library's source), shakespeare; or the path of a UTF-8 text file."""
    model: Literal["transformer", "lstm"] = "transformer"
    """Attention to all characters of the window; or a recurrent state."""
    units: Literal["characters", "subwords"] = "characters"
    """What a token is: a character, or one of the pieces of words that the text is best made of."""
    vocabulary: int = 1000
    """How many subwords there are at most."""
    context: int = 64
    """Tokens that are seen at a time."""
    layers: int = 4
    """Blocks of the transformer, or LSTMs."""
    width: int = 128
    """Features of every position."""
    heads: int = 4
    """Of the transformer's attention; they share the width."""
    dropout: float = 0.0
    """The share of features that each training step leaves out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, context=1, layers=1, width=1, heads=1, vocabulary=300)
        require_shares(self, "dropout")
        require_equal_heads(self.width, self.heads)


RECIPE = Config(
    epochs=1,
    batch_size=12,
    log_every=20,
    optimizer=OptimizerConfig(name="muon", learning_rate=1e-2, weight_decay=0.0, schedule="one_cycle", warmup=0.1),
)
"""What trains well on a text of a million characters, within a few minutes on a CPU; longer training gets further."""


@dataclass(frozen=True)
class Continue(Predictions):
    """Goes on from a prompt."""

    prompts: Positional[tuple[str, ...]]
    """Beginnings of texts, each in quotation marks."""
    length: int = 300
    """Tokens to add."""
    temperature: float = 0.8
    """What the logits are divided by: lower is safer, higher is bolder, 0 always takes the likeliest."""
    top_k: int = 0
    """Draws among so many of the likeliest tokens. 0: among all."""
    seed: int = 0
    """Of what is drawn."""


class LanguageModel(Task[Config]):
    name = "language_model"
    title = "Language model"
    config = Config
    predictions = Continue

    def recipe(self, data: str | None) -> Config:
        return dataclasses.replace(RECIPE, data=data or RECIPE.data)

    def model(self, config: Config, vocabulary: Characters | Subwords) -> Layer:
        if config.model == "lstm":
            return lstm(len(vocabulary), config.width, config.layers, config.dropout)
        return transformer(len(vocabulary), config.width, config.layers, config.heads, config.dropout)

    def objective(self, config: Config, vocabulary: Characters | Subwords) -> Objective:
        return language_objective(in_precision(self.model(config, vocabulary), config.precision), len(vocabulary))

    def train(self, config: Config) -> None:
        corpus = _corpus(config)
        windows = corpus.windows("train", config.context)
        validation = evaluation_batches(corpus.windows("validation", config.context), config.batch_size)
        corpus.windows("test", config.context)
        steps = steps_per_epoch(windows, config.batch_size)
        objective = self.objective(config, corpus.vocabulary)
        run = open_run(self, config)
        write_vocabulary(run.directory, corpus.vocabulary)

        params = initial_params(objective, config)
        if not config.quiet:
            print(
                f"{config.model} with {summary_of_run.count(params):,} parameters on {corpus.name}: "
                f"{summary_of_run.sizes(corpus)} {config.units}, {len(corpus.vocabulary)} in the vocabulary",
                flush=True,
            )
        validate = make_evaluation(objective, no_metrics)
        result = fit(
            objective,
            params,
            train_batches(windows, config.batch_size, config.seed),
            config,
            run,
            steps_per_epoch=steps,
            evaluate=lambda params: validate(params, validation),
            metrics=no_metrics,
        )
        self._conclude(config, corpus, objective, run, result)

    def _conclude(self, config: Config, corpus: Corpus, objective: Objective, run: Run, result: Result) -> None:
        """Tests the best checkpoint, checks its gradients, lets it write: summary.json, report.html, a few lines."""
        test = _tested(config, corpus, objective, result.params)
        inputs, labels = corpus.windows("test", config.context).take(slice(CHECKED_WINDOWS))
        check = gradient_check(objective, result.params, (inputs, Targets(labels)))
        summary = summary_of_run.summary(self, config, result, test, check)
        run.finish(summary)
        write = make_continuation(objective, config.context, temperature=0.8)
        prompt = corpus.test[: config.context]
        sample = corpus.vocabulary.decode(write(result.params, prompt, SAMPLE, jax.random.key(config.seed)))
        told = self._page(config, corpus, summary, run.metrics(), corpus.vocabulary.decode(prompt), sample)
        report = page.write(run.directory, told)
        summary_of_run.tell(
            summary,
            report,
            ("test loss", f"{test['loss']:.4f} nats a {config.units[:-1]}"),
            ("bits", f"{test['bits_per_character']:.4f} a character"),
            ("perplexity", f"{test['perplexity']:.3f}"),
        )

    def _page(
        self,
        config: Config,
        corpus: Corpus,
        summary: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]],
        prompt: str,
        sample: str,
    ) -> page.Page:
        test = summary["test"]
        seen = summary["steps"] * config.batch_size * config.context
        return page.Page(
            title=f"{self.title}: {config.model} on {Path(corpus.name).name}",
            headline=summary_of_run.headline(
                summary,
                (f"{test['bits_per_character']:.3f}", "bits a character"),
                (f"{test['perplexity']:.2f}", "perplexity"),
            ),
            summary=(
                f"A {config.model} with {config.layers} layers of {config.width} features learnt which of "
                f"{len(corpus.vocabulary)} {config.units} comes next from {seen:,} of them, in windows of "
                f"{config.context}, with {summary_of_run.BY[config.gradient]}. It stopped after {summary['epochs']} epochs "
                f"({summary['stopped_because']}); the checkpoint that was best on the {len(corpus.validation):,} after "
                f"those is judged here on the last {len(corpus.test):,}, which neither training nor that choice has "
                "seen."
            ),
            facts=summary_of_run.facts(
                config,
                summary,
                ("data", corpus.name),
                ("model", config.model),
                (f"test loss, nats a {config.units[:-1]}", f"{test['loss']:.4f}"),
                ("bits a character", f"{test['bits_per_character']:.4f}"),
                ("perplexity", f"{test['perplexity']:.4f}"),
                (f"{config.units} seen", f"{seen:,}"),
                ("vocabulary", str(len(corpus.vocabulary))),
                ("context", str(config.context)),
            ),
            sections=[
                page.Plot(
                    "loss",
                    "Loss",
                    f"Nats a {config.units[:-1]}: training as each step saw it, and validation after every epoch.",
                    partial(plots.curves, metrics, None),
                ),
                shown.gradient_sizes(metrics),
                page.Section(
                    "What it writes",
                    caption="The test text's first window, and how the model goes on from it at temperature 0.8.",
                    code=f"{prompt}⟶{sample}",
                ),
                *shown.gradients(summary["gradient_check"]["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=summary_of_run.environment(config, summary),
        )

    def evaluate(self, run: Path) -> Mapping[str, float]:
        config, vocabulary, objective, params = self._trained(run)
        corpus = _corpus(config)
        if corpus.vocabulary != vocabulary:
            raise UserError(f"{config.data} is not the text that {run} was trained on: its {config.units} differ")
        return _tested(config, corpus, objective, params)

    def predict(self, command: Continue) -> None:
        if not command.prompts:
            raise UserError('predict needs a text to go on from: predict RUN "ROMEO: "')
        for option, low in (("length", 1), ("top_k", 0), ("temperature", 0)):
            if getattr(command, option) < low:
                name = option.replace("_", "-")
                raise UserError(f"--{name} is {getattr(command, option)}; it must be at least {low}")
        config, vocabulary, objective, params = self._trained(command.run)
        for prompt in command.prompts:
            if not prompt:
                raise UserError("a prompt is empty; give at least one character to go on from")
            unknown = vocabulary.unknown(prompt)
            if unknown:
                raise UserError(
                    f"the prompt {prompt!r} has characters that the model has never seen: {unknown!r}; leave them out"
                )
        write = make_continuation(objective, config.context, command.temperature, command.top_k)
        for i, prompt in enumerate(command.prompts):
            key = jax.random.fold_in(jax.random.key(command.seed), i)
            print(prompt + vocabulary.decode(write(params, vocabulary.encode(prompt), command.length, key)))
            if i + 1 < len(command.prompts):
                print("-" * 40)

    def verify(self, config: Config) -> Report:
        corpus = _corpus(config)
        objective = language_objective(self.model(config, corpus.vocabulary), len(corpus.vocabulary))
        inputs, labels = corpus.windows("test", 9).take(slice(3))
        context = Context(train=True, key=jax.random.key(config.seed))
        params = initial_params(objective, config)
        return verify(objective, params, (inputs, Targets(labels)), context, precisions=(), checks=())

    def export(self, run: Path) -> None:
        """Ids (batch, context) to the logarithm of every token's probability of coming next, at each position."""
        config, vocabulary, objective, params = self._trained(run)
        inner: Any = objective.layer

        def log_probabilities(ids: jax.Array) -> jax.Array:
            both = objective.expand(params)
            h = inner.model.apply(both["model"], ids, Context())
            return jax.nn.log_softmax(inner.loss.logits(both["loss"], h))

        folder = artifact.write(
            run,
            log_probabilities,
            [((config.context,), jnp.int32)],
            lambda random, shape: random.integers(len(vocabulary), size=shape, dtype=np.int32),
            takes=f"int32 (batch, {config.context}): ids of vocabulary.json, any batch",
            gives=f"float32 (batch, {config.context}, {len(vocabulary)}): log-probabilities of the next",
        )
        write_vocabulary(folder, vocabulary)

    def _trained(self, run: Path) -> tuple[Config, Characters | Subwords, Objective, PyTree]:
        """Of a run: its options, vocabulary, objective and the parameters of its best checkpoint."""
        Run.open(run)
        config, vocabulary = read_config(run, Config), read_vocabulary(run)
        objective = self.objective(config, vocabulary)
        return config, vocabulary, objective, load_params(run, initial_params(objective, config))


def initial_params(objective: Objective, config: Config) -> PyTree:
    """Untrained parameters, or the shapes that a run's are restored into."""
    ids = jax.ShapeDtypeStruct((1, config.context), jnp.int32)
    return init_params(objective, (ids, Targets(ids)), config.seed)


def _corpus(config: Config) -> Corpus:
    return load(config.data, config.vocabulary if config.units == "subwords" else 0)


def _tested(config: Config, corpus: Corpus, objective: Objective, params: PyTree) -> dict[str, float]:
    windows = evaluation_batches(corpus.windows("test", config.context), config.batch_size)
    loss = make_evaluation(objective, no_metrics)(params, windows)["loss"]
    nats = loss * len(corpus.test) / corpus.test_characters
    return {"loss": loss, "bits_per_character": nats / math.log(2), "perplexity": math.exp(loss)}


if __name__ == "__main__":
    main(LanguageModel())
