"""Speech recognition: writes down what is said in a recording, with the time of each word.

scripts/run speech_recognition                                      commands spoken by a synthesiser
scripts/run speech_recognition --data fsdd                          recorded digits
scripts/run speech_recognition --data fsdd --connected 5 --epochs 20 --batch-size 16    five digits in a row
scripts/run speech_recognition --data fsdd --hold-out-speaker theo  a voice that training has not heard
scripts/run speech_recognition --data my_recordings.tsv             columns path and text; or a folder with one in it
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
from pipeline.data import vocabulary as vocabularies
from pipeline.data.audio import SpecAugment, Spectrum, augment_frames, read_audio
from pipeline.data.batches import Batch, by_length
from pipeline.data.folder import files_in
from pipeline.data.speech import KNOWN, ManifestColumns, Recordings, Speech, load
from pipeline.data.speech_checks import trainable, unknown_characters
from pipeline.data.utterances import AugmentedUtterances, WaveformAugmentation, features
from pipeline.data.vocabulary import Characters
from pipeline.decoding.ctc import best_path
from pipeline.decoding.recogniser import Recogniser
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
from pipeline.report import page, speech
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
MOST_TEXTS = 1000  # of a beam search
AUDIO = (".wav", ".flac")


@dataclass(frozen=True)
class Config(ManifestColumns, TaskConfig):
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
    allow_outside: bool = False
    """Read recordings outside the folder of the file that names them."""
    longest: float = 15.0
    """Longest recording in seconds: longer ones are not trained on, and the exported model takes no more."""
    rate: int = 16_000
    """Sample rate in Hz to which recordings are resampled."""
    mels: int = 40
    """Number of mel bands of the spectrum."""
    window: float = 0.025
    """Length of a frame in seconds."""
    hop: float = 0.010
    """Time from one frame to the next, in seconds."""
    normalise: Literal["bands", "level"] = "bands"
    """Normalisation of an utterance to mean 0 and deviation 1: of each band, or of the level of all bands together,
    which suits single short words."""
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
    beam: int = 1
    """Beam width: number of texts that the search keeps. 1: the characters of the likeliest alignment."""
    ngram: int = 0
    """Order of the character n-gram model, learned from the training texts, that the beam search uses. 0: none."""
    ngram_weight: float = 0.5
    """Weight of the n-gram model beside the recogniser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, rate=(1000, 192_000), longest=(0.01, 3600), beam=(1, MOST_TEXTS), ngram_weight=(0, 100))
        require_between(self, window=(0.001, 1), hop=(0.001, 1), connected=(1, 1000), width=(1, 10_000), speed=(0, 0.5))
        require_between(self, stride=(1, 1000), layers=(1, 100), heads=(1, 1000), mels=(1, 512), ngram=(0, 100))
        require_equal_heads(self.width, self.heads)
        require_shares(self, "dropout")
        least, most = self.noise
        require(-100 <= least <= most <= 1000, self, "noise", "from -100 to 1000, the second not less than the first")
        if self.ngram and self.beam == 1:
            raise UserError(f"--ngram is {self.ngram} and --beam is 1: an n-gram model needs a beam, such as --beam 16")
        self.spectrum  # noqa: B018  (which says what is wrong with it)

    @property
    def spectrum(self) -> Spectrum:
        return Spectrum(self.rate, self.window, self.hop, self.mels)


# What trains well on each data set; an option on the command line changes only itself. OWN is for your own data.
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
    """Transcribe recordings, with the time of each word."""

    recordings: Positional[tuple[Path, ...]]
    """WAV or FLAC files, or folders of them."""
    beam: int | None = None
    """Beam width: number of texts that the search keeps. None: as in the run."""


