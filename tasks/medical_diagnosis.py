"""Medical diagnosis: classifies findings, an image or a signal, with calibrated probabilities. Not a clinical device.

scripts/run medical_diagnosis --folds 10                            breast cancer by 30 findings, ten-fold
scripts/run medical_diagnosis --data pneumoniamnist --seeds 5       chest X-rays; five models and their ensemble
scripts/run medical_diagnosis --data patients.csv --label outcome   a table of your own; or images, or signals
scripts/run medical_diagnosis predict runs/... new_patients.csv
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional

from pipeline.data.augmentation import Augmentation, augment
from pipeline.data.batches import Examples
from pipeline.data.cases import read_cases
from pipeline.data.dataset import Split
from pipeline.data.diagnosis import KNOWN, Cases, Rebuilt, Weighted, kind_of, load, normal_or_not
from pipeline.data.folder import files_in
from pipeline.data.images import ImageOptions
from pipeline.data.table import TableOptions
from pipeline.display import print_notes
from pipeline.errors import UserError
from pipeline.evaluation.classification import accuracy_metric
from pipeline.evaluation.diagnosis import Diagnostician, combined_metrics, diagnose, metrics_with_intervals
from pipeline.evaluation.evaluate import all_outputs
from pipeline.evaluation.metrics import Metrics, no_metrics
from pipeline.evaluation.operating_point import Decision, OperatingPoint, choose_operating_point, predict_labels
from pipeline.layers.base import Context, Layer
from pipeline.layers.objective import Objective
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.focal import Focal
from pipeline.losses.regression import MeanSquaredError
from pipeline.models import autoencoder
from pipeline.models import diagnosis as models
from pipeline.options import require, require_between, require_shares, require_sizes
from pipeline.report import diagnosis, page
from pipeline.training.config import SeedsConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.run import read_config
from pipeline.training.signatures import DiagnosisSignature
from pipeline.training.step import Augment
from pipeline.training.stopping import StopConfig
from tasks.framework.answers import Answers, Classify, Table, likeliest, ranking, with_classes
from tasks.framework.classification import CrossValidatedClassification, Labelled
from tasks.framework.command_line import main
from tasks.framework.cross_validation import Part
from tasks.framework.export import Exported
from tasks.framework.stages import Metric, Outcome, TaskModel


@dataclass(frozen=True)
class Config(TableOptions, ImageOptions, SeedsConfig):
    """Train a model that tells normal from abnormal cases, and write a run folder with its report."""

    data: str = "breast-cancer"
    """Data set: breast-cancer (30 findings), pneumoniamnist (chest X-rays); or the path of a table (.csv, .tsv, .xlsx
    and others), of a file of signals (a line each, no heading; .ts, .arff), of a folder with such a file for training
    and one for testing, of a MedMNIST .npz, or of a folder of class-named folders of images."""
    model: Literal["mlp", "convnet", "resnet", "rocket", "gru", "autoencoder"] = "mlp"
    """Kind of model: mlp (dense layers), convnet (images or signals), resnet (images), rocket (signals: random kernels
    under a linear layer), gru (signals), or autoencoder, which calls abnormal what it reconstructs badly."""
    widths: tuple[int, ...] = (64, 32)
    """Widths of the mlp's dense layers, or of the autoencoder's on either side."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Channels of the convolutions, each of which halves height and width; or of the resnet's stages."""
    kernels: int = 1000
    """Random kernels of the rocket, with two features each."""
    units: int = 32
    """Units of the gru in each direction."""
    code: int = 4
    """Size of the autoencoder's bottleneck."""
    dropout: float = 0.3
    """Dropout: share of features set to zero in each training step."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Loss: cross_entropy, or focal, which down-weights easy examples."""
    gamma: float = 2.0
    """Exponent of the focal loss: larger values down-weight easy examples more."""
    label_smoothing: float = 0.0
    """Share of every label that cross entropy spreads over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss: none, or balanced, where rare classes count as much as frequent ones."""
    decision: Decision = "likeliest"
    """Rule for the probability from which a case is called abnormal. likeliest: 0.5; balanced: the largest sum of
    sensitivity and specificity on the validation split; specificity: at least --specificity there."""
    specificity: float = 0.95
    """Specificity on the validation split that --decision specificity asks for."""
    resamples: int = 1000
    """Bootstrap resamples of the test examples, for the confidence intervals."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        most = dict.fromkeys(("kernels", "units", "code"), (1, 100_000))
        require_between(self, **most, gamma=(0, 100), resamples=(20, 100_000))
        require_shares(self, "dropout", "label_smoothing")
        require(0 < self.specificity < 1, self, "specificity", "more than 0 and less than 1")
        require_sizes(self, "widths", "channels")


# What trains well on each data set; an option on the command line changes only itself. OWN is for your own data.
RECIPES = {
    "breast-cancer": Config(
        epochs=30,
        batch_size=32,
        widths=(256,),
        dropout=0.5,
        average=0.99,
        optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.3, schedule="one_cycle", warmup=0.1),
        augmentation=Augmentation(noise=0.3),
    ),
    "pneumoniamnist": Config(
        model="convnet",
        epochs=24,
        batch_size=64,
        dropout=0.5,
        average=0.995,
        label_smoothing=0.05,
        decision="specificity",
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.05, schedule="one_cycle", warmup=0.2),
        augmentation=Augmentation(shift=3, rotate=15.0, scale=0.15, shear=0.1, flip=True, contrast=0.5, brightness=0.5),
    ),
}
OWN = {
    "table": RECIPES["breast-cancer"],
    "images": Config(
        model="resnet",
        channels=(16, 32, 64),
        epochs=30,
        batch_size=32,
        average=0.995,
        optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.02, schedule="one_cycle"),
    ),
    "signals": Config(
        model="rocket",
        epochs=60,
        batch_size=16,
        average=0.95,
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=1.0, schedule="one_cycle"),
        stop=StopConfig(metric="accuracy", keep="last"),  # few signals are too few to choose a checkpoint by
    ),
    "signals, trained kernels": Config(
        model="convnet",
        channels=(32, 64, 64),
        epochs=40,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.02, schedule="one_cycle"),
    ),
}


@dataclass(frozen=True)
class Examine(Classify):
    """Predict how likely disease is in your own cases, and what speaks for it."""

    inputs: Positional[tuple[Path, ...]]
    """A table with the columns of the training table; images; signals, as .npy or a line each of a .csv or .tsv file;
    or folders of these."""
    samples: int = 32
    """Number of answers with other units dropped (Monte Carlo dropout), whose deviation is a single model's spread."""
    pictures: Path | None = None
    """Folder for the pictures of what drove the answers. None: attributions/ in the run's folder."""


