"""Scores the verifier: on wrong rules that it must catch and explain, and right ones that it must not accuse.

    score_verifier.py [NAME ...] [--sizes 4 32 128] [--seeds 10] [--every 1] [--json FILE]

The corpus is that of the tests: wrong backward passes at every size, right ones at every seed, and models with one
wrong layer. The same rules are given to ``jax.test_util.check_grads`` in float32 and float64 and, where PyTorch is
installed, to ``torch.autograd.gradcheck``. With ``--json`` every outcome is written as soon as it is known, one per
line, and an interrupted run continues where it stopped. The exit code is 1 if the verifier misses a wrong rule or
accuses a right one.
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
from gradient_cases.layers import CASES
from pipeline.errors import UserError
from pipeline.verify import Report, verify
from pipeline.verify.check import check_rule
from pipeline.verify.make_rule import of_custom_vjp, of_gradient, of_vjp
from pipeline.verify.rule import Rule
from rivals import RIVALS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "verify"))


@dataclass(frozen=True)
class Job:
    """One rule at one size and seed.

    kind: "wrong"; "right"; "family", the right form of a family of wrong ones; "layer"; "planted", in a model.
    """

    kind: str
    name: str
    size: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """The verifier's report on a job in short, and the answers of other checkers.

    diagnosed, placed: whether the kind of mistake, and the leaf (or the model's layer), were named rightly; None where
        nothing was expected. diagnosis: all diagnoses. rivals: for each other checker whether it raised an alarm; None
        where the job cannot be given to it.
    """

    job: Job
    verdict: str
    seconds: float
    diagnosed: bool | None
    placed: bool | None
    diagnosis: str
    rivals: dict[str, bool | None]
    rival_seconds: dict[str, float]


@cache
def corpus() -> dict[str, dict[str, Any]]:
    """All rules, by kind and name."""
    from corpus.planted import PLANTED
    from corpus.right import ILL_CONDITIONED, RIGHT
    from corpus.wrong import RIGHT as FAMILIES
    from corpus.wrong import WRONG

    parts = {"wrong": WRONG, "right": (*RIGHT, *ILL_CONDITIONED), "layer": CASES, "planted": PLANTED}
    return {kind: {case.name: case for case in cases} for kind, cases in parts.items()} | {"family": dict(FAMILIES)}


def judge_group(group: list[Job]) -> list[Outcome]:
    """The outcomes of jobs of one name, in one process, so that programs compiled for one seed serve the next."""
    warnings.simplefilter("ignore")  # a wrong rule may well divide by zero
    return [_judge(job) for job in group]


def _judge(job: Job) -> Outcome:
    case = corpus()[job.kind][job.name]
    began = time.perf_counter()
    try:
        report, rule = _report(job, case)
    except Exception as error:  # no rule may crash the verifier
        diagnosis = f"{type(error).__name__}: {error}"
        return Outcome(job, "crashed", time.perf_counter() - began, None, None, diagnosis, {}, {})
    seconds = time.perf_counter() - began
    diagnosed = placed = None
    if job.kind == "wrong":
        at_leaf = [diagnosis for diagnosis in report.diagnoses if diagnosis.leaf == case.leaf]
        placed = bool(at_leaf)
        diagnosed = any(diagnosis.kind in case.kinds for diagnosis in at_leaf)
    if job.kind == "planted":
        placed = {place.path for place in report.places} == set(case.places)
    rivals, rival_seconds = {}, {}
    if rule is not None:
        for name, rival in RIVALS.items():
            began = time.perf_counter()
            rivals[name] = rival(rule)
            rival_seconds[name] = time.perf_counter() - began
    diagnosis = "; ".join(f"{d.leaf or 'the rule'}: {d.kind}: {d.text}" for d in report.diagnoses)
    return Outcome(job, report.verdict, seconds, diagnosed, placed, diagnosis, rivals, rival_seconds)


def _report(job: Job, case: Any) -> tuple[Report, Rule | None]:
    """The verifier's report, and the rule for other checkers; None where it is not given to them."""
    if job.kind == "layer":
        return case.verify(seed=job.seed), None  # at kinks by design, where finite differences are no derivative
    if job.kind == "planted":
        layer, params, x, context = case.make(job.seed)
        return verify(layer, params, x, context, checks=(), precisions=()), None
    make = {"wrong": lambda: case.make(job.size, job.seed), "family": lambda: case(job.size, job.seed)}
    return _check(make.get(job.kind, lambda: case.make(job.seed))())


def _check(case: Any) -> tuple[Report, Rule]:
    """The report on a rule of the corpus, and the rule."""
    if hasattr(case, "manual_gradient"):
        rule = of_gradient(case.manual_gradient, case.loss, case.params, tuple(case.data), None)
    elif hasattr(case, "reference"):
        rule = of_custom_vjp(case.function, case.reference, case.arguments, None, ())
    else:
        rule = of_vjp(case.function, case.forward, case.backward, case.arguments, None, case.edges)
    return check_rule(rule), rule


def jobs(names: tuple[str, ...], sizes: tuple[int, ...], seeds: int, every: int) -> list[Job]:
    """Wrong rules at every size, right ones at every seed; every N-th whose name begins with one of ``names``."""
    chosen = {
        kind: [name for name in cases if not names or any(name.startswith(start) for start in names)][::every]
        for kind, cases in corpus().items()
    }
    result = [Job(kind, name, size) for size in sizes for kind in ("wrong", "family") for name in chosen[kind]]
    result += [Job("right", name, seed=seed) for seed in range(seeds) for name in chosen["right"]]
    result += [Job(kind, name) for kind in ("layer", "planted") for name in chosen[kind]]
    if not result:
        raise UserError(f"nothing in the corpus has a name that begins with {' or '.join(names)}")
    return result


def known_outcomes(file: Path | None, todo: list[Job]) -> list[Outcome]:
    """The outcomes of ``todo`` that are in ``file`` already."""
    if file is None or not file.exists():
        return []
    wanted = set(todo)
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        outcomes = [Outcome(**(line | {"job": Job(**line["job"])})) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"--json {file}: not a file of outcomes, one per line ({error}); name another file") from error
    return [outcome for outcome in outcomes if outcome.job in wanted]


def outcomes_of(todo: list[Job], file: Path | None, console: Console) -> list[Outcome]:
    """Every job's outcome, in the order of ``todo``; each is appended to ``file`` as soon as it is known."""
    known = {outcome.job: outcome for outcome in known_outcomes(file, todo)}
    groups: dict[tuple[str, str, int], list[Job]] = {}
    for job in todo:
        if job not in known:
            groups.setdefault((job.kind, job.name, job.size), []).append(job)
    # Not concurrent.futures: its max_tasks_per_child, which bounds the programs' memory, stalls in Python 3.11.
    with get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=40) as pool:
        running = pool.imap_unordered(judge_group, groups.values())
        for outcomes in track(running, "judging", total=len(groups), console=console):
            known |= {outcome.job: outcome for outcome in outcomes}
            if file is not None:
                with file.open("a") as out:
                    out.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes)
    return [known[job] for job in todo]


