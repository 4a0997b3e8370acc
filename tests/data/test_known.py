"""Known data sets: their sizes and contents, and their download."""

import gzip
import random
from pathlib import Path

import numpy as np
import pooch
from image_files import DATA, all_pixels, contains, idx_bytes, labels_of, message, needs, random_images, rows
from sklearn.datasets import load_digits

from pipeline.data import known
from pipeline.data.images import load


def test_digits():
    dataset = load("digits", seed=0)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [1213, 135, 449]
    assert dataset.input_shape == (8, 8, 1)
    pixels, _ = load_digits(return_X_y=True)
    assert rows(all_pixels(dataset) * 16) == rows(pixels.astype(np.float32))


def test_mnist_1d():
    # The package seeds the global generators; ours go on from where they were, so that they stay different.
    datasets, after = [], []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        datasets.append(load("mnist1d", seed=0))
        after.append((random.random(), np.random.rand()))
    assert after[0][0] != after[1][0]
    assert after[0][1] != after[1][1]
    one, two = datasets
    assert [len(split) for split in (one.train, one.validation, one.test)] == [3600, 400, 1000]
    assert one.input_shape == (40, 1)
    np.testing.assert_array_equal(one.train.pixels, two.train.pixels)


@needs("mnist")
def test_mnist(monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(DATA))
    dataset = load("mnist", seed=0)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [55_000, 5_000, 10_000]
    assert dataset.input_shape == (28, 28, 1)
    # The first test digits, in order, as everybody knows them.
    assert dataset.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    np.testing.assert_allclose([*dataset.scaling.mean, *dataset.scaling.deviation], [0.1307, 0.3081], atol=2e-4)


def test_mnist_is_neither_there_nor_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)

    def retrieve(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    contains(
        message(load, "mnist", seed=0), "could not be downloaded", "no route to host", "t10k-labels-idx1-ubyte.gz",
        tmp_path / "cache" / "backhand" / "mnist", "PIPELINE_DATA",
    )  # fmt: skip


def test_mnist_is_downloaded_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)

    def retrieve(url, known_hash, fname, path):
        if url.startswith(known.MNIST_MIRRORS[0]):
            raise ValueError("another checksum")
        Path(path).mkdir(parents=True, exist_ok=True)
        images = "images" in fname
        content = gzip.compress(idx_bytes(random_images(30) if images else labels_of(30, 10)))
        (Path(path) / fname).write_bytes(content)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(load("mnist", seed=0).test) == 30
    monkeypatch.setattr(pooch, "retrieve", None)
    assert len(load("mnist", seed=0).test) == 30, "the second time it is in the cache"
