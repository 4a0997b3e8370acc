"""What every reader of labelled images or signals ends in: three splits, and the scaling learnt from the first."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError

TEST_SHARE = 0.25
VALIDATION_SHARE, VALIDATION_MOST = 0.1, 5_000

Arrays = tuple[np.ndarray, np.ndarray]
"""Inputs and labels of some examples, one of each in a row."""


class Source(NamedTuple):
    """What a reader found.

    parts: "train", and maybe "validation" and "test": pixels and labels of each. Pixels are (examples, height, width,
        channels) or, for signals, (examples, time, channels), of any number type; labels are integers (examples,).
    classes: the classes' names; a label is a position in it.
    """

    parts: dict[str, Arrays]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Scaling:
    """The map from stored pixels to what a model sees: mean 0 and deviation 1 in each channel of the training split.

    mean, deviation: one number a channel, where integer pixels count from 0 to 1 (255 of uint8 is 1) and floats as they
        are, so that an image file is scaled like the training images, however these were stored.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Scaling":
        """The scaling that standardises ``pixels``; a constant channel is only centred."""
        columns = pixels.reshape(-1, pixels.shape[-1])
        mean = columns.mean(0, dtype=np.float64)
        # The mean of squares needs no float copy of the whole set.
        square = np.einsum("nc,nc->c", columns, columns, dtype=np.float64) / len(columns)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        deviation[deviation < 1e-6 * np.abs(columns).max()] = _white(pixels)
        return cls(*(tuple((values / _white(pixels)).tolist()) for values in (mean, deviation)))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """``pixels`` of any leading shape, scaled, in float32."""
        scaled = pixels.astype(np.float32)
        scaled -= np.asarray(self.mean, np.float32) * _white(pixels)
        scaled /= np.asarray(self.deviation, np.float32) * _white(pixels)
        return scaled

    def undone(self, inputs: np.ndarray) -> np.ndarray:
        """What was scaled to ``inputs``, integer pixels from 0 to 1."""
        return inputs * np.asarray(self.deviation) + np.asarray(self.mean)


def visible(pixels: np.ndarray) -> np.ndarray:
    """As they are drawn: integer pixels from 0 to 1, floats as they are."""
    return pixels / _white(pixels)


def _white(pixels: np.ndarray) -> int:
    return np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1


