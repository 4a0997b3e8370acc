"""Speech as features in the layouts of others, and what is wrong with them."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import jax.numpy as jnp
import numpy as np
import pytest
from test_feature_files import entry, htk

from pipeline.data.feature_sets import load_features, read_unknown
from pipeline.data.manifests import ManifestColumns
from pipeline.data.speech import Recordings
from pipeline.data.speech_input import FeatureInput, FeatureOptions, Normalisation
from pipeline.errors import UserError

NAMES = [f"u{i}" for i in range(20)]
MATRICES = {name: np.random.default_rng(i).normal(size=(5 + i, 3)).astype(np.float32) for i, name in enumerate(NAMES)}


def texts(mark: str, heading: str = "") -> str:
    return "".join(f"{line}\n" for line in [*filter(None, [heading]), *(f"{name}{mark}Word {name}" for name in NAMES)])


def archive(folder: Path, name: str = "feats", kind: str = "FM") -> None:
    """Kaldi's archive of all matrices, and its script."""
    folder.mkdir(parents=True, exist_ok=True)
    content, script = b"", ""
    for key, matrix in MATRICES.items():
        content += f"{key} ".encode()
        script += f"{key} elsewhere/{name}.ark:{len(content)}\n"
        content += entry(kind, matrix)
    (folder / f"{name}.ark").write_bytes(content)
    (folder / f"{name}.scp").write_text(script, encoding="utf-8")


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def save(path: Path, matrices: Mapping[str, np.ndarray] = MATRICES) -> None:
    np.savez(path, allow_pickle=False, **matrices)


def npz(folder: Path, table: str, content: str) -> None:
    save(folder / "feats.npz")
    write(folder / table, content)


def kaldi(folder: Path) -> None:
    archive(folder)
    write(folder / "text", texts(" ") + "more no features\n")
    write(folder / "utt2spk", "".join(f"{name} anna\n" for name in NAMES))
    write(folder / "frame_shift", "0.0125\n")


def files(folder: Path, ending: str, beside: str) -> None:
    (folder / "anna").mkdir()
    for name, matrix in MATRICES.items():
        (folder / "anna" / f"{name}.mfc").write_bytes(htk(matrix))
        np.save(folder / "anna" / f"{name}.npy", matrix)
        (folder / "anna" / f"{name}{'.npy' if ending == '.mfc' else '.mfc'}").unlink()
        if beside:
            write(folder / "anna" / f"{name}{beside}", f"Word {name}\n")


def listed(folder: Path, line: Callable[[str], str]) -> None:
    files(folder, ".npy", "")
    lines = "".join(json.dumps({"path": line(name), "text": f"Word {name}"}) + "\n" for name in NAMES)
    write(folder / "all.jsonl", lines)


LAYOUTS: Mapping[str, tuple[Callable[[Path], None], str, str]] = {
    "npz, table": (lambda folder: npz(folder, "feats.tsv", texts("\t", "name\ttext")), "feats.npz", ""),
    "npz, folder": (lambda folder: npz(folder, "feats.csv", texts(",", "utterance,sentence")), "", ""),
    "npz, Kaldi's text": (lambda folder: npz(folder, "text", texts(" ")), "", ""),
    "npz, .txt": (lambda folder: npz(folder, "feats.txt", texts(" ")), "feats.npz", ""),
    "npz, texts elsewhere": (
        lambda folder: npz(folder, "texts/all.tsv", texts(".wav\t", "path\ttext")),
        "feats.npz",
        "texts/all.tsv",
    ),
    "Kaldi, folder": (kaldi, "", ""),
    "Kaldi, script": (kaldi, "feats.scp", ""),
    "Kaldi, archive": (lambda folder: (archive(folder, "all", "CM2"), write(folder / "text", texts(" ")))[0], "", ""),
    "text archive": (
        lambda folder: (archive(folder, "all", "text"), write(folder / "all.text", texts(" ")))[0],
        "all.ark",
        "",
    ),
    "npy, texts beside": (lambda folder: files(folder, ".npy", ".txt"), "", ""),
    "HTK, texts beside": (lambda folder: files(folder, ".mfc", ".lab"), "", ""),
    "list of files": (lambda folder: listed(folder, lambda name: f"anna/{name}.npy"), "all.jsonl", ""),
    "list of recordings": (lambda folder: listed(folder, lambda name: f"anna/{name}.wav"), "", ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    make, features, where = LAYOUTS[layout]
    make(tmp_path)
    texts_at = str(tmp_path / where) if where else ""
    speech = load_features(str(tmp_path / features), texts_at, seed=0)
    assert speech.notes[0] == "20 utterances of 3 features, 290 frames in all", speech.notes
    assert (len(speech.train), len(speech.validation), len(speech.test)) == (16, 2, 2)
    tolerance = 1e-4 if layout == "Kaldi, archive" else 0
    for part in (speech.train, speech.validation, speech.test):
        for signal, text in zip(part.signals, part.texts):
            assert signal.dtype == np.float32
            np.testing.assert_allclose(signal, MATRICES[text.removeprefix("word ")], atol=tolerance)
    hops = {"HTK, texts beside": 0.01, "Kaldi, folder": 0.0125, "Kaldi, script": 0.0125}
    assert speech.hop == hops.get(layout, 0.01)
    assert (layout in hops) != any("how far apart frames are" in note for note in speech.notes)
    if "Kaldi, " in layout and layout != "Kaldi, archive":
        assert set(speech.train.speakers) == {"anna"}
        assert any("1 texts of" in note and "have no features (the first: more)" in note for note in speech.notes)


def test_parts_of_archives_and_of_folders_of_kaldi(tmp_path):
    for part, names in (("train", NAMES[:10]), ("dev", NAMES[10:14]), ("test_clean", NAMES[14:])):
        save(tmp_path / f"{part}.npz", {name: MATRICES[name] for name in names})
        write(tmp_path / f"{part}.tsv", "name\ttext\n" + "".join(f"{name}\tWord\n" for name in names))
        folder = tmp_path / "kaldi" / part
        archive(folder)
        write(folder / "text", "".join(f"{name} Word\n" for name in names))
    for path in (tmp_path, tmp_path / "kaldi"):
        speech = load_features(str(path), seed=0)
        sizes = [[len(signal) for signal in part.signals] for part in (speech.train, speech.validation, speech.test)]
        assert sizes == [[5 + i for i in range(20)][part] for part in (slice(10), slice(10, 14), slice(14, 20))]
    assert speech.train.names == NAMES[:10]


def test_tokens_keep_their_case(tmp_path):
    npz(tmp_path, "text", "".join(f"{name}  A  a\n" for name in NAMES))
    speech = load_features(str(tmp_path), seed=0, columns=ManifestColumns(units="tokens"))
    assert set(speech.texts) == {"A a"}


def outside(folder: Path) -> None:
    np.save(folder.parent / "outside.npy", MATRICES["u0"])
    write(folder / "all.tsv", "path\ttext\n../outside.npy\tone\n")


def mixed(folder: Path) -> None:
    save(folder / "feats.npz", {name: MATRICES[name][:, : 2 + (i != 7)] for i, name in enumerate(NAMES)})
    write(folder / "text", texts(" "))


def broken(folder: Path) -> None:
    save(folder / "feats.npz", {name: np.where(i < 3, np.nan, MATRICES[name]) for i, name in enumerate(NAMES)})
    write(folder / "text", texts(" "))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: None, "has no features with texts: it must have an archive"),
        (lambda folder: save(folder / "feats.npz"), "feats.npz has no texts beside it: name them in"),
        (lambda folder: npz(folder, "text", "a b\n"), "text: line 1 names a, of which there are no features"),
        (lambda folder: npz(folder, "text", "u1\n"), "text has no utterances with a text"),
        (lambda folder: npz(folder, "feats.tsv", "name\tlabel\n"), "feats.tsv has no column 'text'"),
        (outside, r"all.tsv: line 2 names .*outside.npy, which is outside .* --allow-outside"),
        (mixed, r"u\d+ has [23] features and u\d+ [23]; all utterances must have the same"),
        (broken, r"3 of 20 recordings cannot be used:\n.*text: line 1: .*feats.npz: u0 has nan in frame 0, feature 0"),
        (lambda folder: write(folder / "feats.scp", "u0 cat x |\n") or write(folder / "text", "u0 a\n"), "a command"),
    ],
)
def test_what_is_wrong_with_features(tmp_path, make, message):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    with pytest.raises(UserError, match=message):
        load_features(str(tmp_path / "in"), seed=0)


