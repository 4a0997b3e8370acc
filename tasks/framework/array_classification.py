"""Classification of images or signals: arrays of one shape, scaled for a model, and read from files to be predicted."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from pipeline import compiler
from pipeline.data.dataset import Dataset, Scaling
from pipeline.errors import UserError
from pipeline.layers.base import Context
from tasks.framework import export as artifact
from tasks.framework.classification import Classification, Signature, read_signature, write_signature
from tasks.framework.command_line import Config, Predict, console


@dataclass(frozen=True)
class ArraySignature(Signature):
    """input_shape: of one example; scaling: from stored values to what the model sees."""

    input_shape: tuple[int, ...]
    scaling: Scaling

    @classmethod
    def of(cls, dataset: Dataset) -> "ArraySignature":
        return cls(dataset.classes, dataset.input_shape, dataset.scaling)

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)

    @property
    def kind(self) -> str:
        return f"of shape {'x'.join(map(str, self.input_shape))}"

    def stored(self) -> dict[str, Any]:
        scaling = {"mean": self.scaling.mean, "deviation": self.scaling.deviation}
        return {"input_shape": self.input_shape, "scaling": scaling, "classes": self.classes}

    @classmethod
    def parsed(cls, stored: Mapping[str, Any]) -> Self:
        """Of what ``stored`` says."""
        scaling = Scaling(**{name: tuple(values) for name, values in stored["scaling"].items()})
        return cls(tuple(stored["classes"]), tuple(stored["input_shape"]), scaling)

    def write(self, folder: Path) -> None:
        write_signature(folder, self.stored())

    @classmethod
    def read(cls, run: Path) -> Self:
        return read_signature(run, cls.parsed)


class ArrayClassification(Classification[Config, ArraySignature]):
    """A task whose data are a ``Dataset``."""

    @abstractmethod
    def read(self, path: Path, signature: ArraySignature) -> np.ndarray:
        """The examples in one file of the user's, scaled for the model: (examples, *input_shape)."""

    def signature(self, config: Config, data: Dataset) -> ArraySignature:
        del config
        return ArraySignature.of(data)

    def read_signature(self, run: Path) -> ArraySignature:
        return ArraySignature.read(run)

    def predict(self, command: Predict) -> None:
        if not command.inputs:
            raise UserError("predict needs the files to answer for: predict RUN FILE...")
        _, signature, objective, params = self.trained(command.run)
        table = Table("file", "class")
        table.add_column("probability", justify="right")
        forward = compiler.jit(objective.model.apply)
        for path in files_in(command.inputs):
            logits = forward(params["model"], self.read(path, signature), Context())
            for row in np.asarray(jax.nn.softmax(logits)):
                table.add_row(str(path), signature.classes[row.argmax()], f"{row.max():.4f}")
        console().print(table)

    def export(self, run: Path) -> None:
        """Pixels as they are stored (floats; integer pixels divided by their largest value) to class probabilities."""
        _, signature, objective, params = self.trained(run)
        mean, deviation = (
            jnp.asarray(values, jnp.float32) for values in (signature.scaling.mean, signature.scaling.deviation)
        )

        def probabilities(pixels: jax.Array) -> jax.Array:
            inputs = (pixels - mean) / deviation
            return jax.nn.softmax(objective.model.apply(params["model"], inputs, Context()))

        shape = ", ".join(map(str, ("batch", *signature.input_shape)))
        folder = artifact.write(
            run,
            probabilities,
            [(signature.input_shape, jnp.float32)],
            lambda random, shape: random.random(shape, np.float32),
            takes=f"float32 ({shape}): pixels from 0 to 1, any batch",
            gives=f"float32 (batch, {len(signature.classes)}): probabilities, classes in signature.json",
        )
        signature.write(folder)


def files_in(inputs: Sequence[Path]) -> list[Path]:
    """The files among ``inputs`` and in the folders among them, in alphabetical order."""
    files = []
    for path in inputs:
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path} is an empty folder; give files, or a folder of them")
        files += inside
    return files
