"""Speech as features, in the layouts that people have: archives, a file for each utterance, Kaldi's folders."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ..display import visible
from ..errors import UserError
from . import feature_files
from .delimited import suffix_of
from .feature_files import ARCHIVES, ENDINGS, Features, Place, parse_place, read_places, same_widths
from .limits import list_folder, read_content
from .manifests import SUFFIXES, ManifestColumns, find_manifests, is_below, refuse_lines, texts_beside
from .named_columns import read_rows
from .parts import part_of
from .speech import Recordings, Speech, require_no_errors, three_parts
from .speech_input import USUAL_HOP
from .text import read_encoded

AUDIO = (".wav", ".flac", ".mp3")
"""Suffixes of the recordings that a list may name in place of their features."""
TABLES = (*SUFFIXES, ".txt", ".text")
"""Suffixes of files with texts; Kaldi's has none, and is named text."""
TEXT = "text"
NAME_COLUMNS = ("name", "utterance", "utterance_id", "utt", "utt_id", "id", "key", "features", "feats")
"""Names of the column that names an utterance, besides those that a manifest of recordings has."""


_USUAL = ManifestColumns()


class _Line(NamedTuple):
    """A line of texts: an utterance, its text and its speaker."""

    number: int
    name: str
    text: str
    speaker: str = ""


@dataclass(frozen=True, eq=False)
class _Source:
    """Where features are looked for. folder: below which all files must be; places: the utterances of archives."""

    folder: Path
    places: Mapping[str, Place]
    frame_shift: float | None = field(default=None, kw_only=True)


def load_features(
    features: str,
    texts: str = "",
    *,
    seed: int,
    hold_out_speaker: str = "",
    columns: ManifestColumns = _USUAL,
) -> Speech:
    """Loads utterances that are given as features, with their transcripts.

    features: a ``.npz``, ``.ark`` or ``.scp`` file; or a folder with such files, or one for each part (train.npz,
        test.npz), with Kaldi's feats.scp, also in a folder for each part, or with a ``.npy`` or HTK file for each
        utterance; or a list of such files, in a file with the columns of a manifest.
    texts: a manifest, Kaldi's text ("NAME THE TEXT" in each line), or a folder with one, or one for each part. "": they
        are in the folder of the features, and named like an archive, "text", or like the one file for an utterance.
    seed, hold_out_speaker, columns: see ``speech.load``.

    Raises UserError, with the file and the place in it, for data that cannot be trained on.
    """
    path, options, notes = Path(features), columns, []
    if not os.path.exists(path):
        raise UserError(f"--features is {visible(features)}, which does not exist; give a folder or a file of features")
    tables = _tables(path, Path(texts or features), options, notes)
    sources = _sources(path, tables)
    parts: dict[str, Recordings] = {}
    hops: set[float] = set()
    if tables:
        for part, table in tables.items():
            lines = _read_texts(table, options, notes)
            parts[part] = _recordings(table, lines, sources[part], options, hops, notes)
    else:
        parts = _single_files(path, options, hops, notes)
    hops |= {source.frame_shift for source in sources.values() if source.frame_shift}
    same_widths({name: signal for each in parts.values() for name, signal in zip(each.names, each.signals)})
    if len(hops) > 1:
        notes.append(f"frames are {', '.join(f'{1000 * hop:g}' for hop in sorted(hops))} ms apart; the least is taken")
    if not hops:
        notes.append(f"no file says how far apart frames are: {1000 * USUAL_HOP:g} ms are taken")
    parts = three_parts(features, parts, seed, hold_out_speaker, notes)
    train, texts_of = parts["train"], tuple(parts["train"].texts)
    notes.insert(0, _account(parts))
    hop = min(hops, default=USUAL_HOP)
    return Speech(features, train, parts["validation"], parts["test"], texts_of, tuple(notes), hop)


def read_unknown(paths: Sequence[Path]) -> Recordings:
    """The features in files, archives and folders, without texts, for prediction.

    Raises UserError for what cannot be read, and if there is nothing.
    """
    places: dict[str, Place] = {}
    for path in paths:
        inside = [path]
        if os.path.isdir(path):
            files = sorted(file for file in path.rglob("*") if os.path.isfile(file))
            scripts = [file for file in files if file.name == "feats.scp"]
            inside = scripts or [file for file in files if suffix_of(file) in (*ARCHIVES, *ENDINGS)]
            if not inside:
                raise UserError(f"{path} has no features in it; give .npy, .npz, .ark, .scp or HTK files")
        for file in inside:
            its = feature_files.index(file) if suffix_of(file) in ARCHIVES else {str(file): Place(file)}
            places |= its
    read = list(read_places(list(places.values())))
    require_no_errors([str(each) for each in read if isinstance(each, UserError)], len(read))
    signals = [each.values for each in read if isinstance(each, Features)]
    unknown = [""] * len(signals)
    return Recordings(signals, unknown, unknown, list(places))


