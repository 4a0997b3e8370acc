"""Speech by name or path: recordings with their transcripts, in three parts."""

import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from ..extras import extra
from . import delimited
from .audio import read_audio
from .limits import TEXT_COST, default_limit, list_folder, read_content, require_unicode
from .synthetic import commands, espeak
from .text import decoded

KNOWN = ("commands", "fsdd")
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
MANIFESTS = (".tsv", ".csv", ".jsonl")
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation", "dev"), "test": ("test",)}
"""Prefixes of the names of each part's manifest."""
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
    """

    name: str
    train: Recordings
    validation: Recordings
    test: Recordings
    texts: Sequence[str]
    notes: tuple[str, ...] = ()


def load(
    name_or_path: str,
    *,
    rate: int,
    seed: int,
    connected: int = 1,
    hold_out_speaker: str = "",
    allow_outside: bool = False,
) -> Speech:
    """Loads known recordings by their name, or the user's own recordings from a path.

    name_or_path: "commands", sentences spoken by espeak-ng; "fsdd", recorded digits; a manifest, that is a ``.tsv``,
        ``.csv`` or ``.jsonl`` file with the columns ``path`` and ``text`` and maybe ``speaker``; a folder with one
        manifest, or with one for each part: train.*, test.* and dev.* or val.*.
    rate: samples per second, to which the signals are resampled.
    seed: random seed of the validation part, for data without one.
    connected: number of recordings of one speaker that make up an utterance. The recordings of the training part are
        left as they are: ``AugmentedUtterances`` connects them anew for each epoch.
    hold_out_speaker: name of the speaker whose recordings, and no others, are the test part.
    allow_outside: whether a manifest may name files outside its own folder.

    Raises UserError, with file and line, for data that cannot be trained on.
    """
    if name_or_path == "commands":
        parts, notes = _commands(rate), ()
    elif name_or_path == "fsdd":
        parts, notes = _fsdd(rate)
    else:
        parts, notes = _manifests(Path(name_or_path), rate, allow_outside)
    if hold_out_speaker:
        parts = _without_speaker(name_or_path, parts, hold_out_speaker)
    for part, part_seed in (("test", 0), ("validation", seed)):
        if part not in parts:
            parts["train"], parts[part] = _held_out(parts["train"], name_or_path, part, part_seed)
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


def normal(text: str) -> str:
    """A transcript in lower case, with single spaces between words.

    >>> normal(" Turn  the Light on")
    'turn the light on'
    """
    return " ".join(text.lower().split())


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


def _fsdd(rate: int) -> tuple[dict[str, Recordings], tuple[str, ...]]:
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
    entries: dict[str, list[_Entry]] = {"train": [], "test": []}
    for file in files:
        match = re.fullmatch(r"(\d)_([^_]+)_(\d+)", file.stem)
        if not match:
            raise UserError(f"{file} is not named {{digit}}_{{speaker}}_{{index}}.wav; remove it")
        part = "test" if int(match[3]) in FSDD_TEST else "train"
        entries[part].append(_Entry(file, FSDD_DIGITS[int(match[1])], match[2]))
    return {part: _recordings(files_of_part, rate) for part, files_of_part in entries.items()}, ()


class _Entry(NamedTuple):
    """A line of a manifest. place: file and line, for messages."""

    path: Path
    text: str
    speaker: str = ""
    place: str = ""


def _recordings(entries: Sequence[_Entry], rate: int) -> Recordings:
    signals, rest = [], default_limit()
    for entry in entries:
        try:
            signals.append(read_audio(entry.path, rate, rest))
            rest -= signals[-1].nbytes
        except UserError as error:
            raise UserError(f"{entry.place}{error}") from error
    return Recordings(
        signals,
        [entry.text for entry in entries],
        [entry.speaker for entry in entries],
        [str(entry.path) for entry in entries],
    )


def _manifests(path: Path, rate: int, allow_outside: bool) -> tuple[dict[str, Recordings], tuple[str, ...]]:
    if os.path.isdir(path):
        files = _find_manifests(path)
    elif path.suffix in MANIFESTS and os.path.exists(path):
        files = {"train": path}
    else:
        what = "not a set of utterances" if os.path.exists(path) else "neither a known set nor an existing path"
        raise UserError(
            f"{path} is {what}; known ones are {', '.join(KNOWN)}, and a path may be a {', '.join(MANIFESTS)} file "
            "with the columns path and text, or a folder with one in it"
        )
    notes: list[str] = []
    entries = {part: _read_manifest(file, notes, allow_outside) for part, file in files.items()}
    return {part: _recordings(lines, rate) for part, lines in entries.items()}, tuple(notes)


def _find_manifests(folder: Path) -> dict[str, Path]:
    """The only manifest in a folder, or the manifests of its parts."""
    files = [file for file in list_folder(folder) if file.suffix in MANIFESTS]
    parts = {
        part: file for part, names in PARTS.items() for file in files if re.split(r"[^a-z]", file.stem)[0] in names
    }
    if "train" in parts:
        return parts
    if len(files) == 1:
        return {"train": files[0]}
    has = f"it has {visible(', '.join(file.name for file in files))}" if files else "it has none"
    raise UserError(
        f"{folder} must have one manifest, a {', '.join(MANIFESTS)} file with the columns path and text, or one whose "
        f"name begins with train; {has}"
    )


def _read_manifest(path: Path, notes: list[str], allow_outside: bool) -> list[_Entry]:
    """The lines of a manifest, whose recordings must exist. Paths are relative to the manifest's folder."""
    convert = f"convert it first, as with: iconv -f latin1 {path.name}"
    content = decoded(path, read_content(path, cost=TEXT_COST), "UTF-8", convert)
    entries, empty = [], 0
    for line, fields in (_json_lines if path.suffix == ".jsonl" else _table_lines)(path, content):
        file, text = path.parent / fields["path"], normal(fields["text"])
        if not os.path.isfile(file):
            raise UserError(
                f"{path}: line {line} names {visible(str(file))}, which is not a file; correct the line, or remove it"
            )
        if not allow_outside and not _is_below(file, path.parent):
            raise UserError(
                f"{path}: line {line} names {visible(str(file))}, which is outside the manifest's folder; move the "
                "recording there, or allow such paths with --allow-outside"
            )
        if text:
            entries.append(_Entry(file, text, fields["speaker"], f"{path}: line {line}: "))
        empty += not text
    if not entries:
        raise UserError(f"{path} has no recordings with a text; add lines with a path and a text")
    if empty:
        notes.append(f"{empty} lines of {visible(str(path))} left out: they have no text")
    return entries


def _is_below(file: Path, folder: Path) -> bool:
    """Whether a file is in a folder or one below it, when all symbolic links are followed."""
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _table_lines(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    for line, fields in delimited.named_rows(path, content, ("path", "text")):
        if fields:
            yield line, {"speaker": ""} | fields


def _json_lines(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is not JSON ({error}); correct it") from error
        if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in ("path", "text")):
            raise UserError(f'{path}: line {number} must be an object like {{"path": "a.wav", "text": "hello"}}')
        speaker = fields.get("speaker")
        texts = {"text": fields["text"], "speaker": "" if speaker is None else str(speaker)}
        for text in texts.values():
            require_unicode(text, f"{path}: line {number}")
        yield number, {"path": fields["path"], **texts}


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
