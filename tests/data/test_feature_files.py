"""Files of features: every kind read back, and one message for each that is broken."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.feature_files import Features, Place, index, read_features, read_places
from pipeline.errors import UserError

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def entry(kind: str, x: np.ndarray = X) -> bytes:
    """A matrix as Kaldi writes it."""
    if kind == "text":
        return b" [\n" + "\n".join("  " + " ".join(map(repr, row)) for row in x.tolist()).encode() + b" ]\n"
    rows, columns = x.shape
    if kind in ("FM", "DM"):
        sizes = b"\4" + struct.pack("<i", rows) + b"\4" + struct.pack("<i", columns)
        return b"\0B" + f"{kind} ".encode() + sizes + x.astype({"FM": "<f4", "DM": "<f8"}[kind]).tobytes()
    low, span = float(x.min()), float(np.ptp(x))
    header = b"\0B" + f"{kind} ".encode() + struct.pack("<ffii", low, span, rows, columns)
    if kind == "CM2":
        return header + np.round((x - low) / span * 65535).astype("<u2").tobytes()
    if kind == "CM3":
        return header + np.round((x - low) / span * 255).astype("u1").tobytes()
    # A column's corners are its quartiles, as in Kaldi's ComputeColumnHeader.
    corners = np.round((np.quantile(x, (0, 0.25, 0.75, 1), axis=0).T - low) / span * 65535).astype("<u2")
    values = low + span * corners / 65535
    codes = [np.round(np.interp(column, its, (0, 64, 192, 255))) for column, its in zip(x.T, values)]
    return header + corners.tobytes() + np.asarray(codes).astype("u1").tobytes()


TOLERANCE = {"text": 0.0, "FM": 0.0, "DM": 0.0, "CM": 0.02, "CM2": 1e-4, "CM3": 0.02}


def htk(x: np.ndarray = X, kind: int = 9, period: int = 100_000) -> bytes:
    """A parameter file as HTK writes it. kind: 6 is MFCC, 9 USER; qualifiers 0o2000: compressed, 0o10000: checksum."""
    content, width, frames = x.astype(">f4").tobytes(), 4 * x.shape[1], len(x)
    if kind & 0o2000:
        scale = 2 * 32767 / np.ptp(x, 0)
        term = (x.max(0) + x.min(0)) * 32767 / np.ptp(x, 0)
        packed = np.round(x * scale - term).astype(">i2").tobytes()
        content = scale.astype(">f4").tobytes() + term.astype(">f4").tobytes() + packed
        width, frames = 2 * x.shape[1], len(x) + 4
    return struct.pack(">iihH", frames, period, width, kind) + content + (b"\1\2" if kind & 0o10000 else b"")


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


@pytest.mark.parametrize("kind", TOLERANCE)
def test_archives_of_kaldi(tmp_path, kind):
    path = tmp_path / "a.ark"
    path.write_bytes(b"one " + entry(kind) + b"two " + entry(kind, X[:2] + 1))
    places = index(path)
    assert list(places) == ["one", "two"]
    (tmp_path / "a.scp").write_text(
        "".join(f"{name} a.ark:{place.offset}\n" for name, place in places.items())
        + f"part {path}:{places['one'].offset}[2:4,0:1]\n",
        encoding="utf-8",
    )
    scripted = index(tmp_path / "a.scp")
    found = list(read_places([*places.values(), *scripted.values()]))
    for features, expected in zip(found, [X, X[:2] + 1, X, X[:2] + 1, X[2:5, :2]]):
        assert isinstance(features, Features) and features.values.dtype == np.float32
        np.testing.assert_allclose(features.values, expected, atol=TOLERANCE[kind] * float(np.ptp(X)))


@pytest.mark.parametrize("kind", [9, 6 | 0o2000, 6 | 0o100 | 0o400 | 0o10000, 9 | 0o12000])
def test_parameter_files_of_htk(tmp_path, kind):
    (tmp_path / "a.mfc").write_bytes(htk(kind=kind))
    features = read_features(tmp_path / "a.mfc")
    np.testing.assert_allclose(features.values, X, atol=1e-4 if kind & 0o2000 else 0)
    assert features.hop == pytest.approx(0.01)


def test_arrays_of_numpy(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(X.astype(np.float64)))
    np.savez_compressed(tmp_path / "a.npz", **{"speaker/one": X, "two": (100 * X).astype(np.int16)})
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy").values, X)
    places = index(tmp_path / "a.npz")
    one, two, file = read_places([places["speaker/one"], places["two"], Place(tmp_path / "a.npy")])
    assert isinstance(one, Features) and isinstance(two, Features) and isinstance(file, Features)
    np.testing.assert_array_equal(one.values, X)
    np.testing.assert_array_equal(two.values, (100 * X).astype(np.int16))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.npy", b"", r"a.npy cannot be read as a NumPy array"),
        ("a.npy", npy(X)[:-5], r"a.npy .*"),
        ("a.npy", npy(X[0]), r"a.npy has an array of shape \(3,\); features are numbers of shape \(frames, features\)"),
        ("a.npy", npy(X.astype(str)), r"a.npy has an array of <U.* of shape \(7, 3\)"),
        ("a.npy", npy(X[:0]), r"a.npy has no features: its shape is \(0, 3\)"),
        ("a.npy", npy(np.where(X[2, 1] == X, np.nan, X)), r"a.npy has nan in frame 2, feature 1"),
        ("a.npy", npy(np.array([[None]], object)), "a.npy has Python objects"),
        ("a.htk", b"\0" * 11, "a.htk cannot be read as features: it has 11 bytes"),
        ("a.htk", htk()[:-1], "a.htk is not what its header says: 7 frames of 12 bytes in a file of 95; it is cut off"),
        ("a.htk", htk()[:12] + b"\0" + htk()[12:], "a.htk is not what its header says"),
        ("a.htk", struct.pack("<iihH", 7, 100_000, 12, 9) + htk()[12:], "a.htk .* most significant byte first"),
        ("a.htk", htk(kind=0), "a.htk has the kind WAVEFORM"),
        ("a.htk", htk(np.ones((7, 3)), kind=6)[:10] + struct.pack(">H", 6 | 0o2000) + b"\0" * 84, "factor of 0"),
        ("a.htk", htk(kind=6 | 0o2000)[:12] + b"\x7f\xa0\0\0" + htk(kind=6 | 0o2000)[16:], "cannot be decompressed"),
    ],
)
def test_files_that_are_broken(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_features(tmp_path / name)
    (error,) = read_places([Place(tmp_path / name)])
    assert isinstance(error, UserError)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"one " + entry("FM")[:-1], "a.ark: one is cut off: it ends at position 103, and the file at 102"),
        (b"one " + entry("text")[:-4], "a.ark: one is cut off: its matrix has no closing bracket"),
        (b"one \0BFV \4\1\0\0\0" + b"\0" * 4, "a.ark: one is a vector; features are matrices"),
        (b"one \0BXY ", r"a.ark: one is of the kind 'XY', which is none of Kaldi's"),
        (b"one \0BCM \0\0", "a.ark: one is cut off in its header"),
        (b"one \0BFM \4\1\0\0\0", "a.ark: one has no numbers of rows and columns"),
        (b"one \0BFM \4\xff\xff\xff\xff\4\1\0\0\0", "a.ark: one announces -1 rows and 1 columns"),
        (b"one hello\n", "a.ark: one is no matrix: it begins with 'hello'"),
        (b"\xff" * 5_000, "a.ark: position 0 is no archive of Kaldi's"),
        (b"one " + entry("FM") + b"one " + entry("FM"), "a.ark has 'one' twice"),
        (b"PK\3\4" * 9 + b" x", "is no matrix"),
    ],
)
def test_archives_that_are_broken(tmp_path, content, message):
    (tmp_path / "a.ark").write_bytes(content)
    with pytest.raises(UserError, match=message):
        index(tmp_path / "a.ark")


@pytest.mark.parametrize(
    "line, message",
    [
        ("one gunzip -c a.ark.gz |", "a.scp: line 1 names a command, which is not run"),
        ("one", "a.scp: line 1 names no file"),
        ("one b.ark:0", "a.scp: line 1 names .*b.ark, which is not a file"),
        ("one a.ark:4[0:x]", r"a.scp: line 1 has '\[0:x\]'; brackets hold rows"),
        ("one a.ark:4[0:7]", "position 4: rows 0 to 7 are asked for, and it has 7"),
        ("one a.ark:5", "position 5 is no matrix: it begins with 'BFM"),
        ("one a.ark:999", "position 999 is cut off"),
    ],
)
def test_scripts_that_are_broken(tmp_path, line, message):
    (tmp_path / "a.ark").write_bytes(b"one " + entry("FM"))
    (tmp_path / "a.scp").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        (result,) = read_places(list(index(tmp_path / "a.scp").values()))
        if isinstance(result, UserError):
            raise result


def test_members_that_are_broken_leave_the_others(tmp_path):
    np.savez(tmp_path / "a.npz", one=X, two=X[0], three=X)
    one, two, three = read_places(list(index(tmp_path / "a.npz").values()))
    assert isinstance(one, Features) and isinstance(three, Features)
    assert isinstance(two, UserError) and "a.npz: two has an array of shape (3,)" in str(two)
    one, two = read_places([Place(tmp_path / "a.npz", key) for key in ("one", "three")], limit=X.nbytes + 1)
    assert isinstance(one, Features) and isinstance(two, UserError) and "of memory" in str(two)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"b.npz cannot be read as a NumPy archive"):
        index(tmp_path / "b.npz")
    errors = read_places([Place(Path(tmp_path / "none.npz"), key) for key in ("one", "two")])
    assert all(isinstance(error, UserError) for error in errors)