class SpeechRecognition(Task[Config]):
    name = "speech_recognition"
    title = "Speech recognition"
    config = Config
    sizes = ("width", "layers", "stride", "mels")
    predictions = Listen
    known = KNOWN
    signature_class = SpeechSignature
    signature_parts = "training texts"
    test_metrics = {  # noqa: RUF012  (a ClassVar)
        "accuracy": Metric("test accuracy"),
        "wer": Metric("test WER", "{:.2%}"),
        "cer": Metric("test CER", "{:.2%}"),
        "loss": Metric("test loss", "{:.4f} nats per utterance", headline=False),
    }

    def recipe(self, data: str | None) -> Config:
        data = data or "commands"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> Speech:
        options = {"connected": config.connected, "hold_out_speaker": config.hold_out_speaker, "columns": config}
        return load(config.data, rate=config.rate, seed=config.seed, allow_outside=config.allow_outside, **options)

    def signature(self, config: Config, data: Speech) -> SpeechSignature:
        del config
        return SpeechSignature(Characters.of("".join(data.texts)), tuple(data.texts))

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
        del signature
        one = jax.ShapeDtypeStruct((1,), jnp.int32)
        frames = jax.ShapeDtypeStruct((1, 64, config.mels), jnp.float32)
        labels = jax.ShapeDtypeStruct((1, 8), jnp.int32)
        return (frames, one), Targets(Transcripts(labels, one, one))

    def training(self, model: TaskModel, data: Speech) -> Training:
        config, alphabet = model.config, model.signature.alphabet
        utterances, notes = trainable(_recogniser(model).utterances(data.train), data.name, config.rate, config.longest)
        waveforms = WaveformAugmentation(config.speed, config.noise)
        augmented = AugmentedUtterances(utterances, config.connected, waveforms, config.seed)
        validation = _recogniser(model).utterances(data.validation)
        evaluate_frames = make_frame_evaluation(model.objective)

        def evaluate(params: PyTree) -> Mapping[str, float]:
            loss, log_y = evaluate_frames(params, validation, config.batch_size)
            texts = [alphabet.decode(np.asarray(best_path(each).labels, int)) for each in log_y]
            return {"loss": loss, **transcript_metrics(data.validation.texts, texts)}

        held_out = ", ".join(f"{len(getattr(data, part)):,} {part}" for part in ("validation", "test"))
        return Training(
            augmented,
            evaluate,
            f"{data.name}: {len(augmented):,} train, {held_out} utterances, {len(alphabet) - 1} characters",
            [*data.notes, *notes, *unknown_characters(alphabet, data)],
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
        texts = [recogniser.text(recogniser.read(each)) for each in log_y]
        metrics = transcript_metrics(data.test.texts, texts)
        return Evaluation({**metrics, "loss": loss}, list(zip(texts, log_y)))

    def write_results(self, outcome: Outcome) -> None:
        test, answers = outcome.data.test, (text for text, _ in outcome.evaluation.answers)
        rows = [("recording", "text", "recognised"), *zip(test.names, test.texts, answers)]
        lines = ("\t".join(visible(text, LONGEST_LINE) for text in row) for row in rows)
        storage.write(outcome.run.directory / "transcripts.tsv", "\n".join(lines) + "\n")

    def story(self, outcome: Outcome) -> Story:
        return Story(*speech.story(outcome.config.model, outcome.data, outcome.config.hold_out_speaker))

    def facts(self, outcome: Outcome) -> Sequence[tuple[str, str]]:
        config = outcome.config
        return [
            ("decoding", _recogniser(outcome.model).search),
            ("features", f"{config.mels} log-mel bands every {1000 * config.hop:g} ms, {config.rate:,} Hz"),
            ("a step of the model", f"{1000 * config.hop * config.stride:g} ms"),
        ]

    def learning(self, metrics: Sequence[Mapping[str, Any]], config: Config) -> Sequence[page.Part]:
        del config
        return [*speech.learning(metrics), gradient_sizes(metrics)]

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        test, answers, recogniser = outcome.data.test, outcome.evaluation.answers, _recogniser(outcome.model)
        texts = [text for text, _ in answers]
        examples = dict.fromkeys(np.linspace(0, len(test) - 1, PICTURES, dtype=int).tolist())
        heard = [speech.Heard.of(recogniser, test.of([row]), *answers[row]) for row in examples]
        return [
            *speech.examples(heard),
            speech.confusions(test.texts, texts),
            speech.worst(test.texts, texts, [Path(name).name for name in test.names]),
        ]

    def predict(self, command: Listen) -> Answers:
        require_between(command, beam=(1, MOST_TEXTS))
        files = files_in(command.recordings, AUDIO)
        model = self.trained(command.run)
        if command.beam is not None:
            model = model._replace(config=dataclasses.replace(model.config, beam=command.beam))
        config, recogniser, unknown = model.config, _recogniser(model), [""] * len(files)
        rates: list[int] = []
        signals = [read_audio(file, config.rate, rates=rates) for file in files]
        slow = [(file, rate) for file, rate in zip(files, rates) if rate < config.rate]
        print_notes(f"{file}: has {rate} samples a second, fewer than the model's {config.rate}" for file, rate in slow)
        utterances = recogniser.utterances(Recordings(signals, unknown, unknown, list(map(str, files))))
        evaluate_frames = make_frame_evaluation(model.objective)
        _, log_y_of = evaluate_frames(model.params, utterances, min(config.batch_size, len(files)))
        records, lines = [], []
        for file, signal, log_y in zip(files, signals, log_y_of):
            words = recogniser.words(log_y) if np.ptp(signal) else []
            text = " ".join(word.text for word in words)
            timed = [{"word": word, "start": start, "end": end} for word, start, end in words]
            records.append({"file": str(file), "text": text, "words": timed})
            lines.append(f"{file}: {text or ('no words' if np.ptp(signal) else 'silence')}")
            lines += [f"    {start:7.2f} s to {end:7.2f} s  {word}" for word, start, end in words]
        return Answers(records, "\n".join(lines))

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Signals to the log-probability of every symbol at every step."""
        del run_directory
        config, alphabet, network = model.config, model.signature.alphabet, model.objective.model
        samples = round(config.longest * config.rate)

        def log_probabilities(signals: jax.Array, lengths: jax.Array) -> jax.Array:
            inputs = features(config.spectrum, config.normalise, signals, lengths)
            return jax.nn.log_softmax(network.apply(model.params["model"], inputs, Context()))

        def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
            if len(shape) == 1:
                return random.integers(1, samples, shape, dtype=np.int32)
            return random.normal(size=shape).astype(np.float32) / 10

        return Exported(
            log_probabilities,
            [((samples,), jnp.float32), ((), jnp.int32)],
            draw,
            takes=f"float32 (batch, {samples}): signals from -1 to 1, {config.rate} samples a second, 0 after their "
            "ends; int32 (batch,): the number of samples of each",
            gives=f"float32 (batch, steps of {config.hop * config.stride:g} s, {len(alphabet)}): log-probabilities of "
            "the characters of vocabulary.json; the first is CTC's blank",
        )

    def write_export_files(self, folder: Path, model: TaskModel, run_directory: Path) -> None:
        del run_directory
        vocabularies.write(folder, model.signature.alphabet)


def _recogniser(model: TaskModel) -> Recogniser:
    config, (alphabet, texts) = model.config, model.signature
    search = config.beam, config.ngram, config.ngram_weight
    step = config.hop * config.stride
    return Recogniser(model.objective, alphabet, texts, config.spectrum, config.normalise, step, *search)


if __name__ == "__main__":
    main(SpeechRecognition())