def test_features_and_texts_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"--features is .*nowhere.*, which does not exist"):
        load_features(str(tmp_path / "nowhere"), seed=0)
    save(tmp_path / "feats.npz")
    with pytest.raises(UserError, match=r"--data is .*nowhere.tsv, which does not exist"):
        load_features(str(tmp_path / "feats.npz"), str(tmp_path / "nowhere.tsv"), seed=0)


def test_features_without_texts(tmp_path):
    archive(tmp_path / "in" / "deep")
    np.save(tmp_path / "a.npy", MATRICES["u3"])
    recordings = read_unknown([tmp_path / "in", tmp_path / "a.npy"])
    assert recordings.names == [*NAMES, str(tmp_path / "a.npy")]
    np.testing.assert_array_equal(recordings.signals[-1], MATRICES["u3"])
    (tmp_path / "b.htk").write_bytes(struct.pack(">iihH", 1, 1, 4, 9))
    with pytest.raises(UserError, match=r"b.htk is not what its header says"):
        read_unknown([tmp_path / "a.npy", tmp_path / "b.htk"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no features in it"):
        read_unknown([tmp_path / "empty"])


def test_normalisation_of_features_and_their_derivatives():
    spoken = Recordings(list(MATRICES.values())[:4], ["a"] * 4, ["x", "y", "x", ""], list("abcd"))
    for kind, groups in (
        ("bands", [[0], [1], [2], [3]]),
        ("speaker", [[0, 2], [1], [3]]),
        ("training", [[0, 1, 2, 3]]),
    ):
        inputs = FeatureInput.of(spoken, 0.01, FeatureOptions("given", 1, cast(Normalisation, kind)))
        assert FeatureInput.parse(json.loads(json.dumps(inputs.__dict__))) == inputs and inputs.width == 6
        prepared = inputs.prepared(spoken).signals
        for rows in groups:
            together = np.concatenate([prepared[row] for row in rows])
            np.testing.assert_allclose([together.mean(0), together.std(0)], [[0] * 6, [1] * 6], atol=2e-3)
        if kind != "speaker":
            padded = np.zeros((4, 12, 3), np.float32)
            for row, signal in zip(padded, spoken.signals):
                row[: len(signal)] = signal
            lengths = np.array([len(signal) for signal in spoken.signals], np.int32)
            exported, _ = inputs.features(jnp.asarray(padded), jnp.asarray(lengths))
            for row, signal in zip(np.asarray(exported), prepared):
                np.testing.assert_allclose(row[: len(signal)], signal, atol=1e-5)
    silent = Recordings(spoken.signals, spoken.texts, [""] * 4, spoken.names)
    with pytest.raises(UserError, match="nothing says who speaks"):
        FeatureInput.of(silent, 0.01, FeatureOptions("given", 1, "speaker"))
