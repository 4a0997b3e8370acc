"""A page that compares runs: their results beside each other, and their curves over each other."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..data.named_columns import flattened
from ..evaluation.diagnosis import is_interval
from . import plots
from .page import Page, Plot, Table


class Compared(NamedTuple):
    """A run: its name, and the contents of its config.json, summary.json and metrics.jsonl."""

    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]


def comparison(runs: Sequence[Compared], without_effect: Collection[str]) -> Page:
    """The page. without_effect: see ``options_table``."""
    results, options = results_table(runs), options_table(runs, without_effect)
    sections = [results, *([options] if options.rows else []), *_curves(runs)]
    text = f"{len(runs)} runs side by side: their results on their test splits, the options in which they differ, and "
    return Page("Runs compared", (), text + "their validation metrics over the epochs.", sections)


def results_table(runs: Sequence[Compared]) -> Table:
    """Test metrics, time and size of each run, a row for each metric; "-" where a run does not have it."""
    tests = [run.summary["test"] for run in runs]
    names = [name for name in dict.fromkeys(name for test in tests for name in test) if not is_interval(name)]
    rows = [
        (name.replace("_", " "), *(f"{test[name]:.4f}" if name in test else "-" for test in tests)) for name in names
    ]
    rows += [
        ("epochs", *(f"{run.summary['epochs']:,}" for run in runs)),
        ("seconds of training", *(f"{run.summary['train_seconds']:.1f}" for run in runs)),
        ("parameters", *(f"{run.summary['parameters']:,}" for run in runs)),
    ]
    caption = "Metrics of the test splits, which are comparable where the data are the same."
    return Table("Results", caption, ("", *(run.name for run in runs)), rows)


def options_table(runs: Sequence[Compared], without_effect: Collection[str]) -> Table:
    """The options in which the runs differ, a row for each. without_effect: those that change no result."""
    flat = [dict(flattened(run.config)) for run in runs]
    names = list(dict.fromkeys(name for options in flat for name in options))
    rows = [
        (name.replace("_", "-"), *(_text(options.get(name, "-")) for options in flat))
        for name in names
        if name not in without_effect and any(options.get(name, "-") != flat[0].get(name, "-") for options in flat)
    ]
    return Table("Options", "Those in which the runs differ.", ("option", *(run.name for run in runs)), rows)


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _curves(runs: Sequence[Compared]) -> Sequence[Plot]:
    """A plot for each validation metric that two runs or more have."""
    evaluations = {run.name: plots.evaluations_in(run.metrics) for run in runs}
    fixed = ("kind", "step", "epoch", "split")
    names = list(dict.fromkeys(name for lines in evaluations.values() for name in (lines or [{}])[0]))
    shown = []
    for name in (name for name in names if name not in fixed):
        lines = {run: [(line["epoch"], line[name]) for line in its if name in line] for run, its in evaluations.items()}
        if sum(map(bool, lines.values())) > 1:
            caption = "On the validation split, after every epoch."
            shown.append(
                Plot(f"validation_{len(shown)}", f"Validation {name}", caption, partial(plots.overlaid, lines))
            )
    return shown
