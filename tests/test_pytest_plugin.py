"""The pytest plugin in other people's tests: each run is a pytest of its own, in a folder of its own."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

RULES = """
import jax
import jax.numpy as jnp
import numpy as np
import pytest

x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)

def square(x):
    return x * x

def forward(x):
    return square(x), x

def right(x, d_y):
    return (2 * x * d_y,)

def wrong(x, d_y):
    return (3 * x * d_y,)

@jax.custom_vjp
def attached(x):
    return square(x)

attached.defvjp(forward, wrong)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs pytest on the tests, which follow ``RULES``."""
    monkeypatch.setenv("COLUMNS", "160")

    def run_tests(tests, *options):
        pytester.makepyfile(test_theirs=RULES + tests)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)

    return run_tests


def test_it_passes_and_fails(run, pytester):
    done = run(
        """
def test_right(assert_gradients_agree):
    assert assert_gradients_agree(square, forward, right, (x,)).ok

class TestWrong:
    @pytest.mark.parametrize("name", ["one", "a/b"])
    def test_wrong(self, assert_gradients_agree, name):
        assert_gradients_agree(square, forward, wrong, (x,))
""",
        "--gradient-report",
        "pages",
    )
    done.assert_outcomes(passed=1, failed=2)
    page = pytester.path / "pages" / "test_theirs.TestWrong.test_wrong[one].html"
    done.stdout.fnmatch_lines(
        [
            ">       assert_gradients_agree(square, forward, wrong, (x,))",
            "E       *VerificationError: square: fail",
            "E       x: off by the constant 1.5*",
            f"E       full report: {str(page).replace('[', '[[]')}",
            "test_theirs.py:*: VerificationError",
        ],
        consecutive=False,
    )
    assert "pipeline/" not in done.stdout.str()  # no traceback through the verifier
    assert "FAIL: square" in page.read_text(encoding="utf-8")
    assert len(list(page.parent.iterdir())) == 2


def test_each_kind_of_rule(run, pytester):
    done = run(
        """
import dataclasses
from backhand.layers.activations import ReLU
from backhand.layers.base import Context

@dataclasses.dataclass(frozen=True)
class Wrong(ReLU):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return d_params, 3 * d_x

def loss(params, x):
    return (params * x).sum()

def test_own_rule(assert_gradients_agree):
    with pytest.raises(AssertionError, match="off by the constant 1.5"):
        assert_gradients_agree(attached, (x,))

def test_rule_inside(assert_gradients_agree):
    with pytest.raises(AssertionError, match="off by the constant 1.5"):
        assert_gradients_agree(lambda x: attached(x), square, (x,))

def test_gradient(assert_gradients_agree):
    assert_gradients_agree(lambda params, x: x, x, x, loss=loss, checks=())
    with pytest.raises(AssertionError, match="off by the constant 2"):
        assert_gradients_agree(lambda params, x: 2 * x, x, x, loss=loss, checks=())

def test_layer(assert_gradients_agree):
    assert_gradients_agree(ReLU(), {}, x, Context(), checks=())
    with pytest.raises(AssertionError, match="off by the constant 3"):
        assert_gradients_agree(Wrong(), {}, x, Context(), checks=())

def test_options(assert_gradients_agree):
    assert_gradients_agree(square, forward, right, (x,), checks=())
    with pytest.raises(AssertionError, match="input: off by the constant 1.5"):
        assert_gradients_agree(square, forward, wrong, (x,), names=("input",))

def test_nothing_that_is_known(assert_gradients_agree):
    with pytest.raises(TypeError, match="(layer, params, x, context)"):
        assert_gradients_agree(square)

def test_twice(assert_gradients_agree):
    for _ in range(2):
        with pytest.raises(AssertionError):
            assert_gradients_agree(square, forward, wrong, (x,))
""",
        "--gradient-report=pages",
    )
    done.assert_outcomes(passed=7)
    names = {file.name for file in (pytester.path / "pages").iterdir()}
    assert {"test_theirs.test_twice.html", "test_theirs.test_twice-2.html", "test_theirs.test_layer.html"} <= names


def test_a_folder_that_cannot_be_made(run, pytester):
    (pytester.path / "taken").write_text("a file")
    test = "\ndef test_wrong(assert_gradients_agree):\n    assert_gradients_agree(square, forward, wrong, (x,))\n"
    done = run(test, "--gradient-report", "taken/pages")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["--gradient-report taken/pages: the folder cannot be created*"])


def test_nothing_is_imported_before_a_test_asks_for_it():
    source = "import sys, pytest_backhand; print([name for name in sys.modules if name.split('.')[0] == 'jax'])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
