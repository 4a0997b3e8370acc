"""Evaluation: a model's loss, outputs and metrics on a whole set of examples; calibration, thresholds and intervals.

>>> import numpy as np
>>> from pipeline.evaluation import classification_metrics
>>> classification_metrics(labels=np.array([0, 0, 1, 1]), predictions=np.array([0, 0, 1, 0]))["accuracy"]
0.75

What only one kind of task needs is in modules of its own: ``diagnosis``, ``frames`` and ``recommender``.
"""

from pipeline.evaluation.batch_statistics import make_batch_statistics
from pipeline.evaluation.bootstrap import intervals
from pipeline.evaluation.calibration import (
    Bins,
    Calibration,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from pipeline.evaluation.classification import accuracy_metric, classification_metrics
from pipeline.evaluation.cross_validation import means
from pipeline.evaluation.evaluate import all_outputs, make_evaluation, predict
from pipeline.evaluation.metrics import LOWER_IS_BETTER, Metrics, no_metrics
from pipeline.evaluation.operating_point import (
    OperatingPoint,
    diagnostic_metrics,
    disease_probability,
    predict_labels,
    roc_auc,
    threshold_for,
)
from pipeline.evaluation.ranking import ranking_metrics, ranks
from pipeline.evaluation.transcripts import transcript_metrics
from pipeline.evaluation.translations import translation_metrics
from pipeline.evaluation.uncertainty import make_dropout_samples

__all__ = [
    "LOWER_IS_BETTER",
    "Bins",
    "Calibration",
    "Metrics",
    "OperatingPoint",
    "accuracy_metric",
    "all_outputs",
    "classification_metrics",
    "diagnostic_metrics",
    "disease_probability",
    "expected_calibration_error",
    "fit_calibration",
    "intervals",
    "make_batch_statistics",
    "make_dropout_samples",
    "make_evaluation",
    "means",
    "no_metrics",
    "predict",
    "predict_labels",
    "ranking_metrics",
    "ranks",
    "reliability",
    "roc_auc",
    "threshold_for",
    "transcript_metrics",
    "translation_metrics",
]