def _account(parts: Mapping[str, Recordings]) -> str:
    """What was read, in words."""
    frames = sum(len(signal) for part in parts.values() for signal in part.signals)
    count, width = sum(map(len, parts.values())), parts["train"].signals[0].shape[1]
    return f"{count:,} utterances of {width} features, {frames:,} frames in all"


# Texts


def _tables(features: Path, texts: Path, options: ManifestColumns, notes: list[str]) -> dict[str, Path]:
    """The files of texts of each part; none where each utterance has a file of text beside it."""
    if not os.path.exists(texts):
        raise UserError(f"--data is {visible(str(texts))}, which does not exist; name the texts of --features")
    if not os.path.isdir(texts):
        if suffix_of(texts) not in ARCHIVES:
            return {"train": texts}
        return {"train": _beside(texts)}
    inside = [child for child in reversed(list_folder(texts)) if os.path.isdir(child)]
    folders = {"": texts, **{part: child for child in inside if (part := part_of(child.name))}}
    kaldi = {part: folder / TEXT for part, folder in folders.items() if os.path.isfile(folder / TEXT)}
    if "" in kaldi:
        return {"train": kaldi[""]}
    if kaldi:
        if "train" not in kaldi:
            raise UserError(f"{texts} has texts for {', '.join(kaldi)} alone; name the folder for training train")
        return kaldi
    lists = [path for path in list_folder(texts) if suffix_of(path) in TABLES]
    has_parts = any(part_of(path.name) == "train" for path in lists)
    archives = _archives(features) if os.path.isdir(features) and texts == features else []
    if archives:
        names = {part_of(path.name): path for path in reversed(archives)}
        if "train" in names:
            return {part: _beside(path) for part, path in names.items() if part}
        if not has_parts:
            return {"train": _beside(archives[0])}
    if lists and (has_parts or not _has_texts_beside(texts)):
        return find_manifests(texts, notes, TABLES)
    return {}


def _beside(archive: Path) -> Path:
    """The texts of an archive: a file of the same name with another suffix, or one named "text"."""
    candidates = [archive.with_suffix(suffix) for suffix in TABLES] + [archive.parent / TEXT]
    found = next((path for path in candidates if os.path.isfile(path)), None)
    if found is None:
        raise UserError(
            f"{archive} has no texts beside it: name them in a file {visible(archive.stem)}.tsv with the columns name "
            "and text, or in one named text as Kaldi has it; or give their file with --data"
        )
    return found


def _has_texts_beside(folder: Path) -> bool:
    """Whether the first feature file below a folder has a file of text beside it."""
    first = next((file for file in sorted(folder.rglob("*")) if suffix_of(file) in ENDINGS), None)
    return first is not None and any(os.path.isfile(first.with_suffix(ending)) for ending in (".txt", ".lab"))


