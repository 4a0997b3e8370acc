"""How all tests run: float64 on, shapes and dtypes of our annotations checked, warnings as errors.

The tests of layers, losses and verify also run with JAX's strict promotion of dtypes and ranks. The others do not:
optax and Flax raise under it. They run on the CPU; JAX_PLATFORMS chooses another device.

Most of their time would be XLA's, in emitting machine code: on the CPU they ask for code that is emitted quickly. XLA
is given what users give it, so that a proof in float64 is one of what users run; roundings differ by an ulp or so. With
XLA_FLAGS= the tests run in users' machine code, and so does ``scripts/verify_gradients.py`` with the same cases.
"""

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_enable_x64", True)
install_import_hook("pipeline", "beartype.beartype")

from pipeline import compiler  # noqa: E402  (after the hook)

# Tests keep no programs among the user's, nor do the processes that they start.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
# Before JAX looks for devices, and for the processes that tests start.
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault("XLA_FLAGS", compiler.quick_flags())

STRICT = ("layers", "losses", "verify")


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Strict promotion for the tests in the folders named in STRICT, the usual one elsewhere."""
    strict = request.path.relative_to(Path(__file__).parent).parts[0] in STRICT
    with (
        jax.numpy_dtype_promotion("strict" if strict else "standard"),
        jax.numpy_rank_promotion("raise" if strict else "allow"),
    ):
        yield
