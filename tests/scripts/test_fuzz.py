"""Every reader against damaged input; and readers that are wrong on purpose, whose mistakes must be noticed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from fuzzing.attempt import Outcome, attempt, attempts, damaged, not_finite
from fuzzing.mutations import TOKENS, Mutator, inside_gzip, inside_png, inside_zip
from fuzzing.readers import READERS, Reader, idx_files, image_files, npz_file
from pipeline.errors import UserError

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"
MUTATIONS = 100
SECONDS = 10.0


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # by which a child finds it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_read_or_refused(name, tmp_path):
    reader = READERS[name]
    _, *outcomes = attempts(reader, reader.make(), range(MUTATIONS), 0, tmp_path / "input", SECONDS)
    failures = [(number, outcome.details) for number, outcome in enumerate(outcomes) if not outcome.ok]
    assert not failures and len(outcomes) == MUTATIONS


def make_digits() -> dict[str, bytes]:
    return {"a.txt": b"0123456789"}


def wrong_reader(read) -> Reader:
    return Reader("wrong", make_digits, read)


def fail(folder: Path) -> None:
    raise KeyError(folder.name)


def refuse_for_lack_of_memory(folder: Path) -> None:
    try:
        np.ones(1 << 28)  # two gigabytes
    except MemoryError as error:
        raise UserError(f"{folder} is broken") from error


def panic(folder: Path) -> None:
    raise BaseException(folder.name)


@pytest.mark.parametrize(
    "read, kind, details",
    [
        (lambda folder: (folder / "a.txt").read_bytes(), "accepted", ""),
        (fail, "exception", "KeyError: 'input'"),
        (panic, "exception", "BaseException: input"),
        (lambda folder: time.sleep(5), "exception", "took more than 0.2 seconds"),
        (lambda folder: warnings.warn("overflow", RuntimeWarning, stacklevel=1), "exception", "RuntimeWarning"),
        (lambda folder: np.ones(1 << 28), "exception", "MemoryError"),
        (refuse_for_lack_of_memory, "exception", "took more than 1024 MiB"),
        (lambda folder: [np.ones(2), (1.0, np.array([1, np.inf]))], "not finite", "data[1][1] is not finite"),
        (lambda folder: float("nan"), "not finite", "data is not finite"),
    ],
)
def test_a_wrong_reader_is_noticed(read, kind, details, tmp_path):
    outcome = attempt(wrong_reader(read), {"a.txt": b"text"}, tmp_path / "input", 0.2)
    assert outcome.kind == kind and details in outcome.details
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0, "the alarm is off again"
    assert np.ones(1 << 20).all(), "the memory is no longer limited"


def test_a_reader_must_accept_its_undamaged_input(tmp_path):
    with pytest.raises(ValueError, match="wrong does not accept its undamaged input"):
        next(attempts(wrong_reader(fail), {"a.txt": b""}, range(1), 0, tmp_path / "input", SECONDS))


def test_numbers_within_anything_are_looked_at():
    assert not_finite([wrong_reader(fail), {"a": 1}, "nan", None, np.array([1]), np.array([object()])]) == ""
    nested = READERS["npy"].make, (Outcome("accepted"), [np.float64("inf")])
    assert not_finite(nested) == "data[1][1][0]"


def test_the_damage_is_a_function_of_seed_and_number():
    reader = READERS["images/png"]
    files = reader.make()
    assert files == reader.make()
    first = damaged(reader, files, 0, 5)
    assert first == damaged(reader, files, 0, 5) != files
    assert first != damaged(reader, files, 1, 5) and first != damaged(reader, files, 0, 6)
    assert sum(files[name] != first[name] for name in files) == 1


def test_every_kind_of_damage_occurs():
    content = b"age,sex\n20,m\n21,f\n"
    results = [Mutator(seed)(content) for seed in range(1500)]
    assert len(set(results)) > 1000
    assert sum(len(result) < len(content) for result in results) > 200
    assert all(any(token in result for result in results) for token in TOKENS)
    assert Mutator(0)(b"") == Mutator(0)(b"") and isinstance(Mutator(3)(b""), bytes)


@pytest.mark.parametrize(
    "make, inside",
    [
        (lambda: idx_files(".gz"), inside_gzip),
        (lambda: npz_file(np.savez), inside_zip),
        (lambda: image_files("png"), inside_png),
    ],
)
def test_damage_inside_keeps_the_checksums(make, inside):
    content = next(iter(make().values()))
    changed = inside(content, lambda data: data + b"more")
    assert changed != content
    inside(changed, lambda data: data + b"more")  # which reads all that is inside


def abort_if_short(folder: Path) -> None:
    """Dies like a crash in C where bytes are missing."""
    if len((folder / "a.txt").read_bytes()) < 10:
        os.abort()


CRASHING = Reader("crash/text", make_digits, abort_if_short)


def test_a_crash_is_a_failure_and_the_rest_goes_on(script, tmp_path):
    outcomes = script.fuzz(CRASHING, 9, 1, tmp_path).outcomes
    crashes = [number for number, outcome in enumerate(outcomes) if not outcome.ok]
    assert 0 < len(crashes) < crashes[0] and len(outcomes) == 9
    assert crashes == [n for n in range(9) if len(damaged(CRASHING, make_digits(), 1, n)["a.txt"]) < 10]
    assert "exit code -6" in outcomes[crashes[0]].details
    saved = tmp_path / f"crash-text-1-{crashes[0]}"
    assert len((saved / "input" / "a.txt").read_bytes()) < 10
    assert "exit code -6" in (saved / "details.txt").read_text()


def hang_if_short(folder: Path) -> None:
    """Hangs like code in C, which no alarm interrupts, where bytes are missing."""
    if len((folder / "a.txt").read_bytes()) < 10:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(100)


def test_a_reader_that_no_alarm_interrupts(script, tmp_path):
    reader = Reader("crash/text", make_digits, hang_if_short)
    outcomes = script.fuzz(reader, 2, 0, tmp_path, seconds=0.5).outcomes
    assert len(damaged(reader, make_digits(), 0, 0)["a.txt"]) < 10
    assert not outcomes[0].ok and "the process died with exit code 1" in outcomes[0].details


def test_a_reader_that_cannot_be_tried(script, tmp_path, capfd):
    with pytest.raises(UserError, match="wrong cannot be tried: its process died"):
        script.fuzz(wrong_reader(fail), 2, 0, tmp_path)
    assert "wrong does not accept its undamaged input" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_script_and_its_table(tmp_path):
    arguments = ("text", "vocabulary/words", "--mutations", "3", "--failures", str(tmp_path / "failures"))
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "other exceptions" in done.stdout and "not finite" in done.stdout
    for name in ("text", "vocabulary/words"):
        assert any(name in line and " 3 " in line for line in done.stdout.splitlines())
    assert not (tmp_path / "failures").exists()


def test_failures_are_counted_and_the_exit_code(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "READERS", {"crash/text": CRASHING})
    with pytest.raises(SystemExit) as stopped:
        script.main(mutations=9, seed=1, failures=tmp_path)
    assert stopped.value.code == 1
    out = capsys.readouterr().out
    count = len(list(tmp_path.iterdir()))
    assert count and f"{count} inputs" in out and "crash/text" in out


def test_an_unknown_reader_and_useless_numbers(script):
    with pytest.raises(UserError, match=r"no reader called 'x\\x1b'. The readers are: images, npz, .*vocabulary"):
        script.main(("x\x1b",))
    with pytest.raises(UserError, match="--mutations is 0"):
        script.main(mutations=0)
