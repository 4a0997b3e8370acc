from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from pipeline.data.fingerprint import differences, fingerprint


@dataclass(frozen=True)
class Split:
    values: Any
    names: Any = ("a", "b")

    def __len__(self):
        return len(self.values)


@dataclass(frozen=True)
class Data:
    train: Split
    validation: Split = Split(np.zeros((2, 2)))
    test: Split = Split([np.zeros(3), np.ones(4)])


@pytest.mark.parametrize(
    "changed",
    [
        Split(np.array([1.0, 2.0], np.float32)),
        Split(np.array([[1.0], [2.0]])),
        Split(np.array([1.0, np.nextafter(2.0, 3)])),
        Split(np.array([1.0, 2.0]), ("ab", "")),
        Split(np.array([1.0, 2.0]), ("a", "b", None)),
        Split(np.array([1.0, 2.0]), {"a": "b"}),
        Split(np.array([1.0, 2.0]), ("a", "\udc80")),
        Split(np.array(["x", "y"], object)),
    ],
)
def test_every_change_is_noticed_in_its_split(changed):
    data = Data(Split(np.array([1.0, 2.0])))
    same = Data(Split(np.array([1.0, 2.0])), Split(np.zeros((2, 2))), Split([np.zeros(3), np.ones(4)]))
    assert fingerprint(data) == fingerprint(same)
    other = replace(data, train=changed)
    assert differences(fingerprint(data), fingerprint(other)) == ["train has as many examples as before, 2, but others"]


def test_the_number_of_examples_is_said():
    data = Data(Split(np.arange(1000)))
    other = replace(data, train=Split(np.arange(999)), test=Split(np.arange(7)))
    assert differences(fingerprint(data), fingerprint(other)) == [
        "train had 1,000 examples and has 999",
        "test had 2 examples and has 7",
    ]
