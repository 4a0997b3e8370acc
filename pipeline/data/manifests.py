"""Lists of recordings and their texts as people have them: manifests of several kinds, and folders."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from ..display import visible
from ..errors import UserError
from .delimited import suffix_of
from .limits import list_folder
from .named_columns import JSON, Column, Row, read_rows
from .parts import part_of
from .text import read_encoded

SUFFIXES = (".tsv", ".csv", *JSON)
"""Suffixes of the manifests that a folder is searched for. A manifest that a user names may also be a .txt file."""
ENDINGS = (".wav", ".flac", ".mp3", ".WAV", ".FLAC")
TEXT_ENDINGS = (".txt", ".lab", ".TXT", ".normalized.txt")
"""Endings of a file with the text of the one recording of the same name."""
COLUMNS = (
    Column(
        "path",
        (*("path", "audio_filepath", "wav_filename", "file", "filename", "file_name", "audio", "audio_path", "wav"),),
        "--path-column",
        is_path=True,
    ),
    Column("text", ("text", "sentence", "transcript", "transcription", "normalized_text"), "--text-column"),
    Column("speaker", ("speaker", "client_id", "speaker_id"), optional=True),
    Column("start", ("offset", "start", "start_time", "begin"), optional=True),
)
MOST_NAMED = 5
"""Number of faulty lines or files that a message names."""


Units = Literal["characters", "tokens", "lexicon"]
"""What transcripts are divided into."""


@dataclass(frozen=True)
class ManifestColumns:
    """Options of a manifest: the names of its columns, its encoding, and what its texts consist of."""

    path_column: str = ""
    """Column with the paths of recordings. Empty: path, or another usual name, such as audio_filepath."""
    text_column: str = ""
    """Column with the texts. Empty: text, or another usual name, such as sentence or transcript."""
    encoding: str = ""
    """Encoding of the texts. Empty: UTF-8, or UTF-16 where a file shows it."""
    delimiter: str = ""
    """Delimiter of the fields: a character, or tab, semicolon, pipe or comma. Empty: recognised."""
    audio_folder: str = ""
    """Folder of the recordings that a list names. Empty: the list's own."""
    allow_outside: bool = False
    """Read recordings outside the folder of the file that names them."""
    units: Units = "characters"
    """What the model writes: the characters of the texts in lower case; tokens, what stands between spaces in the
    texts, such as phones; or lexicon, the units in which --lexicon spells their words."""

    def __post_init__(self) -> None:
        if self.audio_folder and not os.path.isdir(self.audio_folder):
            raise UserError(f"--audio-folder is {visible(self.audio_folder)}, which is not a folder")
        if self.audio_folder:  # as a run must find it from any folder
            object.__setattr__(self, "audio_folder", os.path.abspath(self.audio_folder))

    @property
    def unit_name(self) -> str:
        """What the model writes, for people."""
        return "characters" if self.units == "characters" else "units"

    def normal(self, text: str) -> str:
        """A transcript with single spaces between words, in lower case unless it consists of tokens.

        >>> ManifestColumns().normal(" Turn  the Light on"), ManifestColumns(units="tokens").normal(" T  @: n")
        ('turn the light on', 'T @: n')
        """
        return " ".join(text.split()) if self.units == "tokens" else normal(text)

    def columns(self) -> tuple[Column, ...]:
        """``COLUMNS`` with the names that were chosen."""
        path, text, *others = COLUMNS
        return replace(path, chosen=self.path_column), replace(text, chosen=self.text_column), *others


class Entry(NamedTuple):
    """A recording and its text. place: file and line, for messages."""

    path: Path
    text: str
    speaker: str = ""
    place: str = ""


class _Line(NamedTuple):
    """A line of a list: the path of the recording as it is written there, or the file itself."""

    number: int
    path: str | Path
    text: str
    speaker: str = ""


def normal(text: str) -> str:
    """A transcript in lower case, with single spaces between words.

    >>> normal(" Turn  the Light on")
    'turn the light on'
    """
    return " ".join(text.lower().split())


