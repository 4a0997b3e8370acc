"""The judge judged: wrong rules that it must catch and explain, right ones that it must not accuse.

    score_verifier.py [NAME ...] [--sizes 4 32 128] [--seeds 10] [--every 1] [--json FILE]

The corpus is that of the tests: wrong backward passes at every size, correct ones at every seed, wrong layers planted
in models. Beside ours stand ``jax.test_util.check_grads`` in float32 and float64 and, where PyTorch is installed,
``torch.autograd.gradcheck`` of the same rules. With ``--json`` every outcome is written as it is known, a line each,
and a run that was cut off goes on where it stopped. The exit code is 1 where ours misses a wrong rule or accuses a
right one.
"""

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from command_line import run
from pipeline.errors import UserError
from pipeline.verify import Report, verify
from pipeline.verify.cases import CASES
from pipeline.verify.check import report
from pipeline.verify.rule import Rule, of_custom_vjp, of_gradient, of_vjp
from rivals import RIVALS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "verify"))


@dataclass(frozen=True)
class Job:
    """One rule at one size and seed. kind: "wrong", "right", "family" (that of wrong ones), "layer" or "planted"."""

    kind: str
    name: str
    size: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What was said of it.

    verdict, seconds: ours. diagnosed, placed: whether kind and leaf (or the model's layers) were named rightly; None
    where nothing was expected. rivals: for each whether it raised the alarm; None where the case does not translate.
    """

    job: Job
    verdict: str
    seconds: float
    diagnosed: bool | None
    placed: bool | None
    said: str
    rivals: dict[str, bool | None]
    rival_seconds: dict[str, float]


@cache
def corpus() -> dict[str, dict[str, Any]]:
    """Everything there is to judge, by kind and name."""
    from corpus.planted import PLANTED
    from corpus.right import ILL_CONDITIONED, RIGHT
    from corpus.wrong import RIGHT as FAMILIES
    from corpus.wrong import WRONG

    parts = {"wrong": WRONG, "right": (*RIGHT, *ILL_CONDITIONED), "layer": CASES, "planted": PLANTED}
    return {kind: {case.name: case for case in cases} for kind, cases in parts.items()} | {"family": dict(FAMILIES)}


def judged(group: list[Job]) -> list[Outcome]:
    """The outcomes of jobs of one name, one after the other: what is compiled for one seed serves the next."""
    warnings.simplefilter("ignore")  # a wrong rule may well divide by zero
    return [_judged(job) for job in group]


def _judged(job: Job) -> Outcome:
    case = corpus()[job.kind][job.name]
    began = time.perf_counter()
    try:
        found, rule = _report(job, case)
    except Exception as error:  # nothing a rule does may crash the checker: such a one is counted against ours
        said = f"{type(error).__name__}: {error}"
        return Outcome(job, "crashed", time.perf_counter() - began, None, None, said, {}, {})
    seconds = time.perf_counter() - began
    diagnosed = placed = None
    if job.kind == "wrong":
        at_leaf = [diagnosis for diagnosis in found.diagnoses if diagnosis.leaf == case.leaf]
        placed = bool(at_leaf)
        diagnosed = any(diagnosis.kind in case.kinds for diagnosis in at_leaf)
    if job.kind == "planted":
        placed = {place.path for place in found.places} == set(case.places)
    rivals, rival_seconds = {}, {}
    if rule is not None:
        for name, rival in RIVALS.items():
            began = time.perf_counter()
            rivals[name] = rival(rule)
            rival_seconds[name] = time.perf_counter() - began
    said = "; ".join(f"{d.leaf or 'the rule'}: {d.kind}: {d.text}" for d in found.diagnoses)
    return Outcome(job, found.verdict, seconds, diagnosed, placed, said, rivals, rival_seconds)


def _report(job: Job, case: Any) -> tuple[Report, Rule | None]:
    """Our report, and what the rivals are given: (function, forward, backward, arguments)."""
    if job.kind == "layer":
        return case.verify(seed=job.seed), None  # at kinks and targets by design, where differences are no derivative
    if job.kind == "planted":
        layer, params, x, context = case.make(job.seed)
        return verify(layer, params, x, context, checks=(), precisions=()), None
    make = {"wrong": lambda: case.make(job.size, job.seed), "family": lambda: case(job.size, job.seed)}
    return checked(make.get(job.kind, lambda: case.make(job.seed))())


def checked(rule: Any) -> tuple[Report, Rule]:
    """The report of a rule of the corpus, and the rule as the rivals take it."""
    if hasattr(rule, "manual_gradient"):
        found = of_gradient(rule.manual_gradient, rule.loss, rule.params, tuple(rule.data), None)
    elif hasattr(rule, "reference"):
        found = of_custom_vjp(rule.function, rule.reference, rule.arguments, None, ())
    else:
        found = of_vjp(rule.function, rule.forward, rule.backward, rule.arguments, None, rule.edges)
    return report(found), found


def jobs(names: tuple[str, ...], sizes: tuple[int, ...], seeds: int, every: int) -> list[Job]:
    """Wrong rules at every size, right ones at every seed: one of ``every`` whose name begins with one of ``names``."""
    chosen = {
        kind: [name for name in cases if not names or any(name.startswith(start) for start in names)][::every]
        for kind, cases in corpus().items()
    }
    found = [Job(kind, name, size) for size in sizes for kind in ("wrong", "family") for name in chosen[kind]]
    found += [Job("right", name, seed=seed) for seed in range(seeds) for name in chosen["right"]]
    found += [Job(kind, name) for kind in ("layer", "planted") for name in chosen[kind]]
    if not found:
        raise UserError(f"nothing in the corpus has a name that begins with {' or '.join(names)}")
    return found


def written(file: Path | None, todo: list[Job]) -> list[Outcome]:
    """The outcomes of ``todo`` that stand in ``file`` already."""
    if file is None or not file.exists():
        return []
    wanted = set(todo)
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found = [Outcome(**(line | {"job": Job(**line["job"])})) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"--json {file}: not a file of outcomes, a line each ({error}); name another") from error
    return [outcome for outcome in found if outcome.job in wanted]


def outcomes_of(todo: list[Job], file: Path | None, console: Console) -> list[Outcome]:
    """Every job's outcome, in the order of ``todo``; appended to ``file`` as each is known."""
    found = {outcome.job: outcome for outcome in written(file, todo)}
    groups: dict[tuple[str, str, int], list[Job]] = {}
    for job in todo:
        if job not in found:
            groups.setdefault((job.kind, job.name, job.size), []).append(job)
    # Not concurrent.futures: its max_tasks_per_child, which bounds what compiled programs hold, stalls in Python 3.11.
    with get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=40) as pool:
        running = pool.imap_unordered(judged, groups.values())
        for outcomes in track(running, "judging", total=len(groups), console=console):
            found |= {outcome.job: outcome for outcome in outcomes}
            if file is not None:
                with file.open("a") as out:
                    out.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes)
    return [found[job] for job in todo]


