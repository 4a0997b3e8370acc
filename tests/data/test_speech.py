"""Spoken utterances: what every source gives, what stays apart, and what is said about data that are wrong."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pooch
import pytest
import soundfile

from pipeline.data import speech
from pipeline.data.audio import Spectrum, log_mel, normalise
from pipeline.data.batches import PerEpochExamples, Sequences
from pipeline.data.speech import ManifestColumns, Recordings, join, load
from pipeline.data.synthetic import commands, espeak
from pipeline.data.synthetic.espeak import Spoken
from pipeline.data.utterances import AugmentedUtterances, Utterances, WaveformAugmentation
from pipeline.data.vocabulary import Characters
from pipeline.errors import UserError

RATE = 8_000
SPECTRUM = Spectrum(RATE, mels=20)


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    return (np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE) / 2).astype(np.float32)


def write(path: Path, signal: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE, "PCM_16")


def recordings(count: int, *speakers: str, seconds: float = 0.3) -> Recordings:
    """Of each speaker so many, each a tone of its own."""
    names = [f"{speaker}{i}" for speaker in speakers for i in range(count)]
    signals = [tone(seconds + 0.01 * i, 200 + 10 * i) for i in range(len(names))]
    return Recordings(signals, [f"text {name}" for name in names], [name[:-1] for name in names], names)


def utterances(spoken: Recordings) -> Utterances:
    alphabet = Characters.of("".join(spoken.texts))
    return Utterances(spoken, alphabet, SPECTRUM, lambda lengths, size: -(-np.asarray(lengths) // 2))


def test_the_synthesiser_says_the_same_again():
    message = [Spoken("seven", "en-us"), Spoken("seven", "en-us+f3"), Spoken("seven", "en-us", speed=140, pitch=20)]
    first, rate = espeak.synthesise(message)
    again, _ = espeak.synthesise(message)
    assert rate == 22_050
    for signal, same in zip(first, again):
        np.testing.assert_array_equal(signal, same)
        assert signal.dtype == np.float32 and 0.05 < np.abs(signal).max() <= 1
    assert len(first[2]) > 1.1 * len(first[0]) and len(first[1]) != len(first[0])
    with pytest.raises(RuntimeError, match="nobody"):
        espeak.synthesise([Spoken("seven", "nobody")])


def test_the_language_of_commands():
    assert [commands.number(n) for n in (0, 9, 10, 19, 20, 21, 99)] == [
        *("zero", "nine", "ten", "nineteen", "twenty", "twenty one", "ninety nine")
    ]
    result = commands.sentences(500, seed=0)
    assert result == commands.sentences(500, seed=0) and result != commands.sentences(500, seed=1)
    assert len(set(result)) == 500
    assert all(sentence == speech.normal(sentence) for sentence in result)


def test_commands_are_said_by_other_voices_in_every_part(monkeypatch):
    monkeypatch.setattr(speech, "COMMANDS_SIZES", {"train": 6, "validation": 3, "test": 3})
    result = load("commands", rate=RATE, seed=0)
    assert [len(part) for part in (result.train, result.validation, result.test)] == [6, 3, 3]
    assert not set(result.train.texts) & set(result.test.texts)
    assert all(0.4 * RATE < len(signal) < 6 * RATE for signal in result.train.signals)
    voices = [set(speech.VOICES[part].split()) for part in ("train", "validation", "test")]
    assert len(set.union(*voices)) == sum(map(len, voices))


@pytest.fixture
def fsdd(tmp_path, monkeypatch) -> Path:
    """Two speakers, digits 0 and 7, twelve recordings of each."""
    folder = tmp_path / "fsdd" / "recordings"
    for digit in (0, 7):
        for i, speaker in enumerate(("ann", "bob")):
            for index in range(12):
                write(folder / f"{digit}_{speaker}_{index}.wav", tone(0.3, 200 + 100 * i + digit + index))
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    return folder


def indices(spoken: Recordings) -> set[int]:
    return {int(Path(part).stem.split("_")[2]) for name in spoken.names for part in name.split(" + ")}


def test_recorded_digits_are_split_as_their_authors_say(fsdd):
    result = load("fsdd", rate=RATE, seed=0)
    assert len(result.test) == 20 and indices(result.test) == set(range(5))
    assert len(result.train) + len(result.validation) == 28
    assert not (indices(result.train) | indices(result.validation)) & indices(result.test)
    assert set(result.test.texts) == {"zero", "seven"}


def test_connected_digits_of_each_part_are_its_own(fsdd):
    result = load("fsdd", rate=RATE, seed=0, connected=2, hold_out_speaker="ann")
    assert set(result.test.speakers) == {"ann"} and set(result.train.speakers) == {"bob"}
    assert len(result.test) == 12 * speech.JOINED_ROUNDS
    assert all(len(text.split()) == 2 for text in result.test.texts)
    assert not any(" " in text for text in result.train.texts)
    assert all(len(text.split()) == 2 for text in result.texts)
    with pytest.raises(UserError, match="--connected is 25"):
        load("fsdd", rate=RATE, seed=0, connected=25)


def test_a_speaker_is_held_out_of_everything_else(fsdd):
    result = load("fsdd", rate=RATE, seed=0, hold_out_speaker="bob")
    assert len(result.test) == 24 and set(result.test.speakers) == {"bob"}
    assert {*result.train.speakers, *result.validation.speakers} == {"ann"}
    assert indices(result.train) | indices(result.validation) == set(range(12))
    with pytest.raises(UserError, match="'carl', of whom fsdd has no recording; its speakers are ann, bob"):
        load("fsdd", rate=RATE, seed=0, hold_out_speaker="carl")


def test_digits_that_are_not_here_or_have_other_names(fsdd, tmp_path, monkeypatch):
    write(fsdd / "seven.wav", tone(0.3))
    with pytest.raises(UserError, match=r"seven.wav is not named \{digit\}_\{speaker\}_\{index\}.wav"):
        load("fsdd", rate=RATE, seed=0)
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    with pytest.raises(UserError, match=r"put its folder recordings/ into .*cache/fsdd"):
        load("fsdd", rate=RATE, seed=0)


LINES = [("a/1.wav", "One  two", "x"), ("a/2.wav", "drei", "y"), ("a/3.wav", "", "y")]


def manifest(folder: Path, kind: str, lines: list = LINES, name: str = "mine") -> Path:
    for path, *_ in lines:
        write(folder / path, tone(0.3))
    path = folder / f"{name}.{kind}"
    if kind == "jsonl":
        rows = [json.dumps(dict(zip(("path", "text", "speaker"), line))) for line in lines]
    else:
        separator = {"tsv": "\t", "csv": ","}[kind]
        rows = [separator.join(line) for line in [("path", "text", "speaker"), *lines]]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
def test_manifests(tmp_path, kind):
    path = manifest(tmp_path, kind, [*LINES, *((f"b/{i}.wav", "one", "x") for i in range(20))])
    for source in (path, tmp_path):
        result = load(str(source), rate=RATE, seed=0)
        every = [*result.train.texts, *result.validation.texts, *result.test.texts]
        assert sorted(every) == ["drei", *["one"] * 20, "one two"]
        assert (len(result.validation), len(result.test)) == (2, 2)
        assert set(result.train.speakers) <= {"x", "y"}
        line = 3 if kind == "jsonl" else 4
        assert result.notes[0] == f"1 lines of {path} left out: they have no text (the first: line {line})"


def table(lines: list[tuple[str, ...]], separator: str = "\t") -> str:
    return "".join(separator.join(line) + "\n" for line in lines)


NAMES = [f"{i}-a" for i in range(20)]
NEMO = "".join(json.dumps({"audio_filepath": f"{name}.wav", "duration": 0.3, "text": "One"}) + "\n" for name in NAMES)
CLIPS = [("client_id", "path", "sentence"), *(("x", f"{name}.wav", "One") for name in NAMES)]
COMPLETED = "20 of 20 paths in {} are not relative to its folder, or lack an ending (the first: {} is {}"
UNUSED = "{}: columns that are not used: {}"


@pytest.mark.parametrize(
    "files, folder, data, notes",
    [
        (
            {"train.tsv": table(CLIPS)},
            "clips",
            "",
            [
                "train.tsv: column 'sentence' is the text (--text-column names another)",
                COMPLETED.format("train.tsv", "0-a.wav", "{}/clips/0-a.wav)"),
            ],
        ),
        (
            {"train.tsv": table(CLIPS), "other.tsv": "x"},
            "",
            "",
            ["1 files of {} are not used: other.tsv", "train.tsv: column 'sentence' is the text (--text-column"],
        ),
        (
            {"metadata.csv": table([(name, "1", "One") for name in NAMES], "|")},
            "wavs",
            "metadata.csv",
            [
                "metadata.csv has no heading: as in LJSpeech",
                COMPLETED.format("metadata.csv", "0-a", "{}/wavs/0-a.wav)"),
            ],
        ),
        (
            {"m.json": NEMO},
            "",
            "m.json",
            ["m.json: column 'audio_filepath' is the path (--path-column", UNUSED.format("m.json", "'duration'")],
        ),
        (
            {"m.JSONL": NEMO.replace('"duration": 0.3, ', "")},
            "",
            "m.JSONL",
            ["m.JSONL: column 'audio_filepath' is the"],
        ),
        (
            {
                "ds.csv": table(
                    [("wav_filename", "wav_filesize", "transcript"), *((f"{n}.wav", "9", "One") for n in NAMES)], ","
                )
            },
            "",
            "ds.csv",
            [
                "ds.csv: column 'wav_filename' is the path (--path-column names another)",
                "ds.csv: column 'transcript' is the text (--text-column names another)",
                UNUSED.format("ds.csv", "'wav_filesize'"),
            ],
        ),
        (
            {
                "wav.scp": table([(name, f"{name}.wav") for name in [*NAMES, "none"]], " "),
                "text": table([(name, "One") for name in [*NAMES, "more"]], " "),
            },
            "",
            "",
            ["1 recordings of {} have no text (the first: none)", "1 texts of {} have no recording (the first: more)"],
        ),
        (
            {
                "train/wav.scp": table([(name, f"../{name}.wav") for name in NAMES], " "),
                "train/text": table([(name, "One") for name in NAMES], " "),
            },
            "train/deep",
            "",
            None,
        ),
        (
            {"train-clean/1/0.trans.txt": table([(name, "ONE") for name in NAMES], " ")},
            "train-clean/1",
            "",
            [],
        ),
        (
            {"0.trans.txt": table([(name, "ONE") for name in NAMES], " ")},
            "",
            "",
            [],
        ),
        (
            {"m.csv": table([("path", "text"), *((f"{n}.wav", "One") for n in NAMES)], ";")},
            "",
            "m.csv",
            ["m.csv: its fields are separated by ';'"],
        ),
        (
            {"anna-1/etc/PROMPTS": table([(f"*/mfc/{name}", "ONE") for name in NAMES], " ")},
            "anna-1/wav",
            "",
            [],
        ),
        (
            {f"train/anna/{name}.txt": "0 2400 One\n" for name in NAMES},
            "train/anna",
            "",
            ["texts are those in the files beside 20 recordings"],
        ),
        ({"M.TSV": table([("path", "text"), *((f"{n}.wav", "One") for n in NAMES)])}, "", "M.TSV", []),
        (
            {"m.tsv": table([("path", "text"), *((n, "One") for n in NAMES)]).encode("utf-16")},
            "",
            "m.tsv",
            [COMPLETED.format("m.tsv", "0-a", "")],
        ),
    ],
)
def test_layouts_of_others(tmp_path, files, folder, data, notes):
    for i, name in enumerate(NAMES):
        write(tmp_path / folder / f"{name}.wav", tone(0.3, 200 + 10 * i))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if notes is None:
        with pytest.raises(UserError, match=r"wav.scp: line 1 names .*, which is not a file.*20 such lines; .* 2, 3, "):
            load(str(tmp_path / data), rate=RATE, seed=0)
        return
    result = load(str(tmp_path / data), rate=RATE, seed=0)
    every = [*result.train.texts, *result.validation.texts, *result.test.texts]
    assert every == ["one"] * 20
    assert len(result.notes) == len(notes), result.notes
    for note, beginning in zip(result.notes, notes):
        assert note.startswith(beginning.format(tmp_path))


def test_columns_and_encoding_that_are_named(tmp_path):
    lines = [("where", "said"), *((f"{name}.wav", "Grüß") for name in NAMES)]
    for name in NAMES:
        write(tmp_path / f"{name}.wav", tone(0.3))
    (tmp_path / "m.tsv").write_bytes(table(lines).encode("latin-1"))
    with pytest.raises(UserError, match="it may be latin-1"):
        load(str(tmp_path), rate=RATE, seed=0)
    columns = ManifestColumns("where", "Said", encoding="latin-1")
    assert load(str(tmp_path), rate=RATE, seed=0, columns=columns).train.texts[0] == "grüß"
    with pytest.raises(UserError, match=r"--path-column is 'file', but .* names 'where', 'said'"):
        load(str(tmp_path), rate=RATE, seed=0, columns=ManifestColumns("file", encoding="latin-1"))


def test_the_same_recording_in_two_parts_and_low_rates(tmp_path):
    lines = [(f"{i}.wav", "one", "x") for i in range(20)]
    path = manifest(tmp_path, "tsv", lines)
    for i in range(20):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.3, 200 + 10 * (i // 3)), 4_000, "PCM_16")
    notes = load(str(path), rate=RATE, seed=0).notes
    assert notes[0] == (
        f"20 of 20 train recordings have fewer samples a second than --rate 8000: they have nothing above 2000 Hz (the "
        f"lowest rate: 4000; the first: {tmp_path / '0.wav'})"
    )
    assert any(re.match(r"\d of 2 test recordings are among the training or validation recordings", n) for n in notes)


def test_all_recordings_that_cannot_be_used_are_named(tmp_path):
    path = manifest(tmp_path, "tsv", [(f"{i}.wav", "one", "x") for i in range(20)])
    for i in range(7):
        (tmp_path / f"{i}.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"7 of 20 recordings cannot be used:\n  .*: line 2: .*0.wav") as caught:
        load(str(path), rate=RATE, seed=0)
    assert "4.wav" in str(caught.value) and "5.wav" not in str(caught.value) and "and 2 others" in str(caught.value)


def test_manifests_of_parts(tmp_path):
    for name, text in (("train", "one"), ("dev", "two"), ("test_clean", "three")):
        manifest(tmp_path, "tsv", [(f"{name}.wav", text, "x")], name)
    result = load(str(tmp_path), rate=RATE, seed=0)
    assert [result.train.texts, result.validation.texts, result.test.texts] == [["one"], ["two"], ["three"]]


@pytest.mark.parametrize(
    "kind, content, message",
    [
        ("tsv", "path\tlabel\na.wav\tone\n", "has no column 'text': its first line names 'path', 'label'"),
        ("tsv", "path\ttext\na.wav\tone\ttwo\n", "line 2 has 3 fields, and the first line 2"),
        ("tsv", "path\ttext\na.wav\tone\nb.wav\ttwo\n", "line 3 names .*b.wav, which is not a file"),
        ("tsv", "path\ttext\n", "has no recordings with a text"),
        (
            "csv",
            "a|one|One\nb|two|Two\n",
            "line 2 names .*b, which is not a file, nor is it one in clips/ or wavs/ there",
        ),
        ("csv", "a|one|One\nb|two\n", "line 2 has 2 fields, and the first line 3"),
        ("csv", 'path,text\na.wav,"one\n', "cannot be read"),
        ("jsonl", '{"path": "a.wav"\n', "line 1 is not JSON"),
        ("jsonl", '\n{"path": "a.wav"}\n', "line 2 must be an object"),
        ("tsv", "path\ttext\nbad.wav\tone\n", "line 2: .*bad.wav cannot be read as a recording"),
        ("tsv", "path\ttext\na.wav\tone\n", "its 1 recordings are too few to hold some out"),
    ],
)
def test_what_is_wrong_with_a_manifest(tmp_path, kind, content, message):
    write(tmp_path / "a.wav", tone(0.3))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / f"m.{kind}").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"m.{kind}.*{message}"):
        load(str(tmp_path / f"m.{kind}"), rate=RATE, seed=0)


@pytest.mark.parametrize(
    "line, message",
    [
        ("[" * 100_000, "line 1 is not JSON"),
        ("9" * 5_000, "line 1 is not JSON"),
        ('{"path": "a.wav", "text": "\\ud83d"}', r"line 1 has \\ud83d at position 0: it is half of a character"),
        ('{"path": "a.wav", "text": "a", "speaker": "\\udc80"}', r"line 1 has \\udc80"),
        ('{"path": "%s.wav", "text": "a"}' % ("x" * 10_000), r"line 1 names .*xxx \[...\] xxx.*, which is not a file"),
        ('{"path": "a\\u0000.wav", "text": "a"}', r"a\\x00.wav, which is not a file"),
        ('{"path": "\\ud83d.wav", "text": "a"}', r"\\ud83d.wav, which is not a file"),
        ('{"path": "pipe.wav", "text": "a"}', r"pipe.wav, which is not a file"),
    ],
)
def test_lines_that_are_hostile(tmp_path, line, message):
    write(tmp_path / "a.wav", tone(0.3))
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "m.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"m.jsonl: .*{message}") as caught:
        load(str(tmp_path / "m.jsonl"), rate=RATE, seed=0)
    assert len(str(caught.value)) < 1_000


def test_a_text_where_the_path_belongs(tmp_path):
    (tmp_path / "m.tsv").write_text("path\ttext\n" + "word " * 100 + "\ta.wav\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2 names .* which is not a file"):
        load(str(tmp_path / "m.tsv"), rate=RATE, seed=0)
    with pytest.raises(UserError, match="neither a known set nor an existing path"):
        load("x" * 300, rate=RATE, seed=0)


def outside(path: Path, kind: str) -> str:
    """A name of ``path``, a file beside the manifest's folder, in a manifest."""
    if kind == "link":
        (path.parent / "inside" / "link.wav").symlink_to(path)
        return "link.wav"
    if kind == "folder":
        (path.parent / "inside" / "deeper").mkdir()
        (path.parent / "inside" / "up").symlink_to(path.parent / "inside" / "deeper" / "..")
        return f"up/../{path.name}"
    return {"absolute": str(path), "dots": f"../{path.name}", "down and up": f"sub/../../{path.name}"}[kind]


