"""Data sets with a name: contained in a package that this one depends on, or public and downloaded once."""

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
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels with 17 levels of grey.

    There is no official test split; a stratified quarter is held out, as in published results with "a 25 % split".
    """
    with extra("train"):
        from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # Levels 0 to 16 become floats from 0 to 1, which is also the scale of an image file to predict.
    pixels = pixels.reshape(-1, 8, 8, 1) / 16
    return Source({"train": (pixels, labels)}, DIGITS)


def mnist() -> Source:
    """MNIST (LeCun, Cortes and Burges 1998): 60,000 training and 10,000 test images of handwritten digits, 28x28.

    Read from ``$PIPELINE_DATA/mnist`` or the user's cache; otherwise downloaded into the cache.
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
    """The folder that contains the files of a data set, which are downloaded if necessary.

    It is ``$PIPELINE_DATA/<shared>`` if all files are there, else the folder ``cached`` in the user's cache.

    files: checksums by file name; mirrors: URLs of folders with these files.
    Raises UserError if a file is missing and cannot be downloaded.
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

    Read from ``$PIPELINE_DATA/pneumoniamnist`` or the user's cache; otherwise downloaded into the cache.
    """
    folder = folder_of(PNEUMONIA, PNEUMONIA_MIRRORS, shared="pneumoniamnist", cached="pneumoniamnist")
    (file,) = PNEUMONIA
    return read_npz(folder / file)._replace(classes=("normal", "pneumonia"))


class KnownTable(NamedTuple):
    """A table of numbers. names: of the columns; values: (examples, columns); labels: positions in ``classes``."""

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def breast_cancer() -> KnownTable:
    """Wisconsin diagnostic breast cancer (Street, Wolberg & Mangasarian 1993), from scikit-learn, without splits.

    569 tumours, each described by 30 measurements of its cells' nuclei.
    """
    with extra("train"):
        from sklearn.datasets import load_breast_cancer

    data: Any = load_breast_cancer()
    return KnownTable(tuple(map(str, data.feature_names)), data.data, 1 - data.target, ("benign", "malignant"))


def download(file: str, checksum: str, mirrors: Sequence[str], folder: Path, put: str) -> None:
    """Downloads a file into a folder from the first mirror that has it. Raises UserError if none has.

    checksum: SHA-256, or another checksum after its name, as in "md5:...".
    put: for the message, what the user can put where instead: "Put ... into ..., or into a folder ...".
    """
    with extra("train"):
        import pooch

    checksum = checksum if ":" in checksum else f"sha256:{checksum}"
    failures = []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + file, known_hash=checksum, fname=file, path=folder)
            return
        except (OSError, ValueError) as error:  # OSError: no network or no such file; ValueError: another checksum
            failures.append(f"{mirror}: {error}")
    raise UserError(
        f"{file} is not on this machine and could not be downloaded:\n  " + "\n  ".join(failures) + f"\n{put} in the "
        "folder that the environment variable PIPELINE_DATA names"
    )


def mnist1d() -> Source:
    """MNIST-1D (Greydanus and Kobak 2020, "Scaling Down Deep Learning with MNIST-1D"), from its package.

    4,000 training and 1,000 test signals of 40 values, generated by the authors' package with the published arguments.
    """
    # The package seeds the global random generators, whose states are restored afterwards.
    states = random.getstate(), np.random.get_state()
    try:
        with extra("train"):
            from mnist1d.data import get_dataset_args, make_dataset  # only here: it imports a plotting library

        data = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    parts = {
        part: (data[f"x{suffix}"][..., None], data[f"y{suffix}"]) for part, suffix in (("train", ""), ("test", "_test"))
    }
    return Source(parts, DIGITS)
