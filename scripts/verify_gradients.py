"""Compares every manual gradient with autodiff: all layers, losses and task models, leaf by leaf.

    verify_gradients.py [NAME ...] [--json FILE] [--defaults]

A canary checks this machine's compiler: reductions, products, convolutions and scatters at large sizes (``compiler``),
and every rule at one large size (``large``). ``--defaults`` runs the canary alone, with XLA's default options, under
which some versions of jaxlib compute wrong numbers.

The exit code is 1 if a check fails.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from command_line import run
from gradient_cases import canary
from gradient_cases.case import Case, ended, ids, mask, normal
from gradient_cases.large import LARGE
from gradient_cases.layers import CASES
from pipeline.errors import UserError
from pipeline.layers.combinators import EncoderDecoder, Serial
from pipeline.layers.masking import MaskedByLength
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.ctc import CTC, Transcripts
from pipeline.losses.ranking import PairwiseRanking
from pipeline.losses.regression import MeanSquaredError
from pipeline.models import autoencoder, image, recommenders, signal, text, translation
from pipeline.models.acoustic import conformer, convolutional_recurrent, frames_after
from pipeline.models.image import convnet, mlp, resnet
from pipeline.models.language import language_objective, lstm, transformer
from pipeline.verify import Report, Row


def classifier(name: str, model: Any, *shape: int, train: bool = True) -> Case:
    """A model and its loss on 5 examples of ``shape`` in 10 classes, dropout and batch statistics on."""
    batch = normal(5, *shape), Targets(ids(10, 5))
    return Case(name, Objective(model, SoftmaxCrossEntropy()), batch, train)


def rebuilder(name: str, model: Any, *shape: int) -> Case:
    """An autoencoder and its loss on 5 examples of ``shape``."""
    return Case(name, Objective(model, MeanSquaredError()), (normal(5, *shape), Targets(normal(5, *shape))), train=True)


def text_classifier(name: str, model: Any, vocabulary: int) -> Case:
    """A model and its loss on 4 texts of up to 9 words of 5 ids, one of them empty, in 2 classes, dropout on."""
    bags = np.where(mask(9, 9, 4, 1, 0)[..., None], ids(vocabulary, 4, 9, 5), np.int32(0))
    batch = bags, Targets(ids(2, 4))
    return Case(name, Objective(model, SoftmaxCrossEntropy()), batch, train=True)


def language_model(name: str, model: Serial, vocabulary: int) -> Case:
    """A language model and its loss on 3 windows of 9 ids, dropout on."""
    batch = ids(vocabulary, 3, 9), Targets(ids(vocabulary, 3, 9))
    return Case(name, language_objective(model, vocabulary), batch, train=True)


def translator(name: str, model: EncoderDecoder, vocabulary: int) -> Case:
    """A translation model and its loss on 3 pairs of 7 and 9 ids, with one source padded, dropout on."""
    pairs = (ended(1 + ids(vocabulary - 1, 3, 7), 7, 4, 7), 1 + ids(vocabulary - 1, 3, 9))
    batch = pairs, Targets(ids(vocabulary, 3, 9))
    return Case(name, translation.translation_objective(model, vocabulary, 0.1), batch, train=True)


def recognizer(name: str, model: Any, symbols: int, *lengths: int) -> Case:
    """An acoustic model and CTC on utterances of these numbers of frames and 3 labels each, dropout on."""
    size, counts = max(lengths), np.array(lengths)
    labels = 1 + ids(symbols - 1, len(lengths), 3)
    frames = frames_after(model, counts, size)
    transcripts = Transcripts(labels, np.full(len(lengths), 3, np.int32), frames)
    batch = (normal(len(lengths), size, 20), counts.astype(np.int32)), Targets(transcripts)
    return Case(name, Objective(MaskedByLength(model), CTC()), batch, train=True)


def recommender_cases() -> tuple[Case, ...]:
    """The recommender models with 9 users and 12 items, on ratings and on implicit feedback, dropout on."""
    users, items, rated = ids(9, 5), ids(12, 5, 4), normal(9, 12) > 0
    ratings, choices = Targets(normal(5, 4)), Targets(ids(12, 5, 4))
    every = np.arange(9, dtype=np.int32)
    biased, neural = recommenders.biased(9, 12, 4), recommenders.neural(9, 12, 4, 6, 0.2)
    implicit, rebuilt = recommenders.implicit(9, 12, 4, 0.2), recommenders.autoencoder(9, 12, 5, 0.2)
    whole = Targets(normal(9, 12), rated.astype(np.float64))
    parts = (
        ("factorization, rating", biased, MeanSquaredError(), ((users, items), ratings)),
        ("factorization, ranking", biased, PairwiseRanking(), ((users, items), choices)),
        ("neural, rating", neural, MeanSquaredError(), ((users, items), ratings)),
        ("neural, ranking", neural, PairwiseRanking(), ((users, items), choices)),
        ("implicit, rating", implicit, MeanSquaredError(), ((every, rated), whole)),
        ("implicit, ranking", implicit, SoftmaxCrossEntropy(), ((every, rated), Targets(ids(12, 9)))),
        ("autoencoder, rating", rebuilt, MeanSquaredError(), (np.where(rated, normal(9, 12), 0), whole)),
    )
    return tuple(
        Case(f"recommendation/{name}", Objective(model, loss), batch, train=True) for name, model, loss, batch in parts
    )


MODELS = (
    classifier("image_recognition/mlp, digits", mlp(10), 8, 8, 1),
    classifier("image_recognition/convnet, digits", convnet(10), 8, 8, 1),
    classifier("image_recognition/resnet, digits", resnet(10), 8, 8, 1),
    classifier("image_recognition/resnet, digits, evaluation", resnet(10), 8, 8, 1, train=False),
    classifier("image_recognition/mlp, mnist", mlp(10), 28, 28, 1),
    classifier("image_recognition/convnet, mnist", convnet(10, (32, 64, 128)), 28, 28, 1),
    classifier("image_recognition/resnet, mnist", resnet(10), 28, 28, 1),
    classifier("image_recognition/convnet_1d, mnist1d", image.convnet_1d(10), 40, 1),
    classifier("medical_diagnosis/mlp, findings", mlp(10, (256,)), 30),
    classifier("medical_diagnosis/convnet, x-rays", convnet(10, (32, 64, 128)), 28, 28, 1),
    classifier("medical_diagnosis/rocket, signals", signal.rocket(10, 50), 96, 1),
    classifier("medical_diagnosis/gru, signals", image.gru_1d(10), 96, 1),
    rebuilder("medical_diagnosis/autoencoder, findings", autoencoder.dense((30,)), 30),
    rebuilder("medical_diagnosis/autoencoder, images", autoencoder.convolutional((28, 28, 1)), 28, 28, 1),
    Case("medical_diagnosis/anomaly score", autoencoder.AnomalyScore(autoencoder.dense((30,))), normal(5, 30)),
    text_classifier("sentiment/cnn", text.cnn(99, 2), 99),
    text_classifier("sentiment/gru", text.gru(99, 2), 99),
    text_classifier("sentiment/transformer", text.transformer(99, 2), 99),
    language_model("language_model/transformer", transformer(66, 128, 4, 4, 0.1), 66),
    language_model("language_model/lstm", lstm(66, 128, 2, 0.1), 66),
    translator("translation/transformer", translation.transformer(800, 128, 2, 4, 0.1), 800),
    translator("translation/gru", translation.attention_gru(800, 128, 2, 0.1), 800),
    *recommender_cases(),
    recognizer("speech_recognition/convolutional_recurrent", convolutional_recurrent(12, 32, 32), 12, 31, 24, 19),
    recognizer("speech_recognition/conformer", conformer(12, 32, 2), 12, 31, 24, 19),
)
"""The task models; a new one is one line.

