"""Data: readers of standard file formats, and batches of examples.

Any object with a length and a method ``take(rows)`` is a set of examples:

>>> import numpy as np
>>> from backhand.data import evaluation_batches
>>> class Squares:
...     def __len__(self):
...         return 5
...     def take(self, rows):
...         return rows.astype(np.float32), rows**2
>>> [(inputs.tolist(), targets.values.tolist()) for inputs, targets in evaluation_batches(Squares(), batch_size=3)]
[([0.0, 1.0, 2.0], [0, 1, 4]), ([3.0, 4.0, 3.0], [9, 16, 9])]

A copy fills the last batch; its weight in the targets is 0. The readers are in modules of their own, one for each kind
of data: ``images``, ``labelled_text``, ``text``, ``parallel_text``, ``speech``, ``ratings`` and ``diagnosis``.
"""

from .batches import (
    Batch,
    Examples,
    PerEpochExamples,
    Sequences,
    batch_of,
    by_length,
    evaluation_batches,
    padded,
    steps_per_epoch,
    train_batches,
)

__all__ = [
    "Batch",
    "Examples",
    "PerEpochExamples",
    "Sequences",
    "batch_of",
    "by_length",
    "evaluation_batches",
    "padded",
    "steps_per_epoch",
    "train_batches",
]
