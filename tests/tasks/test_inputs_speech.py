"""Recordings and their lists as users have them: what the account says of them, or what the refusal says."""

import json
import struct
from functools import partial
from typing import Any

import numpy as np
import pytest
import soundfile
from inputs import Case, Content, check, read, refused, saved

from tasks.speech_recognition import SpeechRecognition

TASK = SpeechRecognition()
COUNT = 20
RATE = 16_000


def recording(number: int, samples: int = 4_000, rate: int = RATE, channels: int = 1, kind: str = "WAV") -> bytes:
    """A tone, which is another one for every number."""
    wave = 0.3 * np.sin(np.arange(samples) * (0.1 + 0.01 * number))
    return saved(partial(soundfile.write, data=np.stack([wave] * channels, 1), samplerate=rate, format=kind))


def streamed(size: int) -> bytes:
    """A recording whose header has the sizes that programs write into a pipe."""
    content = bytearray(recording(99))
    content[4:8], content[40:44] = struct.pack("<I", (size + 36) & 0xFFFFFFFF), struct.pack("<I", size)
    return bytes(content)


def wavs(folder: str = "clips/", ending: str = ".wav", **options: Any) -> dict[str, Content]:
    return {f"{folder}{i}{ending}": recording(i, **options) for i in range(COUNT)}


def text(number: int) -> str:
    return f"no {'abcde'[number % 5]}"


def manifest(head: str = "path\ttext", row: str = "clips/{0}.wav\t{1}", more: str = "") -> str:
    """{0} is the number of a recording, {1} its text."""
    rows = [row.format(i, text(i)) for i in range(COUNT)]
    return "\n".join([head, *rows][not head :]) + "\n" + more


def with_wavs(name: str = "a.tsv", content: Content = manifest(), **others: Content) -> dict[str, Content]:  # noqa: B008
    return wavs() | {name: content} | others


def json_lines(path: str, **more: Any) -> str:
    return "".join(json.dumps({path: f"clips/{i}.wav", "text": text(i), **more}) + "\n" for i in range(COUNT))


