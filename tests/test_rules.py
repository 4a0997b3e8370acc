"""Every layer and loss: its hand-written rule against autodiff, in every way that ``verify`` knows."""

import pytest

from pipeline.verify.cases import CASES

PLAIN = {"precisions": ("float32", "bfloat16")}
EDGE = {"transforms": ("vmap",)}
"""Of a layer whose plain case, the one without "/" in its name, has what takes longest to compile."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case):
    case.verify(**(EDGE if "/" in case.name else PLAIN)).raise_if_failed()


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
