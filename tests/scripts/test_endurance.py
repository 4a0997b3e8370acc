import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "endurance.py"


def run(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_damage_to_a_checkpoint_gives_wrong_numbers_or_a_traceback():
    out = run("damage", "--count", 150)
    assert "the newest checkpoint, as it was saved" in out and "the one before it, as it was saved" in out


def test_a_run_that_is_killed_and_resumed_is_byte_identical_also_where_the_disk_is_slow():
    assert "0 wrong" in run("interrupt", "--kills", 1, "--terms", 1, "--slow", 0.2)


def test_training_takes_no_more_memory_from_step_to_step():
    assert "5000 steps" in run("memory")
