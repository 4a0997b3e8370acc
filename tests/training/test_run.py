import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.run import Run, read_config
from pipeline.training.stopping import StopConfig


@dataclass(frozen=True)
class Config(TrainingConfig):
    data: str = "digits"
    widths: tuple[int, ...] = (3, 4)
    folder: Path = field(default_factory=lambda: Path("somewhere"))


def test_the_config_comes_back_as_it_was(tmp_path):
    config = Config(
        data="mnist", run_dir=tmp_path / "run", optimizer=OptimizerConfig(name="lion"), stop=StopConfig(target=0.9)
    )
    Run.create(config.run_dir, "test", config)
    assert read_config(tmp_path / "run", Config) == config
    with pytest.raises(UserError, match=r"config\.json cannot be read .*there is no option 'data'.*a TrainingConfig"):
        read_config(tmp_path / "run", TrainingConfig)


def test_a_folder_with_a_run_or_anything_else_in_it_is_refused(tmp_path):
    run = tmp_path / "run"
    Run.create(run, "test", Config())
    before = (run / "config.json").read_bytes()
    with pytest.raises(UserError, match=f"{run} holds a run already; .*--resume {run}.*--run-dir"):
        Run.create(run, "test", Config(seed=5))
    assert (run / "config.json").read_bytes() == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(UserError, match=r"letters is not empty; .*--run-dir"):
        Run.create(tmp_path / "letters", "test", Config())
    with pytest.raises(UserError, match=r"a\.txt is a file"):
        Run.create(tmp_path / "letters" / "a.txt", "test", Config())


def test_without_a_name_a_run_gets_a_folder_under_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run.create(None, "spelling", Config())
    assert run.directory.parent == Path("runs") and run.directory.name.startswith("spelling-")


def test_a_folder_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        Run.open(tmp_path)


def test_metrics_are_lines_that_survive_a_kill_and_rewind(tmp_path):
    run = Run.create(tmp_path / "run", "test", Config())
    assert run.metrics() == []
    for step in (1, 2, 3):
        run.log({"kind": "step", "step": step})
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')  # killed while it wrote
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    run.rewind(2)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "".join(
        json.dumps({"kind": "step", "step": step}) + "\n" for step in (1, 2)
    )


def test_a_summary_is_there_when_the_run_is_finished(tmp_path):
    run = Run.create(tmp_path / "run", "test", Config())
    with pytest.raises(UserError, match="not finished"):
        run.summary()
    run.finish({"test": {"accuracy": np.float32(0.5)}, "seed": 1})
    assert run.summary() == {"test": {"accuracy": 0.5}, "seed": 1}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "summary.json", ".lock"}


@pytest.mark.parametrize("option", ["epochs", "batch_size", "accumulate", "log_every"])
def test_counts_start_at_one(option):
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is 0; it must be at least 1"):
        replace(TrainingConfig(), **{option: 0})
