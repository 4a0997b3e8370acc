"""Spoken utterances by name or path, with what is said in them, ready for training."""

import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..extras import extra
from . import delimited
from .audio import read_audio
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
"""espeak-ng's variants. Nobody speaks in two parts."""
SPEEDS, PITCHES = (140, 200), (25, 75)
FSDD_DIGITS = commands.DIGITS
FSDD_TEST = range(5)
MANIFESTS = (".tsv", ".csv", ".jsonl")
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation", "dev"), "test": ("test",)}
"""How the names of manifests of parts begin."""
HELD_OUT_SHARE = 0.1
JOINED_ROUNDS = 5  # how often a held-out recording stands in connected utterances
PAUSES = (0.05, 0.35)  # seconds between connected recordings
LOUDER = 3.0  # decibels by which recordings differ at most when connected for training
QUIET = 0.01  # seconds of the stretches whose quietest give the level of pauses


@dataclass(frozen=True, eq=False)
class Recordings:
    """Utterances, each a signal and what is said in it.

    signals: float32 between -1 and 1, all of one rate; texts: see ``normal``; speakers: who speaks, "" where nobody
    knows; names: of the files, or what else tells them apart.
    """

    signals: Sequence[np.ndarray]
    texts: Sequence[str]
    speakers: Sequence[str]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.signals)

    def of(self, rows: Sequence[int]) -> "Recordings":
        return Recordings(
            [self.signals[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.speakers[row] for row in rows],
            [self.names[row] for row in rows],
        )


@dataclass(frozen=True, eq=False)
class Speech:
    """Recordings in three parts. texts: as training utterances have them. notes: what was left out, and why."""

    name: str
    train: Recordings
    validation: Recordings
    test: Recordings
    texts: Sequence[str]
    notes: tuple[str, ...] = ()


def load(name_or_path: str, *, rate: int, seed: int, connected: int = 1, hold_out_speaker: str = "") -> Speech:
    """The utterances of that name, or the user's own at that path, as signals of ``rate`` samples a second.

    name_or_path: "commands", spoken by espeak-ng; "fsdd", recorded digits; a manifest: a ``.tsv``, ``.csv`` or
        ``.jsonl`` file with the columns ``path`` and ``text``, and maybe ``speaker``; or a folder with one in it, or
        with train.*, and maybe dev.* or val.*, and test.*.
    seed: of what is held out for validation where the data come without a validation part.
    connected: of how many recordings of one speaker an utterance is made. The parts stay apart. The training part is
        left as it is: ``AugmentedUtterances`` connects it anew for each epoch.
    hold_out_speaker: all recordings of this speaker are the test part, and nobody else's are.

    Raises UserError, saying what is wrong and where, for anything that cannot be trained on.
    """
    if name_or_path == "commands":
        parts, notes = _commands(rate), ()
    elif name_or_path == "fsdd":
        parts, notes = _fsdd(rate)
    else:
        parts, notes = _manifests(Path(name_or_path), rate)
    if hold_out_speaker:
        parts = _without_speaker(name_or_path, parts, hold_out_speaker)
    for part, its_seed in (("test", 0), ("validation", seed)):
        if part not in parts:
            parts["train"], parts[part] = _held_out(parts["train"], name_or_path, part, its_seed)
    joined = parts["train"]
    if connected > 1:
        drawn = np.random.default_rng(0)
        for part in ("validation", "test"):
            parts[part] = _concatenated([join(parts[part], connected, rate, drawn) for _ in range(JOINED_ROUNDS)])
        joined = join(parts["train"], connected, rate, drawn)
        if not all(len(its) for its in (parts["validation"], parts["test"], joined)):
            raise UserError(
                f"--connected is {connected}, and no speaker of a part of {name_or_path} has so many recordings; "
                "choose fewer"
            )
    return Speech(name_or_path, parts["train"], parts["validation"], parts["test"], joined.texts, tuple(notes))


def normal(text: str) -> str:
    """In lower case, with single spaces between words."""
    return " ".join(text.lower().split())


def _commands(rate: int) -> dict[str, Recordings]:
    """The language of ``pipeline.data.commands``, by voices of espeak-ng; those of the parts are different ones."""
    with extra("speech"):
        import soxr

    texts = iter(commands.sentences(sum(COMMANDS_SIZES.values()), seed=0))
    parts = {}
    for part, size in COMMANDS_SIZES.items():
        drawn = random.Random(part)
        spoken = [
            espeak.Spoken(
                next(texts),
                f"{drawn.choice(ACCENTS)}+{drawn.choice(VOICES[part].split())}",
                drawn.randint(*SPEEDS),
                drawn.randint(*PITCHES),
            )
            for _ in range(size)
        ]
        signals, its_rate = espeak.synthesise(spoken)
        parts[part] = Recordings(
            [soxr.resample(signal, its_rate, rate) for signal in signals],
            [its.text for its in spoken],
            [its.voice for its in spoken],
            [f"{its.voice}, {its.speed} words a minute, pitch {its.pitch}" for its in spoken],
        )
    return parts


def _fsdd(rate: int) -> tuple[dict[str, Recordings], tuple[str, ...]]:
    """Free Spoken Digit Dataset (Jackson 2016): 3,000 digits by six speakers. The first five of each are the test part.

    Read from ``$PIPELINE_DATA/fsdd/recordings`` or the user's cache.
    """
    with extra("train"):
        import pooch

    cached = Path(pooch.os_cache("backhand")) / "fsdd" / "recordings"
    own = os.environ.get("PIPELINE_DATA")
    folders = [Path(own) / "fsdd" / "recordings", cached] if own else [cached]
    files = next((found for folder in folders if (found := sorted(folder.glob("*.wav")))), [])
    if not files:
        raise UserError(
            "the Free Spoken Digit Dataset is not on this machine. Fetch it from "
            f"https://github.com/Jakobovski/free-spoken-digit-dataset and put its folder recordings/ into "
            f"{cached.parent}, or into a folder fsdd/ in the folder that the environment variable PIPELINE_DATA names"
        )
    entries: dict[str, list[_Entry]] = {"train": [], "test": []}
    for file in files:
        found = re.fullmatch(r"(\d)_([^_]+)_(\d+)", file.stem)
        if not found:
            raise UserError(f"{file} is not named {{digit}}_{{speaker}}_{{index}}.wav; remove it")
        part = "test" if int(found[3]) in FSDD_TEST else "train"
        entries[part].append(_Entry(file, FSDD_DIGITS[int(found[1])], found[2]))
    return {part: _recordings(its, rate) for part, its in entries.items()}, ()


class _Entry(NamedTuple):
    """A line of a manifest. place: where it stands, for messages."""

    path: Path
    text: str
    speaker: str = ""
    place: str = ""


def _recordings(entries: Sequence[_Entry], rate: int) -> Recordings:
    signals = []
    for entry in entries:
        try:
            signals.append(read_audio(entry.path, rate))
        except UserError as error:
            raise UserError(f"{entry.place}{error}") from error
    return Recordings(
        signals,
        [entry.text for entry in entries],
        [entry.speaker for entry in entries],
        [str(entry.path) for entry in entries],
    )


def _manifests(path: Path, rate: int) -> tuple[dict[str, Recordings], tuple[str, ...]]:
    if path.is_dir():
        files = _find_manifests(path)
    elif path.suffix in MANIFESTS and path.is_file():
        files = {"train": path}
    else:
        raise UserError(
            f"{path} is {'not a set of utterances' if path.exists() else 'neither a known set nor an existing path'}; "
            f"known ones are {', '.join(KNOWN)}, and a path may be a {', '.join(MANIFESTS)} file with the columns path "
            "and text, or a folder with one in it"
        )
    notes: list[str] = []
    entries = {part: _read_manifest(file, notes) for part, file in files.items()}
    return {part: _recordings(its, rate) for part, its in entries.items()}, tuple(notes)


def _find_manifests(folder: Path) -> dict[str, Path]:
    """A folder's only manifest, or those of its parts."""
    found = [file for file in sorted(folder.iterdir()) if file.suffix in MANIFESTS]
    parts = {
        part: file for part, names in PARTS.items() for file in found if re.split(r"[^a-z]", file.stem)[0] in names
    }
    if "train" in parts:
        return parts
    if len(found) == 1:
        return {"train": found[0]}
    has = ", ".join(file.name for file in found) or "it has none"
    raise UserError(
        f"{folder} must have one manifest, a {', '.join(MANIFESTS)} file with the columns path and text, or one whose "
        f"name begins with train; {has}"
    )


def _read_manifest(path: Path, notes: list[str]) -> list[_Entry]:
    """Its lines, whose files are looked for, but not read. Paths are relative to the manifest's folder."""
    content = decoded(path, path.read_bytes(), "UTF-8", f"convert it first, as with: iconv -f latin1 {path.name}")
    entries, empty = [], 0
    for line, fields in (_json_lines if path.suffix == ".jsonl" else _table_lines)(path, content):
        file, text = path.parent / fields["path"], normal(fields["text"])
        if not file.is_file():
            raise UserError(f"{path}: line {line} names {file}, which is not a file; correct the line, or remove it")
        if text:
            entries.append(_Entry(file, text, fields["speaker"], f"{path}: line {line}: "))
        empty += not text
    if not entries:
        raise UserError(f"{path} names no recordings with a text")
    if empty:
        notes.append(f"{empty} lines of {path} left out: they have no text")
    return entries


def _table_lines(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    for line, fields in delimited.named_rows(path, content, ("path", "text")):
        if fields:
            yield line, {"speaker": ""} | fields


def _json_lines(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number} is not JSON ({error}); correct it") from error
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in ("path", "text")):
            raise UserError(f'{path}: line {number} must be an object as {{"path": "a.wav", "text": "hello"}}')
        yield number, {"speaker": ""} | {name: str(value) for name, value in found.items()}


def _without_speaker(name: str, parts: dict[str, Recordings], speaker: str) -> dict[str, Recordings]:
    """The speaker's recordings as the test part, and all others."""
    recordings = _concatenated(list(parts.values()))
    speakers = sorted({its for its in recordings.speakers if its})
    if speaker not in speakers:
        whose = f"its speakers are {', '.join(speakers)}" if speakers else "it does not say who speaks"
        raise UserError(f"--hold-out-speaker is {speaker!r}, of whom {name} has no recording; {whose}")
    if len(speakers) == 1:
        raise UserError(f"--hold-out-speaker is {speaker!r}, the only speaker of {name}: nothing is left to train on")
    rows = {"train": [], "test": []}
    for row, its in enumerate(recordings.speakers):
        rows["test" if its == speaker else "train"].append(row)
    return {part: recordings.of(its) for part, its in rows.items()}


def _held_out(recordings: Recordings, name: str, part: str, seed: int) -> tuple[Recordings, Recordings]:
    """The rest, and a tenth."""
    size = round(HELD_OUT_SHARE * len(recordings))
    if size < 1:
        raise UserError(f"{name} has no {part} part, and its {len(recordings)} recordings are too few to hold some out")
    held = set(random.Random(seed).sample(range(len(recordings)), size))
    rest = [row for row in range(len(recordings)) if row not in held]
    return recordings.of(rest), recordings.of(sorted(held))


def _concatenated(several: Sequence[Recordings]) -> Recordings:
    return Recordings(
        [signal for its in several for signal in its.signals],
        [text for its in several for text in its.texts],
        [speaker for its in several for speaker in its.speakers],
        [name for its in several for name in its.names],
    )


def join(recordings: Recordings, count: int, rate: int, drawn: np.random.Generator, louder: float = 0.0) -> Recordings:
    """Utterances of ``count`` recordings of one speaker, with pauses between; no recording stands in two.

    A pause is noise as loud as the quietest stretches of the recording before it. louder: decibels by which each
    recording is made louder, or less loud, at most.
    """
    signals: list[np.ndarray] = []
    groups: list[list[int]] = []
    for speaker in dict.fromkeys(recordings.speakers):
        rows = [row for row, its in enumerate(recordings.speakers) if its == speaker]
        rows = drawn.permutation(rows)[: len(rows) // count * count].reshape(-1, count)
        for group in rows.tolist():
            parts = []
            for row in group:
                signal = recordings.signals[row] * np.float32(10 ** (drawn.uniform(-louder, louder) / 20))
                samples = round(drawn.uniform(*PAUSES) * rate)
                pause = _noise_floor(signal, rate) * drawn.standard_normal(samples, np.float32)
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
    """The root mean square of the stretch that a twentieth of all are quieter than."""
    size = min(round(QUIET * rate), len(signal))
    stretches = signal[: len(signal) // size * size].reshape(-1, size)
    return np.float32(np.quantile(np.sqrt(np.square(stretches).mean(1)), 0.05))
