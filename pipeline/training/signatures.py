"""Signatures: a trained model's inputs and outputs, written into its run's folder beside the checkpoints."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from .. import storage
from ..data import vocabulary as vocabularies
from ..data.arpa import Arpa
from ..data.dataset import Scaling
from ..data.folder import counted
from ..data.lexicon import Lexicon, Pronunciations
from ..data.speech_input import FeatureInput
from ..data.table import Columns
from ..data.vocabulary import BAG, Characters, SpelledWords, Tokens

T = TypeVar("T")
A = TypeVar("A", bound="ArraySignature")


@dataclass(frozen=True)
class ClassifierSignature:
    """A classifier's inputs and outputs, stored as ``signature.json``. classes: the names of its outputs."""

    classes: tuple[str, ...]

    @property
    @abstractmethod
    def inputs(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of the model's inputs, for a batch of one example."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """A description of the examples in a few words that follow "examples"."""

    @abstractmethod
    def write(self, folder: Path) -> None: ...

    @classmethod
    @abstractmethod
    def read(cls, run_directory: Path) -> "ClassifierSignature": ...


@dataclass(frozen=True)
class ArraySignature(ClassifierSignature):
    """The signature of a classifier of arrays: images, signals or tables.

    input_shape: of one example; scaling: from stored values to the model's inputs.
    fit: how an image of another size is brought to this one; "": not at all.
    pixel_range: black and white of training arrays whose values were neither from 0 to 1 nor whole numbers to 255.
    """

    input_shape: tuple[int, ...]
    scaling: Scaling
    fit: str = field(default="", kw_only=True)
    pixel_range: tuple[float, float] | None = field(default=None, kw_only=True)

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)

    @property
    def kind(self) -> str:
        axes = "height x width x channels" if len(self.input_shape) == 3 else "time x channels"
        return f"of shape {'x'.join(map(str, self.input_shape))}, {axes}"

    @property
    def scale(self) -> Callable[[jax.Array], jax.Array]:
        """The scaling as a function of arrays that JAX can trace."""
        mean, deviation = (jnp.asarray(v, jnp.float32) for v in (self.scaling.mean, self.scaling.deviation))
        return lambda values: (values - mean) / deviation

    def content(self) -> dict[str, Any]:
        """The signature as JSON."""
        content = {"input_shape": self.input_shape, "scaling": asdict(self.scaling), "classes": self.classes}
        optional = {"fit": self.fit, "pixel_range": self.pixel_range}
        return content | {name: value for name, value in optional.items() if value}

    @classmethod
    def parse(cls: type[A], content: Mapping[str, Any]) -> A:
        """The signature that ``content`` describes."""
        scaling = Scaling(**{name: tuple(values) for name, values in content["scaling"].items()})
        low_high = content.get("pixel_range")
        return cls(
            tuple(content["classes"]),
            tuple(content["input_shape"]),
            scaling,
            fit=str(content.get("fit", "")),
            pixel_range=(float(low_high[0]), float(low_high[1])) if low_high else None,
        )

    def write(self, folder: Path) -> None:
        storage.write_json(folder / "signature.json", self.content())

    @classmethod
    def read(cls: type[A], run_directory: Path) -> A:
        return _read(run_directory, "signature.json", cls.parse)


@dataclass(frozen=True)
class DiagnosisSignature(ArraySignature):
    """The signature of a diagnosis. columns: of the training table, whose features are the inputs; else None."""

    columns: Columns | None = None

    @property
    def kind(self) -> str:
        if not self.columns:
            return super().kind
        texts = sum(bool(column.categories) for column in self.columns.columns)
        numbers = len(self.columns.columns) - texts
        return f"of {counted(numbers, 'number')} and {counted(texts, 'text')}" if texts else f"of {numbers} findings"

    def content(self) -> dict[str, Any]:
        columns = {"columns": self.columns.stored(), "features": self.columns.features} if self.columns else {}
        return super().content() | columns

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "DiagnosisSignature":
        columns = Columns.read(content["columns"]) if "columns" in content else None
        return dataclasses.replace(super().parse(content), columns=columns)


@dataclass(frozen=True)
class TextSignature(ClassifierSignature):
    """The signature of a classifier of texts.

    vocabulary: of words and their n-grams, stored as ``vocabulary.json``; longest: number of words of a text that the
    model reads.
    """

    vocabulary: SpelledWords
    longest: int

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, 8, BAG), jnp.int32)

    @property
    def kind(self) -> str:
        return f"with {len(self.vocabulary.words):,} different words"

    def write(self, folder: Path) -> None:
        storage.write_json(folder / "signature.json", {"longest": self.longest, "classes": self.classes})
        vocabularies.write(folder, self.vocabulary)

    @classmethod
    def read(cls, run_directory: Path) -> "TextSignature":
        def parse(content: Mapping[str, Any]) -> TextSignature:
            return cls(tuple(content["classes"]), vocabularies.read(run_directory), int(content["longest"]))

        return _read(run_directory, "signature.json", parse)


class SpeechSignature(NamedTuple):
    """The signature of a speech recogniser.

    units: what the model writes; texts: those of the training recordings, for the n-gram models; features: the inputs,
    where these are given features; lexicon, language_model: of the words that a search may write; None: any.
    """

    units: Characters | Tokens
    texts: tuple[str, ...]
    features: FeatureInput | None = None
    lexicon: Lexicon | None = None
    language_model: Arpa | None = None

    @property
    def alphabet(self) -> Characters | Tokens | Pronunciations:
        """What turns a transcript into the units that the model writes."""
        if isinstance(self.units, Tokens) and self.lexicon is not None:
            return Pronunciations(self.units, self.lexicon)
        return self.units

    def write(self, folder: Path) -> None:
        vocabularies.write(folder, self.units)
        storage.write_json(folder / "training_texts.json", list(self.texts))
        if self.features is not None:
            storage.write_json(folder / "features.json", asdict(self.features))
        for name, tables in (("lexicon", self.lexicon), ("language_model", self.language_model)):
            if tables is not None:
                storage.write_json(folder / f"{name}.json", tables.content())

    @classmethod
    def read(cls, run_directory: Path) -> "SpeechSignature":
        def optional(name: str, parse: Callable[[Any], T]) -> T | None:
            return _read(run_directory, name, parse) if (run_directory / name).exists() else None

        return cls(
            vocabularies.read(run_directory),
            _read(run_directory, "training_texts.json", tuple),
            optional("features.json", FeatureInput.parse),
            optional("lexicon.json", Lexicon.parse),
            optional("language_model.json", Arpa.parse),
        )


@dataclass(frozen=True)
class Catalogue:
    """The users and items of a recommender, at their places, and the scale of ratings; stored as ``catalogue.json``."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    scale: tuple[float, float]
    titles: Mapping[str, str] = field(default_factory=dict, compare=False)

    def write(self, folder: Path) -> None:
        storage.write_json(folder / "catalogue.json", asdict(self))

    @classmethod
    def read(cls, run_directory: Path) -> "Catalogue":
        def parse(content: Mapping[str, Any]) -> Catalogue:
            low, high = content["scale"]
            return cls(tuple(content["users"]), tuple(content["items"]), (low, high), content["titles"])

        return _read(run_directory, "catalogue.json", parse)


def _read(run_directory: Path, name: str, parse: Callable[[Any], T]) -> T:
    """The content of a run's file, converted by ``parse``. Raises UserError if it cannot be read."""
    return storage.read_json(run_directory / name, parse, "give the folder of a run as train wrote it")