SIZES = "16 train, 2 validation, 2 test utterances"
COMMON_VOICE = manifest("client_id\tpath\tsentence\tup_votes", "s{0}\t{0}.wav\t{1}\t2")
SPEECH = {
    "tabs": read("a", with_wavs(), SIZES),
    "commas": read("a", with_wavs("a.csv", manifest("path,text", "clips/{0}.wav,{1}")), SIZES),
    "FLAC": read("a", wavs(ending=".flac", kind="FLAC") | {"a.tsv": manifest(row="clips/{0}.flac\t{1}")}, SIZES),
    "Common Voice": read("a", with_wavs("train.tsv", COMMON_VOICE), SIZES, "'sentence' is the text", "'up_votes'"),
    "Common Voice elsewhere": refused(
        "a", {"train.tsv": COMMON_VOICE}, "line 2 names", "20 such lines", "--audio-folder"
    ),
    "recordings elsewhere": read(
        "a",
        wavs("audio/x/") | {"a.tsv": manifest(row="{0}.wav\t{1}")},
        SIZES,
        options="--audio-folder DATA/audio/x",
    ),
    "a folder that is none": refused("a", {}, "is not a folder", options="--audio-folder gone"),
    "parts of a recording": refused(
        "a",
        {"b.wav": recording(0)}
        | {
            "a.json": "".join(
                json.dumps({"audio_filepath": "b.wav", "offset": i / 10, "text": text(i)}) + "\n" for i in range(COUNT)
            )
        },
        "line 2 names b.wav, of which several parts have a text",
        "a file of its own",
    ),
    "starts in other recordings": read(
        "a",
        with_wavs("a.json", json_lines("audio_filepath", offset=0.5)),
        "20 recordings are read from their beginnings",
    ),
    "lists in folders of parts": read(
        "a",
        {
            f"{part}/{name}": inner
            for part in ("train", "test")
            for name, inner in with_wavs("metadata.csv", manifest("file_name,text", "clips/{0}.wav,{1}")).items()
        },
        "20 test utterances",
    ),
    "LJSpeech": read("a", wavs("wavs/") | {"metadata.csv": manifest("", "{0}|{1}|{1}")}, SIZES, "as in LJSpeech"),
    "LibriSpeech": read(
        "a",
        wavs("train-clean/19/198/19-198-", ".flac", kind="FLAC")
        | {"train-clean/19/198/19-198.trans.txt": manifest("", "19-198-{0} {1}").upper()},
        SIZES,
    ),
    "Kaldi": read("a", with_wavs("wav.scp", manifest("", "u{0} clips/{0}.wav"), text=manifest("", "u{0} {1}")), SIZES),
    "NeMo": read("a", with_wavs("a.json", json_lines("audio_filepath", duration=0.4)), "'audio_filepath' is the path"),
    "DeepSpeech": read(
        "a",
        with_wavs("a.csv", manifest("wav_filename,wav_filesize,transcript", "clips/{0}.wav,1,{1}")),
        SIZES,
        "'wav_filename' is the path",
        "'transcript' is the text",
        "not used: 'wav_filesize'",
    ),
    "Hugging Face's folder": read(
        "a",
        with_wavs("metadata.csv", manifest("file_name,transcription", "clips/{0}.wav,{1}")),
        "'file_name' is the path",
    ),
    "texts beside the recordings": read("a", wavs() | {f"clips/{i}.txt": text(i) for i in range(COUNT)}, SIZES),
    "columns by name": read(
        "a",
        with_wavs("a.csv", manifest("who,what", "clips/{0}.wav,{1}")),
        SIZES,
        options="--path-column who --text-column what",
    ),
    "columns by number": read("a", with_wavs("a.tsv", manifest("")), SIZES, options="--path-column 1 --text-column 2"),
    "no heading": refused("a", with_wavs("a.tsv", manifest("")), "a.tsv has no column 'path'", "--path-column 1"),
    "unknown columns": refused(
        "a", with_wavs("a.jsonl", json_lines("sound")), "it has 'sound', 'text'", "--path-column"
    ),
    "paths of Windows": read("a", with_wavs("a.tsv", manifest(row="clips\\{0}.wav\t{1}")), "clips\\0.wav is /"),
    "names without an ending": read("a", with_wavs("a.tsv", manifest(row="clips/{0}\t{1}")), "or lack an ending"),
    "UTF-16": read("a", with_wavs("a.tsv", manifest().encode("utf-16")), SIZES),
    "latin-1": refused(
        "a", with_wavs("a.tsv", manifest(more="clips/0.wav\té\n").encode("latin-1")), "--encoding latin-1"
    ),
    "a file that is not there": refused("a", with_wavs("a.tsv", manifest(more="clips/x.wav\tx\n")), "line 22 names"),
    "columns that change places": refused(
        "a", with_wavs("a.tsv", manifest(row="{1}" * 99 + "\tclips/{0}.wav")), "line 2 names"
    ),
    "no text": read(
        "a",
        with_wavs("a.tsv", manifest(more="clips/0.wav\t\n")),
        "1 lines of",
        "they have no text (the first: line 22)",
    ),
    "all files that cannot be read": refused(
        "a",
        with_wavs("a.tsv", manifest(more="b.wav\tx\nc.wav\ty\n"), **{"b.wav": b"no sound", "c.wav": b""}),
        "2 of 22 recordings cannot be used",
        "line 22: ",
        "line 23: ",
    ),
    "a header from a pipe": read(
        "a", with_wavs("a.tsv", manifest(more="b.wav\tx\n"), **{"b.wav": streamed(0x7FFFF000)}), "17 train"
    ),
    "a recording that is cut off": refused(
        "a",
        with_wavs("a.tsv", manifest(more="b.wav\tx\n"), **{"b.wav": streamed(9_000)}),
        "is cut off after 0.25 seconds",
    ),
    "no sample": refused(
        "a",
        with_wavs("a.tsv", manifest(more="b.wav\tx\n"), **{"b.wav": recording(0, 0)}),
        "is a recording without samples",
    ),
    "one sample at a higher rate": refused(
        "a",
        with_wavs("a.tsv", manifest(more="b.wav\tx\n"), **{"b.wav": recording(1, 1, 44_100)}),
        "is a recording without samples at 16000 Hz: it has 1 at 44100 Hz",
    ),
    "a lower rate": read("a", wavs(rate=8_000) | {"a.tsv": manifest()}, "20 of 20 train recordings have fewer samples"),
    "two channels": read(
        "a", wavs(channels=2) | {"a.tsv": manifest()}, "have several channels, of which the mean is taken"
    ),
    "long recordings": read(
        "a", wavs() | {"a.tsv": manifest()} | {"clips/7.wav": recording(7, 16 * RATE)}, "longer than --longest 15"
    ),
    "silence": read(
        "a",
        wavs()
        | {
            "a.tsv": manifest(),
            "clips/7.wav": saved(partial(soundfile.write, data=np.zeros(4000), samplerate=RATE, format="WAV")),
        },
        "they are silent",
    ),
    "the same recording twice": read(
        "a", with_wavs("a.tsv", manifest() + manifest("")), "are among the training recordings, too"
    ),
    "half of a character": refused(
        "a",
        with_wavs("a.jsonl", json_lines("path") + '{"path": "clips/0.wav", "text": "\\ud83d"}\n'),
        "line 21 has",
        "half of a",
    ),
    "deep JSON": refused("a", with_wavs("a.jsonl", json_lines("path") + "[" * 100_000), "line 21 is not JSON"),
    "a number of many digits": refused(
        "a", with_wavs("a.jsonl", json_lines("path") + "1" * 5_000), "line 21 is not JSON"
    ),
    "a folder without a list": refused("a", wavs(), "must have one manifest"),
}


@pytest.mark.parametrize("kind", SPEECH)
def test_recordings_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = SPEECH[kind]
    check(TASK, case, tmp_path, capsys, monkeypatch)