def read_manifests(path: Path, options: ManifestColumns, notes: list[str]) -> dict[str, list[Entry]]:
    """The recordings of each part, which must exist; notes are extended by what is left out or guessed.

    path: a manifest, or a folder: with manifests, as LibriSpeech, Kaldi and VoxForge have them, or with a file of text
    beside each recording.
    Raises UserError for a path that is none of these, and for lines that name no file, or one outside of the folder.
    """
    if os.path.isdir(path):
        parts = _librispeech(path, options, notes) or _kaldi(path, options, notes)
        parts = parts or _prompts(path, options, notes)
        if not parts and not any(suffix_of(file) in SUFFIXES for file in list_folder(path)):
            parts = texts_beside(path, options, notes)
        if parts:
            return parts
        files = _manifests_inside(path, notes) or find_manifests(path, notes)
    else:
        files = {"train": path}
    return {part: _read_manifest(file, options, notes) for part, file in files.items()}


def _manifests_inside(folder: Path, notes: list[str]) -> dict[str, Path]:
    """The manifests in folders of parts, such as train/metadata.csv, if there are some."""
    files = {}
    for child in list_folder(folder):
        part = part_of(child.name) if os.path.isdir(child) else None
        if part and any(suffix_of(file) in SUFFIXES for file in list_folder(child)):
            (files[part],) = find_manifests(child, notes).values()
    return files if "train" in files else {}


