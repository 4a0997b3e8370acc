"""Speech by name or path: recordings with their transcripts, in three parts."""

import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from ..extras import extra
from .arpa import Arpa
from .audio import read_audio
from .delimited import suffix_of
from .folder import files_and_notes
from .lexicon import Lexicon
from .limits import default_limit
from .manifests import MOST_NAMED, SUFFIXES, Entry, ManifestColumns, normal, read_manifests
from .parts import notes_on_copies
from .synthetic import commands, espeak

__all__ = ["KNOWN", "ManifestColumns", "Recordings", "Speech", "join", "load", "normal"]

KNOWN = ("commands", "fsdd")
AUDIO = (".wav", ".flac")
"""Suffixes of the recordings that are read from a folder, for prediction."""
COMMANDS_SIZES = {"train": 2_700, "validation": 250, "test": 250}
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland")
VOICES = {
    "train": "m1 m2 m3 m4 m5 m7 m8 f1 f2 f3 f4 f5 Alex Andy Annie Denis Diogo Gene Henrique Lee Mario Mike Reed adam "
    "belinda boris david edward grandma grandpa ian john max michel norbert pablo quincy robert sandro shelby steph",
    "validation": "m6 Michael linda victor",
    "test": "Nguyen Hugo aunty announcer caleb marcelo miguel rob",
}
"""Voices of espeak-ng by part: no voice is in two parts."""
SPEEDS, PITCHES = (140, 200), (25, 75)
FSDD_DIGITS = commands.DIGITS
FSDD_TEST = range(5)
_USUAL = ManifestColumns()
HELD_OUT_SHARE = 0.1
JOINED_ROUNDS = 5  # number of connected utterances that a held-out recording is part of
PAUSES = (0.05, 0.35)  # seconds between connected recordings
LOUDER = 3.0  # largest random change of a recording's level when connected for training, in decibels
QUIET = 0.01  # length of the stretches from whose levels the noise floor is estimated, in seconds


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recorded utterances with their transcripts.

    signals: float32 between -1 and 1, all with the same sampling rate; texts: transcripts, see ``normal``; speakers:
    names, "" if unknown; names: of the files, or another description that tells the recordings apart.
    """

    signals: Sequence[np.ndarray]
    texts: Sequence[str]
    speakers: Sequence[str]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.signals)

    def of(self, rows: Sequence[int]) -> "Recordings":
        """The recordings with these numbers."""
        return Recordings(
            [self.signals[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.speakers[row] for row in rows],
            [self.names[row] for row in rows],
        )


@dataclass(frozen=True, eq=False)
class Speech:
    """Recordings in three parts.

    texts: the transcripts of training utterances, which may be connected recordings; notes: what was left out, and why.
    hop: seconds between the frames of recordings that are given as features. lexicon, language_model: of the words that
    a recogniser may write; None: any.
    """

    name: str
    train: Recordings
    validation: Recordings
    test: Recordings
    texts: Sequence[str]
    notes: tuple[str, ...] = ()
    hop: float | None = None
    lexicon: Lexicon | None = None
    language_model: Arpa | None = None


def load(
    name_or_path: str,
    *,
    rate: int,
    seed: int,
    connected: int = 1,
    hold_out_speaker: str = "",
    columns: ManifestColumns = _USUAL,
) -> Speech:
    """Loads known recordings by their name, or the user's own recordings from a path.

    name_or_path: "commands", sentences spoken by espeak-ng; "fsdd", recorded digits; a manifest, that is a ``.tsv``,
        ``.csv`` or ``.jsonl`` file with the columns ``path`` and ``text`` and maybe ``speaker``; a folder with one
        manifest, or with one for each part: train.*, test.* and dev.* or val.*; LibriSpeech's or Kaldi's folders.
    rate: samples per second, to which the signals are resampled.
    seed: random seed of the validation part, for data without one.
    connected: number of recordings of one speaker that make up an utterance. The recordings of the training part are
        left as they are: ``AugmentedUtterances`` connects them anew for each epoch.
    hold_out_speaker: name of the speaker whose recordings, and no others, are the test part.
    columns: the options of a manifest.

    Raises UserError, with file and line, for data that cannot be trained on.
    """
    if name_or_path == "commands":
        parts, notes = _commands(rate), []
    elif name_or_path == "fsdd":
        parts, notes = _fsdd(rate)
    else:
        parts, notes = _own(Path(name_or_path), rate, columns)
    parts = three_parts(name_or_path, parts, seed, hold_out_speaker, notes)
    joined = parts["train"]
    if connected > 1:
        generator = np.random.default_rng(0)
        for part in ("validation", "test"):
            parts[part] = _concatenated([join(parts[part], connected, rate, generator) for _ in range(JOINED_ROUNDS)])
        joined = join(parts["train"], connected, rate, generator)
        if not all(map(len, (parts["validation"], parts["test"], joined))):
            raise UserError(
                f"--connected is {connected}, but in one of the parts of {name_or_path} no speaker has so many "
                "recordings; choose fewer"
            )
    return Speech(name_or_path, parts["train"], parts["validation"], parts["test"], joined.texts, tuple(notes))


def three_parts(
    name: str, parts: dict[str, Recordings], seed: int, hold_out_speaker: str, notes: list[str]
) -> dict[str, Recordings]:
    """The parts, with those that are missing held out of the training part; see ``load``.

    notes: are extended by recordings that are in two parts.
    """
    if hold_out_speaker:
        parts = _without_speaker(name, parts, hold_out_speaker)
    for part, part_seed in (("test", 0), ("validation", seed)):
        if part not in parts:
            parts["train"], parts[part] = _held_out(parts["train"], name, part, part_seed)
    contents = {part: [hash(signal.tobytes()) for signal in spoken.signals] for part, spoken in parts.items()}
    notes += notes_on_copies(contents, "recordings")
    return parts


def _commands(rate: int) -> dict[str, Recordings]:
    """The sentences of ``synthetic.commands``, spoken by voices of espeak-ng that differ from part to part."""
    with extra("speech"):
        import soxr

    texts = iter(commands.sentences(sum(COMMANDS_SIZES.values()), seed=0))
    parts = {}
    for part, size in COMMANDS_SIZES.items():
        choose = random.Random(part)
        sentences = [
            espeak.Spoken(
                next(texts),
                f"{choose.choice(ACCENTS)}+{choose.choice(VOICES[part].split())}",
                choose.randint(*SPEEDS),
                choose.randint(*PITCHES),
            )
            for _ in range(size)
        ]
        signals, espeak_rate = espeak.synthesise(sentences)
        parts[part] = Recordings(
            [soxr.resample(signal, espeak_rate, rate) for signal in signals],
            [sentence.text for sentence in sentences],
            [sentence.voice for sentence in sentences],
            [f"{sentence.voice}, {sentence.speed} words a minute, pitch {sentence.pitch}" for sentence in sentences],
        )
    return parts


def _fsdd(rate: int) -> tuple[dict[str, Recordings], list[str]]:
    """Free Spoken Digit Dataset (Jackson 2016): 3,000 recordings, in which six speakers say each digit 50 times.

    The first five recordings of each digit and speaker are the test part. Read from ``$PIPELINE_DATA/fsdd/recordings``
    or the user's cache.
    """
    with extra("train"):
        import pooch

    cached = Path(pooch.os_cache("backhand")) / "fsdd" / "recordings"
    own = os.environ.get("PIPELINE_DATA")
    folders = [Path(own) / "fsdd" / "recordings", cached] if own else [cached]
    files = next(filter(None, (sorted(folder.glob("*.wav")) for folder in folders)), [])
    if not files:
        raise UserError(
            "the Free Spoken Digit Dataset is not on this machine. Fetch it from "
            f"https://github.com/Jakobovski/free-spoken-digit-dataset and put its folder recordings/ into "
            f"{cached.parent}, or into a folder fsdd/ in the folder that the environment variable PIPELINE_DATA names"
        )
    entries: dict[str, list[Entry]] = {"train": [], "test": []}
    for file in files:
        match = re.fullmatch(r"(\d)_([^_]+)_(\d+)", file.stem)
        if not match:
            raise UserError(f"{file} is not named {{digit}}_{{speaker}}_{{index}}.wav; remove it")
        part = "test" if int(match[3]) in FSDD_TEST else "train"
        entries[part].append(Entry(file, FSDD_DIGITS[int(match[1])], match[2]))
    notes: list[str] = []
    return {part: _recordings(of_part, rate, part, notes) for part, of_part in entries.items()}, notes


def read_unknown(paths: Sequence[Path], rate: int) -> tuple[Recordings, list[str]]:
    """The recordings in files and folders, without texts, for prediction; and notes on low sampling rates.

    Raises UserError for what cannot be read, and if there is nothing.
    """
    files, others = files_and_notes(paths, AUDIO)
    rates: list[int] = []
    signals = [read_audio(file, rate, rates=rates) for file in files]
    low = [(file, its) for file, its in zip(files, rates) if its < rate]
    notes = [f"{file}: has {its} samples a second, fewer than the model's {rate}" for file, its in low[:1]]
    if len(low) > 1:
        notes.append(f"so have {len(low) - 1} others of {len(files)} recordings: fewer than the model's {rate}")
    unknown = [""] * len(files)
    return Recordings(signals, unknown, unknown, list(map(str, files))), [*others, *notes]


def _recordings(entries: Sequence[Entry], rate: int, part: str, notes: list[str]) -> Recordings:
    """The recordings of entries. Raises one UserError for all those that cannot be read."""
    signals, rates, channels, errors, rest = [], [], [], [], default_limit()
    for entry in entries:
        try:
            signals.append(read_audio(entry.path, rate, rest, rates, channels))
            rest -= signals[-1].nbytes
        except UserError as error:
            errors.append(f"{entry.place}{error}")
    require_no_errors(errors, len(entries))
    several = [each > 1 for each in channels]
    if any(several):
        first = visible(str(entries[several.index(True)].path))
        notes.append(
            f"{sum(several)} of {len(several)} {part} recordings have several channels, of which the mean is taken "
            f"(the first: {first})"
        )
    low = [each < rate for each in rates]
    if any(low):
        first = visible(str(entries[low.index(True)].path))
        notes.append(
            f"{sum(low)} of {len(low)} {part} recordings have fewer samples a second than --rate {rate}: they have "
            f"nothing above {min(rates) // 2} Hz (the lowest rate: {min(rates)}; the first: {first})"
        )
    return Recordings(
        signals,
        [entry.text for entry in entries],
        [entry.speaker for entry in entries],
        [str(entry.path) for entry in entries],
    )


def require_no_errors(errors: Sequence[str], count: int) -> None:
    """Raises one UserError for all of ``count`` recordings that cannot be used, if there are any."""
    if errors:
        more = f"\n  and {len(errors) - MOST_NAMED} others" if len(errors) > MOST_NAMED else ""
        which = f"{len(errors)} of {count} recordings cannot be used:\n  " if len(errors) > 1 else ""
        raise UserError(which + "\n  ".join(errors[:MOST_NAMED]) + more)


def _own(path: Path, rate: int, columns: ManifestColumns) -> tuple[dict[str, Recordings], list[str]]:
    if not os.path.isdir(path) and not (os.path.exists(path) and suffix_of(path) in (*SUFFIXES, ".txt")):
        what = "not a set of utterances" if os.path.exists(path) else "neither a known set nor an existing path"
        raise UserError(
            f"{visible(str(path))} is {what}; known ones are {', '.join(KNOWN)}, and a path may be a "
            f"{', '.join(SUFFIXES)} file with the columns path and text, or a folder with one in it"
        )
    notes: list[str] = []
    entries = read_manifests(path, columns, notes)
    return {part: _recordings(of_part, rate, part, notes) for part, of_part in entries.items()}, notes


def _without_speaker(name: str, parts: dict[str, Recordings], speaker: str) -> dict[str, Recordings]:
    """The speaker's recordings as the test part, and all others as the training part."""
    recordings = _concatenated(list(parts.values()))
    speakers = sorted(set(recordings.speakers) - {""})
    if speaker not in speakers:
        known = f"its speakers are {visible(', '.join(speakers))}" if speakers else "it does not say who speaks"
        raise UserError(f"--hold-out-speaker is {quoted(speaker)}, of whom {name} has no recording; {known}")
    if len(speakers) == 1:
        raise UserError(
            f"--hold-out-speaker is {quoted(speaker)}, the only speaker of {name}: nothing is left to train on"
        )
    rows = {"train": [], "test": []}
    for row, other in enumerate(recordings.speakers):
        rows["test" if other == speaker else "train"].append(row)
    return {part: recordings.of(chosen) for part, chosen in rows.items()}