def share(flags: Iterable[bool | None]) -> str:
    """ "97.5 % (39 of 40)" of those that are known."""
    known = [flag for flag in flags if flag is not None]
    return f"{100 * sum(known) / len(known):.1f} % ({sum(known)} of {len(known)})" if known else "-"


def table(outcomes: list[Outcome]) -> Table:
    """A column for each judge."""
    wrong = [o for o in outcomes if o.job.kind in ("wrong", "planted")]
    right = [o for o in outcomes if o.job.kind in ("right", "family", "layer")]
    rivals = list(dict.fromkeys(name for o in outcomes for name in o.rivals))
    result = Table()
    for column in ("", "ours", *rivals):
        result.add_column(column, justify="left" if not column else "right")
    for size in sorted({o.job.size for o in wrong if o.job.kind == "wrong"}):
        of_size = [o for o in wrong if o.job.kind == "wrong" and o.job.size == size]
        theirs = [share(o.rivals.get(name) for o in of_size) for name in rivals]
        result.add_row(f"wrong rules caught, size {size}", share(_caught(o) for o in of_size), *theirs)
    theirs = [share(o.rivals.get(name) for o in right) for name in rivals]
    result.add_row("right rules accused", share(_caught(o) for o in right), *theirs)
    result.add_row("right rules left undecided", share(o.verdict == "inconclusive" for o in right))
    result.add_row("right diagnosis", share(o.diagnosed for o in wrong if _caught(o)))
    result.add_row("right leaf", share(o.placed for o in wrong if o.job.kind == "wrong" and _caught(o)))
    result.add_row("right layers in a model", share(o.placed for o in wrong if o.job.kind == "planted"))
    medians = [_median(o.rival_seconds.get(name) for o in outcomes) for name in rivals]
    result.add_row("seconds a rule, median", _median(o.seconds for o in outcomes if o.job.kind != "planted"), *medians)
    return result


def _median(seconds: Iterable[float | None]) -> str:
    known = [second for second in seconds if second is not None]
    return f"{statistics.median(known):.2f}" if known else "-"


def _caught(outcome: Outcome) -> bool:
    return outcome.verdict in ("fail", "oracles disagree")


def complaints(outcomes: list[Outcome]) -> list[str]:
    """What ours got wrong, a line each."""
    lines = []
    for o in outcomes:
        where = f"{o.job.name} (size {o.job.size})" if o.job.size else f"{o.job.name} (seed {o.job.seed})"
        if o.verdict == "crashed":
            lines.append(f"CRASHED {where}: {o.said}")
        elif o.job.kind in ("wrong", "planted") and not _caught(o):
            lines.append(f"MISSED {where}: {o.verdict}")
        elif o.job.kind in ("right", "family", "layer") and o.verdict != "pass":
            lines.append(f"ACCUSED {where}: {o.verdict}: {o.said}")
        elif o.placed is False:
            lines.append(f"misplaced: {where}: {o.said}")
        elif o.diagnosed is False:
            lines.append(f"misdiagnosed: {where}: {o.said}")
    return lines


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = (),
    /,
    *,
    sizes: tuple[int, ...] = (4, 32, 128),
    seeds: int = 10,
    every: Annotated[int, tyro.conf.arg(metavar="N")] = 1,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Scores the verifier on wrong and right rules, beside other checkers.

    Args:
        names: What to judge, by the beginning of its name; nothing: all.
        sizes: Of the wrong rules' ordinary dimensions.
        seeds: At how many seeds each right rule is judged.
        every: Judges one of N: all of the corpus takes hours.
        json_file: Where to write every outcome, a line each; those that stand there already are not judged again.
    """
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}; make it first")
    console = Console(width=None if sys.stdout.isatty() else 160)
    if every < 1 or seeds < 1 or any(size < 4 for size in sizes):
        raise UserError("--every and --seeds must be at least 1, and --sizes at least 4")
    outcomes = outcomes_of(jobs(names, sizes, seeds, every), json_file, Console(stderr=True))
    for line in complaints(outcomes):
        console.print(line, highlight=False, markup=False)
    console.print(table(outcomes))
    if any(line.startswith(("MISSED", "ACCUSED", "CRASHED")) for line in complaints(outcomes)):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