def find_manifests(folder: Path, notes: list[str], suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The only manifest in a folder, or the manifests of its parts. Raises UserError if there is none."""
    files = [file for file in list_folder(folder) if suffix_of(file) in suffixes and not file.name.startswith(".")]
    parts: dict[str, Path] = {}
    for file in files:
        part = part_of(file.name)
        if part:
            parts.setdefault(part, file)
    if "train" not in parts:
        if len(files) != 1:
            has = f"it has {visible(', '.join(file.name for file in files))}" if files else "it has none"
            raise UserError(
                f"{folder} must have one manifest, a {', '.join(SUFFIXES)} file with the columns path and text, or one "
                f"whose name begins with train; {has}"
            )
        parts = {"train": files[0]}
    unused = [file.name for file in files if file not in parts.values()]
    if unused:
        notes.append(f"{len(unused)} files of {visible(str(folder))} are not used: {visible(', '.join(unused))}")
    return parts


def _read_manifest(path: Path, options: ManifestColumns, notes: list[str]) -> list[Entry]:
    """The lines of a manifest. Paths are relative to the manifest's folder, or to clips/ or wavs/ in it."""
    content = read_encoded(path, options.encoding, notes=notes)
    lines = _ljspeech(path, content, notes)
    if lines is None:
        rows = read_rows(path, content, options.columns(), notes, options.delimiter)
        _check_starts(path, rows, notes)
        lines = [_Line(line, row["path"], row["text"], row.get("speaker", "")) for line, row in rows if row]
    return _entries(path, lines, options, options.allow_outside, notes)


def _check_starts(path: Path, rows: Sequence[Row], notes: list[str]) -> None:
    """Raises UserError for texts of parts of one recording; a recording with one text is read from its beginning."""
    later = [(line, row["path"]) for line, row in rows if row.get("start", "").strip("0. ")]
    counts = Counter(row["path"] for _, row in rows if row)
    refuse_lines(
        [(line, name) for line, name in later if counts[name] > 1],
        path,
        "of which several parts have a text, by a column of their starts: write each part into a file of its own",
    )
    if later:
        notes.append(
            f"{visible(path.name)}: {len(later)} recordings are read from their beginnings, although a column says "
            f"where the text starts (the first: line {later[0][0]})"
        )


def _ljspeech(path: Path, content: str, notes: list[str]) -> list[_Line] | None:
    """The lines of LJSpeech's metadata.csv, "name|text|normalised text" without a heading; None for another file."""
    lines = [line.removesuffix("\r").split("|") for line in content.removesuffix("\n").split("\n")]
    if not 2 <= len(lines[0]) <= 3 or any(column.place_in(lines[0]) is not None for column in COLUMNS):
        return None
    wrong = next((i for i, fields in enumerate(lines, 1) if any(fields) and len(fields) != len(lines[0])), None)
    if wrong:
        raise UserError(f"{path}: line {wrong} has {len(lines[wrong - 1])} fields, and the first line {len(lines[0])}")
    which = "last" if len(lines[0]) > 2 else "second"
    notes.append(
        f"{visible(path.name)} has no heading: as in LJSpeech, names are followed by |, and the {which} is the text"
    )
    return [
        _Line(i, fields[0], next(filter(None, reversed(fields[1:])), ""))
        for i, fields in enumerate(lines, 1)
        if any(fields)
    ]


def _librispeech(folder: Path, options: ManifestColumns, notes: list[str]) -> dict[str, list[Entry]]:
    """The recordings beside files such as 19-198.trans.txt, whose lines are "19-198-0000 THE TEXT"."""
    parts: dict[str, list[Entry]] = {}
    for file in sorted(folder.rglob("*.trans.txt")):
        below = file.relative_to(folder).parts
        part = part_of(below[0]) if len(below) > 1 else None
        lines = []
        for number, line in enumerate(read_encoded(file, options.encoding, notes=notes).split("\n"), 1):
            name, _, text = line.strip().partition(" ")
            if name:
                recording = _resolved(file.parent, name)
                lines.append(_Line(number, recording.name if recording else name, text, name.split("-")[0]))
        parts.setdefault(part or "train", []).extend(_entries(file, lines, options, False, notes))
    if parts and "train" not in parts:
        raise UserError(
            f"{folder} has recordings for {', '.join(parts)} alone; give a folder with train-clean or another"
        )
    return parts


def _kaldi(folder: Path, options: ManifestColumns, notes: list[str]) -> dict[str, list[Entry]]:
    """The recordings that wav.scp names and the texts of "text", in a folder or in one of each part."""
    folders = {"train": folder}
    if not os.path.isfile(folder / "wav.scp"):
        inside = [child for child in list_folder(folder) if os.path.isfile(child / "wav.scp")]
        folders = {part: child for child in reversed(inside) if (part := part_of(child.name))}
    if "train" not in folders or not os.path.isfile(folders["train"] / "wav.scp"):
        return {}
    parts = {}
    for part, of_part in folders.items():
        if os.path.isfile(of_part / "segments"):
            raise UserError(
                f"{of_part} has segments, which says what part of a recording each text is for, and is not read; write "
                "each part into a file of its own, as extract_segments in Kaldi does"
            )

        def table(name: str, of_part: Path = of_part) -> dict[str, tuple[int, str]]:
            lines = read_encoded(of_part / name, options.encoding, notes=notes).split("\n")
            pairs = [(i, *line.strip().partition(" ")[::2]) for i, line in enumerate(lines, 1) if line.strip()]
            return {key: (i, value.strip()) for i, key, value in pairs}

        texts, scp = table("text"), table("wav.scp")
        speakers = table("utt2spk") if os.path.isfile(of_part / "utt2spk") else {}
        for key, (line, value) in scp.items():
            if value.endswith("|"):
                raise UserError(
                    f"{of_part / 'wav.scp'}: line {line} is a command ({key}); write its output into a file"
                )
        without = [key for key in scp if key not in texts]
        if without:
            notes.append(
                f"{len(without)} recordings of {visible(str(of_part))} have no text (the first: {visible(without[0])})"
            )
        others = [key for key in texts if key not in scp]
        if others:
            notes.append(
                f"{len(others)} texts of {visible(str(of_part))} have no recording (the first: {visible(others[0])})"
            )
        lines = [
            _Line(line, value, texts[key][1], speakers.get(key, (0, ""))[1])
            for key, (line, value) in scp.items()
            if key in texts
        ]
        parts[part] = _entries(of_part / "wav.scp", lines, options, options.allow_outside, notes)
    return parts


def _prompts(folder: Path, options: ManifestColumns, notes: list[str]) -> dict[str, list[Entry]]:
    """The recordings that files named PROMPTS list, as VoxForge has them: lines "*/mfc/a0001 THE TEXT"."""
    entries: list[Entry] = []
    for file in sorted(path for path in folder.rglob("*") if path.name.lower() in ("prompts", "prompts-original")):
        top = file.parent.parent if file.parent.name.lower() == "etc" else file.parent
        if any(entry.path.is_relative_to(top) for entry in entries):
            continue  # of PROMPTS and prompts-original, the first one counts
        lines = []
        for number, line in enumerate(read_encoded(file, options.encoding, notes=notes).split("\n"), 1):
            name, _, text = line.strip().partition(" ")
            if name:
                last = name.rpartition("/")[2]
                places = (place for inside in ("wav", "flac", "") if (place := _resolved(top / inside, last)))
                lines.append(_Line(number, next(places, last), text, top.name.rpartition("-")[0] or top.name))
        entries += _entries(file, lines, options, False, notes, top)
    return {"train": entries} if entries else {}


def texts_beside(
    folder: Path, options: ManifestColumns, notes: list[str], suffixes: Sequence[str] = (".wav", ".flac", ".mp3")
) -> dict[str, list[Entry]]:
    """The recordings that have a file of text beside them; TIMIT's texts begin with two numbers of samples.

    suffixes: of the recordings. Raises UserError if they are in folders for other parts than training alone.
    """
    parts: dict[str, list[Entry]] = {}
    lines: dict[str, list[_Line]] = {}
    silent = []
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes):
        beside = [file.with_suffix(ending) for ending in TEXT_ENDINGS if os.path.isfile(file.with_suffix(ending))]
        if not beside:
            silent.append(file)
            continue
        text = re.sub(r"^\d+ \d+ ", "", read_encoded(beside[0], options.encoding, notes=notes).strip())
        below = file.relative_to(folder).parts
        part = (part_of(below[0]) if len(below) > 1 else None) or "train"
        speaker = file.parent.name if len(below) > 1 else ""
        lines.setdefault(part, []).append(_Line(1, file.relative_to(folder), text, speaker))
    for part, of_part in lines.items():
        parts[part] = _entries(folder / "texts", of_part, options, False, notes)
    if parts and "train" not in parts:
        raise UserError(f"{folder} has recordings for {', '.join(parts)} alone; name the folder for training train")
    if parts:
        notes.append(f"texts are those in the files beside {sum(map(len, parts.values())):,} recordings")
    if parts and silent:
        first = visible(str(silent[0].relative_to(folder)))
        notes.append(f"{len(silent)} recordings left out: no file beside them has their text (the first: {first})")
    return parts


