"""Cases to diagnose in a user's own files: rows of a table, images, or signals."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.dataset import Scaling
from pipeline.data.delimited import SUFFIXES
from pipeline.data.images import read_inputs
from pipeline.data.signal_rows import read_unlabelled
from pipeline.data.table import Columns, read_rows


class Case(NamedTuple):
    """A case: its name, and its inputs, scaled for the model."""

    name: str
    inputs: np.ndarray


def read_cases(path: Path, input_shape: tuple[int, ...], scaling: Scaling, columns: Columns | None) -> list[Case]:
    """The cases in one file. columns: of the training table, where there was one.

    Raises UserError where the file does not fit the training data.
    """
    if columns:
        rows = scaling(read_rows(path, columns))
    elif len(input_shape) == 2 and path.suffix in SUFFIXES:
        rows = scaling(read_unlabelled(path, input_shape[0]))
    else:
        return [Case(str(path), read_inputs([path], input_shape, scaling)[0])]
    return [Case(f"{path}, row {number}", row) for number, row in enumerate(rows, 1)]
