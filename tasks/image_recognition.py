"""Image recognition: assigns an image, or a signal like one, to one of several classes.

scripts/run image_recognition                                         trains on scikit-learn's digits
scripts/run image_recognition --data mnist
scripts/run image_recognition --data my_photos --model resnet         a folder of class-named folders
scripts/run image_recognition predict runs/... picture.png
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.augmentation import Augmentation, augment
from pipeline.data.dataset import Dataset, Split
from pipeline.data.images import KNOWN, ImageOptions, load, read_inputs
from pipeline.errors import UserError
from pipeline.layers.base import Layer
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.models import image
from pipeline.options import require_shares, require_sizes
from pipeline.report import classification
from pipeline.report.page import Plot
from pipeline.training.config import TaskConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.signatures import ArraySignature
from pipeline.training.step import Augment
from tasks.framework.classification import ArrayClassification
from tasks.framework.command_line import main
from tasks.framework.stages import TaskModel


@dataclass(frozen=True)
class Config(ImageOptions, TaskConfig):
    """Train an image classifier and write a run folder with its report."""

    data: str = "digits"
    """Data set: digits, mnist, mnist1d; or the path of a folder of class-named folders of image files, of IDX files, or
    of a .npz file with the array names of MedMNIST or Keras."""
    model: Literal["mlp", "convnet", "resnet"] = "convnet"
    """Kind of model: mlp (dense layers), convnet (convolutions and pooling) or resnet (residual blocks with batch
    normalisation)."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of the convnet's convolutions or of the resnet's stages; each entry halves the height and width once."""
    label_smoothing: float = 0.0
    """Share of every label that is spread over all classes."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self, "channels")
        require_shares(self, "label_smoothing")


# What trains well on each data set; an option on the command line changes only itself. OWN is for your own data.
RECIPES = {
    "digits": Config(
        epochs=40,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.02, schedule="one_cycle"),
        augmentation=Augmentation(shift=1),
    ),
    "mnist": Config(
        channels=(32, 64, 128),
        epochs=18,
        batch_size=128,
        average=0.998,
        optimizer=OptimizerConfig(learning_rate=4e-3, weight_decay=0.02, schedule="one_cycle"),
        augmentation=Augmentation(shift=2, rotate=10.0, scale=0.1, shear=0.1),
    ),
    "mnist1d": Config(
        channels=(32, 64, 64),
        epochs=60,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.02, schedule="one_cycle"),
        augmentation=Augmentation(shift=3, scale=0.1, noise=0.05),
    ),
}
OWN = Config(
    model="resnet",
    channels=(32, 64, 128),
    epochs=30,
    batch_size=32,
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.02, schedule="one_cycle"),
)


class ImageRecognition(ArrayClassification[Config]):
    name = "image_recognition"
    title = "Image recognition"
    config = Config
    known = KNOWN
    sizes = ("channels",)

    def recipe(self, data: str | None) -> Config:
        data = data or "digits"
        return dataclasses.replace(RECIPES.get(data, OWN), data=data)

    def load(self, config: Config) -> Dataset:
        data = load(config.data, seed=config.seed, options=config)
        stride = image.stem_stride(data.input_shape)
        if stride == 1 or config.model == "mlp":
            return data
        height, width, _ = data.input_shape
        note = (
            f"images are {height}x{width}: the first convolution has a stride of {stride}, and the layers after it see "
            f"{-(-height // stride)}x{-(-width // stride)} positions"
        )
        return dataclasses.replace(data, notes=(*data.notes, note))

    def model(self, config: Config, signature: ArraySignature) -> Layer:
        classes, is_image = len(signature.classes), len(signature.input_shape) == 3
        if config.model == "mlp":
            return image.mlp(classes)
        stride = image.stem_stride(signature.input_shape)
        if config.model == "convnet":
            return image.convnet(classes, config.channels, space=len(signature.input_shape) - 1, stride=stride)
        if is_image:
            return image.resnet(classes, config.channels, stride=stride)
        raise UserError(f"{config.data} has signals, and resnet is for images; choose --model convnet or mlp")

    def loss(self, config: Config) -> Layer:
        return SoftmaxCrossEntropy(config.label_smoothing)

    def augment(self, config: Config) -> Augment | None:
        return None if config.augmentation == Augmentation() else partial(augment, config.augmentation)

    def read(self, path: Path, signature: ArraySignature) -> np.ndarray:
        return read_inputs([path], signature.input_shape, signature.scaling, signature.fit)

    def mistakes(self, splits: Sequence[Split], probabilities: np.ndarray, classes: Sequence[str]) -> Plot:
        return classification.mistakes(splits, probabilities, classes)

    def pictures(self, model: TaskModel) -> Sequence[Plot]:
        layers = model.params["model"]["layers"]
        kernel = np.asarray(next(layer["kernel"] for layer in layers if "kernel" in layer))
        if kernel.ndim == 2:  # of a dense layer: as many inputs as an example has values
            kernel = kernel.reshape(*model.signature.input_shape, -1)
        return [classification.first_filters(kernel)]


if __name__ == "__main__":
    main(ImageRecognition())