def _read_texts(path: Path, options: ManifestColumns, notes: list[str]) -> list[_Line]:
    """The lines of a manifest, or of Kaldi's text: "NAME THE TEXT"."""
    content = read_encoded(path, options.encoding, notes=notes)
    name, text, speaker, *_ = options.columns()
    columns = (replace(name, known=(*NAME_COLUMNS, *name.known)), text, speaker)
    heading = content.partition("\n")[0].removesuffix("\r")
    named = any(
        columns[0].place_in(fields) is not None and columns[1].place_in(fields) is not None
        for fields in (heading.split(mark) for mark in "\t,;|")
    )
    if suffix_of(path) in SUFFIXES or named:
        rows = read_rows(path, content, columns, notes, options.delimiter)
        return [_Line(line, row["path"], row["text"], row.get("speaker", "")) for line, row in rows if row]
    speakers = _speakers(path.parent / "utt2spk", options)
    lines = [(number, *line.split(maxsplit=1)) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    return [_Line(number, key, "".join(words), speakers.get(key, "")) for number, key, *words in lines]


def _speakers(path: Path, options: ManifestColumns) -> dict[str, str]:
    """The speakers of Kaldi's utt2spk, if there is one."""
    if not os.path.isfile(path):
        return {}
    pairs = (line.split() for line in read_encoded(path, options.encoding).split("\n"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}


# Features


def _archives(folder: Path) -> list[Path]:
    """The archives in a folder: Kaldi's feats.scp alone, where there is one; or ``.scp`` files, which name others."""
    files = [path for path in list_folder(folder) if suffix_of(path) in ARCHIVES]
    named = [path for path in files if path.name == "feats.scp"]
    scripts = [path for path in files if suffix_of(path) == ".scp"]
    return named or scripts or files


def _sources(features: Path, tables: Mapping[str, Path]) -> dict[str, _Source]:
    """Where the features of each part are: those in archives, and the folder that other files must be in."""
    folder = features if os.path.isdir(features) else features.parent
    archives = [features] if suffix_of(features) in ARCHIVES else _archives(folder)
    sources = {}
    for part, table in tables.items():
        its = [path for path in archives if part_of(path.name) in (part, None)]
        if table.parent != folder and os.path.isdir(features):
            inside = features / table.parent.name
            its += _archives(inside) if os.path.isdir(inside) else []
        places: dict[str, Place] = {}
        for path in its:
            places |= feature_files.index(path, folder)
        shifts = [_frame_shift(path.parent) for path in its]
        sources[part] = _Source(folder, places, frame_shift=min(filter(None, shifts), default=None))
    return sources


def _frame_shift(folder: Path) -> float | None:
    """The seconds in the file frame_shift, which Kaldi writes into its folders."""
    if not os.path.isfile(folder / "frame_shift"):
        return None
    try:
        shift = float(bytes(read_content(folder / "frame_shift")))
    except ValueError:
        return None
    return shift if 0 < shift < 10 else None


def _recordings(
    table: Path,
    lines: Sequence[_Line],
    source: _Source,
    options: ManifestColumns,
    hops: set[float],
    notes: list[str],
) -> Recordings:
    """The utterances of one part, read."""
    places = [_find(line.name, table.parent, source, f"{table}: line {line.number}") for line in lines]
    missing = [(line.number, line.name) for line, place in zip(lines, places) if place is None]
    if len(missing) == len(lines) or not source.places:
        refuse_lines(missing, table, "of which there are no features; correct the line, or remove it")
    elif missing:
        notes.append(
            f"{len(missing)} texts of {visible(str(table))} have no features (the first: {visible(missing[0][1])})"
        )
    pairs = [(line, place) for line, place in zip(lines, places) if place is not None]
    outside = [(line.number, str(place.path)) for line, place in pairs if not is_below(place.path, source.folder)]
    if outside and not options.allow_outside:
        what = f"which is outside {source.folder}; move it there, or allow such paths with --allow-outside"
        refuse_lines(outside, table, what)
    empty = [line.name for line, _ in pairs if not options.normal(line.text)]
    if empty:
        notes.append(
            f"{len(empty)} lines of {visible(str(table))} left out: they have no text (the first: {visible(empty[0])})"
        )
    pairs = [(line, place) for line, place in pairs if options.normal(line.text)]
    if not pairs:
        raise UserError(f"{table} has no utterances with a text; add lines with a name and a text")
    others = len(source.places) - len({line.name for line, _ in pairs} & source.places.keys())
    if others and part_of(table.name) is None:
        notes.append(f"{others} utterances have features and no text in {visible(str(table))}")
    signals = _read([(f"{table}: line {line.number}: ", place) for line, place in pairs], hops)
    texts, speakers = [options.normal(line.text) for line, _ in pairs], [line.speaker for line, _ in pairs]
    return Recordings(signals, texts, speakers, [line.name for line, _ in pairs])


def _find(name: str, folder: Path, source: _Source, line: str) -> Place | None:
    """The features that a line names: in an archive, or in a file, by its name with or without an ending."""
    stem, suffix = os.path.splitext(name)
    plain = stem if suffix.lower() in (*AUDIO, *ENDINGS) else name
    for key in (name, plain, os.path.basename(plain)):
        if key in source.places:
            return source.places[key]
    if ".ark:" in name:
        return parse_place(name, [folder, source.folder], line)
    names = [name + ending for ending in ("", *ENDINGS)] if suffix.lower() not in AUDIO else []
    names += [plain + ending for ending in ENDINGS]
    files = (path / each for path in (folder, source.folder) for each in names)
    return next((Place(file) for file in files if os.path.isfile(file) and suffix_of(file) not in ARCHIVES), None)


def _single_files(path: Path, options: ManifestColumns, hops: set[float], notes: list[str]) -> dict[str, Recordings]:
    """The utterances of a folder in which each has a file of features, with one of text beside it."""
    entries = texts_beside(path, options, notes, ENDINGS) if os.path.isdir(path) else {}
    if not entries:
        raise UserError(
            f"{path} has no features with texts: it must have an archive ({', '.join(ARCHIVES)}) and a file of texts "
            "(text, or train.tsv with the columns name and text), or a .npy or HTK file and a .txt file for each "
            "utterance"
        )
    return {
        part: Recordings(
            _read([(entry.place, Place(entry.path)) for entry in of_part], hops),
            [entry.text for entry in of_part],
            [entry.speaker for entry in of_part],
            [str(entry.path.relative_to(path)) for entry in of_part],
        )
        for part, of_part in entries.items()
    }


def _read(named: Sequence[tuple[str, Place]], hops: set[float]) -> list:
    """The matrices at places, whose lines are named in messages. Raises one UserError for all that cannot be used."""
    order = sorted(range(len(named)), key=lambda i: (str(named[i][1].path), named[i][1].offset or 0))
    read = dict(zip(order, read_places([named[i][1] for i in order])))
    errors = [f"{line}{read[i]}" for i, (line, _) in enumerate(named) if isinstance(read[i], UserError)]
    require_no_errors(errors, len(named))
    found = [each for i in range(len(named)) if isinstance(each := read[i], Features)]
    hops |= {each.hop for each in found if each.hop}
    return [each.values for each in found]
