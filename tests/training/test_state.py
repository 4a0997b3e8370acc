import math

import jax
import numpy as np
import pytest
from small_problem import PLAIN, initial

from pipeline.errors import UserError
from pipeline.layers.combinators import Serial
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.training import state
from pipeline.training.state import COPIES, device_memory, require_model_fits

EXAMPLE = (jax.ShapeDtypeStruct((1, 5), np.float32), Targets(jax.ShapeDtypeStruct((1,), np.int32)))


def test_a_model_larger_than_the_memory_is_refused_before_anything_is_computed():
    width = 2**31 - 1
    objective = Objective(Serial((Dense(width), Dense(width))), PLAIN.loss)
    count = (5 + 1) * width + (width + 1) * width
    with pytest.raises(UserError, match=rf"{count:,} parameters.* GiB of memory; lower --width or --word-vectors$"):
        require_model_fits(objective, EXAMPLE, ("width", "word_vectors"))


def test_a_model_that_just_fits_is_not(monkeypatch):
    count = sum(leaf.size for leaf in jax.tree.leaves(initial(PLAIN)))
    monkeypatch.setattr(state, "device_memory", lambda: COPIES * 4 * count)
    require_model_fits(PLAIN, EXAMPLE, ("width",))
    monkeypatch.setattr(state, "device_memory", lambda: COPIES * 4 * count - 1)
    with pytest.raises(UserError, match=rf"{count} parameters"):
        require_model_fits(PLAIN, EXAMPLE, ("width",))


def test_the_memory_of_the_device_is_known_here():
    assert 2**26 < device_memory() < math.inf
