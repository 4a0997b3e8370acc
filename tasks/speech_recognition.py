"""Speech recognition: a recording becomes text, and every word gets its time.

scripts/run speech_recognition                                      commands spoken by a synthesiser
scripts/run speech_recognition --data fsdd                          recorded digits
scripts/run speech_recognition --data fsdd --connected 5 --epochs 20 --batch-size 16    five digits in a row
scripts/run speech_recognition --data fsdd --hold-out-speaker theo  a voice that training has not heard
scripts/run speech_recognition --data my_recordings.tsv             columns path and text; or a folder with one in it
scripts/run speech_recognition predict runs/... hello.wav
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline import compiler
from pipeline.data import vocabulary as vocabularies
from pipeline.data.audio import SpecAugment, Spectrum, read_audio, spec_augment
from pipeline.data.batches import by_length, evaluation_batches, steps_per_epoch, train_batches
from pipeline.data.speech import Recordings, Speech, load
from pipeline.data.utterances import AugmentedUtterances, Utterances, WaveformAugmentation, features
from pipeline.data.vocabulary import Characters
from pipeline.decoding.ctc import Labels, align, best_path, prefix_beam_search
from pipeline.decoding.ngram import NGram
from pipeline.errors import UserError
from pipeline.evaluation.metrics import no_metrics
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.masking import MaskedByLength
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.ctc import CTC, Transcripts
from pipeline.models.acoustic import conformer, convolutional_recurrent, frames_after
from pipeline.options import require, require_at_least, require_equal_heads, require_shares
from pipeline.report import classification as shown
from pipeline.report import page
from pipeline.report import speech as reported
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

CHECKED = 4  # utterances in a gradient check: float64 autodiff of the whole model
PICTURES = 3  # in the report
TEXTS = "training_texts.json"
AUDIO = (".wav", ".flac")


@dataclass(frozen=True)
class Config(TaskConfig):
    """Trains a recogniser and leaves a run folder with its report."""

    data: str = "commands"
    """commands (spoken by espeak-ng), fsdd (recorded digits); or a .tsv, .csv or .jsonl file with the columns path and
    text, and maybe speaker; or a folder with one in it, or with train.*, dev.*, test.*."""
    model: Literal["recurrent", "conformer"] = "recurrent"
    """A convolution, and recurrent networks in both directions; or attention and convolutions in turn."""
    connected: int = 1
    """Of how many recordings of one speaker an utterance is made, with random pauses between."""
    hold_out_speaker: str = ""
    """A speaker whose recordings are the test set; training hears all others. Nothing: the data's own test set."""
    longest: float = 15.0
    """Seconds. Longer recordings are not trained on; the exported model hears so much."""
    rate: int = 16_000
    """Samples a second that recordings are resampled to."""
    mels: int = 40
    """Bands of the spectrum."""
    window: float = 0.025
    """Seconds of sound in a frame."""
    hop: float = 0.010
    """Seconds from one frame to the next."""
    normalise: Literal["bands", "level"] = "bands"
    """What becomes mean 0 and deviation 1 in an utterance: each band; or, where one is a single short word, all
    together."""
    stride: int = 3
    """Frames in one step of the model, in which it says at most one character."""
    width: int = 128
    """Features of every step, and units of a recurrent network in each direction."""
    layers: int = 2
    """Recurrent networks, or blocks of a conformer, one after the other."""
    heads: int = 4
    """Of the conformer's attention; they share the width."""
    dropout: float = 0.1
    """The share of features that each training step leaves out."""
    speed: float = 0.1
    """The share by which training recordings become faster or slower at most."""
    noise: tuple[float, float] = (10.0, 50.0)
    """Decibels that white noise is below training recordings, from and to."""
    spec_augment: SpecAugment = dataclasses.field(default_factory=SpecAugment)
    beam: int = 1
    """Texts that the search goes on with after each step. 1: the characters of the likeliest alignment."""
    ngram: int = 0
    """With a beam: how many characters in a row the search has statistics of, from the training texts. 0: none."""
    ngram_weight: float = 0.5
    """How much they count beside the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, connected=1, rate=1, mels=1, stride=1, width=1, layers=1, heads=1, beam=1, ngram=0)
        require_equal_heads(self.width, self.heads)
        require_at_least(self, ngram_weight=0)
        require_shares(self, "dropout", "speed")
        require(self.longest > 0, self, "longest", "more than 0")
        require(self.noise[0] <= self.noise[1], self, "noise", "two numbers, the second not less than the first")
        if self.ngram and self.beam == 1:
            raise UserError(
                f"--ngram is {self.ngram}, and --beam 1: statistics of texts need a beam, such as --beam 16"
            )
        self.spectrum  # noqa: B018  (which says what is wrong with it)

    @property
    def spectrum(self) -> Spectrum:
        return Spectrum(self.rate, self.window, self.hop, self.mels)


# What trains well on each data set; an option on the command line changes only itself. The last is for your own data.
OWN = Config(
    epochs=30,
    batch_size=32,
    log_every=20,
    save_seconds=300.0,
    optimizer=OptimizerConfig(
        name="muon", learning_rate=1e-2, weight_decay=0.02, schedule="one_cycle", warmup=0.2, clip=1.0
    ),
)
RECIPES = {
    "commands": dataclasses.replace(OWN, rate=8_000, width=96, epochs=4, beam=8, ngram=6),
    "fsdd": dataclasses.replace(
        OWN,
        rate=8_000,
        hop=0.008,
        normalise="level",
        stride=2,
        width=96,
        dropout=0.15,
        epochs=18,
        noise=(15.0, 50.0),
        spec_augment=SpecAugment(2, 5, 1, 6, 0.15),
        average=0.998,
        beam=8,
        ngram=6,
        ngram_weight=1.0,
    ),
}


@dataclass(frozen=True)
class Listen(Predictions):
    """What is said in recordings, and when."""

    recordings: Positional[tuple[Path, ...]]
    """WAV or FLAC files, or folders of them."""
    beam: int | None = None
    """Texts that the search goes on with after each step. None: as in the run."""


class Trained(NamedTuple):
    """Of a run: its options, alphabet, objective, the parameters of its best checkpoint, and how frames are read."""

    config: Config
    alphabet: Characters
    objective: Objective
    params: PyTree
    read: Callable[[np.ndarray], Labels]

    def utterances(self, recordings: Recordings) -> Utterances:
        return _utterances(self.config, self.objective, self.alphabet, recordings)

    def text(self, labels: Labels) -> str:
        return " ".join(self.alphabet.decode(np.asarray(labels, int)).split())


class SpeechRecognition(Task[Config]):
    name = "speech_recognition"
    title = "Speech recognition"
    config = Config
    predictions = Listen

    def recipe(self, data: str | None) -> Config:
        data = data or "commands"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> Speech:
        return load(
            config.data,
            rate=config.rate,
            seed=config.seed,
            connected=config.connected,
            hold_out_speaker=config.hold_out_speaker,
        )

    def model(self, config: Config, alphabet: Characters) -> Layer:
        if config.model == "conformer":
            sizes = config.width, config.layers, config.heads
            return conformer(len(alphabet), *sizes, stride=config.stride, dropout=config.dropout)
        return convolutional_recurrent(
            len(alphabet), config.width, config.width, config.layers, config.stride, config.dropout
        )

    def objective(self, config: Config, alphabet: Characters) -> Objective:
        model = MaskedByLength(self.model(config, alphabet))
        return Objective(in_precision(model, config.precision), CTC(infeasible="zero"))

    def train(self, config: Config) -> None:
        speech = self.load(config)
        alphabet = Characters.of("".join(speech.texts))
        objective = self.objective(config, alphabet)
        train, notes = _trainable(_utterances(config, objective, alphabet, speech.train), config, speech)
        drawn = AugmentedUtterances(
            train, config.connected, WaveformAugmentation(config.speed, config.noise), config.seed
        )
        steps = steps_per_epoch(drawn, config.batch_size)
        run = open_run(self, config)
        vocabularies.write(run.directory, alphabet)
        texts = json.dumps(list(speech.texts), ensure_ascii=False)
        (run.directory / TEXTS).write_text(texts + "\n", encoding="utf-8")

        params = initial_params(objective, config)
        if not config.quiet:
            held = ", ".join(f"{len(getattr(speech, part)):,} {part}" for part in ("validation", "test"))
            print(
                f"{config.model} with {summary_of_run.count(params):,} parameters on {speech.name}: {len(drawn):,} train, "
                f"{held} utterances, {len(alphabet) - 1} characters",
                *notes,
                *_unknown(alphabet, speech),
                sep="\n",
                flush=True,
            )
        hear = make_hearing(objective)
        validation = _utterances(config, objective, alphabet, speech.validation)

        def evaluate(params: PyTree) -> dict[str, float]:
            loss, heard = hear(params, validation, config.batch_size)
            texts = [alphabet.decode(np.asarray(best_path(log_y).labels, int)) for log_y in heard]
            return {"loss": loss, **scores(speech.validation.texts, texts)}

        result = fit(
            objective,
            params,
            train_batches(drawn, config.batch_size, config.seed),
            config,
            run,
            steps_per_epoch=steps,
            evaluate=evaluate,
            augment=partial(_hide, config.spec_augment),
            metrics=no_metrics,
        )
        reader = _reader(config, alphabet, speech.texts)
        self._conclude(Trained(config, alphabet, objective, result.params, reader), speech, run, result)

    def _conclude(self, trained: Trained, speech: Speech, run: Run, result: Result) -> None:
        """Tests the best checkpoint, checks its gradients, and tells: summary.json, report.html, a few lines."""
        test, texts, heard = _tested(trained, speech.test)
        lines = ("\t".join(its) for its in zip(speech.test.names, speech.test.texts, texts))
        (run.directory / "transcripts.tsv").write_text(
            "\n".join(["recording\ttext\trecognised", *lines]) + "\n", encoding="utf-8"
        )
        checked = trained.utterances(speech.test.of(range(min(CHECKED, len(speech.test)))))
        batch = checked.take(np.arange(len(checked)))
        check = gradient_check(trained.objective, result.params, batch)
        summary = summary_of_run.summary(self, trained.config, result, test, check)
        run.finish(summary)
        examples = np.linspace(0, len(speech.test) - 1, PICTURES, dtype=int).tolist()
        pictures = [_heard(trained, speech.test.of([row]), heard[row], texts[row]) for row in dict.fromkeys(examples)]
        found = self._page(trained, speech, summary, run.metrics(), texts, pictures)
        report = page.write(run.directory, found)
        right = [("test accuracy", f"{test['accuracy']:.4f}")] if "accuracy" in test else []
        summary_of_run.tell(
            summary,
            report,
            *right,
            ("test WER", f"{test['wer']:.2%} of words  (CER {test['cer']:.2%} of characters)"),
            ("test loss", f"{test['loss']:.4f} nats an utterance"),
        )

    def _page(
        self,
        trained: Trained,
        speech: Speech,
        summary: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]],
        texts: Sequence[str],
        pictures: Sequence[reported.Heard],
    ) -> page.Page:
        config, test = trained.config, summary["test"]
        right = [(f"{test['accuracy']:.1%}", "test accuracy")] if "accuracy" in test else []
        speakers = f", {len(set(speech.train.speakers))} speakers" if any(speech.train.speakers) else ""
        whose = f"the {len(speech.test):,} test utterances"
        if config.hold_out_speaker:
            whose += f" of {config.hold_out_speaker}, whom training has not heard,"
        return page.Page(
            title=f"{self.title}: {config.model} on {Path(speech.name).name}",
            headline=summary_of_run.headline(
                summary, *right, (f"{test['wer']:.1%}", "test word errors"), (f"{test['cer']:.1%}", "of characters")
            ),
            summary=(
                f"A {config.model} network learnt to write down what is said from {len(speech.train):,} "
                f"recordings{speakers}, with {summary_of_run.BY[config.gradient]} and connectionist temporal "
                f"classification: nobody told it when a character is spoken. It stopped after {summary['epochs']} "
                f"epochs ({summary['stopped_because']}); the checkpoint that was best on {len(speech.validation):,} "
                f"validation utterances is judged on {whose} that neither training nor that choice has seen."
            ),
            facts=summary_of_run.facts(
                config,
                summary,
                ("data", speech.name),
                ("model", config.model),
                *([("test accuracy", f"{test['accuracy']:.4f}")] if right else []),
                ("test word error rate", f"{test['wer']:.4f}"),
                ("test character error rate", f"{test['cer']:.4f}"),
                ("test loss, nats an utterance", f"{test['loss']:.4f}"),
                ("decoding", _decoding(config)),
                ("features", f"{config.mels} log-mel bands every {1000 * config.hop:g} ms, {config.rate:,} Hz"),
                ("a step of the model", f"{1000 * config.hop * config.stride:g} ms"),
            ),
            sections=[
                *reported.learning(metrics),
                *reported.examples(pictures),
                reported.confusions(speech.test.texts, texts),
                reported.worst(speech.test.texts, texts, [Path(name).name for name in speech.test.names]),
                shown.gradient_sizes(metrics),
                *shown.gradients(summary["gradient_check"]["relative_error"]),
            ],
            reproduce=command(self, config),
            environment=summary_of_run.environment(config, summary),
        )

    def evaluate(self, run: Path) -> Mapping[str, float]:
        trained = self._trained(run)
        return _tested(trained, self.load(trained.config).test)[0]

    def predict(self, command: Listen) -> None:
        if command.beam is not None and command.beam < 1:
            raise UserError(f"--beam is {command.beam}; it must be at least 1")
        files = _files(command.recordings)
        trained = self._trained(command.run, command.beam)
        config = trained.config
        signals = [read_audio(file, config.rate) for file in files]
        unknown = [""] * len(files)
        utterances = trained.utterances(Recordings(signals, unknown, unknown, list(map(str, files))))
        _, heard = make_hearing(trained.objective)(trained.params, utterances, min(config.batch_size, len(files)))
        for file, signal, log_y in zip(files, signals, heard):
            if not np.ptp(signal):
                print(f"{file}: silence")
                continue
            words = _words(trained, log_y)
            print(f"{file}: {' '.join(word for word, _, _ in words) or 'nothing is said'}")
            for word, start, end in words:
                print(f"    {start:7.2f} s to {end:7.2f} s  {word}")

    def verify(self, config: Config) -> Report:
        speech = self.load(config)
        alphabet = Characters.of("".join(speech.texts))
        objective = self.objective(config, alphabet)
        utterances = _utterances(config, objective, alphabet, speech.test)
        batch = utterances.take(by_length(utterances)[:CHECKED])
        context = Context(train=True, key=jax.random.key(config.seed))
        return verify(objective, initial_params(objective, config), batch, context, precisions=(), checks=())

    def export(self, run: Path) -> None:
        """Signals to the logarithm of every symbol's probability at every step."""
        config, alphabet, objective, params, _ = self._trained(run)
        spectrum, samples = config.spectrum, round(config.longest * config.rate)

        def log_probabilities(signals: jax.Array, lengths: jax.Array) -> jax.Array:
            inputs = features(spectrum, config.normalise, signals, lengths)
            return jax.nn.log_softmax(objective.model.apply(params["model"], inputs, Context()))

        def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
            if len(shape) == 1:
                return random.integers(1, samples, shape, dtype=np.int32)
            return random.normal(size=shape).astype(np.float32) / 10

        folder = artifact.write(
            run,
            log_probabilities,
            [((samples,), jnp.float32), ((), jnp.int32)],
            draw,
            takes=f"float32 (batch, {samples}): signals from -1 to 1, {config.rate} samples a second, 0 behind their "
            "ends; int32 (batch,): how many samples each has",
            gives=f"float32 (batch, steps of {config.hop * config.stride:g} s, {len(alphabet)}): log-probabilities of "
            "the characters of vocabulary.json; the first is CTC's blank",
        )
        vocabularies.write(folder, alphabet)

    def _trained(self, run: Path, beam: int | None = None) -> Trained:
        Run.open(run)
        config, alphabet = read_config(run, Config), vocabularies.read(run)
        objective = self.objective(config, alphabet)
        texts = json.loads((run / TEXTS).read_text(encoding="utf-8"))
        params = load_params(run, initial_params(objective, config))
        if beam is not None:
            config = dataclasses.replace(config, beam=beam)
        return Trained(config, alphabet, objective, params, _reader(config, alphabet, texts))


