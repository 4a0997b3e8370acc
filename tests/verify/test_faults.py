"""Whose fault an exception is: a rule that raises fails, and the verifier's own mistakes are not blamed on it."""

import importlib
import importlib.abc
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import pipeline.verify.checks.finite_differences
import pipeline.verify.checks.gradients
import pipeline.verify.checks.probes
import pipeline.verify.checks.tolerance
import pipeline.verify.judge
import pipeline.verify.measure
import pipeline.verify.programs.jaxprs
from pipeline.verify import check_custom_vjp, check_vjp
from pipeline.verify.faults import CALLERS, describe_error, is_own, run

X = np.random.default_rng(0).normal(size=(4, 5))
OWN = [
    pipeline.verify.judge,
    pipeline.verify.measure,
    pipeline.verify.checks.gradients,
    pipeline.verify.checks.tolerance,
    pipeline.verify.checks.probes,
    pipeline.verify.checks.finite_differences,
]
"""Modules at the top of the verifier and in its subpackages."""


def square(x):
    return x**2


def forward(x):
    return x**2, x


def backward(x, d_y):
    return (2 * x * d_y,)


def broken_in(module, source="def broken(*arguments, **options):\n    return {}['no such key']"):
    """A function with a mistake that seems to be written in a module of the verifier."""
    names = {"__name__": module.__name__}
    exec(compile(source, module.__file__, "exec"), names)
    return names["broken"]


@pytest.mark.parametrize("module", OWN, ids=lambda module: module.__name__)
def test_a_mistake_of_the_verifier_is_inconclusive(monkeypatch, module):
    monkeypatch.setattr(pipeline.verify.judge, "gradients", broken_in(module))
    report = check_vjp(square, forward, backward, (X,))
    (row,) = report.failures
    assert report.verdict == "inconclusive" and row.message.startswith("the check itself failed: raised KeyError")
    assert f"({Path(module.__file__).name}, line 2)" in row.message


@pytest.mark.parametrize("name", ["_probes", "_observe", "comparison_row"])
def test_a_mistake_below_a_check_is_inconclusive(monkeypatch, name):
    module = pipeline.verify.checks.gradients
    monkeypatch.setattr(module, name, broken_in(module))
    assert check_vjp(square, forward, backward, (X,)).verdict == "inconclusive"


@pytest.mark.parametrize("name", ["meaning", "redraw"])
def test_a_mistake_is_not_taken_for_sizes_or_values_that_the_function_does_not_accept(monkeypatch, name):
    module = pipeline.verify.checks.probes
    monkeypatch.setattr(module, name, broken_in(module))
    assert check_vjp(square, forward, backward, (X,)).verdict == "inconclusive"


def raises_for(condition):
    """A backward pass with a mistake that only shows under a condition."""

    def rule(x, d_y):
        if condition(x):
            raise KeyError("the rule's")
        return (2 * x * d_y,)

    return rule


@pytest.mark.parametrize(
    "condition",
    [lambda x: True, lambda x: isinstance(x, Tracer), lambda x: not isinstance(x, Tracer)],
    ids=["always", "traced", "eager"],
)
def test_an_exception_of_the_rule_is_a_failure(condition):
    report = check_vjp(square, forward, raises_for(condition), (X,))
    assert report.verdict == "fail"
    messages = [row.message for row in report.failures]
    assert any('raised KeyError: "the rule\'s" (test_faults.py, line' in message for message in messages)


def test_an_exception_of_the_rule_in_a_check_is_a_failure(monkeypatch):
    """The verifier's own frames stand below and above the rule's."""
    module = pipeline.verify.judge
    source = "def broken(trial, arrays):\n    trial.manual(arrays, [arrays[0]], eager=True)"
    monkeypatch.setattr(module, "gradients", broken_in(module, source))
    calls = iter(range(100))
    report = check_vjp(square, forward, raises_for(lambda x: next(calls) > 0), (X,), checks=())
    assert report.verdict == "fail" and "test_faults.py" in report.explanation()


def test_what_jax_raises_about_the_rule_is_a_failure():
    def rejected(residuals, d_y):
        return (jax.lax.dot_general(residuals, d_y, (((0,), (1,)), ((), ()))),)

    report = check_vjp(square, forward, rejected, (X,))
    assert report.verdict == "fail" and "raised TypeError" in report.explanation()

    @jax.custom_vjp
    def wrongly_paired(x):
        return x**2

    wrongly_paired.defvjp(forward, lambda x, d_y: (d_y, d_y))
    assert check_custom_vjp(wrongly_paired, square, (X,)).verdict == "fail"


def test_an_exception_of_a_compiled_program_is_the_rules():
    def refuse(x):
        raise ValueError("not on this device")

    program = jax.jit(lambda x: jax.pure_callback(refuse, jax.ShapeDtypeStruct(x.shape, x.dtype), x))
    with pytest.raises(Exception, match="not on this device") as raised:
        run(program, jnp.ones(2))
    assert not is_own(raised.value)


def test_the_modules_that_call_the_rule_exist():
    assert len(CALLERS) == 6 and all(importlib.import_module(name) for name in CALLERS)


UNDER_ANOTHER_NAME = """
import importlib, importlib.abc, importlib.util, sys
import numpy as np

class Renamed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    \"\"\"The package under the name that it has in a wheel.\"\"\"

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] != "backhand":
            return None
        original = importlib.util.find_spec(name.replace("backhand", "pipeline", 1))
        is_package = original.submodule_search_locations is not None
        spec = importlib.util.spec_from_loader(name, self, origin=original.origin, is_package=is_package)
        return spec

    def get_filename(self, name):
        return importlib.util.find_spec(name.replace("backhand", "pipeline", 1)).origin

    def get_data(self, path):
        source = open(path, "rb").read()
        for word in (b"from pipeline", b"import pipeline"):
            source = source.replace(word, word.replace(b"pipeline", b"backhand"))
        return source

sys.meta_path.insert(0, Renamed())
import backhand.verify.judge, backhand.verify.checks.probes
from backhand.verify import check_vjp

assert check_vjp.__module__ == "backhand.verify.check"
x = np.ones((2, 3))
def wrong(x, d_y): raise KeyError("theirs")
print(check_vjp(lambda x: x, lambda x: (x, x), wrong, (x,)).verdict)
names = {"__name__": "backhand.verify.checks.probes"}
exec("def broken(*arguments): raise KeyError('ours')", names)
backhand.verify.checks.probes.meaning = names["broken"]
print(check_vjp(lambda x: x, lambda x: (x, x), lambda x, d_y: (d_y,), (x,)).verdict)
"""


def test_under_the_name_of_the_wheel():
    command = [sys.executable, "-c", UNDER_ANOTHER_NAME]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["fail", "inconclusive"], done.stderr


def test_an_error_names_the_authors_line():
    try:
        run(raises_for(lambda x: True), X, X)
    except KeyError as error:
        assert describe_error(error).startswith('raised KeyError: "the rule\'s" (test_faults.py, line ')
