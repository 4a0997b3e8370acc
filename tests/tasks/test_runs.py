"""What every task does with a run: answers for programs, traces, events, exported parameters, more epochs.

The smallest task stands for all of them.
"""

from functools import partial

import pytest
from running import refused_by, within

from tasks.image_recognition import ImageRecognition

TINY = ("--model", "mlp", "--batch-size", 256, "--log-every", 1)


@pytest.fixture
def task(capsys):
    return partial(within, ImageRecognition(), capsys)


@pytest.fixture
def refused(capsys):
    return partial(refused_by, ImageRecognition(), capsys)


def test_a_metric_that_the_task_does_not_have_is_refused_before_a_run_is_begun(refused, tmp_path):
    message = refused(*TINY, "--stop.metric", "f1", "--run-dir", tmp_path / "run")
    assert "--stop.metric is 'f1'; this task has loss, accuracy" in message
    assert not (tmp_path / "run").exists()