They are verified in float64 only: in float32, rounding moves some of their many units across a kink, which changes any
gradient. Their layers are verified in both precisions.
"""

Check = Callable[[], Report]
"""Judges one layer, loss, model or program."""


def checks() -> dict[str, Check]:
    """All checks by name."""
    model = {"precisions": (), "checks": ()}
    rule = {"precisions": ("float32",), "checks": ("values", "edges")}
    return {
        **{case.name: partial(case.verify, **rule) for case in CASES},
        **{case.name: partial(case.verify, **model) for case in MODELS},
        **canary_checks(),
    }


def canary_checks(options: Mapping[str, str] | None = None) -> dict[str, Check]:
    """Programs and rules at large sizes. options: XLA's options; the project's by default."""
    return {
        **{f"compiler/{program.name}": partial(program.report, options) for program in canary.PROGRAMS},
        **{f"large/{case.name}": partial(canary.at_scale, case, options) for case in LARGE},
    }


def selected(names: tuple[str, ...], every: dict[str, Check]) -> dict[str, Check]:
    """The checks of these names and those below them ("Conv/strides" is below "Conv"); all without a name."""
    known = dict.fromkeys(name.partition("/")[0] for name in every)
    for name in names:
        if not any(_is_below(other, name) for other in every):
            raise UserError(f"There is nothing called {name} to verify. The names are: {', '.join(known)}")
    return {name: check for name, check in every.items() if not names or any(_is_below(name, n) for n in names)}


def _is_below(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}/")


def verify_all(every: dict[str, Check]) -> Iterator[tuple[str, Report]]:
    """Each check's report, in order. Compilation takes most of the time; it runs while the next check is traced."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(every, pool.map(lambda check: check(), every.values()))