@pytest.mark.parametrize("kind", ["absolute", "dots", "down and up", "link", "folder"])
@pytest.mark.parametrize("format_", ["tsv", "csv", "jsonl"])
def test_files_outside_the_folder_of_a_manifest(tmp_path, kind, format_):
    folder = tmp_path / "inside"
    path = manifest(folder, format_, [(f"sub/{i}.wav", "one", "x") for i in range(20)])
    content = path.read_text(encoding="utf-8")
    write(tmp_path / "0.wav", tone(0.3))
    name = outside(tmp_path / "0.wav", kind)
    path.write_text(content.replace("sub/7.wav", name), encoding="utf-8")
    line = 8 if format_ == "jsonl" else 9
    with pytest.raises(UserError, match=rf"line {line} names .*{re.escape(name)}, which is outside .* --allow-outside"):
        load(str(path), rate=RATE, seed=0)
    assert len(load(str(path), rate=RATE, seed=0, columns=ManifestColumns(allow_outside=True)).train) == 16


def test_files_below_the_folder_of_a_manifest_by_other_names(tmp_path):
    path = manifest(tmp_path / "real", "tsv", [(f"sub/{i}.wav", "one", "x") for i in range(20)])
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    content = path.read_text(encoding="utf-8")
    for name in (str(path.parent / "sub" / "7.wav"), "sub/../sub/7.wav", str(tmp_path / "linked" / "sub" / "7.wav")):
        path.write_text(content.replace("sub/7.wav", name), encoding="utf-8")
        for folder in ("real", "linked"):
            assert len(load(str(tmp_path / folder), rate=RATE, seed=0).train) == 16