def _held_out(recordings: Recordings, name: str, part: str, seed: int) -> tuple[Recordings, Recordings]:
    """The rest of the recordings, and a random tenth."""
    size = round(HELD_OUT_SHARE * len(recordings))
    if size < 1:
        raise UserError(f"{name} has no {part} part, and its {len(recordings)} recordings are too few to hold some out")
    held_out = set(random.Random(seed).sample(range(len(recordings)), size))
    rest = [row for row in range(len(recordings)) if row not in held_out]
    return recordings.of(rest), recordings.of(sorted(held_out))


def _concatenated(several: Sequence[Recordings]) -> Recordings:
    return Recordings(
        [signal for recordings in several for signal in recordings.signals],
        [text for recordings in several for text in recordings.texts],
        [speaker for recordings in several for speaker in recordings.speakers],
        [name for recordings in several for name in recordings.names],
    )


def join(
    recordings: Recordings, count: int, rate: int, generator: np.random.Generator, louder: float = 0.0
) -> Recordings:
    """Utterances that consist of ``count`` recordings of one speaker, with pauses in between.

    The recordings are grouped at random; each is part of one utterance, or of none if some are left over. A pause is
    noise as loud as the quietest stretches of the recording before it.

    louder: largest random change of each recording's level, in decibels.
    """
    signals: list[np.ndarray] = []
    groups: list[list[int]] = []
    for speaker in dict.fromkeys(recordings.speakers):
        rows = [row for row, other in enumerate(recordings.speakers) if other == speaker]
        rows = generator.permutation(rows)[: len(rows) // count * count].reshape(-1, count)
        for group in rows.tolist():
            parts = []
            for row in group:
                signal = recordings.signals[row] * np.float32(10 ** (generator.uniform(-louder, louder) / 20))
                samples = round(generator.uniform(*PAUSES) * rate)
                pause = _noise_floor(signal, rate) * generator.standard_normal(samples, np.float32)
                parts += [signal, pause]
            signals.append(np.concatenate(parts[:-1]))
            groups.append(group)
    return Recordings(
        signals,
        [" ".join(recordings.texts[row] for row in group) for group in groups],
        [recordings.speakers[group[0]] for group in groups],
        [" + ".join(Path(recordings.names[row]).name for row in group) for group in groups],
    )


def _noise_floor(signal: np.ndarray, rate: int) -> np.float32:
    """The 5 % quantile of the root mean square of short stretches of a signal."""
    size = min(round(QUIET * rate), len(signal))
    stretches = signal[: len(signal) // size * size].reshape(-1, size)
    return np.float32(np.quantile(np.sqrt(np.square(stretches).mean(1)), 0.05))
