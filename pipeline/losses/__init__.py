"""Losses: layers over (outputs, targets) whose output is one number.

>>> import jax.numpy as jnp
>>> from pipeline.layers import Context
>>> from pipeline.losses import SoftmaxCrossEntropy, Targets
>>> logits, labels = jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1])
>>> loss = SoftmaxCrossEntropy().apply({}, (logits, Targets(labels)), Context())
>>> round(float(loss), 4)
0.41
"""

from pipeline.losses.base import ElementwiseLoss, Loss, Targets
from pipeline.losses.cross_entropy import BinaryCrossEntropy, SoftmaxCrossEntropy
from pipeline.losses.ctc import CTC, Transcripts
from pipeline.losses.dice import Dice
from pipeline.losses.focal import Focal
from pipeline.losses.ranking import Candidates, PairwiseRanking, SampledSoftmax
from pipeline.losses.regression import Huber, MeanAbsoluteError, MeanSquaredError
from pipeline.losses.vocabulary import VocabularyCrossEntropy

__all__ = [
    "CTC",
    "BinaryCrossEntropy",
    "Candidates",
    "Dice",
    "ElementwiseLoss",
    "Focal",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PairwiseRanking",
    "SampledSoftmax",
    "SoftmaxCrossEntropy",
    "Targets",
    "Transcripts",
    "VocabularyCrossEntropy",
]
