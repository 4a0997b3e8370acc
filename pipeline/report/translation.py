"""What the report of a translation model shows: translations beside references, and what their words attend to."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from . import plots
from .page import Plot, Table

EXAMPLES = 12


def examples(pairs: Sequence[tuple[str, str]], translations: Sequence[str]) -> Table:
    """The first translations. pairs: source and reference of every test sentence."""
    rows = [(source, translation, reference) for (source, reference), translation in zip(pairs, translations)]
    return Table(
        "Translations",
        "The first test sentences; all are in translations.txt.",
        ("source", "translation", "reference"),
        rows[:EXAMPLES],
        sentences=True,
    )


def attention(number: int, sentence: str, weights: np.ndarray, source: list[str], target: list[str]) -> Plot:
    """What each part of a translation attends to: see ``plots.alignment``. number: of the picture's file."""
    return Plot(
        f"attention_{number}",
        f"Attention: {sentence[:60]}",
        "How much each subword of the translation (rows) attends to each subword of the source (columns): the mean "
        "over all layers and heads.",
        partial(plots.alignment, weights, source, target),
    )
