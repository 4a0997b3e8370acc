"""How all tests run: float64 on, shapes and dtypes of our annotations checked, warnings as errors.

The tests of layers, losses, backprop and verify also run with JAX's strict promotion of dtypes and ranks. The others do
not: optax and Flax raise under it.
"""

from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
install_import_hook("pipeline", "beartype.beartype")

STRICT = ("test_rules.py", "test_combinators.py", "verify")


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Strict promotion for the files and folders named in STRICT, the usual one elsewhere."""
    place = request.path.relative_to(Path(__file__).parent).parts[0]
    strict = place in STRICT
    with (
        jax.numpy_dtype_promotion("strict" if strict else "standard"),
        jax.numpy_rank_promotion("raise" if strict else "allow"),
    ):
        yield
