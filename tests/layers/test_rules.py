"""Every layer and loss: its hand-written rule against autodiff, in every way that ``verify`` knows."""

import pytest
from jax import lax

from gradient_cases.layers import CASES
from pipeline.layers.attention import CrossAttention, SelfAttention
from pipeline.layers.base import children
from pipeline.layers.blockwise_attention import DotProductAttention
from pipeline.layers.convolution import Conv
from pipeline.layers.pooling import MaxPool

PLAIN = {"precisions": ("float32", "bfloat16")}
EDGE = {"checks": ("values", "edges", "vmap")}
"""Of composites, of attention between Dense layers, and of layers whose plain case, without "/" in its name, has what
takes longest to compile."""

CHOOSE = Conv, MaxPool, DotProductAttention
"""Layers whose rule has another branch for accelerators than for a CPU."""
ALIKE = "Conv/signal", "heads", "head by head"
"""Cases of these that have no such branch, or differ from others in the loops of a CPU only."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case):
    edge = "/" in case.name or any(children(case.layer)) or isinstance(case.layer, SelfAttention | CrossAttention)
    case.verify(**(EDGE if edge else PLAIN)).raise_if_failed()


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if isinstance(c.layer, CHOOSE) and not any(part in c.name for part in ALIKE)],
    ids=lambda case: case.name,
)
def test_what_accelerators_run(case, monkeypatch):
    """Where a rule has loops for a CPU's cache, its other branch, forced on a CPU."""
    chosen = []

    def other_branch(*args, default, **_):
        chosen.append(default)
        return default(*args)

    monkeypatch.setattr(lax, "platform_dependent", other_branch)
    case.verify(checks=("values", "edges"), precisions=()).raise_if_failed()
    assert chosen


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
