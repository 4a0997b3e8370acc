"""Data sets known by name: embedded in a package we depend on, or public and downloaded once."""

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..extras import extra
from .dataset import Source
from .idx import find_idx, read_idx_files
from .npz import read_npz

DIGITS = tuple("0123456789")
MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}

PNEUMONIA_MIRRORS = ("https://zenodo.org/records/10519652/files/",)
PNEUMONIA = {"pneumoniamnist.npz": "md5:28209eda62fecd6e6a2d98b1501bb15f"}  # which MedMNIST's authors publish


def digits() -> Source:
    """Scikit-learn's 1,797 handwritten digits, 8x8 with 17 levels of grey. There is no official test split: it is a
    stratified quarter, as in published figures on "a 25 % split"."""
    with extra("train"):
        from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # Levels 0 to 16 become floats from 0 to 1, so that an image file to predict is on the same scale.
    pixels = pixels.reshape(-1, 8, 8, 1) / 16
    return Source({"train": (pixels, labels)}, DIGITS)


def mnist() -> Source:
    """MNIST (LeCun, Cortes and Burges 1998): 60,000 and 10,000 handwritten digits, 28x28.

    Read from ``$PIPELINE_DATA/mnist`` or the user's cache; where it is in neither, downloaded into the cache.
    """
    with extra("train"):
        import pooch

    cached = Path(pooch.os_cache("backhand")) / "mnist"
    folders = [Path(os.environ["PIPELINE_DATA"]) / "mnist", cached] if os.environ.get("PIPELINE_DATA") else [cached]
    complete = [folder for folder in folders if len(find_idx(folder)) == len(MNIST_SHA256)]
    if not complete:
        for file, sha256 in MNIST_SHA256.items():
            put = f"Put {', '.join(MNIST_SHA256)} into {cached}, or into a folder mnist/"
            download(file, sha256, MNIST_MIRRORS, cached, put)
    return read_idx_files([*complete, cached][0])


def folder_of(files: Mapping[str, str], mirrors: Sequence[str], shared: str, cached: str) -> Path:
    """The folder with these files, each a name and its checksum: ``$PIPELINE_DATA/<shared>`` where all are there.

    Else ``cached`` in the user's cache, into which those that are missing are downloaded. Raises UserError where one
    cannot be.
    """
    with extra("train"):
        import pooch

    own, cache = os.environ.get("PIPELINE_DATA"), Path(pooch.os_cache("backhand")) / cached
    if own and all((Path(own) / shared / file).is_file() for file in files):
        return Path(own) / shared
    for file, checksum in files.items():
        if not (cache / file).is_file():
            put = f"Put {', '.join(files)} into {cache}, or into a folder {shared}/"
            download(file, checksum, mirrors, cache, put)
    return cache


def pneumonia_mnist() -> Source:
    """PneumoniaMNIST (Yang et al. 2023, MedMNIST v2; Kermany et al. 2018): 5,856 chest X-rays of children, 28x28.

    Read from ``$PIPELINE_DATA/pneumoniamnist`` or the user's cache; where it is in neither, downloaded into the cache.
    """
    folder = folder_of(PNEUMONIA, PNEUMONIA_MIRRORS, shared="pneumoniamnist", cached="pneumoniamnist")
    (file,) = PNEUMONIA
    return read_npz(folder / file)._replace(classes=("normal", "pneumonia"))


class KnownTable(NamedTuple):
    """names: of the columns; values (examples, columns); labels: positions of ``classes``."""

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def breast_cancer() -> KnownTable:
    """Wisconsin diagnostic breast cancer (Street, Wolberg & Mangasarian 1993), scikit-learn's copy: 569 tumours by 30
    measures of their cells' nuclei. It has no splits."""
    with extra("train"):
        from sklearn.datasets import load_breast_cancer

    found: Any = load_breast_cancer()
    return KnownTable(tuple(map(str, found.feature_names)), found.data, 1 - found.target, ("benign", "malignant"))


def download(file: str, checksum: str, mirrors: Sequence[str], folder: Path, put: str) -> None:
    """Fetches a file into a folder, from the first mirror that has it. Raises UserError where none does.

    checksum: SHA-256, or another kind's name and its own, as in "md5:...".
    put: what to put where by hand: it becomes part of the message.
    """
    with extra("train"):
        import pooch

    checksum = checksum if ":" in checksum else f"sha256:{checksum}"
    failures = []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + file, known_hash=checksum, fname=file, path=folder)
            return
        except (OSError, ValueError) as error:  # no network, no such file; another checksum
            failures.append(f"{mirror}: {error}")
    raise UserError(
        f"{file} is not on this machine and could not be downloaded:\n  " + "\n  ".join(failures) + f"\n{put} in the "
        "folder that the environment variable PIPELINE_DATA names"
    )


def mnist1d() -> Source:
    """MNIST-1D (Greydanus and Kobak 2020, "Scaling Down Deep Learning with MNIST-1D"): 4,000 and 1,000 signals of 40
    values, generated with its published arguments by the authors' own package."""
    # The package seeds the process's global generators; they go on as if nothing had been.
    states = random.getstate(), np.random.get_state()
    try:
        with extra("train"):
            from mnist1d.data import get_dataset_args, make_dataset  # only here: it imports a plotting library

        found = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    parts = {
        part: (found[f"x{suffix}"][..., None], found[f"y{suffix}"])
        for part, suffix in (("train", ""), ("test", "_test"))
    }
    return Source(parts, DIGITS)
