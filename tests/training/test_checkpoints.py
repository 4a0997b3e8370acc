"""What becomes of a run's checkpoints and files when something happens to them, or two processes want them."""

import errno
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import orbax.checkpoint as ocp
import pytest
from small_problem import BATCH, PLAIN, STEPS, Killed, initial, same_bytes, train

from pipeline.errors import UserError, explained
from pipeline.training import checkpoints as module
from pipeline.training.checkpoints import check_run_files, extendable_step, load_params
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Interrupted
from pipeline.training.run import Run, read_config
from pipeline.training.stopping import StopConfig

HOLDER = """
import sys
from pathlib import Path
from pipeline.training.config import TrainingConfig
from pipeline.training.run import Run
Run.create(Path(sys.argv[1]), "test", TrainingConfig())
print("mine", flush=True)
input()
"""
CONFIG = TrainingConfig(epochs=4, batch_size=BATCH, quiet=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, train(directory, PLAIN, CONFIG)


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    return tmp_path / "run"


def folders(run: Path, kind: str) -> list[Path]:
    return sorted((run / "checkpoints" / kind).iterdir(), key=lambda path: int(path.name))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def arrays(folder: Path) -> Path:
    """The largest of the files with a checkpoint's arrays."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
    return max(files, key=lambda path: path.stat().st_size)


def test_a_few_checkpoints_of_each_kind_are_kept(whole, tmp_path):
    assert [int(path.name) for path in folders(whole[0], "last")] == [3 * STEPS, 4 * STEPS]
    assert len(folders(whole[0], "best")) == 2
    train(tmp_path / "run", PLAIN, replace(CONFIG, keep=1))
    assert [int(path.name) for path in folders(tmp_path / "run", "last")] == [4 * STEPS]


def test_a_damaged_best_is_named_and_the_one_before_it_used(whole, copy, caplog):
    older, newest = folders(copy, "best")
    flip_a_bit(arrays(newest))
    params = load_params(copy, initial(PLAIN))
    assert f"{newest} is damaged" in caplog.text and "the one before it is used" in caplog.text
    assert not same_bytes(params, whole[1].params)
    flip_a_bit(older / "manifest.json")
    with pytest.raises(UserError, match=rf"best is whole \(.*{newest.name} is damaged.*{older.name} is damaged"):
        load_params(copy, initial(PLAIN))


def test_arrays_that_come_back_otherwise_than_they_were_saved_are_noticed(copy, monkeypatch):
    restore = ocp.Checkpointer.restore

    def otherwise(self, *arguments, **options):
        return jax.tree.map(lambda leaf: leaf + 1, restore(self, *arguments, **options))

    monkeypatch.setattr(ocp.Checkpointer, "restore", otherwise)
    with pytest.raises(UserError, match="its arrays are not those that were saved"):
        load_params(copy, initial(PLAIN))


@pytest.mark.parametrize("kind", ["last", "best"])
def test_a_run_with_a_damaged_checkpoint_is_resumed_from_the_one_before_it(whole, copy, caplog, kind):
    _, newest = folders(copy, kind)
    arrays(newest).unlink()
    resumed = train(copy, PLAIN, CONFIG, resume=True)
    assert f"{newest} is damaged" in caplog.text
    assert same_bytes(resumed.params, whole[1].params) and same_bytes(resumed.state, whole[1].state)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(copy):
    for folder in folders(copy, "last"):
        (folder / "manifest.json").write_text("{}")
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"no checkpoint in .*last is whole"):
        train(copy, PLAIN, CONFIG, resume=True)
    assert (copy / "metrics.jsonl").read_bytes() == before and len(folders(copy, "best")) == 2


def test_a_run_whose_checkpoints_are_gone_says_so_as_it_begins_anew(whole, copy, caplog):
    shutil.rmtree(copy / "checkpoints" / "last")
    resumed = train(copy, PLAIN, CONFIG, resume=True)
    assert "has no checkpoint in checkpoints/last: training begins anew" in caplog.text
    assert same_bytes(resumed.params, whole[1].params)


def test_a_run_killed_as_a_slow_disk_writes_the_best_loses_nothing(whole, tmp_path, monkeypatch):
    save = module._save

    def slow(folder, tree):
        if folder.name == "params":
            time.sleep(0.3)
        save(folder, tree)

    monkeypatch.setattr(module, "_save", slow)
    with pytest.raises(Killed):
        train(tmp_path / "run", PLAIN, CONFIG, die_at=3 * STEPS)
    last, best = (int(folders(tmp_path / "run", kind)[-1].name) for kind in ("last", "best"))
    assert (
        best
        >= json.loads((tmp_path / "run" / "checkpoints" / "last" / str(last) / "progress.json").read_text())[
            "best_step"
        ]
    )
    assert same_bytes(train(tmp_path / "run", PLAIN, CONFIG, resume=True).params, whole[1].params)


def test_the_best_is_on_the_disk_before_the_last_that_refers_to_it(tmp_path, monkeypatch):
    order, write = [], module.Checkpoints._write
    monkeypatch.setattr(
        module.Checkpoints, "_write", lambda self, kind, *rest: (order.append(kind), write(self, kind, *rest))[1]
    )
    train(tmp_path / "run", PLAIN, replace(CONFIG, epochs=1))
    assert order == ["best", "last"]


def test_a_full_disk_is_one_message_and_the_run_goes_on_when_there_is_space(whole, tmp_path, monkeypatch):
    save, saved = module._save, []

    def full(folder, tree):
        saved.append(folder)
        if len(saved) > 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        save(folder, tree)

    monkeypatch.setattr(module, "_save", full)
    with pytest.raises(OSError) as caught:
        train(tmp_path / "run", PLAIN, CONFIG)
    assert "no space left on device; make some space" in str(explained(caught.value))
    assert not list((tmp_path / "run" / "checkpoints").rglob(".*"))
    monkeypatch.setattr(module, "_save", save)
    assert same_bytes(train(tmp_path / "run", PLAIN, CONFIG, resume=True).params, whole[1].params)


def test_a_run_asked_to_stop_is_saved_after_the_step_in_flight(whole, tmp_path):
    asked = iter(range(100))
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path / "run", PLAIN, CONFIG, stop_requested=lambda: next(asked) == STEPS + 1)
    assert stopped.value.step == STEPS + 2 == int(folders(tmp_path / "run", "last")[-1].name)
    resumed = train(tmp_path / "run", PLAIN, CONFIG, resume=True)
    assert same_bytes(resumed.params, whole[1].params) and same_bytes(resumed.state, whole[1].state)


def test_a_run_that_cannot_be_saved_as_it_is_stopped_does_not_say_it_is(tmp_path, monkeypatch):
    def full(folder, tree):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(module, "_save", full)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path / "run", PLAIN, CONFIG, stop_requested=lambda: True)


def test_a_run_s_own_files_belong_to_its_checkpoints(copy):
    check_run_files(Run(copy))
    (copy / "config.json").write_text((copy / "config.json").read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match=r"config\.json is not as it was when training began"):
        check_run_files(Run(copy))
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is gone"):
        check_run_files(Run(copy))


WRITES = ((module.storage, "write_json"), (Path, "unlink"), (module.storage, "write"))


@pytest.mark.parametrize("survived", range(len(WRITES) + 1))
def test_a_run_killed_as_it_is_given_more_epochs_can_be_resumed(copy, monkeypatch, survived):
    def die(*arguments, **options):
        raise Killed

    (copy / "summary.json").touch()
    with monkeypatch.context() as patched:
        if survived < len(WRITES):
            patched.setattr(*WRITES[survived], die)
            with pytest.raises(Killed):
                Run(copy).extend(5, extendable_step(Run(copy)))
        else:
            Run(copy).extend(5, extendable_step(Run(copy)))
    assert read_config(copy, TrainingConfig).epochs == (5 if survived == len(WRITES) else 4)
    check_run_files(Run(copy))
    for epochs in (6, 7):
        Run(copy).extend(epochs, extendable_step(Run(copy)))
        check_run_files(Run(copy))
    assert not (copy / "summary.json").exists()
    applied = [extension["new_epochs"] for extension in Run(copy).extensions()]
    assert applied == ([5, 6, 7] if survived == len(WRITES) else [6, 7])
    train(copy, PLAIN, replace(CONFIG, epochs=7), resume=True)
    check_run_files(Run(copy))
    assert extendable_step(Run(copy)) == 7 * STEPS
    edited = (copy / "config.json").read_text().replace('"epochs": 7', '"epochs": 8')
    (copy / "config.json").write_text(edited)
    with pytest.raises(UserError, match=r"config\.json is not as it was when training began"):
        check_run_files(Run(copy))


@pytest.mark.parametrize("content", ["", "null", "[5]", '[{"step": 1}]', '{"a": 1}'])
def test_a_damaged_account_of_more_epochs_is_one_message(copy, content):
    (copy / "extensions.json").write_text(content)
    with pytest.raises(UserError, match=r"extensions\.json cannot be read .*restore it"):
        check_run_files(Run(copy))


def test_a_run_that_a_stop_rule_ended_gets_no_more_epochs(tmp_path):
    train(tmp_path / "run", PLAIN, replace(CONFIG, epochs=1, stop=StopConfig(target=100.0)))
    with pytest.raises(UserError, match=r"a stop rule ended it \(target met: validation loss"):
        extendable_step(Run(tmp_path / "run"))


def test_one_process_at_a_time_writes_into_a_run(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "mine\n"
    with pytest.raises(UserError, match=rf"run is being written by process {other.pid} on .*, which began"):
        Run.resume(tmp_path / "run")
    with pytest.raises(UserError, match="holds a run already"):
        Run.create(tmp_path / "run", "test", CONFIG)
    other.kill()
    other.communicate()
    Run.resume(tmp_path / "run").close()


def test_a_folder_that_a_killed_process_left_as_it_began_can_be_used(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.new").write_text('{"seed":')
    Run.create(tmp_path, "test", CONFIG).close()
