"""New cases to diagnose, from a user's own files: rows of a table, images or signals."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .dataset import Scaling
from .images import read_inputs
from .signal_rows import read_unlabelled
from .table import DEFAULTS, Columns, TableOptions, read_rows
from .table_files import is_table_file


class Case(NamedTuple):
    """A case to diagnose: its name for messages, and its inputs, scaled for the model."""

    name: str
    inputs: np.ndarray


def read_cases(
    path: Path,
    input_shape: tuple[int, ...],
    scaling: Scaling,
    columns: Columns | None,
    options: TableOptions = DEFAULTS,
    fit: str = "",
    notes: list[str] | None = None,
) -> list[Case]:
    """The cases in one file.

    input_shape, scaling, columns, fit: those of the training data; columns is None unless the data were a table.
    options: how its files were read. notes: are extended by what was guessed or is not used.
    Raises UserError if the file does not fit the training data.
    """
    if columns:
        rows = read_rows(path, columns, options, notes)
    elif len(input_shape) == 2 and is_table_file(path):
        rows = read_unlabelled(path, input_shape, options, notes)
    else:
        return [Case(str(path), read_inputs([path], input_shape, scaling, fit)[0])]
    names = (f"{path}, row {number}" for number in range(1, len(rows) + 1))
    return [Case(name, scaling.finite(row, name)) for name, row in zip(names, rows)]
