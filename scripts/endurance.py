"""Attacks runs as disks, schedulers and power cuts do, and checks that nothing is lost and nothing wrong in silence.

    endurance.py damage [--count 1000]              damages files of checkpoints at random, and loads them
    endurance.py interrupt [--kills 100 --terms 50] kills a task at random instants, and resumes it
    endurance.py memory [--steps 5000]              watches the memory that training takes

``interrupt --slow 1.5`` delays every write of a checkpoint by so many seconds. The exit code is 1 where numbers are
wrong, where an error is no message, or where memory grows.
"""

import dataclasses
import filecmp
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from command_line import run_command
from pipeline.data.batches import Batch
from pipeline.errors import UserError
from pipeline.layers.activations import ReLU
from pipeline.layers.combinators import Serial
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.training.checkpoints import Checkpoints, load_params
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import fit
from pipeline.training.optimizer import make_optimizer
from pipeline.training.run import Run
from pipeline.training.state import init_state

ROOT = Path(__file__).parents[1]
OBJECTIVE = Objective(Serial((Dense(16), ReLU(), Dense(3))), SoftmaxCrossEntropy())
OPTIONS = ("--model", "mlp", "--epochs", "12", "--save-seconds", "0.1", "--log-every", "5", "--quiet")
STOPPED = (-signal.SIGKILL, -signal.SIGTERM, 143)
"""Exit codes of a process that was stopped; by SIGTERM itself where Python had not come far enough to answer it."""
SLOWED = """
import time
from pipeline.training import checkpoints
save = checkpoints._save
def slowly(folder, tree):
    time.sleep({seconds})
    save(folder, tree)
checkpoints._save = slowly
from tasks.framework.command_line import main
from tasks.image_recognition import ImageRecognition
main(ImageRecognition())
"""


class Numbers:
    """An endless sequence of batches of random numbers, whose state is how many there were."""

    def __init__(self) -> None:
        self.count = 0

    def __next__(self) -> Batch:
        generator = np.random.default_rng(self.count)
        self.count += 1
        inputs = generator.normal(size=(8, 5)).astype(np.float32)
        return inputs, Targets(inputs[:, :3].argmax(1).astype(np.int32))

    def get_state(self) -> int:
        return self.count

    def set_state(self, state: int, /) -> None:
        self.count = state


# Damage.


def flip(path: Path, chance: random.Random) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(path: Path, chance: random.Random) -> None:
    """The end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data) + 1)])


def zero(path: Path, chance: random.Random) -> None:
    """A range of a file, as a disk gives back a block that was never written."""
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((1, 16, 512, 4096)))
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def delete(path: Path, chance: random.Random) -> None:
    """The whole file."""
    del chance
    path.unlink()


def swap(path: Path, chance: random.Random) -> None:
    """Two files of the same kind of checkpoint."""
    others = [other for other in path.parents[1].rglob("*") if other.is_file() and other != path]
    if others:
        other = chance.choice(sorted(others))
        ours, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(ours)


DAMAGES: Sequence[Callable[[Path, random.Random], None]] = (flip, cut, zero, delete, swap)


def damage(count: int = 1000, seed: int = 0) -> int:
    """Damages a checkpoint at random and loads it, again and again."""
    logging.getLogger("pipeline").addHandler(logging.NullHandler())  # what is damaged is known here
    logging.getLogger("pipeline").propagate = False
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        states = _checkpointed(whole)
        outcomes: Counter[str] = Counter()
        wrong = 0
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            copy = Path(folder) / "damaged"
            shutil.copytree(whole, copy)
            kind = chance.choice(("best", "last"))
            path = chance.choice(sorted(p for p in (copy / "checkpoints" / kind).rglob("*") if p.is_file()))
            harm = chance.choice(DAMAGES)
            harm(path, chance)
            outcome, wanted = _loaded(copy, kind, states), _wanted(whole, copy, kind)
            outcomes[outcome] += 1
            if outcome not in (NEWEST, wanted):  # a lost end of line harms nothing
                wrong += 1
                print(f"{number}: {harm.__name__} of {path.relative_to(copy)}: {outcome}")
            shutil.rmtree(copy)
    for outcome, times in outcomes.most_common():
        print(f"{times:6}  {outcome}")
    print(f"{wrong:6}  not as it has to be")
    return 1 if wrong else 0


NEWEST, OLDER = "the newest checkpoint, as it was saved", "the one before it, as it was saved"
REFUSED = "refused with a message: no checkpoint is whole"


def _wanted(whole: Path, damaged: Path, kind: str) -> str:
    """What has to come of loading: the newest checkpoint that is as it was."""
    for step, outcome in ((2, NEWEST), (1, OLDER)):
        here, there = (run / "checkpoints" / kind / str(step) for run in (whole, damaged))
        if all(
            (there / path).exists() and filecmp.cmp(here / path, there / path, shallow=False) for path in _names(here)
        ):
            return outcome
    return REFUSED


def _names(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


def _checkpointed(directory: Path) -> dict[str, list[Any]]:
    """Makes a run with two checkpoints of each kind; what they hold, the newest first."""
    config = TrainingConfig(quiet=True)
    params = OBJECTIVE.init(jax.random.key(0), next(Numbers()))
    state = init_state(params, make_optimizer(config.optimizer, OBJECTIVE, params, 9))
    states: dict[str, list[Any]] = {"best": [], "last": []}
    with Run.create(directory, "endurance", config) as run, Checkpoints(run) as checkpoints:
        for step in (1, 2):
            state = dataclasses.replace(jax.tree.map(lambda leaf: leaf + leaf, state), step=jnp.int32(step))
            checkpoints.save_best(step, state.params)
            checkpoints.save_last(state, {"batches": step})
            states["best"].insert(0, state.params)
            states["last"].insert(0, state)
    return states


def _loaded(directory: Path, kind: str, states: dict[str, list[Any]]) -> str:
    """What comes of loading a damaged run's checkpoints of one kind."""
    newest, older = states[kind]
    try:
        if kind == "best":
            found = load_params(directory, newest)
        else:
            with Checkpoints(Run(directory)) as checkpoints:
                resumed = checkpoints.resume(newest)
            if resumed is None:
                return "nothing, in silence"
            found = resumed.state
            if resumed.progress != {"batches": int(found.step)}:
                return "WRONG progress"
    except UserError as error:
        return REFUSED if str(error).startswith("no checkpoint in") else f"refused: {error}"
    except Exception as error:
        return f"no message: {type(error).__name__}: {error}"
    for state, outcome in ((newest, NEWEST), (older, OLDER)):
        if _bytes(found) == _bytes(state):
            return outcome
    return "WRONG numbers"


