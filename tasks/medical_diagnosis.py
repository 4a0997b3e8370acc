"""Medical diagnosis: findings, an image or a signal, and how likely it is that something is wrong. No clinical device.

scripts/run medical_diagnosis --folds 10                            breast cancer by 30 findings, ten-fold
scripts/run medical_diagnosis --data pneumoniamnist --seeds 5       chest X-rays; five models and their ensemble
scripts/run medical_diagnosis --data patients.csv --label outcome   a table of your own; or images, or signals
scripts/run medical_diagnosis predict runs/... new_patients.csv
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from tyro.conf import Positional

from pipeline.data.augmentation import Augmentation, augment
from pipeline.data.batches import Examples
from pipeline.data.dataset import Split
from pipeline.data.delimited import SUFFIXES
from pipeline.data.diagnosis import Cases, Rebuilt, Unlabelled, Weighted, kind_of, load, normal_or_not
from pipeline.data.images import read_inputs
from pipeline.data.signal_rows import read_unlabelled
from pipeline.data.table import Columns, read_rows
from pipeline.errors import UserError
from pipeline.evaluation.calibration import (
    Decision,
    OperatingPoint,
    diagnostic_metrics,
    disease_probability,
    fit_calibration,
    intervals,
    predict_labels,
    threshold_for,
)
from pipeline.evaluation.metrics import Metrics, accuracy_metric, no_metrics
from pipeline.evaluation.uncertainty import make_dropout_samples
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.objective import Objective
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.focal import Focal
from pipeline.losses.regression import MeanSquaredError
from pipeline.models import autoencoder, image
from pipeline.options import require, require_at_least, require_shares
from pipeline.report import page, plots
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.run import read_config
from tasks import medical_diagnosis_report as report
from tasks.framework import export as artifact
from tasks.framework.array_classification import ArraySignature, files_in
from tasks.framework.classification import Labelled, Outcome, Trained, all_outputs, drivers
from tasks.framework.command_line import Predictions, console, main
from tasks.framework.cross_validation import CrossValidated, Part, SeedsConfig, ensemble, means


@dataclass(frozen=True)
class Config(SeedsConfig):
    """Trains a model that tells normal from abnormal cases, and leaves a run folder with its report."""

    data: str = "breast-cancer"
    """breast-cancer (30 findings), pneumoniamnist (chest X-rays); or a .csv or .tsv table, or one of signals (a line
    each, without a heading), or a folder with such a file for training and one for testing; a MedMNIST .npz; a folder
    of class-named folders of images."""
    model: Literal["mlp", "convnet", "resnet", "gru", "autoencoder"] = "mlp"
    """Dense layers; convolutions, of images or signals; residual blocks, of images; recurrence, of signals; or an
    autoencoder, which learns normal cases only, and calls abnormal what it rebuilds badly."""
    label: str = ""
    """The table's column with the diagnosis. Nothing: label. Of signals: first or last, where it stands in a line."""
    ignore: tuple[str, ...] = ()
    """Columns of the table to leave out."""
    normal: str = ""
    """The class without findings. Nothing: the first, in the order of numbers or of the alphabet."""
    widths: tuple[int, ...] = (64, 32)
    """Of the mlp's dense layers, or of the autoencoder's on either side."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Of the convolutions, each of which halves the sides, the autoencoder's too; of the resnet's stages."""
    units: int = 32
    """Of the gru, in each direction."""
    code: int = 4
    """Numbers in the autoencoder's bottleneck."""
    dropout: float = 0.3
    """The share of features that each training step leaves out."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """focal looks away from what is easy."""
    gamma: float = 2.0
    """How soon the focal loss looks away."""
    label_smoothing: float = 0.0
    """The share of every label that cross entropy spreads over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the classes count alike in the loss, however rare some are."""
    decision: Decision = "likeliest"
    """From which probability on a case is abnormal. likeliest: a half; balanced: where validation's sensitivity and
    specificity add up to the most; specificity: as --specificity says."""
    specificity: float = 0.95
    """The share of validation's normal cases that --decision specificity leaves alone."""
    resamples: int = 1000
    """Of the test examples, for the confidence intervals."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, units=1, code=1, gamma=0, resamples=20)
        require_shares(self, "dropout", "label_smoothing")
        require(0 < self.specificity < 1, self, "specificity", "more than 0 and less than 1")
        for option in ("widths", "channels"):
            if not getattr(self, option) or min(getattr(self, option)) < 1:
                raise UserError(f"--{option} must be numbers that are at least 1")


# What trains well on each data set; an option on the command line changes only itself. The others are for your own.
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
        model="convnet",
        channels=(32, 64, 64),
        epochs=40,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.02, schedule="one_cycle"),
    ),
}


@dataclass(frozen=True)
class Examine(Predictions):
    """How likely it is that something is wrong in your own cases, and what speaks for it."""

    inputs: Positional[tuple[Path, ...]]
    """A table with the columns of the training table; images; signals, as .npy or a line each of a .csv or .tsv file;
    or folders of these."""
    samples: int = 32
    """Scorer with other units left out (Monte Carlo dropout), whose deviation is the spread of a single model."""
    pictures: Path | None = None
    """Folder for the pictures of what drove the answers. None: attributions/ in the run's."""


