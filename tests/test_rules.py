"""Every layer and loss: its hand-written rule against autodiff, in every way that ``verify`` knows."""

import pytest

from pipeline.verify.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case):
    if "/" in case.name:  # an edge of a layer whose plain case has what needs most compiling
        report = case.verify(transforms=("vmap",))
    else:
        report = case.verify(precisions=("float32", "bfloat16"))
    report.raise_if_failed()


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
