"""Speech recognition: writes down what is said in a recording, with the time of each word.

scripts/run speech_recognition                                      commands spoken by a synthesiser
scripts/run speech_recognition --data fsdd                          recorded digits
scripts/run speech_recognition --data fsdd --connected 5 --epochs 20 --batch-size 16    five digits in a row
scripts/run speech_recognition --data fsdd --hold-out-speaker theo  a voice that training has not heard
scripts/run speech_recognition --data my_recordings.tsv             columns path and text; or a folder with one in it
scripts/run speech_recognition --features data/ --lexicon lexicon.txt    features with texts, as Kaldi has them
scripts/run speech_recognition predict runs/... hello.wav
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline import storage
from pipeline.data import feature_sets, speech
from pipeline.data import vocabulary as vocabularies
from pipeline.data.audio import SpecAugment, augment_frames
from pipeline.data.batches import Batch, by_length
from pipeline.data.sequences import StretchedSequences
from pipeline.data.speech import KNOWN, ManifestColumns, Speech
from pipeline.data.speech_checks import trainable, unknown_units
from pipeline.data.speech_input import FeatureInput, FeatureOptions, SpectrumInput, SpectrumOptions, SpeechInput
from pipeline.data.speech_lexicon import with_lexicon
from pipeline.data.utterances import AugmentedUtterances, FeatureUtterances, WaveformAugmentation
from pipeline.data.vocabulary import Characters, Tokens
from pipeline.decoding.recogniser import MOST_TEXTS, Recogniser, SearchOptions
from pipeline.display import print_notes, visible
from pipeline.errors import LONGEST_LINE, UserError
from pipeline.evaluation.frames import make_frame_evaluation
from pipeline.evaluation.transcripts import transcript_metrics
from pipeline.layers.base import Context, PyTree
from pipeline.layers.masking import MaskedByLength
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.ctc import CTC, Transcripts
from pipeline.models.acoustic import conformer, convolutional_recurrent
from pipeline.options import require, require_between, require_equal_heads, require_shares
from pipeline.report import page
from pipeline.report import speech as shown
from pipeline.report.training import gradient_sizes
from pipeline.training.config import TaskConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.precision import in_precision
from pipeline.training.signatures import SpeechSignature
from tasks.framework.answers import Answers, Predictions
from tasks.framework.command_line import main
from tasks.framework.export import Exported
from tasks.framework.stages import Evaluation, Metric, Outcome, Story, TaskModel, Training
from tasks.framework.task import Task

CHECKED, PICTURES = 4, 3  # utterances in a gradient check, and in the report


@dataclass(frozen=True)
class Config(ManifestColumns, SpectrumOptions, FeatureOptions, SearchOptions, TaskConfig):
    """Train a speech recogniser and write a run folder with its report."""

    data: str = "commands"
    """Data set: commands (spoken by espeak-ng), fsdd (recorded digits); or the path of a .tsv, .csv or .jsonl file with
    the columns path and text, or of a folder with train.*, dev.*, test.*, or as Kaldi or LibriSpeech have it."""
    model: Literal["recurrent", "conformer"] = "recurrent"
    """Kind of model: recurrent (a convolution, then bidirectional GRUs) or conformer (attention and convolutions)."""
    connected: int = 1
    """Number of recordings of one speaker that are joined into an utterance, with random pauses between."""
    hold_out_speaker: str = ""
    """Speaker whose recordings are the test set, while training uses all others. Empty: the data's own test set."""
    longest: float = 15.0
    """Longest recording in seconds: longer ones are not trained on, and the exported model takes no more."""
    stride: int = 3
    """Number of frames in one step of the model, which gives at most one character."""
    width: int = 128
    """Number of features of every step, and of units of a recurrent layer in each direction."""
    layers: int = 2
    """Number of recurrent layers, or of conformer blocks."""
    heads: int = 4
    """Number of the conformer's attention heads; they share the width."""
    dropout: float = 0.1
    """Dropout: share of features set to zero in each training step."""
    speed: float = 0.1
    """Speed perturbation: largest share by which training recordings become faster or slower."""
    noise: tuple[float, float] = (10.0, 50.0)
    """Signal-to-noise ratio of white noise added to training recordings, in decibels: from and to."""
    spec_augment: SpecAugment = dataclasses.field(default_factory=SpecAugment)

    def __post_init__(self) -> None:
        for options in (TaskConfig, ManifestColumns, SpectrumOptions, FeatureOptions, SearchOptions):
            options.__post_init__(self)
        require_between(self, longest=(0.01, 3600), connected=(1, 1000), width=(1, 10_000), speed=(0, 0.5))
        require_between(self, stride=(1, 1000), layers=(1, 100), heads=(1, 1000))
        require_equal_heads(self.width, self.heads)
        require_shares(self, "dropout")
        least, most = self.noise
        require(-100 <= least <= most <= 1000, self, "noise", "from -100 to 1000, the second not less than the first")
        if self.features and (self.connected > 1 or self.data in KNOWN):
            raise UserError("--features does not go together with --connected, nor with the name of a data set")


