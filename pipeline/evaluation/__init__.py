"""Evaluation: a model's loss, outputs and metrics on a whole set of examples; calibration, thresholds and intervals.

>>> import numpy as np
>>> from backhand.evaluation import classification_metrics
>>> classification_metrics(labels=np.array([0, 0, 1, 1]), predictions=np.array([0, 0, 1, 0]))["accuracy"]
0.75

What only one kind of task needs is in modules of its own: ``diagnosis``, ``frames`` and ``recommender``.
"""

from .batch_statistics import make_batch_statistics
from .bootstrap import intervals
from .calibration import (
    Bins,
    Calibration,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from .classification import accuracy_metric, classification_metrics
from .cross_validation import means
from .evaluate import all_outputs, make_evaluation, predict
from .metrics import LOWER_IS_BETTER, Metrics, no_metrics
from .operating_point import (
    OperatingPoint,
    diagnostic_metrics,
    disease_probability,
    predict_labels,
    roc_auc,
    threshold_for,
)
from .ranking import ranking_metrics, ranks
from .transcripts import ErrorRate, character_error_rate, transcript_metrics, word_error_rate
from .translations import translation_metrics
from .uncertainty import make_dropout_samples

__all__ = [
    "LOWER_IS_BETTER",
    "Bins",
    "Calibration",
    "ErrorRate",
    "Metrics",
    "OperatingPoint",
    "accuracy_metric",
    "all_outputs",
    "character_error_rate",
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
    "word_error_rate",
]
