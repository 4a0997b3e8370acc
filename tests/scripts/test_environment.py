"""Which Python the environment is made with."""

import os
import subprocess
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parents[2] / "scripts" / "environment.sh"
RUNS = "exit 0"
IS_NOT_ACTIVE = "echo 'pyenv: command not found' >&2; exit 127"  # what a pyenv shim says of a version that is installed
HAS_NO_VENV = 'case "$2" in *ensurepip*) exit 1;; esac; exit 0'  # as Debian's without python3-venv
IS_TOO_OLD = "exit 1"


@pytest.fixture
def found(tmp_path):
    """What ``find_python`` says, where these interpreters, by their names, are all there are."""

    def find(environment: dict[str, str] | None = None, **interpreters: str) -> tuple[int, str]:
        for name, does in interpreters.items():
            file = tmp_path / name.replace("_", ".")
            file.write_text(f"#!/bin/sh\n{does}\n")
            file.chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", "-c", f"root=/nowhere; . {ENVIRONMENT}; find_python"],
            env={"PATH": str(tmp_path)} | (environment or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip() or done.stderr

    return find


def test_the_newest_is_taken(found):
    assert found(python3_11=RUNS, python3_13=RUNS, python3=RUNS) == (0, "python3.13")


def test_a_shim_that_does_not_run_is_no_python(found):
    assert found(python3_14=IS_NOT_ACTIVE, python3_13=IS_NOT_ACTIVE, python3_11=RUNS) == (0, "python3.11")


def test_one_that_can_make_environments_comes_before_one_that_cannot(found):
    assert found(python3_13=HAS_NO_VENV, python3_12=RUNS) == (0, "python3.12")


def test_one_that_cannot_is_taken_where_there_is_no_other(found):
    assert found(python3_13=HAS_NO_VENV) == (0, "python3.13")  # making the environment then says what to install


def test_python_names_another(found, tmp_path):
    own = tmp_path / "with space" / "python"
    own.parent.mkdir()
    own.write_text(f"#!/bin/sh\n{RUNS}\n")
    own.chmod(0o755)
    assert found({"PYTHON": str(own)}, python3_13=RUNS) == (0, str(own))


@pytest.mark.parametrize(
    "python, said", [("", "Python 3.11 to 3.14 is needed"), ("/no/python", "/no/python does not run")]
)
def test_none_is_a_message(found, python, said):
    code, message = found({"PYTHON": python}, python3=IS_TOO_OLD)
    assert code == 2 and said in message and "PYTHON=/path/to/python" in message


@pytest.mark.parametrize(
    "version, supported", [("3.10.9", False), ("3.11.0", True), ("3.14.2", True), ("3.15.0", False)]
)
def test_versions_without_wheels_are_left_out(version, supported):
    check = next(line for line in ENVIRONMENT.read_text().splitlines() if "sys.version_info" in line)
    condition = check.partition("sys.exit(")[2].partition(')"')[0]
    sys = type("sys", (), {"version_info": tuple(map(int, version.split(".")))})
    assert eval(condition, {"sys": sys}) is not supported


def test_the_commands_use_it():
    root = ENVIRONMENT.parents[1]
    commands = [root / "scripts" / "run", root / "scripts" / "test", root / ".ci" / "run"]
    assert all(os.access(command, os.X_OK) and "environment.sh" in command.read_text() for command in commands)
