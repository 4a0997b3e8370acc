"""Labelled images and signals in three splits, with the scaling learnt from the training split."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..display import visible as visible_text
from ..errors import UserError
from ..extras import extra
from .limits import LARGEST, in_range
from .streamed import Streamed, concatenated, digests_of, moments_of, select

TEST_SHARE = 0.25
VALIDATION_SHARE, VALIDATION_MOST = 0.1, 5_000
LONGEST_CLASS = 255
"""Characters of the name of a class."""

Arrays = tuple[Any, np.ndarray]
"""Inputs (an array (examples, ...) or ``Streamed``) and labels (examples,)."""


class Source(NamedTuple):
    """Labelled examples as a reader returns them, before splits are held out and values are checked.

    parts: pixels and labels of "train", and of "validation" and "test" if the data have these splits. Pixels are
        (examples, height, width, channels), or (examples, time, channels) for signals, of any number type; labels are
        integers (examples,).
    classes: names of the classes; a label is a position in it.
    notes: what was left out, merged or guessed, for the user. pixel_range, fit: see ``Dataset``.
    """

    parts: dict[str, Arrays]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    pixel_range: tuple[float, float] | None = None
    fit: str = ""


@dataclass(frozen=True)
class Scaling:
    """Standardises pixels to mean 0 and standard deviation 1 in each channel of the training split.

    mean, deviation: one number for each channel. Integer pixels are taken to lie between 0 and 1 (255 in uint8 is 1),
        floats are taken as they are, so that an image file is scaled like the training images, however these were
        stored.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, pixels: np.ndarray | Streamed) -> "Scaling":
        """The scaling that standardises ``pixels``; a constant channel is only centred."""
        if pixels.dtype.kind == "u":  # whose sums are exact, in whatever order
            number, *sums = moments_of(pixels)
            total, square, largest = (np.array(each, np.float64) for each in sums)
            mean, square = total / number, square / number
        else:
            columns = pixels[:].reshape(-1, pixels.shape[-1])
            mean, largest = columns.mean(0, dtype=np.float64), np.abs(columns).max()
            # The mean of squares needs no float64 copy of the whole set.
            square = np.einsum("nc,nc->c", columns, columns, dtype=np.float64) / len(columns)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        deviation[deviation < 1e-6 * np.max(largest)] = _white(pixels)
        return cls(*(tuple((values / _white(pixels)).tolist()) for values in (mean, deviation)))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """``pixels`` of any leading shape, scaled, in float32."""
        scaled = pixels.astype(np.float32)
        scaled -= np.asarray(self.mean, np.float32) * _white(pixels)
        scaled /= np.asarray(self.deviation, np.float32) * _white(pixels)
        return scaled

    def finite(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """The same as a call. Raises UserError, which begins with ``name``, for pixels that overflow float32."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            scaled = self(pixels)
        if not np.isfinite(scaled).all():
            raise UserError(
                f"{name} has a value that is not finite when it is standardised like the training split: it is too far "
                "from the values there, or these hardly differ; correct it, or give all data in another unit"
            )
        return scaled

    def undone(self, inputs: np.ndarray) -> np.ndarray:
        """The inverse of a call: pixels, those that were integers between 0 and 1."""
        return inputs * np.asarray(self.deviation) + np.asarray(self.mean)


def visible(pixels: np.ndarray) -> np.ndarray:
    """Pixels as they are displayed: integers scaled to between 0 and 1, floats unchanged."""
    return pixels / _white(pixels)


def _white(pixels: np.ndarray | Streamed) -> int:
    return np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set. Pixels are stored as they were read (often one byte each) and scaled when taken.

    pixels: uint8, uint16 or float32, (examples, height, width, channels) or (examples, time, channels); or image files
        that are decoded when they are taken.
    labels: int32, (examples,).
    """

    pixels: Any  # np.ndarray, or a Streamed with the same shape and items
    labels: np.ndarray
    scaling: Scaling

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Scaled inputs (float32) and labels of the examples at ``rows``."""
        return self.scaling(self.pixels[rows]), self.labels[rows]

    @property
    def is_streamed(self) -> bool:
        """Whether ``take`` decodes files."""
        return isinstance(self.pixels, Streamed)

    @property
    def inputs(self) -> np.ndarray:
        """All inputs, scaled: float32, which takes up to four times the memory of the pixels."""
        return self.scaling(self.pixels[:])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled data set, ready for training. No example is in more than one split.

    notes: remarks on the data for the user.
    pixel_range: what was black and white in arrays whose pixels now lie between 0 and 1; None: pixels are as stored.
    fit: how images were brought to one size, and how files to predict will be; "": all had that size.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    pixel_range: tuple[float, float] | None = None
    fit: str = ""

    @property
    def scaling(self) -> Scaling:
        """The scaling of all splits and of new inputs, learnt from ``train``."""
        return self.train.scaling

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: (height, width, channels) or (time, channels)."""
        return self.train.pixels.shape[1:]


def with_numbers_as_classes(path: Path, parts: Mapping[str, Arrays]) -> Source:
    """Examples with any integers or texts as labels: the classes are those that occur in the training split, in order.

    path: of the data, for messages. Raises UserError if another split has a label that no training example has.

    >>> pixels = np.zeros((4, 2, 2, 1), np.uint8)
    >>> source = with_numbers_as_classes(Path("digits.npz"), {"train": (pixels, np.array([900, 5, 5, 900]))})
    >>> source.classes, source.parts["train"][1].tolist()
    (('5', '900'), [1, 0, 0, 1])
    """
    numbers = np.unique(parts["train"][1])
    places = {}
    for part, (pixels, labels) in parts.items():
        place = np.searchsorted(numbers, labels)
        unknown = np.flatnonzero(np.append(numbers, numbers[:1])[place] != labels) if numbers.size else np.arange(0)
        if unknown.size:
            raise UserError(
                f"the {part} split of {path} has the label {labels[unknown[0]]} at index {unknown[0]}, which no "
                f"training example has ({unknown.size} such labels in all); correct it, or remove the example"
            )
        places[part] = pixels, place
    return Source(places, tuple(visible_text(str(name), LONGEST_CLASS) for name in numbers.tolist()))


def complete(name: str, source: Source, *, seed: int, folds: int = 0, fold: int = 1) -> Dataset:
    """The data set that consists of a reader's examples, with the missing splits held out from ``train``.

    A missing test split is a stratified quarter of ``train``, the same for every seed, so that runs can be compared.
    A missing validation split is a stratified tenth of the rest of ``train``, at most 5,000 examples, drawn with
    ``seed``. With ``folds``, the test split is part ``fold`` of a cross-validation: see ``in_folds``.

    name: of the data, for messages. Raises UserError for data that cannot be trained on: an empty split, pixels that
    are not finite, unknown labels, too few examples of a class.
    """
    parts = {part: _checked(name, part, *arrays, source) for part, arrays in source.parts.items()}
    if folds:
        parts = in_folds(name, parts, source.classes, folds, fold)
    parts = with_held_out(name, parts, source.classes, seed)
    splits = standardised(name, parts)
    return Dataset(name, *splits, source.classes, source.notes, source.pixel_range, source.fit)


def standardised(name: str, parts: Mapping[str, Arrays]) -> tuple[Split, Split, Split]:
    """The train, validation and test splits, with the scaling of the train split.

    Raises UserError for pixels that are not finite when they are scaled.
    """
    scaling = Scaling.of(parts["train"][0])
    for part, (pixels, _) in parts.items():
        if isinstance(pixels, Streamed):
            continue  # whole numbers, which are finite
        axes = tuple(range(pixels.ndim - 1))
        scaling.finite(np.stack([pixels.min(axes), pixels.max(axes)]), f"the {part} split of {name}")
    train, validation, test = (Split(*parts[part], scaling) for part in ("train", "validation", "test"))
    return train, validation, test


def with_held_out(name: str, parts: Mapping[str, Arrays], classes: tuple[str, ...], seed: int) -> dict[str, Arrays]:
    """``parts`` with all three splits: the missing ones are taken out of ``train``, see ``complete``."""
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
    """One fold of a cross-validation: part ``fold`` (1 to ``folds``) as the test split, the others as the train split.

    All examples take part, whatever their splits. The parts are stratified and the same for every seed. Raises
    UserError if a class has fewer examples than there are folds.
    """
    with extra("train"):
        from sklearn.model_selection import StratifiedKFold

    inputs, labels = (concatenated(arrays) for arrays in zip(*parts.values()))
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise UserError(
            f"{name} has {counts.min()} examples of class {classes[present[counts.argmin()]]!r}, which are too few for "
            f"{folds} folds with at least one in each; choose a smaller --folds, or add examples of this class"
        )
    splits = StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels)
    rest, test = next(islice(splits, fold - 1, None))
    return {part: (select(inputs, rows), labels[rows]) for part, rows in (("train", rest), ("test", test))}


