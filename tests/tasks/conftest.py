"""Fixtures of a task's tests, whose module names the task: ``TASK = ImageRecognition()``."""

from functools import partial

import pytest
from running import refused_by, within


@pytest.fixture
def task(request, capsys):
    """Runs the task with arguments, see ``within``."""
    return partial(within, request.module.TASK, capsys)


@pytest.fixture
def refused(request, capsys):
    """The message to a mistake in the arguments, see ``refused_by``."""
    return partial(refused_by, request.module.TASK, capsys)
