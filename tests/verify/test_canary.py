"""The canary: what this machine's compiler makes of programs and rules at large sizes, in the form that users run."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import pipeline.layers
import pipeline.losses
from gradient_cases.canary import PROGRAMS, Program, at_scale
from gradient_cases.case import Case, normal
from gradient_cases.large import LARGE
from pipeline import compiler
from pipeline.layers.base import Layer, children
from pipeline.layers.linear import Dense

ROOT = Path(__file__).parents[2]
WRONG = pytest.mark.skipif(not compiler.JAXLIB.startswith("0.10.2"), reason="only jaxlib 0.10.2 is wrong by default")


def canary(*arguments: str) -> subprocess.CompletedProcess:
    """The script's, with XLA as users have it."""
    command = [sys.executable, str(ROOT / "scripts" / "verify_gradients.py"), *arguments]
    environment = os.environ | {"XLA_FLAGS": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_programs_are_right_at_large_sizes():
    done = canary("compiler")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(PROGRAMS)} of {len(PROGRAMS)} hold" in done.stdout


@WRONG
def test_it_fails_with_the_default_options_of_a_wrong_jaxlib():
    done = canary("compiler", "--defaults")
    assert done.returncode == 1, done.stderr
    for rows, dtype in (("16,385", "float64"), ("32,769", "float32")):
        assert f"squared matrix-vector products, {rows} rows: fail\ny: compiler in {dtype}" in done.stdout
    assert "not run, as it would end this process" in done.stdout


def parts(layer: Layer) -> set[type[Layer]]:
    return {type(layer)}.union(*(parts(child) for _, child in children(layer)))


def test_every_layer_and_loss_is_tried():
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (pipeline.layers, pipeline.losses)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    classes = {c for module in modules for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Layer)}
    concrete = {c for c in classes if not inspect.isabstract(c) and not c.__name__.startswith("_")}
    assert concrete - set().union(*(parts(case.layer) for case in LARGE)) == set()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_program_that_computes_something_else_is_found(dtype):
    program = Program("sums", lambda x: 1.0001 * x.sum(1), lambda x: x.sum(1), ((33, 7),))
    row = next(row for row in program.report().rows if row.dtype == dtype)
    assert not row.ok and row.relative_error == pytest.approx(1e-4, rel=1e-2)
    assert "the compiler computes a wrong number at [" in row.message


def test_a_program_that_would_end_the_process_is_not_run():
    fault = compiler.Reason("it ends", "https://example.org", since="0.10.2")
    program = replace(Program("x", lambda x: x.sum(1), lambda x: x.sum(1), ((33, 7),)), fatal=fault)
    assert program.report().ok
    (row,) = program.report({}).rows
    assert not row.ok and "not run" in row.message and "it ends" in row.message


@dataclass(frozen=True)
class Off(Dense):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return d_params | {"bias": d_params["bias"].at[2].add(1e-9)}, d_x


def test_a_rule_that_is_wrong_at_its_size_is_found():
    right, wrong = (at_scale(Case("Dense", layer, normal(501, 7))) for layer in (Dense(5), Off(5)))
    assert right.ok and len(right.rows) == 4
    assert [row.leaf for row in wrong.rows if not row.ok] == ["bias"]