def without_copies(parts: Mapping[str, Arrays]) -> tuple[dict[str, Arrays], int]:
    """``parts`` without the training examples whose inputs also stand in another part, and the number of these."""
    held_out = {row for part, (inputs, _) in parts.items() if part != "train" for row in digests_of(inputs)}
    inputs, labels = parts["train"]
    is_copy = np.array([row in held_out for row in digests_of(inputs)], bool)
    return {**parts, "train": (select(inputs, ~is_copy), labels[~is_copy])}, int(is_copy.sum())


def _checked(name: str, part: str, pixels: np.ndarray | Streamed, labels: np.ndarray, source: Source) -> Arrays:
    where = f"the {part} split of {name}"
    if len(pixels) != len(labels):
        raise UserError(f"{where} has {len(pixels)} images but {len(labels)} labels; there must be one for each")
    if 0 in pixels.shape:
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
    return pixels if isinstance(pixels, Streamed) else _stored(where, pixels), labels.astype(np.int32)


def _stored(where: str, pixels: np.ndarray) -> np.ndarray:
    """``pixels`` as uint8 or uint16 if they are integers of that range, else as finite float32."""
    if np.issubdtype(pixels.dtype, np.integer):
        low, high = pixels.min(), pixels.max()
        if low < 0 or high > np.iinfo(np.uint16).max:
            raise UserError(
                f"{where} has pixels from {low} to {high}; whole numbers must be 0 to 255, or 0 to 65535 at 16 bits; "
                "--pixels LOW:HIGH says what is black and white in others"
            )
        if pixels.dtype == np.uint16 or high > np.iinfo(np.uint8).max:
            return pixels.astype(np.uint16, copy=False)
        return pixels.astype(np.uint8, copy=False)
    wrong = np.flatnonzero(~in_range(pixels).reshape(len(pixels), -1).all(1))
    if wrong.size:
        raise UserError(
            f"{where} has a pixel that is NaN, infinite or beyond {LARGEST:g} in image {wrong[0]} (counted from 0; "
            f"{wrong.size} such images in all); remove or repair them"
        )
    return pixels.astype(np.float32, copy=False)


def _held_out(
    name: str, part: str, arrays: Arrays, size: int, seed: int, classes: tuple[str, ...]
) -> tuple[Arrays, Arrays]:
    """The rest of the train split, and a stratified sample of ``size`` examples, with at least one of each class."""
    with extra("train"):
        from sklearn.model_selection import train_test_split

    inputs, labels = arrays
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise UserError(
            f"{name} has no {part} split, and none can be held out: class {classes[present[counts.argmin()]]!r} has "
            f"only one training example; add examples of it, or give a {part} split"
        )
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=max(size, len(present)), random_state=seed, stratify=labels
    )
    rest, held_out = np.sort(rest), np.sort(held_out)
    return (select(inputs, rest), labels[rest]), (select(inputs, held_out), labels[held_out])