@dataclass(frozen=True, eq=False)
class Split:
    """Examples that belong together. Pixels stay as they are stored (often one byte each) until they are taken.

    pixels: uint8, uint16 or float32, (examples, height, width, channels) or (examples, time, channels).
    labels: int32, (examples,).
    """

    pixels: np.ndarray
    labels: np.ndarray
    scaling: Scaling

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """The inputs, scaled for a model (float32), and the labels of these rows."""
        return self.scaling(self.pixels[rows]), self.labels[rows]

    @property
    def inputs(self) -> np.ndarray:
        """All inputs at once, scaled for a model: float32, so up to four times the memory of the pixels."""
        return self.scaling(self.pixels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled data set, ready for training. No example is in two splits."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def scaling(self) -> Scaling:
        """That of all three splits, learnt from ``train``: new inputs go through it too."""
        return self.train.scaling

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: (height, width, channels) or (time, channels)."""
        return self.train.pixels.shape[1:]


def numbered(labels: np.ndarray) -> tuple[str, ...]:
    """The classes of a set that does not name them: 0 to the largest training label."""
    return tuple(str(label) for label in range(int(labels.max()) + 1 if labels.size else 0))


def complete(name: str, source: Source, *, seed: int, folds: int = 0, fold: int = 1) -> Dataset:
    """Check what a reader found, and hold out the splits that it did not find.

    A missing test split is a stratified quarter of ``train``, the same for every seed, so that runs compare. A missing
    validation split is a stratified tenth of what then is left of ``train``, 5,000 at most, drawn by ``seed``.
    With ``folds``, the test split is part ``fold`` of a cross-validation: see ``in_folds``.

    Raises UserError where the data cannot be trained on: nothing there, pixels that are no numbers, unknown labels.
    """
    parts = {part: _checked(name, part, *arrays, source) for part, arrays in source.parts.items()}
    if folds:
        parts = in_folds(name, parts, source.classes, folds, fold)
    parts = with_held_out(name, parts, source.classes, seed)
    scaling = Scaling.of(parts["train"][0])
    train, validation, test = (Split(*parts[part], scaling) for part in ("train", "validation", "test"))
    return Dataset(name, train, validation, test, source.classes)


def with_held_out(name: str, parts: Mapping[str, Arrays], classes: tuple[str, ...], seed: int) -> dict[str, Arrays]:
    """``parts`` with all three splits, those that are missing taken out of ``train`` as ``complete`` says."""
    parts = dict(parts)
    if len(classes) < 2:
        raise UserError(f"{name} has a single class, {', '.join(classes)}; a classifier needs at least two")
    if "test" not in parts:
        size = round(TEST_SHARE * len(parts["train"][1]))
        parts["train"], parts["test"] = _held_out(name, "test", parts["train"], size, 0, classes)
    if "validation" not in parts:
        size = min(round(VALIDATION_SHARE * len(parts["train"][1])), VALIDATION_MOST)
        parts["train"], parts["validation"] = _held_out(name, "validation", parts["train"], size, seed, classes)
    return parts


def in_folds(
    name: str, parts: Mapping[str, Arrays], classes: tuple[str, ...], folds: int, fold: int
) -> dict[str, Arrays]:
    """Of a cross-validation the part ``fold`` (1 to ``folds``) as the test split, and all others to train on.

    All examples take part, whatever splits they come in; every part has the classes' shares, and is the same for every
    seed. Raises UserError where a class has fewer examples than there are parts.
    """
    from sklearn.model_selection import StratifiedKFold

    inputs, labels = (np.concatenate(arrays) for arrays in zip(*parts.values()))
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise UserError(
            f"{name} has {counts.min()} examples of class {classes[present[counts.argmin()]]!r}, which are too few for "
            f"{folds} parts with one at least in each; choose a smaller --folds, or add examples of it"
        )
    drawn = StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels)
    rest, test = next(islice(drawn, fold - 1, None))
    return {"train": (inputs[rest], labels[rest]), "test": (inputs[test], labels[test])}


def without_copies(parts: Mapping[str, Arrays]) -> tuple[dict[str, Arrays], int]:
    """``parts`` without those training examples whose very inputs stand in another part, and how many these were."""
    held = {row.tobytes() for part, (inputs, _) in parts.items() if part != "train" for row in inputs}
    inputs, labels = parts["train"]
    kept = np.array([row.tobytes() not in held for row in inputs], bool)
    return {**parts, "train": (inputs[kept], labels[kept])}, int((~kept).sum())


def _checked(name: str, part: str, pixels: np.ndarray, labels: np.ndarray, source: Source) -> Arrays:
    where = f"the {part} split of {name}"
    if len(pixels) != len(labels):
        raise UserError(f"{where} has {len(pixels)} images but {len(labels)} labels; there must be one for each")
    if len(pixels) == 0 or pixels.size == 0:
        raise UserError(f"{where} is empty: it has {len(pixels)} images of shape {pixels.shape[1:]}")
    shape = source.parts["train"][0].shape[1:]
    if pixels.shape[1:] != shape:
        raise UserError(f"{where} has images of shape {pixels.shape[1:]}, but those of the train split are {shape}")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
    if wrong.size:
        raise UserError(
            f"{where} has the label {labels[wrong[0]]} at index {wrong[0]}, out of range: there are "
            f"{len(source.classes)} classes, so labels are 0 to {len(source.classes) - 1}; correct the label"
        )
    return _stored(where, pixels), labels.astype(np.int32)


def _stored(where: str, pixels: np.ndarray) -> np.ndarray:
    """``pixels`` as uint8 or uint16 where they are whole numbers of that range, else as finite float32."""
    if np.issubdtype(pixels.dtype, np.integer):
        low, high = pixels.min(), pixels.max()
        if low < 0 or high > np.iinfo(np.uint16).max:
            raise UserError(
                f"{where} has pixels from {low} to {high}; whole numbers must be 0 to 255, or 0 to 65535 at 16 bits"
            )
        if pixels.dtype == np.uint16 or high > np.iinfo(np.uint8).max:
            return pixels.astype(np.uint16, copy=False)
        return pixels.astype(np.uint8, copy=False)
    pixels = pixels.astype(np.float32, copy=False)
    finite = np.isfinite(pixels).reshape(len(pixels), -1).all(1)
    if not finite.all():
        raise UserError(
            f"{where} has a pixel that is NaN or infinite in image {np.flatnonzero(~finite)[0]} (counted from 0; "
            f"{np.count_nonzero(~finite)} such images in all); remove or repair them"
        )
    return pixels


def _held_out(
    name: str, part: str, arrays: Arrays, size: int, seed: int, classes: tuple[str, ...]
) -> tuple[Arrays, Arrays]:
    """The rest of the train split, and ``size`` examples (or one a class) taken from it with the classes' shares."""
    from sklearn.model_selection import train_test_split

    inputs, labels = arrays
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise UserError(
            f"{name} has no {part} split, and none can be held out: class {classes[present[counts.argmin()]]!r} has "
            f"only one training example; add examples of it, or give a {part} split"
        )
    rest, held = train_test_split(
        np.arange(len(labels)), test_size=max(size, len(present)), random_state=seed, stratify=labels
    )
    rest, held = np.sort(rest), np.sort(held)
    return (inputs[rest], labels[rest]), (inputs[held], labels[held])
