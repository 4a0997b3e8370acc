"""Small labelled images, written in every format, and how error messages about them are checked."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError

DATA = Path(os.environ.get("PIPELINE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needs(path: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / path).exists(), reason=f"{DATA / path} is not there; set PIPELINE_DATA")


def random_images(count: int, shape: tuple[int, ...] = (6, 5), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, compress: bool = False, prefix: str = "", **arrays: np.ndarray) -> Path:
    """``train_images=...`` becomes train-images-idx3-ubyte."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        file = f"{prefix}{name.replace('_', '-')}-idx{array.ndim}-ubyte"
        (folder / (file + ".gz" * compress)).write_bytes(gzip.compress(content) if compress else content)
    return folder


def write_class_folders(root: Path, images: np.ndarray, labels: np.ndarray, suffix: str = ".png") -> Path:
    for number, (image, label) in enumerate(zip(images, labels)):
        folder = root / f"class-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03d}{suffix}")
    return root


def labels_of(count: int, classes: int = 3) -> np.ndarray:
    return (np.arange(count) % classes).astype(np.uint8)


def all_pixels(dataset) -> np.ndarray:
    return np.concatenate([split.pixels for split in (dataset.train, dataset.validation, dataset.test)])


def rows(array: np.ndarray) -> list[bytes]:
    return sorted(row.tobytes() for row in array)


def message(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def contains(text: str, *parts: object) -> None:
    for part in parts:
        assert str(part) in text, f"{part!r} is not in {text!r}"