def test_all_recordings_together_stay_below_the_limit(tmp_path, monkeypatch):
    path = manifest(tmp_path, "tsv", [(f"{i}.wav", "one", "x") for i in range(20)])
    monkeypatch.setattr(speech, "default_limit", lambda: 15 * 4 * len(tone(0.3)))
    with pytest.raises(UserError, match=r"line 16: .*14.wav needs at least .* of memory"):
        load(str(path), rate=RATE, seed=0)


def test_names_of_recordings_that_are_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    manifest(tmp_path / "ascii", "jsonl", [(f"{i}.wav", "one", "x") for i in range(20)])
    (tmp_path / "ascii").rename(folder)
    path = folder / "mine.jsonl"
    (folder / "7.wav").rename(folder / os.fsdecode(b"\xff.wav"))
    path.write_text(path.read_text().replace('"7.wav"', '"\\udcff.wav"'))
    result = load(str(path), rate=RATE, seed=0)
    names = [*result.train.names, *result.validation.names, *result.test.names]
    assert str(folder / os.fsdecode(b"\xff.wav")) in names
    path.write_text(path.read_text() + '{"path": "\\udcfe.wav", "text": "a"}\n')
    with pytest.raises(UserError, match=r"caf\\udce9/mine.jsonl: line 21 names .*caf\\udce9/\\udcfe.wav"):
        load(str(path), rate=RATE, seed=0)