@dataclass(frozen=True)
class DiagnosisSignature(ArraySignature):
    """columns: of a table, whose features the inputs then are."""

    columns: Columns | None = None

    @property
    def kind(self) -> str:
        return f"of {self.input_shape[0]} findings" if self.columns else super().kind

    def stored(self) -> dict[str, Any]:
        its = {"columns": self.columns.stored(), "features": self.columns.features} if self.columns else {}
        return super().stored() | its

    @classmethod
    def parsed(cls, stored: Mapping[str, Any]) -> Self:
        columns = Columns.read(stored["columns"]) if "columns" in stored else None
        return dataclasses.replace(super().parsed(stored), columns=columns)


class MedicalDiagnosis(CrossValidated[Config, DiagnosisSignature]):
    name = "medical_diagnosis"
    title = "Medical diagnosis"
    config = Config
    predictions = Examine
    columns: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy",
        "auc": "AUC",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
    }

    def recipe(self, data: str | None) -> Config:
        data = data or "breast-cancer"
        if data in RECIPES:
            return dataclasses.replace(RECIPES[data], data=data)
        kind = kind_of(data) if Path(data).exists() else "table"  # what is not there, load will say
        return dataclasses.replace(OWN[kind], data=data)

    def load(self, config: Config) -> Cases:
        cases = load(
            config.data,
            seed=config.seed,
            label=config.label,
            ignore=config.ignore,
            normal=config.normal,
            folds=config.folds,
            fold=config.fold or 1,
        )
        return normal_or_not(cases) if config.model == "autoencoder" and len(cases.classes) > 2 else cases

    def notes(self, data: Cases) -> Sequence[str]:
        return data.notes

    def signature(self, config: Config, data: Cases) -> DiagnosisSignature:
        del config
        return DiagnosisSignature(data.classes, data.input_shape, data.scaling, data.columns)

    def read_signature(self, run: Path) -> DiagnosisSignature:
        return DiagnosisSignature.read(run)

    def model(self, config: Config, signature: DiagnosisSignature) -> Layer:
        shape, classes = signature.input_shape, len(signature.classes)
        kind = {1: "a table", 2: "signals", 3: "images"}[len(shape)]
        match config.model, kind:
            case "mlp", _:
                return image.mlp(classes, config.widths, config.dropout)
            case "autoencoder", "a table":
                return autoencoder.dense(shape, config.widths, config.code)
            case "autoencoder", _:
                if any(side % 2 ** len(config.channels) for side in shape[:-1]):
                    raise UserError(
                        f"--channels has {len(config.channels)} entries, each of which halves the sides, and those of "
                        f"{config.data} are {'x'.join(map(str, shape[:-1]))}; give fewer"
                    )
                return autoencoder.convolutional(shape, config.channels, config.code)
            case "convnet", "images":
                return image.convnet(classes, config.channels, dropout=config.dropout)
            case "convnet", "signals":
                return image.convnet_1d(classes, config.channels, dropout=config.dropout)
            case "resnet", "images":
                return image.resnet(classes, config.channels)
            case "gru", "signals":
                return image.gru_1d(classes, config.channels[:1], config.units, config.dropout)
        fitting = {"a table": "mlp", "signals": "convnet, gru, mlp", "images": "convnet, resnet, mlp"}[kind]
        raise UserError(
            f"{config.data} is {kind}, which --model {config.model} does not take; choose {fitting} or autoencoder"
        )

    def loss(self, config: Config) -> Layer:
        if config.model == "autoencoder":
            return MeanSquaredError()
        return Focal(config.gamma) if config.loss == "focal" else SoftmaxCrossEntropy(config.label_smoothing)

    def augment(self, config: Config) -> Callable[[Any, Any], Any] | None:
        return None if config.augmentation == Augmentation() else partial(augment, config.augmentation)

    def examples(self, config: Config, data: Cases, part: str) -> Examples:
        split: Split = getattr(data, part)
        if config.model == "autoencoder":
            return Rebuilt(split)
        if config.class_weights == "none":
            return split
        counts = np.bincount(data.train.labels, minlength=len(data.classes))
        return Weighted(split, (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32))

    def metrics(self, config: Config) -> Metrics:
        return no_metrics if config.model == "autoencoder" else accuracy_metric

    def scorer(self, config: Config, objective: Objective) -> Layer:
        """What gives logits over the classes: the model itself, or how badly an autoencoder rebuilds."""
        return autoencoder.AnomalyScore(objective.model) if config.model == "autoencoder" else objective.model

    def settle(self, config: Config, run: Path, objective: Objective, params: PyTree, data: Cases) -> None:
        labels = data.validation.labels
        z = all_outputs(self.scorer(config, objective), params["model"], data.validation, config.batch_size)
        # Class weights and anomaly scores move the logits as a whole, which a temperature cannot mend.
        moved = config.model == "autoencoder" or config.class_weights != "none"
        calibration = fit_calibration(z, labels, with_offset=moved)
        score = disease_probability(calibration(z))
        thresholds = {rule: threshold_for(labels, score, rule, config.specificity) for rule in get_args(Decision)}
        OperatingPoint(calibration, thresholds, thresholds[config.decision]).write(run)

    def probabilities(
        self, config: Config, run: Path, objective: Objective, params: PyTree, examples: Labelled
    ) -> np.ndarray:
        z = all_outputs(self.scorer(config, objective), params["model"], examples, config.batch_size)
        return OperatingPoint.read(run).calibration(z)

    def called(self, run: Path, probabilities: np.ndarray) -> np.ndarray:
        return predict_labels(probabilities, OperatingPoint.read(run).threshold)

    def scores(self, config: Config, run: Path, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """Of the calibrated probabilities at the threshold in use, and their 95 % bootstrap intervals."""
        settled = OperatingPoint.read(run)
        before = diagnostic_metrics(labels, settled.calibration.undone(probabilities), settled.threshold)["ece"]

        def metric(rows: np.ndarray) -> Mapping[str, float]:
            return diagnostic_metrics(labels[rows], probabilities[rows], settled.threshold)

        found = intervals(metric, labels, resamples=config.resamples)
        return {
            **metric(np.arange(len(labels))),
            "ece_before_calibration": before,
            "threshold": settled.threshold,
            **_ends(found),
        }

    def together(self, config: Config, parts: Sequence[Part]) -> dict[str, float]:
        """Means over the models, with intervals of these; for seeds also the metrics of the ensemble."""
        test = means(
            [{k: v for k, v in part.summary["test"].items() if not _is_end(k)} for part in parts],
            ("accuracy", "auc"),
        )
        labels = [part.data.test.labels for part in parts]
        thresholds = [OperatingPoint.read(part.folder).threshold for part in parts]
        sizes = [len(its) for its in labels]
        if config.seeds:
            # Every model is tested on the same examples: a resample is one of these.
            mean = ensemble(parts)

            def metric(rows: np.ndarray) -> Mapping[str, float]:
                found = [
                    diagnostic_metrics(labels[0][rows], part.probabilities[rows], threshold)
                    for part, threshold in zip(parts, thresholds)
                ]
                both = diagnostic_metrics(labels[0][rows], mean[rows], float(np.mean(thresholds)))
                return means(found, ()) | {f"ensemble_{name}": value for name, value in both.items()}

            whole = metric(np.arange(sizes[0]))
            test |= {name: value for name, value in whole.items() if name.startswith("ensemble_")}
            return test | _ends(intervals(metric, labels[0], resamples=config.resamples))

        starts = np.cumsum([0, *sizes])

        def of_folds(rows: np.ndarray) -> Mapping[str, float]:
            within = [rows[(rows >= start) & (rows < end)] - start for start, end in pairwise(starts)]
            found = [
                diagnostic_metrics(its[mine], part.probabilities[mine], threshold)
                for its, mine, part, threshold in zip(labels, within, parts, thresholds)
            ]
            return means(found, ())

        strata = np.concatenate([its + fold * len(parts[0].data.classes) for fold, its in enumerate(labels)])
        return test | _ends(intervals(of_folds, strata, resamples=config.resamples))

    def headline(self, test: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        return [(f"{test['auc']:.4f}", "area under the ROC curve")]

    def more_lines(self, summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        test = summary["test"]
        lines = [("test AUC", f"{test['auc']:.4f} ± {test['auc_deviation']:.4f}")]
        if "ensemble_auc" in test:
            both = f"accuracy {test['ensemble_accuracy']:.4f}  AUC {test['ensemble_auc']:.4f}"
            lines.append(("ensemble", both))
        return lines

    def findings(self, config: Config, outcome: Outcome) -> Sequence[page.Plot | page.Table | page.Section]:
        scorer = self.scorer(config, self.objective(config, outcome.signature))
        return report.of_model(config, outcome, scorer, OperatingPoint.read(outcome.run.directory))

    def mistakes(
        self, tests: Sequence[Split], probabilities: np.ndarray, classes: Sequence[str]
    ) -> page.Plot | page.Table:
        return report.mistakes(tests, probabilities, classes)

    def pooled(
        self, config: Config, parts: Sequence[Part], test: Mapping[str, float]
    ) -> Sequence[page.Plot | page.Table | page.Section]:
        return report.of_several(config, parts, [OperatingPoint.read(part.folder) for part in parts], test)

    def predict(self, command: Examine) -> None:
        if not command.inputs:
            raise UserError("predict needs the files to answer for: predict RUN FILE...")
        if command.samples < 2:
            raise UserError(f"--samples is {command.samples}; it must be at least 2")
        members = self._members(command.run)
        signature = members[0][0].signature
        cases = [case for path in files_in(command.inputs) for case in _read(path, signature)]
        inputs = np.stack([case.inputs for case in cases])
        answers = [self._answer(trained, settled, inputs, command.samples) for trained, settled in members]
        probabilities = np.mean([probabilities for probabilities, _ in answers], axis=0)
        spread = np.std([disease_probability(its) for its, _ in answers], axis=0) if len(answers) > 1 else answers[0][1]
        called = predict_labels(probabilities, float(np.mean([settled.threshold for _, settled in members])))
        added = np.mean(
            [
                report.make_attribution(self.scorer(its.config, its.objective))(
                    its.params["model"], inputs, jnp.asarray(called, jnp.int32)
                )
                for (its, _) in members
            ],
            axis=0,
        )
        table = Table("case", "class")
        table.add_column(f"P({_abnormal(signature.classes)})", justify="right")
        table.add_column("spread", justify="right")
        if signature.columns:
            table.add_column("findings for it (+) and against it (-)")
        for i, case in enumerate(cases):
            row = [
                case.name,
                signature.classes[called[i]],
                f"{disease_probability(probabilities)[i]:.4f}",
                _spread(spread, i),
            ]
            if signature.columns:
                row.append(_named(signature, inputs[i], added[i]))
            table.add_row(*row)
        console().print(table)
        if not signature.columns:
            folder = command.pictures or command.run / "attributions"
            folder.mkdir(parents=True, exist_ok=True)
            self._draw(folder, signature, cases, added, called, probabilities)
        print("Not a clinical device: not to be used to diagnose or treat anybody.")

    def _members(self, run: Path) -> list[tuple[Trained, OperatingPoint]]:
        """The trained models of a run, and what was settled for each: one, or as many as it has seeds."""
        config = read_config(run, self.config)
        if not config.seeds:
            trained = self.trained(run)
            return [(trained, OperatingPoint.read(run))]
        return [(self.trained(folder), OperatingPoint.read(folder)) for folder in config.folders(run)]

    def _answer(
        self, trained: Trained, settled: OperatingPoint, inputs: np.ndarray, samples: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Calibrated probabilities, and the deviation of the probability of a finding among dropout samples."""
        model, params = self.scorer(trained.config, trained.objective), trained.params["model"]
        probabilities = settled.calibration(all_outputs(model, params, Unlabelled(inputs), len(inputs)))
        sampled = make_dropout_samples(model, samples)
        if sampled is None:
            return probabilities, None
        z = np.asarray(sampled(params, inputs, jax.random.key(trained.config.seed)))
        return probabilities, np.std([disease_probability(settled.calibration(its)) for its in z], axis=0)

    def _draw(
        self,
        folder: Path,
        signature: DiagnosisSignature,
        cases: Sequence["Case"],
        added: np.ndarray,
        called: np.ndarray,
        probabilities: np.ndarray,
    ) -> None:
        for i, case in enumerate(cases):
            title = f"{signature.classes[called[i]]}, P = {disease_probability(probabilities)[i]:.3f}"
            stored = signature.scaling.undone(case.inputs)
            picture = folder / f"{i + 1}.png"
            draw = partial(plots.attributions, stored[None], added[i : i + 1], [title])
            picture.write_bytes(plots.png(draw))
            print(f"what drove {case.name}: {picture}")

    def export(self, run: Path) -> None:
        """Inputs as they are stored to calibrated probabilities."""
        trained = self.trained(run)
        signature, settled = trained.signature, OperatingPoint.read(run)
        model, params = self.scorer(trained.config, trained.objective), trained.params["model"]
        mean, deviation = (
            jnp.asarray(values, jnp.float32) for values in (signature.scaling.mean, signature.scaling.deviation)
        )

        def probabilities(inputs: jax.Array) -> jax.Array:
            z = model.apply(params, (inputs - mean) / deviation, Context())
            return jax.nn.softmax(settled.calibration.logits(z))

        shape = ", ".join(map(str, ("batch", *signature.input_shape)))
        what = "findings, in the order of signature.json's features" if signature.columns else "values from 0 to 1"
        folder = artifact.write(
            run,
            probabilities,
            [(signature.input_shape, jnp.float32)],
            lambda random, shape: np.asarray(mean + deviation * random.random(shape, np.float32), np.float32),
            takes=f"float32 ({shape}): {what}, any batch",
            gives=f"float32 (batch, {len(signature.classes)}): calibrated probabilities, classes in signature.json",
        )
        signature.write(folder)
        settled.write(folder)


class Case(NamedTuple):
    """One case of a user's: what it is called, and its inputs, scaled for the model."""

    name: str
    inputs: np.ndarray


def _read(path: Path, signature: DiagnosisSignature) -> list[Case]:
    """The cases in one file of the user's."""
    if signature.columns:
        found = signature.scaling(read_rows(path, signature.columns))
    elif len(signature.input_shape) == 2 and path.suffix in SUFFIXES:
        found = signature.scaling(read_unlabelled(path, signature.input_shape[0]))
    else:
        return [Case(str(path), read_inputs([path], signature.input_shape, signature.scaling)[0])]
    return [Case(f"{path}, row {row}", its) for row, its in enumerate(found, 1)]


def _abnormal(classes: Sequence[str]) -> str:
    return classes[1] if len(classes) == 2 else f"not {classes[0]}"


def _spread(spread: np.ndarray | None, i: int) -> str:
    return "-" if spread is None else f"{spread[i]:.4f}"


def _named(signature: DiagnosisSignature, inputs: np.ndarray, added: np.ndarray) -> str:
    """The findings that add most, the strongest first, each with its sign and, as it was stored, its value."""
    assert signature.columns is not None
    stored = signature.scaling.undone(inputs)
    named = [f"{name} ({value:.4g})" for name, value in zip(signature.columns.features, stored)]
    return drivers(named, added)


def _ends(found: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Intervals as metrics of their own: auc_low, auc_high."""
    return {
        f"{name}_{end}": value
        for name, ends in found.items()
        if not name.endswith("ece")  # see ``intervals``
        for end, value in zip(("low", "high"), ends)
    }


def _is_end(name: str) -> bool:
    return name.endswith(("_low", "_high"))


if __name__ == "__main__":
    main(MedicalDiagnosis())
