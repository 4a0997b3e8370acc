"""Losses: layers over (outputs, targets) whose output is one number.

>>> import jax.numpy as jnp
>>> from backhand.layers import Context
>>> from backhand.losses import SoftmaxCrossEntropy, Targets
>>> logits, labels = jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1])
>>> loss = SoftmaxCrossEntropy().apply({}, (logits, Targets(labels)), Context())
>>> round(float(loss), 4)
0.41
"""

from .base import ElementwiseLoss, Loss, Targets
from .cross_entropy import BinaryCrossEntropy, SoftmaxCrossEntropy
from .ctc import CTC, Transcripts
from .dice import Dice
from .focal import Focal
from .ranking import Candidates, PairwiseRanking, SampledSoftmax
from .regression import Huber, MeanAbsoluteError, MeanSquaredError
from .vocabulary import VocabularyCrossEntropy

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