def test_what_is_no_data(tmp_path):
    with pytest.raises(UserError, match="nowhere is neither a known set nor an existing path"):
        load("nowhere", rate=RATE, seed=0)
    with pytest.raises(UserError, match=r"must have one manifest.*it has none"):
        load(str(tmp_path), rate=RATE, seed=0)
    path = manifest(tmp_path, "tsv")
    path.write_bytes(path.read_bytes() + "\u00fc".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8: line 5"):
        load(str(path), rate=RATE, seed=0)
    path = manifest(tmp_path, "csv", [("1.wav", "one", "x"), ("2.wav", "two", "x")])
    with pytest.raises(UserError, match="the only speaker"):
        load(str(path), rate=RATE, seed=0, hold_out_speaker="x")


def test_joined_recordings_are_of_one_speaker_and_stand_once():
    spoken = recordings(5, "a", "b")
    result = join(spoken, 2, RATE, np.random.default_rng(0))
    assert result.speakers == ["a", "a", "b", "b"]
    parts = [name.split(" + ") for name in result.names]
    assert len({part for pair in parts for part in pair}) == 8
    for signal, text, pair in zip(result.signals, result.texts, parts):
        rows = [spoken.names.index(part) for part in pair]
        assert text == " ".join(spoken.texts[row] for row in rows)
        first, second = (spoken.signals[row] for row in rows)
        np.testing.assert_array_equal(signal[: len(first)], first)
        np.testing.assert_array_equal(signal[-len(second) :], second)
        pause = signal[len(first) : -len(second)]
        assert 0.05 * RATE <= len(pause) <= 0.35 * RATE and pause.dtype == np.float32
        assert 0.2 < pause.std() < 0.5, "as loud as the tone is, which has no quiet stretches"
    louder = join(spoken, 5, RATE, np.random.default_rng(0), 6.0)
    assert not np.array_equal(louder.signals[0][:100], join(spoken, 5, RATE, np.random.default_rng(0)).signals[0][:100])


def test_a_batch_of_utterances():
    examples = utterances(recordings(4, "a"))
    assert isinstance(examples, Sequences)
    (features, lengths), targets = examples.take(np.array([3, 0]))
    assert features.shape == (2, 64, 20) and features.dtype == np.float32
    np.testing.assert_array_equal(lengths, examples.lengths[[3, 0]])
    signal = jnp.asarray(examples.recordings.signals[0])[None]
    alone = normalise(log_mel(SPECTRUM, signal), jnp.asarray([examples.lengths[0]]))
    np.testing.assert_allclose(features[1, : lengths[1]], alone[0], atol=2e-3)
    assert not features[1, lengths[1] :].any()
    labels, counts, frames = targets.values
    assert examples.alphabet.decode(labels[0, : counts[0]]) == "text a3"
    np.testing.assert_array_equal(frames, -(-lengths // 2))


def test_a_batch_whose_levels_are_normalised_keeps_its_bands():
    examples = replace(utterances(recordings(4, "a")), normalised="level")
    (features, lengths), _ = examples.take(np.array([2]))
    bands = features[0, : lengths[0]].mean(0)
    assert abs(features[0, : lengths[0]].mean()) < 1e-4 and np.ptp(bands) > 1


def test_too_short_for_its_text():
    spoken = recordings(1, "a", "b", seconds=0.305)  # 29 frames, 15 of the model
    text = ["abcdefghijklmno", "aabcdefghijklmn"]  # the second needs one more, between equal letters
    assert utterances(Recordings(spoken.signals, text, spoken.speakers, spoken.names)).feasible.tolist() == [
        True,
        False,
    ]


def test_what_no_training_text_has_is_left_out():
    examples = utterances(recordings(1, "a"))
    other = Utterances(
        Recordings(examples.recordings.signals, ["t-e!"], [""], [""]), examples.alphabet, SPECTRUM, examples.frames
    )
    assert examples.alphabet.decode(other.labels[0]) == "te"


def test_training_utterances_are_others_every_epoch():
    examples = utterances(recordings(5, "a", "b"))
    augmented = AugmentedUtterances(examples, 2, WaveformAugmentation(0.1, (10.0, 20.0)), seed=3)
    assert isinstance(augmented, PerEpochExamples)
    first, again, second = augmented.at(0), augmented.at(0), augmented.at(1)
    assert len(first) == len(second) == len(augmented) == 4
    assert first.recordings.names != second.recordings.names
    rows = np.arange(4)
    for mine, same in zip(first.take(rows)[0], again.take(rows)[0]):
        np.testing.assert_array_equal(mine, same)
    (_, lengths), targets = first.take(rows)
    factors = lengths / first.lengths
    assert 0.85 < factors.min() < 0.99 or 1.01 < factors.max() < 1.15
    np.testing.assert_array_equal(targets.values.frames, -(-lengths // 2))
    unchanged = AugmentedUtterances(examples, 1, WaveformAugmentation(), seed=3).at(5)
    np.testing.assert_array_equal(unchanged.take(rows)[0][1], examples.take(rows)[0][1])