def share(flags: Iterable[bool | None]) -> str:
    """ "97.5 % (39 of 40)" of those that are known."""
    known = [flag for flag in flags if flag is not None]
    return f"{100 * sum(known) / len(known):.1f} % ({sum(known)} of {len(known)})" if known else "-"


def table(outcomes: list[Outcome]) -> Table:
    """A line for each question, and a column for each checker."""
    wrong = [o for o in outcomes if o.job.kind in ("wrong", "planted")]
    right = [o for o in outcomes if o.job.kind in ("right", "family", "layer")]
    rivals = list(dict.fromkeys(name for o in outcomes for name in o.rivals))
    result = Table()
    for column in ("", "verifier", *rivals):
        result.add_column(column, justify="left" if not column else "right")
    for size in sorted({o.job.size for o in wrong if o.job.kind == "wrong"}):
        of_size = [o for o in wrong if o.job.kind == "wrong" and o.job.size == size]
        of_rivals = [share(o.rivals.get(name) for o in of_size) for name in rivals]
        result.add_row(f"wrong rules caught, size {size}", share(_caught(o) for o in of_size), *of_rivals)
    of_rivals = [share(o.rivals.get(name) for o in right) for name in rivals]
    result.add_row("right rules accused", share(_caught(o) for o in right), *of_rivals)
    result.add_row("right rules left undecided", share(o.verdict == "inconclusive" for o in right))
    result.add_row("right diagnosis", share(o.diagnosed for o in wrong if _caught(o)))
    result.add_row("right leaf", share(o.placed for o in wrong if o.job.kind == "wrong" and _caught(o)))
    result.add_row("right layers in a model", share(o.placed for o in wrong if o.job.kind == "planted"))
    medians = [_median(o.rival_seconds.get(name) for o in outcomes) for name in rivals]
    result.add_row(
        "median seconds for a rule", _median(o.seconds for o in outcomes if o.job.kind != "planted"), *medians
    )
    return result


def _median(seconds: Iterable[float | None]) -> str:
    known = [second for second in seconds if second is not None]
    return f"{statistics.median(known):.2f}" if known else "-"


def _caught(outcome: Outcome) -> bool:
    return outcome.verdict in ("fail", "oracles disagree")


def complaints(outcomes: list[Outcome]) -> list[str]:
    """The verifier's mistakes, one line each."""
    lines = []
    for o in outcomes:
        where = f"{o.job.name} (size {o.job.size})" if o.job.size else f"{o.job.name} (seed {o.job.seed})"
        if o.verdict == "crashed":
            lines.append(f"CRASHED {where}: {o.diagnosis}")
        elif o.job.kind in ("wrong", "planted") and not _caught(o):
            lines.append(f"MISSED {where}: {o.verdict}")
        elif o.job.kind in ("right", "family", "layer") and o.verdict != "pass":
            lines.append(f"ACCUSED {where}: {o.verdict}: {o.diagnosis}")
        elif o.placed is False:
            lines.append(f"misplaced: {where}: {o.diagnosis}")
        elif o.diagnosed is False:
            lines.append(f"misdiagnosed: {where}: {o.diagnosis}")
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
    """Scores the verifier on wrong and right rules, and compares it with other gradient checkers.

    Args:
        names: Beginnings of names of rules; all rules without one.
        sizes: Sizes of the wrong rules' ordinary dimensions.
        seeds: Number of seeds at which each right rule is judged.
        every: Judge every N-th rule only, as the whole corpus takes hours.
        json_file: The file to write every outcome to, one per line; outcomes that it contains are not judged again.
    """
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}; create it first")
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
