from types import SimpleNamespace

import numpy as np

from pipeline.data.account import account, class_line


def data(*labels, classes):
    splits = [np.array(split) for split in labels]
    return SimpleNamespace(
        classes=classes,
        **{
            part: type("Split", (), {"labels": split, "__len__": lambda self: len(self.labels)})()
            for part, split in zip(("train", "validation", "test"), splits)
        },
    )


def test_every_class_of_every_split_is_counted():
    content = account(data([0, 0, 1], [1], [0, 2], classes=("a", "b", "c")), ["one file is skipped: x"])
    assert content == {
        "splits": {
            "train": {"examples": 3, "classes": {"a": 2, "b": 1, "c": 0}},
            "validation": {"examples": 1, "classes": {"a": 0, "b": 1, "c": 0}},
            "test": {"examples": 2, "classes": {"a": 1, "b": 0, "c": 1}},
        },
        "notes": ["one file is skipped: x"],
    }
    assert class_line(content) == "training examples of each class: a 2, b 1, c 0"


def test_of_many_classes_the_fewest_and_the_most_are_named():
    classes = tuple(f"class {i}" for i in range(30))
    labels = [i for i in range(30) for _ in range(i + 1)]
    line = class_line(account(data(labels, [0], [0], classes=classes)))
    assert line == "training examples of each of 30 classes: from 1 (class 0) to 30 (class 29)"
    equal = class_line(account(data([*range(30)] * 3, [0], [0], classes=classes)))
    assert equal == "training examples of each of 30 classes: 3"


def test_data_without_classes_are_counted_only():
    numbers = SimpleNamespace(train=np.zeros(5), validation=np.zeros(2), test=[1, 2, 3])
    content = account(numbers)
    assert [split["examples"] for split in content["splits"].values()] == [5, 2, 3] and class_line(content) == ""