def rows(name: str, report: Report) -> Iterator[dict[str, Any]]:
    """One row for the gradient of every leaf and precision, and one for every other check that failed."""
    for row in report.rows:
        if row.check in ("gradient", "compiler") or not row.ok:
            error = row.relative_error if math.isfinite(row.relative_error) else None
            yield {
                "name": name,
                "leaf": row.leaf,
                "check": row.check,
                "dtype": row.dtype,
                "relative_error": error,
                "ok": row.ok,
            }


def table(reports: dict[str, Report]) -> Table:
    """One line for each name, with its worst leaf."""
    result = Table()
    result.add_column("layer, loss, model or program", overflow="fold")
    result.add_column("worst leaf", overflow="fold")
    result.add_column("float64", justify="right")
    result.add_column("float32", justify="right")
    result.add_column("leaves", justify="right")
    result.add_column("")
    for name, report in reports.items():
        worst = _worst(report, "float64")
        result.add_row(
            name,
            worst.leaf if worst else "",
            _error(worst),
            _error(_worst(report, "float32")),
            str(sum((row.check, row.dtype) == ("gradient", "float64") for row in report.rows) or "-"),
            "ok" if report.ok else "[bold red]FAILED[/]",
        )
    return result


def _worst(report: Report, dtype: str) -> Row | None:
    """The row of a rule's worst gradient, or of the value of a canary's program."""
    return report.worst("gradient", dtype) or report.worst("compiler", dtype)


def _error(row: Row | None) -> str:
    return "-" if row is None else f"{row.relative_error:.1e}"


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = (),
    /,
    *,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
    defaults: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Compares every manual gradient with autodiff, leaf by leaf.

    Args:
        names: Names to verify: "Conv" includes "Conv/strides". Without a name, verifies every layer, loss and model,
            and the canary, which is "compiler" and "large".
        json_file: The file to write the rows to, as JSON.
        defaults: Run the canary alone, with XLA's default options instead of the project's.
    """
    every = selected(names, canary_checks({}) if defaults else checks())
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}; create it first")
    console = Console(width=None if sys.stdout.isatty() else 120)
    progress = track(verify_all(every), "verifying", total=len(every), console=Console(stderr=True))
    reports = dict(progress)
    if json_file is not None:
        every_row = [row for name, report in reports.items() for row in rows(name, report)]
        json_file.write_text(json.dumps({"rows": every_row}, indent=1) + "\n")
    console.print(table(reports))
    failed = {name: report for name, report in reports.items() if not report.ok}
    for name, report in failed.items():
        console.print(f"\n[bold red]{name}[/]")
        console.print(report.explanation(), highlight=False, markup=False)
    console.print(f"{len(reports) - len(failed)} of {len(reports)} hold")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