class MedicalDiagnosis(CrossValidatedClassification[Config, DiagnosisSignature]):
    name = "medical_diagnosis"
    title = "Medical diagnosis"
    config = Config
    sizes = ("widths", "channels", "kernels", "units", "code")
    predictions = Examine
    known = KNOWN
    chooses = ("no_header", "signals", "model")
    signature_class = DiagnosisSignature
    test_metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("test accuracy"),
        "auc": Metric("test AUC"),
        "sensitivity": Metric("sensitivity", headline=False),
        "specificity": Metric("specificity", headline=False),
    }

    def recipe(
        self, data: str | None, no_header: bool = False, signals: bool = False, model: str | None = None
    ) -> Config:
        data, kind = data or "breast-cancer", "table"
        with suppress(UserError):  # which load raises, too
            kind = kind_of(data, TableOptions(no_header=no_header, signals=signals))
        recipe = f"{kind}, trained kernels" if kind == "signals" and model not in (None, "rocket") else kind
        return dataclasses.replace(RECIPES.get(data, OWN[recipe]), data=data)

    def load(self, config: Config) -> Cases:
        folds = {"folds": config.folds, "fold": config.fold or 1}
        cases = load(config.data, seed=config.seed, options=config, image_options=config, **folds)
        return normal_or_not(cases) if config.model == "autoencoder" and len(cases.classes) > 2 else cases

    def signature(self, config: Config, data: Cases) -> DiagnosisSignature:
        del config
        stored = {"fit": data.fit, "pixel_range": data.pixel_range}
        return DiagnosisSignature(data.classes, data.input_shape, data.scaling, data.columns, **stored)

    def model(self, config: Config, signature: DiagnosisSignature) -> Layer:
        options: Any = {name: getattr(config, name) for name in (*self.sizes, "dropout", "seed")}
        try:
            return models.make(config.model, signature.input_shape, len(signature.classes), **options)
        except ValueError as error:
            raise UserError(f"{config.data} {error}") from error

    def loss(self, config: Config) -> Layer:
        if config.model == "autoencoder":
            return MeanSquaredError()
        return Focal(config.gamma) if config.loss == "focal" else SoftmaxCrossEntropy(config.label_smoothing)

    def augment(self, config: Config) -> Augment | None:
        return None if config.augmentation == Augmentation() else partial(augment, config.augmentation)

    def examples(self, config: Config, data: Cases, part: str) -> Examples:
        split: Split = getattr(data, part)
        if config.model == "autoencoder":
            return Rebuilt(split)
        return split if config.class_weights == "none" else Weighted.balanced(split, data)

    def metrics(self, config: Config) -> Metrics:
        return no_metrics if config.model == "autoencoder" else accuracy_metric

    def choose_on_validation(self, model: TaskModel, data: Cases, run_directory: Path) -> None:
        config, labels = model.config, data.validation.labels
        logits = all_outputs(scorer(config, model.objective), model.params["model"], data.validation, config.batch_size)
        # Class weights and anomaly scores shift all logits of a class, which a temperature cannot mend.
        shifted = config.model == "autoencoder" or config.class_weights != "none"
        choose_operating_point(logits, labels, config.decision, config.specificity, shifted).write(run_directory)

    def probabilities(self, model: TaskModel, run_directory: Path, examples: Labelled) -> np.ndarray:
        layer = scorer(model.config, model.objective)
        logits = all_outputs(layer, model.params["model"], examples, model.config.batch_size)
        return OperatingPoint.read(run_directory).calibration(logits)

    def labels_of(self, run_directory: Path, probabilities: np.ndarray) -> np.ndarray:
        return predict_labels(probabilities, OperatingPoint.read(run_directory).threshold)

    def scores(
        self, config: Config, run_directory: Path, labels: np.ndarray, probabilities: np.ndarray
    ) -> dict[str, float]:
        return metrics_with_intervals(labels, probabilities, OperatingPoint.read(run_directory), config.resamples)

    def combine(self, config: Config, parts: Sequence[Part]) -> dict[str, float]:
        """Means over the models, with intervals of these; for seeds also the metrics of the ensemble."""
        tests = [part.summary["test"] for part in parts]
        labels, answers = [part.data.test.labels for part in parts], [part.evaluation.answers for part in parts]
        points = [OperatingPoint.read(part.folder) for part in parts]
        return combined_metrics(tests, labels, answers, points, config.resamples, are_seeds=config.seeds > 0)

    def combined_lines(self, content: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        test = content["test"]
        if "ensemble_auc" not in test:
            return ()
        return [("ensemble", f"accuracy {test['ensemble_accuracy']:.4f}  AUC {test['ensemble_auc']:.4f}")]

    def sections(self, outcome: Outcome) -> Sequence[page.Part]:
        config, data, probabilities = outcome.config, outcome.data, outcome.evaluation.answers
        point, model = OperatingPoint.read(outcome.run.directory), outcome.model
        predictions = predict_labels(probabilities, point.threshold)
        return [
            *diagnosis.sections(config, data, probabilities, point, outcome.summary["test"]),
            diagnosis.drivers(scorer(config, model.objective), model.params["model"], data, predictions),
            self.mistakes([data.test], probabilities, data.classes),
        ]

    def mistakes(self, splits: Sequence[Split], probabilities: np.ndarray, classes: Sequence[str]) -> page.Part:
        return diagnosis.mistakes(splits, probabilities, classes)

    def combined_sections(
        self, config: Config, parts: Sequence[Part], content: Mapping[str, Any]
    ) -> Sequence[page.Part]:
        points = [OperatingPoint.read(part.folder) for part in parts]
        data, answers = [part.data for part in parts], [part.evaluation.answers for part in parts]
        return diagnosis.combined_sections(config, data, answers, points, content["test"], config.seeds > 0)

    def predict(self, command: Examine) -> Answers:
        require_between(command, samples=(2, 10_000))
        config = read_config(command.run, self.config)
        runs = config.folders(command.run) if config.seeds else [command.run]
        models = [self.trained(run) for run in runs]
        scorers = [scorer(model.config, model.objective) for model in models]
        members = [
            Diagnostician(layer, model.params["model"], OperatingPoint.read(run), model.config.seed)
            for layer, model, run in zip(scorers, models, runs)
        ]
        signature, files = models[0].signature, files_in(command.inputs)
        columns, scaling = signature.columns, signature.scaling
        notes: list[str] = []
        options = signature.input_shape, scaling, columns, config, signature.fit, notes
        names, inputs = zip(*(case for path in files for case in read_cases(path, *options)))
        print_notes(notes)
        answered = diagnose(members, np.stack(inputs), command.samples)
        contributions = diagnosis.mean_attribution(members, np.stack(inputs), answered.labels)
        answers = diagnosis.Answers(names, scaling.undone(np.stack(inputs)), answered, contributions, signature.classes)
        ranked = [likeliest(row, signature.classes, command.top) for row in answered.probabilities]
        records = [record | ranking(classes) for record, classes in zip(answers.records(columns), ranked)]
        notes = []
        if not columns:
            for i, picture in enumerate(answers.write_pictures(command.pictures or command.run / "attributions")):
                records[i]["picture"] = str(picture)
                notes.append(f"what drove {names[i]}: {picture}")
        notes.append("Not a clinical device: not to be used to diagnose or treat anybody.")
        heading, rows = answers.table(columns)
        return Answers(records, with_classes(Table(heading, rows, heading[2:4]), ranked), notes)

    def exported(self, model: TaskModel, run_directory: Path) -> Exported:
        """Inputs as they are stored to calibrated probabilities."""
        signature, point = model.signature, OperatingPoint.read(run_directory)
        layer, scale = scorer(model.config, model.objective), signature.scale

        def probabilities(inputs: jax.Array) -> jax.Array:
            logits = layer.apply(model.params["model"], scale(inputs), Context())
            return jax.nn.softmax(point.calibration.logits(logits))

        shape = ", ".join(map(str, ("batch", *signature.input_shape)))
        what = "findings, in the order of signature.json's features" if signature.columns else "values from 0 to 1"
        return Exported(
            probabilities,
            [(signature.input_shape, jnp.float32)],
            lambda random, shape: signature.scaling.undone(random.random(shape)).astype(np.float32),
            takes=f"float32 ({shape}): {what}, any batch",
            gives=f"float32 (batch, {len(signature.classes)}): calibrated probabilities, classes in signature.json",
        )

    def write_export_files(self, folder: Path, model: TaskModel, run_directory: Path) -> None:
        super().write_export_files(folder, model, run_directory)
        OperatingPoint.read(run_directory).write(folder)


def scorer(config: Config, objective: Objective) -> Layer:
    """The layer that gives logits over the classes: the model itself, or how badly an autoencoder reconstructs."""
    return autoencoder.AnomalyScore(objective.model) if config.model == "autoencoder" else objective.model


if __name__ == "__main__":
    main(MedicalDiagnosis())
