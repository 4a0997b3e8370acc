"""Language modelling: predicts which character, or subword, comes next, and writes text that continues a prompt.

scripts/run language_model                                        trains on the source of Python's own library
scripts/run language_model --data shakespeare
scripts/run language_model --data my_diary.txt --model lstm       any UTF-8 text
scripts/run language_model --units subwords --context 128
scripts/run language_model predict runs/... "ROMEO: "             continues a prompt
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline.data.batches import Batch, evaluation_batches
from pipeline.data.text import KNOWN, Corpus, load
from pipeline.data.vocabulary import Characters, Subwords
from pipeline.data.vocabulary import read as read_vocabulary
from pipeline.data.vocabulary import write as write_vocabulary
from pipeline.decoding.sampling import log_probabilities, make_continuation
from pipeline.display import print_notes
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import make_evaluation
from pipeline.evaluation.metrics import no_metrics
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.models.language import language_objective, lstm, transformer
from pipeline.options import (
    LARGEST,
    SEEDS,
    require,
    require_at_least,
    require_between,
    require_equal_heads,
    require_shares,
)
from pipeline.report import page
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

CHECKED_WINDOWS = 4  # in a gradient check
VERIFIED_WINDOWS, VERIFIED_LENGTH = 3, 9
SAMPLE = 500  # tokens of the report's sample

Vocabulary = Characters | Subwords


@dataclass(frozen=True)
class Config(TaskConfig):
    """Train a language model of a text and write a run folder with its report."""

    data: str = "python"
    """Data set: python (the source of Python's own library), shakespeare; or the path of a text file."""
    encoding: str = ""
    """Encoding of the file. Empty: UTF-8, or UTF-16 where the file shows it."""
    model: Literal["transformer", "lstm"] = "transformer"
    """Kind of model: transformer (attention to all tokens of the window) or lstm (a recurrent state)."""
    units: Literal["characters", "subwords"] = "characters"
    """Kind of token: characters, or subwords learned from the text (byte-pair encoding)."""
    vocabulary: int = 1000
    """Maximum number of subwords."""
    context: int = 64
    """Context length: number of tokens that the model sees at a time."""
    layers: int = 4
    """Number of transformer blocks, or of LSTM layers."""
    width: int = 128
    """Number of features at every position."""
    heads: int = 4
    """Number of attention heads; they share the width."""
    dropout: float = 0.0
    """Dropout: share of features set to zero in each training step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, width=(1, 100_000), heads=(1, 1000), layers=(1, 100))
        require_between(self, vocabulary=(300, 1_000_000))
        require_at_least(self, context=1)
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
    """Continue a prompt."""

    prompts: Positional[tuple[str, ...]]
    """Prompts, each in quotation marks."""
    length: int = 300
    """Number of tokens to generate."""
    temperature: float = 0.8
    """Sampling temperature, which divides the logits: lower is safer, higher more varied; 0 takes the likeliest."""
    top_k: int = 0
    """Sample among this many of the likeliest tokens. 0: among all."""
    seed: int = 0
    """Random seed of the sampling."""


class LanguageModel(Task[Config]):
    name = "language_model"
    title = "Language model"
    config = Config
    sizes = ("width", "layers", "vocabulary")
    predictions = Continue
    known = KNOWN
    signature_parts = "vocabularies"
    test_metrics = {  # noqa: RUF012  (a ClassVar)
        "bits_per_character": Metric("bits per character"),
        "loss": Metric("test loss", "{:.4f} nats per token", headline=False),
        "perplexity": Metric("perplexity", "{:.3f}"),
    }

    def recipe(self, data: str | None) -> Config:
        return dataclasses.replace(RECIPE, data=data or RECIPE.data)

    def load(self, config: Config) -> Corpus:
        return load(config.data, config.vocabulary if config.units == "subwords" else 0, config.encoding)

    def signature(self, config: Config, data: Corpus) -> Vocabulary:
        del config
        return data.vocabulary

    def write_signature(self, folder: Path, signature: Vocabulary) -> None:
        write_vocabulary(folder, signature)

    def read_signature(self, run_directory: Path) -> Vocabulary:
        return read_vocabulary(run_directory)

    def objective(self, config: Config, signature: Vocabulary) -> Objective:
        if config.model == "lstm":
            model = lstm(len(signature), config.width, config.layers, config.dropout)
        else:
            model = transformer(len(signature), config.width, config.layers, config.heads, config.dropout)
        return language_objective(in_precision(model, config.precision), len(signature))

    def example(self, config: Config, signature: Vocabulary) -> Batch:
        del signature
        ids = jax.ShapeDtypeStruct((1, config.context), jnp.int32)
        return ids, Targets(ids)

    def training(self, model: TaskModel, data: Corpus) -> Training:
        config = model.config
        validation, _ = (data.windows(part, config.context) for part in ("validation", "test"))
        validate = make_evaluation(model.objective, no_metrics)
        return Training(
            data.windows("train", config.context),
            lambda params: validate(params, evaluation_batches(validation, config.batch_size)),
            f"{data.name}: {split_sizes(data)} {config.units}, {len(model.signature)} in the vocabulary",
            data.notes,
        )

    def check_batch(self, model: TaskModel, data: Corpus) -> Batch:
        inputs, labels = data.windows("test", model.config.context).take(slice(CHECKED_WINDOWS))
        return inputs, Targets(labels)

    def verify_batch(self, model: TaskModel, data: Corpus) -> Batch:
        inputs, labels = data.windows("test", VERIFIED_LENGTH).take(slice(VERIFIED_WINDOWS))
        return inputs, Targets(labels)

    def test(self, model: TaskModel, data: Corpus, run_directory: Path) -> Evaluation:
        del run_directory
        windows = evaluation_batches(data.windows("test", model.config.context), model.config.batch_size)
        loss = make_evaluation(model.objective, no_metrics)(model.params, windows)["loss"]
        nats = loss * len(data.test) / data.test_characters
        return Evaluation({"loss": loss, "bits_per_character": nats / math.log(2), "perplexity": _exp(loss)})

    def story(self, outcome: Outcome) -> Story:
        config, data = outcome.config, outcome.data
        return Story(
            f"A {config.model} with {config.layers} layers of {config.width} features learned to predict the next of "
            f"{len(data.vocabulary)} {config.units} from {_tokens_seen(outcome):,} of them, in windows of "
            f"{config.context}",
            f"the {len(data.validation):,} {config.units} after those",
            f"the last {len(data.test):,}",
        )

    def facts(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        config = outcome.config
        return [
            (f"{config.units} seen", f"{_tokens_seen(outcome):,}"),
            ("vocabulary", str(len(outcome.data.vocabulary))),
            ("context", str(config.context)),
        ]

    def learning(self, metrics: Sequence[Mapping[str, Any]], config: Config) -> Sequence[page.Part]:
        return learning_sections(metrics, _unit(config))

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        (config, vocabulary, objective, params), data = outcome.model, outcome.data
        generate = make_continuation(objective, config.context, temperature=0.8, excluded=vocabulary.special_ids)
        prompt = data.test[: config.context]
        sample = generate(params, prompt, SAMPLE, jax.random.key(config.seed))
        return [
            page.Section(
                "A sample",
                caption="The first window of the test text, and how the model continues it at temperature 0.8.",
                code=f"{vocabulary.decode(prompt)}⟶{vocabulary.decode(sample)}",
            )
        ]

    def predict(self, command: Continue) -> Answers:
        require_between(command, length=(1, 1_000_000), top_k=(0, LARGEST), seed=(0, SEEDS - 1))
        # A lower temperature divides the logits until they are infinite.
        fits = command.temperature == 0 or 0.001 <= command.temperature <= 1000
        require(fits, command, "temperature", "0, or from 0.001 to 1000")
        if not command.prompts:
            raise UserError('predict needs a text to continue: predict RUN "ROMEO: "')
        config, vocabulary, objective, params = self.trained(command.run)
        for prompt in command.prompts:
            if not prompt:
                raise UserError("a prompt is empty; give at least one character to continue")
        special = vocabulary.special_ids
        generate = make_continuation(objective, config.context, command.temperature, command.top_k, special)
        records = []
        for i, prompt in enumerate(command.prompts):
            key = jax.random.fold_in(jax.random.key(command.seed), i)
            ids, notes = _prompt_ids(prompt, vocabulary, config)
            print_notes(f"prompt {i + 1}: {note}" for note in notes)
            ids = generate(params, ids, command.length, key)
            records.append({"prompt": prompt, "continuation": vocabulary.decode(ids)})
        return Answers(records, f"\n{'-' * 40}\n".join("".join(record.values()) for record in records))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Ids (batch, context) to the log-probability of every token coming next, at each position."""
        del run_directory
        config, vocabulary, objective, params = model
        return Exported(
            lambda ids: log_probabilities(objective, params, ids),
            [((config.context,), jnp.int32)],
            lambda random, shape: random.integers(len(vocabulary), size=shape, dtype=np.int32),
            takes=f"int32 (batch, {config.context}): ids of vocabulary.json, any batch",
            gives=f"float32 (batch, {config.context}, {len(vocabulary)}): log-probabilities of the next",
        )


def _prompt_ids(prompt: str, vocabulary: Vocabulary, config: Config) -> tuple[np.ndarray, list[str]]:
    """The ids of a prompt, without those of unknown characters unless there are no others; and notes."""
    ids, unknown, notes = vocabulary.encode(prompt), vocabulary.unknown(prompt), []
    known = ids[~np.isin(ids, vocabulary.special_ids)]
    if unknown:
        does = "reads their bytes" if config.units == "subwords" else "leaves them out"
        notes.append(f"the model does not know the characters {unknown!r}, and {does if len(known) else 'no others'}")
    ids, half = known if len(known) else ids, max(1, config.context // 2)
    if len(ids) > half:
        notes.append(f"the model reads the last {half} of {len(ids):,} {config.units} (half of --context)")
    return ids, notes


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < math.log(sys.float_info.max) else math.inf


def _unit(config: Config) -> str:
    """The unit of the loss."""
    return f"nats per {config.units[:-1]}"


def _tokens_seen(outcome: Outcome) -> int:
    return outcome.summary["steps"] * outcome.config.batch_size * outcome.config.context


if __name__ == "__main__":
    main(LanguageModel())