def _bytes(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# Interruptions.


def interrupt(kills: int = 100, terms: int = 50, slow: float = 0.0, seed: int = 0) -> int:
    """Kills a task at random instants and resumes it, until it is finished; then the next run.

    kills, terms: how often by SIGKILL and by SIGTERM. slow: seconds by which each write of a checkpoint is delayed.
    """
    chance = random.Random(seed)
    left = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    chance.shuffle(left)
    wrong, runs = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "whole"
        command = _command(0.0, "--run-dir", reference, *OPTIONS)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            print(done.stderr.decode(errors="replace"))
            return 1
        wanted = _account(reference)
        while left:
            runs += 1
            run = Path(folder) / f"run_{runs}"
            stops = 0
            while (code := _interrupted(run, left, slow, chance)) is not None:
                stops += 1
                if code not in STOPPED:
                    print(f"run {runs}: exit code {code}")
                    wrong += 1
                    break
            else:
                if _account(run) != wanted:
                    print(f"run {runs} is not as it is without interruption")
                    wrong += 1
                print(f"run {runs}: interrupted {stops} times; {len(left)} interruptions left", flush=True)
    print(f"{kills} times SIGKILL, {terms} times SIGTERM over {runs} runs: {wrong} wrong")
    return 1 if wrong else 0


def _interrupted(run: Path, left: list[signal.Signals], slow: float, chance: random.Random) -> int | None:
    """Starts or resumes the run, and sends it the next signal at some instant. None if it ends by itself before."""
    begun = (run / "config.json").exists()
    where = ("--resume", run, "--quiet") if begun else ("--run-dir", run, *OPTIONS)
    process = subprocess.Popen(_command(slow, *where), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if left:
        _wait_until_it_trains(process, run, anywhere=chance.random() < 0.2)
        time.sleep(chance.uniform(0, 1.0 + slow))
        if process.poll() is None:
            process.send_signal(left.pop())
    _, error = process.communicate()
    if process.returncode == 0:
        return None
    if process.returncode not in STOPPED:
        print(error.decode(errors="replace"))
    return process.returncode


def _wait_until_it_trains(process: "subprocess.Popen[bytes]", run: Path, anywhere: bool) -> None:
    """Waits for the first new line of metrics; anywhere: not at all, so that imports and compilation are hit too."""
    metrics = run / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    while not anywhere and process.poll() is None:
        if metrics.exists() and metrics.stat().st_size > size:
            return
        time.sleep(0.01)


def _command(slow: float, *arguments: object) -> list[str]:
    program = ["-c", SLOWED.format(seconds=slow)] if slow else ["-m", "tasks.image_recognition"]
    return [sys.executable, *program, *map(str, arguments)]


def _account(run: Path) -> dict[str, Any]:
    """All of a finished run that has to be the same whatever interrupted it."""
    account: dict[str, Any] = {}
    for kind in ("best", "last"):
        folder = max((run / "checkpoints" / kind).glob("[0-9]*"), key=lambda path: int(path.name))
        account[kind] = folder.name, json.loads((folder / "manifest.json").read_text())["leaves"]
    progress = json.loads((folder / "progress.json").read_text())
    account["progress"] = {name: value for name, value in progress.items() if name != "seconds"}
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    account["metrics"] = [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]
    summary = json.loads((run / "summary.json").read_text())
    account["summary"] = {name: summary[name] for name in ("test", "steps", "stopped_because", "gradient_check")}
    return account


# Memory.


def memory(steps: int = 5000) -> int:
    """Trains for so many steps and compares the resident memory of the second half with that after a fifth of them."""
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(epochs=20, batch_size=8, quiet=True, save_seconds=0.2)

        def evaluate(params: Any) -> dict[str, float]:
            sizes.append(_resident())
            return {"loss": -float(len(sizes))}

        params = OBJECTIVE.init(jax.random.key(0), next(Numbers()))
        with Run.create(Path(folder) / "run", "endurance", config) as run:
            fit(
                OBJECTIVE,
                params,
                Numbers(),
                config,
                run,
                steps_per_epoch=steps // config.epochs,
                evaluate=evaluate,
            )
    start, end = sizes[len(sizes) // 5], max(sizes[len(sizes) // 2 :])
    print(f"{steps} steps: {start:.1f} MiB after a fifth of them, at most {end:.1f} MiB in the second half")
    return 1 if end > start + 16 else 0


def _resident() -> float:
    """The memory that this process takes, in MiB, as Linux tells it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    run_command(damage, interrupt, memory)
