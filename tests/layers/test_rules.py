"""Every layer and loss: its hand-written rule against autodiff, in every way that ``verify`` knows."""

import pytest

from gradient_cases.layers import CASES
from pipeline.layers.attention import CrossAttention, SelfAttention
from pipeline.layers.base import children

PLAIN = {"precisions": ("float32", "bfloat16")}
EDGE = {"checks": ("values", "edges", "vmap")}
"""Of composites, of attention between Dense layers, and of layers whose plain case, without "/" in its name, has what
takes longest to compile."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case):
    edge = "/" in case.name or any(children(case.layer)) or isinstance(case.layer, SelfAttention | CrossAttention)
    case.verify(**(EDGE if edge else PLAIN)).raise_if_failed()


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