def _entries(
    path: Path,
    lines: Sequence[_Line],
    options: ManifestColumns,
    allow_outside: bool,
    notes: list[str],
    folder: Path | None = None,
) -> list[Entry]:
    """The lines of a list whose recordings are there and have a text. folder: where they must be; None: the list's."""
    base = Path(options.audio_folder or path.parent)
    files = [_resolved(base, str(line.path)) for line in lines]
    refuse_lines(
        [(line.number, str(base / line.path)) for line, file in zip(lines, files) if file is None],
        path,
        "which is not a file, nor is it one in clips/ or wavs/ there; correct the line, or name the folder of the "
        "recordings with --audio-folder",
    )
    found = [(line, file) for line, file in zip(lines, files) if file is not None]
    outside = [] if allow_outside else [pair for pair in found if not is_below(pair[1], folder or base)]
    refuse_lines(
        [(line.number, str(file)) for line, file in outside],
        path,
        "which is outside the list's folder; move the recording there, name its folder with --audio-folder, or allow "
        "such paths with --allow-outside",
    )
    elsewhere = [(line, file) for line, file in found if file not in (base / line.path, line.path)]
    if elsewhere:
        line, file = elsewhere[0]
        first = f"{visible(str(line.path))} is {visible(os.path.abspath(file))}"
        count = f"{len(elsewhere)} of {len(found)} paths in {visible(path.name)}"
        notes.append(f"{count} are not relative to its folder, or lack an ending (the first: {first})")
    entries = [
        Entry(file, options.normal(line.text), line.speaker, f"{path}: line {line.number}: ")
        for line, file in found
        if options.normal(line.text)
    ]
    if not entries:
        raise UserError(f"{path} has no recordings with a text; add lines with a path and a text")
    empty = [line.number for line, _ in found if not options.normal(line.text)]
    if empty:
        first = f"(the first: line {empty[0]})"
        notes.append(f"{len(empty)} lines of {visible(str(path))} left out: they have no text {first}")
    return entries


def refuse_lines(lines: Sequence[tuple[int, str]], path: Path, what: str) -> None:
    """Raises UserError if there are lines, numbers and what they name, that a list must not have."""
    if lines:
        number, name = lines[0]
        others = ", ".join(str(line) for line, _ in lines[1:MOST_NAMED]) + (", ..." if len(lines) > MOST_NAMED else "")
        more = f" ({len(lines)} such lines; the next: {others})" if len(lines) > 1 else ""
        raise UserError(f"{path}: line {number} names {visible(name)}, {what}{more}")


def _resolved(folder: Path, name: str) -> Path | None:
    """The file that a line names: in the manifest's folder, in clips/ or wavs/ there, or in the current folder."""
    places = [folder / name, folder / "clips" / name, folder / "wavs" / name, Path(name)] if name else []
    if "\\" in name:
        places.append(folder / name.replace("\\", "/"))
    candidates = [place.parent / (place.name + ending) for place in places for ending in ("", *ENDINGS)]
    return next((file for file in candidates if os.path.isfile(file)), None)


def is_below(file: Path, folder: Path) -> bool:
    """Whether a file is in a folder or one below it, when all symbolic links are followed."""
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