# What trains well on each data set; an option on the command line changes only itself. OWN is for your own recordings,
# FEATURES for your own features.
OWN = Config(
    epochs=30,
    batch_size=32,
    log_every=20,
    save_seconds=300.0,
    optimizer=OptimizerConfig(
        name="muon", learning_rate=1e-2, weight_decay=0.02, schedule="one_cycle", warmup=0.2, clip=1.0
    ),
)
FEATURES = dataclasses.replace(OWN, epochs=60, beam=16, ngram=6)
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
    """Transcribe recordings, with the time of each word."""

    recordings: Positional[tuple[Path, ...]]
    """WAV or FLAC files, or folders of them; or files and folders of features, where a run was trained on these."""
    beam: int | None = None
    """Beam width: number of texts that the search keeps. None: as in the run."""


class SpeechRecognition(Task[Config]):
    name = "speech_recognition"
    title = "Speech recognition"
    config = Config
    sizes = ("width", "layers", "stride", "mels")
    predictions = Listen
    known = KNOWN
    chooses = ("features",)
    signature_class = SpeechSignature
    signature_parts = "training texts, features or lexicon"
    test_metrics = {  # noqa: RUF012  (a ClassVar)
        "accuracy": Metric("test accuracy"),
        "wer": Metric("test WER", "{:.2%}"),
        "cer": Metric("test CER", "{:.2%}"),
        "loss": Metric("test loss", "{:.4f} nats per utterance", headline=False),
    }

    def recipe(self, data: str | None, features: str | None = None) -> Config:
        if features:
            return dataclasses.replace(FEATURES, data=data or features, features=features)
        data = data or "commands"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> Speech:
        options: Any = {"seed": config.seed, "hold_out_speaker": config.hold_out_speaker, "columns": config}
        if config.features:
            data = feature_sets.load_features(config.features, config.data, **options)
        else:
            data = speech.load(config.data, rate=config.rate, connected=config.connected, **options)
        return with_lexicon(data, config.lexicon, config.language_model, config.units, config.encoding)

    def signature(self, config: Config, data: Speech) -> SpeechSignature:
        units, texts = Characters.of("".join(data.texts)), tuple(data.texts)
        if config.units != "characters":
            units = Tokens.of(texts if data.lexicon is None else map(data.lexicon.spell, texts))
        inputs = None if data.hop is None else FeatureInput.of(data.train, data.hop, config)
        return SpeechSignature(units, texts, inputs, data.lexicon, data.language_model)

    def objective(self, config: Config, signature: SpeechSignature) -> Objective:
        symbols = len(signature.alphabet)
        if config.model == "conformer":
            sizes = config.width, config.layers, config.heads
            model = conformer(symbols, *sizes, stride=config.stride, dropout=config.dropout)
        else:
            sizes = config.width, config.width, config.layers, config.stride
            model = convolutional_recurrent(symbols, *sizes, config.dropout)
        return Objective(in_precision(MaskedByLength(model), config.precision), CTC(infeasible="zero"))

    def example(self, config: Config, signature: SpeechSignature) -> Batch:
        one = jax.ShapeDtypeStruct((1,), jnp.int32)
        frames = jax.ShapeDtypeStruct((1, 64, _input(config, signature).width), jnp.float32)
        labels = jax.ShapeDtypeStruct((1, 8), jnp.int32)
        return (frames, one), Targets(Transcripts(labels, one, one))

    def training(self, model: TaskModel, data: Speech) -> Training:
        config, alphabet, recogniser = model.config, model.signature.alphabet, _recogniser(model)
        rate = 1 / data.hop if data.hop else config.rate
        utterances, notes = trainable(recogniser.utterances(data.train), data.name, rate, config.longest)
        if isinstance(utterances, FeatureUtterances):
            augmented = StretchedSequences(utterances, config.speed, config.seed)
        else:
            waveforms = WaveformAugmentation(config.speed, config.noise)
            augmented = AugmentedUtterances(utterances, config.connected, waveforms, config.seed)
        validation = recogniser.utterances(data.validation)
        evaluate_frames = make_frame_evaluation(model.objective)

        def evaluate(params: PyTree) -> Mapping[str, float]:
            loss, log_y = evaluate_frames(params, validation, config.batch_size)
            texts = [recogniser.transcribe_quickly(each).text for each in log_y]
            return {"loss": loss, **transcript_metrics(data.validation.texts, texts)}

        held_out = ", ".join(f"{len(getattr(data, part)):,} {part}" for part in ("validation", "test"))
        return Training(
            augmented,
            evaluate,
            f"{data.name}: {len(augmented):,} train, {held_out} utterances, {len(alphabet) - 1} {config.unit_name}",
            [*data.notes, *notes, *unknown_units(alphabet, data)],
            partial(augment_frames, config.spec_augment),
        )

    def check_batch(self, model: TaskModel, data: Speech) -> Batch:
        utterances = _recogniser(model).utterances(data.test.of(range(min(CHECKED, len(data.test)))))
        return utterances.take(np.arange(len(utterances)))

    def verify_batch(self, model: TaskModel, data: Speech) -> Batch:
        utterances = _recogniser(model).utterances(data.test)
        return utterances.take(by_length(utterances)[:CHECKED])

    def test(self, model: TaskModel, data: Speech, run_directory: Path) -> Evaluation:
        """The answers are, for each recording, the text and the log-probabilities of the frames."""
        del run_directory
        recogniser, evaluate_frames = _recogniser(model), make_frame_evaluation(model.objective)
        loss, log_y = evaluate_frames(model.params, recogniser.utterances(data.test), model.config.batch_size)
        texts = [recogniser.transcribe(each).text for each in log_y]
        metrics = transcript_metrics(data.test.texts, texts)
        return Evaluation({**metrics, "loss": loss}, list(zip(texts, log_y)))

    def write_results(self, outcome: Outcome) -> None:
        test, answers = outcome.data.test, (text for text, _ in outcome.evaluation.answers)
        rows = [("recording", "text", "recognised"), *zip(test.names, test.texts, answers)]
        lines = ("\t".join(visible(text, LONGEST_LINE) for text in row) for row in rows)
        storage.write(outcome.run.directory / "transcripts.tsv", "\n".join(lines) + "\n")

    def story(self, outcome: Outcome) -> Story:
        return Story(*shown.story(outcome.config.model, outcome.data, outcome.config.hold_out_speaker))

    def facts(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        recogniser = _recogniser(outcome.model)
        return [
            ("decoding", recogniser.search),
            ("features", recogniser.input.description),
            ("a step of the model", f"{1000 * recogniser.step:g} ms"),
        ]

    def learning(self, metrics: Sequence[Mapping[str, Any]], config: Config) -> Sequence[page.Part]:
        del config
        return [*shown.learning(metrics), gradient_sizes(metrics)]

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        test, answers, recogniser = outcome.data.test, outcome.evaluation.answers, _recogniser(outcome.model)
        texts = [text for text, _ in answers]
        examples = dict.fromkeys(np.linspace(0, len(test) - 1, PICTURES, dtype=int).tolist())
        heard = [shown.Heard.of(recogniser, test.of([row]), *answers[row]) for row in examples]
        return [
            *shown.examples(heard),
            shown.confusions(test.texts, texts),
            shown.worst(test.texts, texts, [Path(name).name for name in test.names]),
        ]

    def predict(self, command: Listen) -> Answers:
        require_between(command, beam=(1, MOST_TEXTS))
        model = self.trained(command.run)
        if command.beam is not None:
            model = model._replace(config=dataclasses.replace(model.config, beam=command.beam))
        config, recogniser = model.config, _recogniser(model)
        if config.features:
            recordings = feature_sets.read_unknown(command.recordings)
        else:
            recordings, notes = speech.read_unknown(command.recordings, config.rate)
            print_notes(notes)
        utterances = recogniser.utterances(recordings)
        evaluate_frames = make_frame_evaluation(model.objective)
        _, log_y_of = evaluate_frames(model.params, utterances, min(config.batch_size, len(recordings)))
        records, lines = [], []
        for file, signal, log_y in zip(recordings.names, recordings.signals, log_y_of):
            words = recogniser.words(log_y) if np.ptp(signal) else []
            text = " ".join(word.text for word in words)
            timed = [{"word": word, "start": start, "end": end} for word, start, end in words]
            records.append({"file": file, "text": text, "words": timed})
            lines.append(f"{file}: {text or ('no words' if np.ptp(signal) else 'silence')}")
            lines += [f"    {start:7.2f} s to {end:7.2f} s  {word}" for word, start, end in words]
        return Answers(records, "\n".join(lines))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Signals or features to the log-probability of every symbol at every step."""
        del run_directory
        config, recogniser, network = model.config, _recogniser(model), model.objective.model
        given = model.signature.features
        rate = 1 / given.hop if given else config.rate
        samples = round(config.longest * rate)
        shape = (samples, given.features_in_files) if given else (samples,)
        what = f"{given.description}, as in the files" if given else f"signals from -1 to 1, {rate} samples a second"

        def log_probabilities(signals: jax.Array, lengths: jax.Array) -> jax.Array:
            inputs = recogniser.input.features(signals, lengths)
            return jax.nn.log_softmax(network.apply(model.params["model"], inputs, Context()))

        def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
            if len(shape) == 1:
                return random.integers(1, samples, shape, dtype=np.int32)
            return random.normal(size=shape).astype(np.float32) / 10

        return Exported(
            log_probabilities,
            [(shape, jnp.float32), ((), jnp.int32)],
            draw,
            takes=f"float32 (batch, {', '.join(map(str, shape))}): {what}, 0 after their ends; int32 (batch,): the "
            f"number of {'frames' if given else 'samples'} of each",
            gives=f"float32 (batch, steps of {recogniser.step:g} s, {len(recogniser.alphabet)}): log-probabilities of "
            "the units of vocabulary.json; the first is CTC's blank",
        )

    def write_export_files(self, folder: Path, model: TaskModel, run_directory: Path) -> None:
        del run_directory
        vocabularies.write(folder, model.signature.units)


def _input(config: Config, signature: SpeechSignature) -> SpeechInput:
    return signature.features or SpectrumInput(config.spectrum, config.normalise)


def _recogniser(model: TaskModel) -> Recogniser:
    config, signature = model.config, model.signature
    words = signature.lexicon, signature.language_model
    inputs = _input(config, signature)
    return Recogniser(model.objective, signature.alphabet, signature.texts, inputs, config.stride, config, *words)


if __name__ == "__main__":
    main(SpeechRecognition())
