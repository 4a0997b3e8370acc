"""Hostile files: what is never opened, what is refused before memory is taken for it, and how it is said."""

import ast
import bz2
import gzip
import os
import signal
import socket
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from image_files import contains, labels_of, message, random_images, write_class_folders

from pipeline.data import diagnosis, images, labelled_text, limits, parallel_text, ratings, speech, text
from pipeline.data.audio import read_audio
from pipeline.data.cases import read_cases
from pipeline.data.dataset import Scaling
from pipeline.data.folder import files_in
from pipeline.data.limits import default_limit, list_folder, open_file, parsing, read_content, require_memory

READERS = Path(limits.__file__).parent
SCALING = Scaling((0.0,), (1.0,))
MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_test_blocks():
    """Opening a named pipe waits for another process for ever."""

    def ring(*_):
        raise TimeoutError("the reader blocks")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["named pipe", "device", "socket", "folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.csv"
    if kind == "named pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(path))
        contains(message(open_file, path), path, f"is a {kind}, not a file", "give the path of a file")


@pytest.mark.parametrize("name", ["none.csv", "x" * 300, "nul\0.csv", "half\ud83d.csv"])
def test_files_that_cannot_be_opened(tmp_path, name):
    contains(message(open_file, tmp_path / name), "cannot be opened", "give the path of a file")


LOADERS = {
    "photos/cat/a.png": partial(images.load, seed=0),
    "a.npz": partial(images.load, seed=0),
    "idx/train-images-idx3-ubyte": partial(images.load, seed=0),
    "a.csv": partial(diagnosis.load, seed=0),
    "b.tsv": partial(labelled_text.load, seed=0, words=9, longest=9),
    "polarity/a.pos": partial(labelled_text.load, seed=0, words=9, longest=9),
    "texts/good/a.txt": partial(labelled_text.load, seed=0, words=9, longest=9),
    "parallel/train.en": parallel_text.load,
    "text/a.txt": lambda folder: text.load(f"{folder}/a.txt"),
    "speech/a.jsonl": partial(speech.load, rate=8_000, seed=0),
    "c.csv": partial(ratings.load, seed=0),
    "films/u.data": partial(ratings.load, seed=0),
}


@pytest.mark.parametrize("name", LOADERS)
def test_no_loader_opens_a_named_pipe(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True, parents=True)
    os.mkfifo(file)
    for other in ("idx/train-labels-idx1-ubyte", "polarity/a.neg", "parallel/train.de", "photos/dog/a.png"):
        if file.parts[-2] in other:
            (tmp_path / other).parent.mkdir(exist_ok=True)
            (tmp_path / other).write_bytes(b"x\n")
    contains(message(LOADERS[name], str(tmp_path / Path(name).parts[0])), file, "is a named pipe")


def test_no_prediction_opens_a_named_pipe(tmp_path):
    for name in ("a.png", "a.npy", "a.csv", "a.wav"):
        os.mkfifo(tmp_path / name)
    for call in (
        partial(images.read_inputs, [tmp_path / "a.png"], (6, 5, 1), SCALING),
        partial(images.read_inputs, [tmp_path / "a.npy"], (6, 1), SCALING),
        partial(read_cases, tmp_path / "a.csv", (6, 1), SCALING, None),
        partial(read_audio, tmp_path / "a.wav", 8_000),
    ):
        contains(message(call), "not a file")
    assert "no .wav file in it" in message(files_in, [tmp_path], (".wav",))


def test_every_reader_opens_files_in_the_same_way():
    raising = {"is_file", "is_dir", "exists", "iterdir", "glob", "read_bytes", "read_text"}  # for some names or folders
    opening = {"open", "decompress", "load", "fromfile", "loadtxt"}
    elsewhere = {
        ("known.py", "is_file"), ("known.py", "exists"),  # our own data
        ("speech.py", "glob"), ("text.py", "read_text"), ("text.py", "glob"),  # fsdd, Python's library
        ("image_files.py", "open"),  # Pillow, in memory
        ("npz.py", "open"),  # a member of an archive
        ("limits.py", "open"), ("limits.py", "iterdir"), ("limits.py", "read_text"),
    }  # fmt: skip
    for path in sorted(READERS.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                is_path = not (isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "path")
                found = (node.func.attr in raising and is_path) or node.func.attr in opening
                assert not found or (path.name, node.func.attr) in elsewhere, f"{path.name}:{node.lineno}"


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Says how much memory the container may take."""

    def may_take(text: str) -> None:
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(limits, "CONTAINER_MEMORY", tmp_path / "memory.max")
        default_limit.cache_clear()

    yield may_take
    default_limit.cache_clear()


def test_the_limit_is_half_of_the_memory(container):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for most, expected in (("max\n", memory // 2), ("1000000\n", 500_000), ("9" * 19, memory // 2)):
        container(most)
        assert default_limit() == expected
    require_memory("a.npz", default_limit())
    told = message(require_memory, "a.npz", 1 << 50)
    contains(told, "a.npz needs at least 1.0 PiB of memory", "the limit is", "GiB", "50%", "make it again")
    contains(message(require_memory, "a.npz", 10**400, limit=10), "limit is 10 bytes")


def peak_of(call) -> int:
    """The largest number of bytes that a call has in use."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_file_that_unpacks_to_more_than_the_limit(tmp_path):
    file = tmp_path / "train.en.gz"
    file.write_bytes(gzip.compress(b"a\n" * 50 * MIB))
    assert file.stat().st_size < MIB
    assert peak_of(lambda: contains(message(read_content, file, limit=8 * MIB), file, "8.0 MiB")) < 24 * MIB
    assert peak_of(lambda: contains(message(parallel_text.read_lines, file, limit=8 * MIB), file)) < 24 * MIB
    assert len(read_content(file, limit=100 * MIB)) == 100 * MIB


def test_a_file_that_is_larger_than_the_limit(tmp_path, monkeypatch):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    contains(message(text.load, str(tmp_path / "a.txt")), "a.txt needs at least 8.0 TiB of memory")
    for label in ("good", "bad"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        with (tmp_path / "texts" / label / "a.txt").open("wb") as file:
            file.truncate(6 * MIB)
    monkeypatch.setattr(limits, "default_limit", lambda: limits.TEXT_COST * 10 * MIB)
    contains(
        message(labelled_text.load, str(tmp_path / "texts"), seed=0, words=9, longest=9),
        "the set of files in", "96.0 MiB", "80.0 MiB",
    )  # fmt: skip


def test_images_that_are_too_many_for_the_limit(tmp_path, monkeypatch):
    write_class_folders(tmp_path, random_images(40, (32, 32)), labels_of(40))
    monkeypatch.setattr(limits, "default_limit", lambda: 39 * 32 * 32)
    contains(message(images.load, str(tmp_path), seed=0), "the set of 40 images such as", "40.0 KiB", "39.0 KiB")


def test_a_folder_that_cannot_be_listed(tmp_path):
    contains(message(list_folder, tmp_path / "none"), "none cannot be read", "give a folder")


def test_whatever_a_library_raises_is_one_message():
    def parse(error: Exception) -> None:
        with parsing("a.png is broken", "repair it"):
            raise error

    contains(message(parse, KeyError("x")), "a.png is broken ('x'); repair it")
    contains(message(parse, MemoryError()), "a.png is broken (MemoryError); repair it")
    contains(message(parse, ValueError("\x1b[2J" + "y" * 10_000)), "broken (\\x1b[2Jyyy", "[...]")


def test_other_compressions_are_not_unpacked(tmp_path):
    (tmp_path / "a.txt").write_bytes(bz2.compress(b"a" * MIB))
    contains(message(text.read_text, tmp_path / "a.txt"), "a bzip2 archive, not a text")


@pytest.mark.parametrize(
    "encoding, content, expected",
    [
        ("utf-7", b"label\ttext\ngood\t+2D0-\n", "has \\ud83d at position 16"),
        ("punycode", b"label\xff", "is not punycode"),
        ("undefined", b"label", "is not undefined"),
        ("zlib", b"label", "there is no such encoding"),
        ("x\x1b" * 5_000, b"label", "--encoding x\\x1bx"),
    ],
)
def test_encodings_that_give_no_text(tmp_path, encoding, content, expected):
    (tmp_path / "a.tsv").write_bytes(content)
    told = message(text.read_encoded, tmp_path / "a.tsv", encoding)
    contains(told, expected)
    assert len(told) < 1_000


def test_a_message_names_the_byte_after_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfgood\nca\xe9\n")
    contains(message(text.read_text, tmp_path / "a.txt"), "line 2 has the byte 0xe9 at position 10")


def test_names_that_are_not_utf_8_survive(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_class_folders(folder / "photos", random_images(30), labels_of(30))
    (folder / "photos" / "class-0").rename(folder / "photos" / os.fsdecode(b"b\xe9te"))
    assert images.load(str(folder / "photos"), seed=0).classes == ("b\\udce9te", "class-1", "class-2")
    assert "caf\\udce9" in message(images.load, str(folder / "photos" / "class-1"), seed=0)
    np.save(folder / "signal.npy", np.zeros(4))
    assert images.read_inputs([folder / "signal.npy"], (4, 1), SCALING).shape == (1, 4, 1)
