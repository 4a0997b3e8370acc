import struct
from dataclasses import replace

import pytest
from small_problem import BATCH, PLAIN, STEPS, Killed, train
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  (made at run time)

from pipeline.training.config import TrainingConfig
from pipeline.training.run import Run
from pipeline.training.tensorboard import scalars

CONFIG = TrainingConfig(epochs=3, batch_size=BATCH, quiet=True, tensorboard=True, log_every=1, verify_every=4)


def written(run):
    """The numbers in the event files of a run: name, step and value, in their order."""
    numbers = []
    for file in sorted((run / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:  # records: length, its checksum, content, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            numbers += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return numbers


def logged(run):
    return [(name, line["step"], value) for line in Run(run).metrics() for name, value in scalars(line)]


def same(run):
    one, other = written(run), logged(run)
    assert [number[:2] for number in one] == [number[:2] for number in other]
    assert [number[2] for number in one] == pytest.approx([number[2] for number in other], rel=1e-6)
    return {number[:2] for number in one}


def test_event_files_hold_the_metrics_once_also_of_a_run_that_was_killed_and_resumed(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(run, PLAIN, CONFIG, die_at=STEPS + 2)
    assert ("training/loss", STEPS + 1) in same(run)
    train(run, PLAIN, replace(CONFIG, epochs=3), resume=True)
    names = same(run)
    assert {("training/loss", step) for step in range(1, 3 * STEPS + 1)} <= names
    assert {("validation/accuracy", 3 * STEPS), ("gradient_norm/model/layers/0", 1)} <= names
    assert ("gradient_check/max_relative_error", 4) in names
    assert len(names) == len(written(run))


def test_without_the_option_there_are_none(tmp_path):
    train(tmp_path / "run", PLAIN, replace(CONFIG, epochs=1, tensorboard=False))
    assert not (tmp_path / "run" / "tensorboard").exists()
