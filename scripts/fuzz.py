"""Reads damaged files with every reader of the user's data, and shows how each ends.

    fuzz.py [READER ...] [--mutations 1000] [--seed 0] [--failures FOLDER]

A reader must refuse a damaged file with a message, or return finite numbers. The inputs with which one does anything
else are saved. The exit code is 1 if there are any.
"""

import faulthandler
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from command_line import run
from fuzzing.attempt import Outcome, attempts, damaged, write
from fuzzing.readers import READERS, Reader
from pipeline.display import quoted, visible
from pipeline.errors import UserError

SECONDS = 10.0
"""Time that a reader may take for a damaged input."""


class Result(NamedTuple):
    """All outcomes of a reader, in the order of the mutations, and the seconds that they took."""

    outcomes: list[Outcome]
    seconds: float


def fuzz(reader: Reader, mutations: int, seed: int, failures: Path, seconds: float = SECONDS) -> Result:
    """Damages a reader's input in ``mutations`` ways, and saves those with which it fails in folders in ``failures``.

    seconds: those that a reader may take for an input.
    """
    files, outcomes, begin = reader.make(), [], time.monotonic()
    while len(outcomes) < mutations:
        for outcome in _in_process(reader, files, range(len(outcomes), mutations), seed, seconds):
            if not outcome.ok:
                folder = failures / f"{reader.name.replace('/', '-')}-{seed}-{len(outcomes)}"
                write(damaged(reader, files, seed, len(outcomes)), folder / "input")
                (folder / "details.txt").write_text(visible(outcome.details, 100_000) + "\n", encoding="utf-8")
            outcomes.append(outcome)
    return Result(outcomes, time.monotonic() - begin)


def _in_process(
    reader: Reader, files: Mapping[str, bytes], numbers: range, seed: int, seconds: float
) -> Iterator[Outcome]:
    """The outcomes of the mutations with these numbers, in a process of its own, up to the one by which it dies."""
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork does not survive
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = reader, files, numbers, seed, Path(folder) / "input", seconds
        process = context.Process(target=_send, args=(sender, *arguments))
        process.start()
        sender.close()  # the child's copy is open; when it ends, there is no more to receive
        count = -1  # the first outcome is that of the undamaged input
        try:
            while True:
                outcome = receiver.recv()
                if count >= 0:
                    yield outcome
                count += 1
        except EOFError:
            process.join()
        finally:
            process.kill()
    if count < 0:
        raise UserError(f"{reader.name} cannot be tried: its process died before it read an undamaged input, see above")
    if count < len(numbers):
        yield Outcome("exception", f"the process died with exit code {process.exitcode}")


def _send(sender: Connection, *arguments: Any) -> None:
    """Sends the outcomes of ``attempts``. The process dies where a reader hangs in code that no alarm interrupts."""
    seconds = arguments[-1]
    with open(os.devnull, "w") as nowhere:
        for outcome in attempts(*arguments):
            sender.send(outcome)
            os.dup2(nowhere.fileno(), sys.stderr.fileno())  # some libraries write about every damaged file
            faulthandler.dump_traceback_later(2 * seconds, exit=True, file=nowhere)
        faulthandler.cancel_dump_traceback_later()


def selected(names: tuple[str, ...]) -> list[Reader]:
    """The readers of these names and those below them ("audio/flac" is below "audio"); all without a name."""
    for name in names:
        if not any(_is_below(other, name) for other in READERS):
            known = dict.fromkeys(other.partition("/")[0] for other in READERS)
            raise UserError(f"There is no reader called {quoted(name)}. The readers are: {', '.join(known)}")
    return [reader for name, reader in READERS.items() if not names or any(_is_below(name, other) for other in names)]


def _is_below(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}/")


def table(results: Mapping[str, Result]) -> Table:
    """One line for each reader."""
    shown = Table("reader")
    for column in ("mutations", "accepted", "refused", "other exceptions", "not finite", "seconds"):
        shown.add_column(column, justify="right")
    for name, (outcomes, seconds) in results.items():
        counts = Counter(outcome.kind for outcome in outcomes)
        kinds = (str(counts[kind]) for kind in ("accepted", "refused", "exception", "not finite"))
        shown.add_row(name, str(len(outcomes)), *kinds, f"{seconds:.1f}")
    return shown


def main(
    readers: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[READER ...]")] = (),
    /,
    *,
    mutations: int = 1000,
    seed: int = 0,
    failures: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/fuzz"),
) -> None:
    """Reads damaged files with every reader of the user's data, and shows how each ends.

    Args:
        readers: Names of readers: "audio" includes "audio/flac". Without a name, all.
        mutations: Number of damaged inputs of each reader.
        seed: Random seed of the damage.
        failures: Folder to save the inputs in with which a reader fails.
    """
    if mutations < 1 or seed < 0:
        raise UserError(f"--mutations is {mutations} and --seed {seed}; they must be at least 1 and at least 0")
    chosen = selected(readers)
    console = Console(width=None if sys.stdout.isatty() else 120)
    progress = track(chosen, "reading damaged files", console=Console(stderr=True))
    results = {reader.name: fuzz(reader, mutations, seed, failures) for reader in progress}
    console.print(table(results))
    failed = sum(not outcome.ok for result in results.values() for outcome in result.outcomes)
    if failed:
        console.print(f"{failed} inputs with which a reader fails are in {visible(str(failures))}", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
