"""Compares runs: a table on the terminal, and a page with their curves over each other.

compare RUN RUN ... [--out FOLDER]
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

from command_line import run
from pipeline.display import visible
from pipeline.errors import UserError
from pipeline.report import page
from pipeline.report.comparison import Compared, comparison, options_table, results_table
from pipeline.storage import read_json
from pipeline.training.run import Run
from tasks.framework.answers import print_table
from tasks.framework.summary import WITHOUT_EFFECT


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")],
    /,
    *,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Compares finished runs.

    Args:
        runs: Folders of the runs.
        out: Folder for the page. None: a new folder in runs/.
    """
    if len(runs) < 2:
        raise UserError("compare needs two runs or more: scripts/compare RUN RUN")
    compared = [read(folder) for folder in runs]
    without_effect = ("run_dir", *WITHOUT_EFFECT)
    results, options = results_table(compared), options_table(compared, without_effect)
    for table in (results, options):
        if table.rows:
            numbers = table.columns[1:] if table is results else ()
            print_table(table.columns, [[str(cell) for cell in row] for row in table.rows], numbers)
    folder = out or Path("runs") / f"comparison-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"report          {visible(str(page.write(folder, comparison(compared, without_effect))))}")


def read(folder: Path) -> Compared:
    """A finished run. Raises UserError if it is none."""
    its = Run.open(folder)
    summary = its.summary()
    config = read_json(folder / "config.json", dict, "give the folder of a run as train wrote it")
    for name in ("epochs", "train_seconds", "parameters"):
        if not isinstance(summary.get(name), int | float):
            raise UserError(f"{folder / 'summary.json'} has no {name}; write it again with --resume {folder}")
    return Compared(folder.name, config, summary, its.metrics())


if __name__ == "__main__":
    run(main)