def initial_params(objective: Objective, config: Config) -> PyTree:
    """Untrained parameters, or the shapes that a run's are restored into."""
    one = jax.ShapeDtypeStruct((1,), jnp.int32)
    frames = jax.ShapeDtypeStruct((1, 64, config.mels), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    return init_params(objective, ((frames, one), Targets(Transcripts(labels, one, one))), config.seed)


def _utterances(config: Config, objective: Objective, alphabet: Characters, recordings: Recordings) -> Utterances:
    model: Any = objective.model
    frames = partial(frames_after, model.layer)
    return Utterances(recordings, alphabet, config.spectrum, frames, config.normalise)


def _trainable(utterances: Utterances, config: Config, speech: Speech) -> tuple[Utterances, list[str]]:
    """Those that are not too long, not too short for their texts, and not silent; and what is left out."""
    notes, signals = list(speech.notes), utterances.recordings.signals
    fits = np.asarray([len(signal) <= config.longest * config.rate for signal in signals])
    sounds = np.asarray([np.ptp(signal) > 0 for signal in signals])
    reasons = (
        (~fits, f"they are longer than --longest {config.longest:g} seconds"),
        (~utterances.feasible, "they are too short for their texts: a character needs a step of the model"),
        (~sounds, "they are silent"),
    )
    for wrong, reason in reasons:
        if wrong.any():
            first = utterances.recordings.names[int(wrong.argmax())]
            notes.append(f"{wrong.sum()} training recordings left out: {reason} (the first: {first})")
    rows = np.flatnonzero(fits & utterances.feasible & sounds)
    if not len(rows):
        raise UserError(f"no recording of {speech.name} can be trained on:\n  " + "\n  ".join(notes))
    return dataclasses.replace(utterances, recordings=utterances.recordings.of(rows.tolist())), notes


def _unknown(alphabet: Characters, speech: Speech) -> list[str]:
    """What no training text has, and so no answer will have."""
    notes = []
    for part in ("validation", "test"):
        texts = getattr(speech, part).texts
        unknown = alphabet.unknown("".join(texts))
        if unknown:
            count = sum(bool(set(text) & set(unknown)) for text in texts)
            notes.append(
                f"{count} {part} texts have characters that no training text has, and that count as mistakes: "
                f"{' '.join(map(repr, unknown))}"
            )
    return notes


def _hide(config: SpecAugment, key: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    frames, lengths = inputs
    return spec_augment(config, key, frames, lengths), lengths


Hearing = Callable[[PyTree, Utterances, int], tuple[float, list[np.ndarray]]]


def make_hearing(objective: Objective) -> Hearing:
    """A function ``(params, utterances, batch size) -> (loss, heard)``.

    heard: of every utterance, in order, the logarithm of each symbol's probability in each frame that counts.
    """

    @compiler.jit
    def judged(params: PyTree, batch: Any) -> tuple[jax.Array, jax.Array]:
        loss, logits = objective.evaluate(params, batch, Context())
        return loss * objective.count(batch[1]), jax.nn.log_softmax(logits)

    def hear(params: PyTree, utterances: Utterances, batch_size: int) -> tuple[float, list[np.ndarray]]:
        total, rows = 0.0, []
        for batch in evaluation_batches(utterances, batch_size):
            loss, log_y = judged(params, batch)
            total += float(loss)
            rows += [its[:frames] for its, frames in zip(np.asarray(log_y), batch[1].values.frames)]
        order = by_length(utterances)
        heard: list[Any] = [None] * len(order)
        for place, its in zip(order, rows):  # copies that fill the last batch have no place
            heard[place] = its
        return total / len(order), heard

    return hear


def _reader(config: Config, alphabet: Characters, texts: Sequence[str]) -> Callable[[np.ndarray], Labels]:
    """What the frames of an utterance read as, by the options of decoding."""
    if config.beam == 1:
        return lambda log_y: best_path(log_y).labels
    if not config.ngram:
        return lambda log_y: prefix_beam_search(log_y, config.beam)[0][0]
    # The blank, which no text has, marks where texts begin and end: "thre" is no text, but "three" is.
    marked = [(0, *alphabet.encode(text).tolist(), 0) for text in texts]
    model, weight = NGram.of(marked, config.ngram, len(alphabet)), config.ngram_weight

    def read(log_y: np.ndarray) -> Labels:
        found = prefix_beam_search(log_y, config.beam, scorer=lambda prefix: weight * model((0, *prefix)))
        return max(found, key=lambda its: its[1] + weight * model((0, *its[0], 0)))[0]

    return read


def _words(trained: Trained, log_y: np.ndarray) -> list[tuple[str, float, float]]:
    """The words that are recognised, and the seconds at which each begins and ends by the likeliest alignment."""
    step = trained.config.hop * trained.config.stride
    reading = align(log_y, trained.read(log_y))
    assert reading is not None  # what is read has an alignment
    characters = trained.alphabet.decode(np.asarray(reading.labels, int))
    found, places = [], list(zip(reading.starts, reading.ends))
    for match in re.finditer(r"\S+", characters):
        (start, _), (_, end) = places[match.start()], places[match.end() - 1]
        found.append((match[0], start * step, end * step))
    return found


def _heard(trained: Trained, recording: Recordings, log_y: np.ndarray, text: str) -> reported.Heard:
    """An utterance for the report, with the alignment of what is recognised in it."""
    config = trained.config
    (seen, (frames,)), _ = trained.utterances(recording).take(np.arange(1))
    labels = trained.read(log_y)
    reading = align(log_y, labels)
    starts, ends = (reading.starts, reading.ends) if reading else ((), ())
    said = recording.texts[0]
    return reported.Heard(
        said if text == said else f"{said} (recognised: {text or reported.NOTHING})",
        seen[0, :frames],
        config.hop,
        log_y,
        config.hop * config.stride,
        trained.alphabet.characters,
        labels,
        starts,
        ends,
    )


def _decoding(config: Config) -> str:
    if config.beam == 1:
        return "the likeliest alignment"
    texts = f", and statistics of {config.ngram} characters in a row" if config.ngram else ""
    return f"a search with {config.beam} texts{texts}"


def _files(given: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders."""
    if not given:
        raise UserError("predict needs recordings: predict RUN hello.wav")
    files = []
    for path in given:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in AUDIO) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} has no {' or '.join(AUDIO)} file in it")
        files += found
    return files


def scores(texts: Sequence[str], recognised: Sequence[str]) -> dict[str, float]:
    """Word and character error rates; where every text is one word, the share that is right, too."""
    import jiwer

    found = {"wer": jiwer.wer(list(texts), list(recognised)), "cer": jiwer.cer(list(texts), list(recognised))}
    if any(" " in text for text in texts):
        return found
    return {**found, "accuracy": float(np.mean([text == its for text, its in zip(texts, recognised)]))}


def _tested(trained: Trained, recordings: Recordings) -> tuple[dict[str, float], list[str], list[np.ndarray]]:
    """The metrics of recordings, what is recognised in them, and what is heard in their frames."""
    hear = make_hearing(trained.objective)
    loss, heard = hear(trained.params, trained.utterances(recordings), trained.config.batch_size)
    texts = [trained.text(trained.read(log_y)) for log_y in heard]
    return {**scores(recordings.texts, texts), "loss": loss}, texts, heard


if __name__ == "__main__":
    main(SpeechRecognition())
