import jax
import pytest
from small_problem import BATCH, PLAIN, STEPS, Killed, same_bytes, train

from pipeline.training.config import TrainingConfig
from pipeline.training.profiling import FIRST

CONFIG = TrainingConfig(epochs=2, batch_size=BATCH, quiet=True)


def steps_in(run):
    """The numbers of the steps that the trace of a run has."""
    (file,) = (run / "profile").rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(file)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events if event.name == "train"]
    return sorted(dict(event.stats)["step_num"] for event in events)


@pytest.mark.parametrize(
    ("steps", "die_at", "traced"), [(2, None, 2), (1000, None, 2 * STEPS - FIRST), (1000, STEPS, STEPS - FIRST)]
)
def test_some_steps_after_the_first_are_traced_also_where_training_ends_among_them(tmp_path, steps, die_at, traced):
    config = TrainingConfig(epochs=2, batch_size=BATCH, quiet=True, profile=steps)
    if die_at:
        with pytest.raises(Killed):
            train(tmp_path / "run", PLAIN, config, die_at=die_at)
    else:
        result = train(tmp_path / "run", PLAIN, config)
        assert same_bytes(result.params, train(tmp_path / "plain", PLAIN, CONFIG).params)
    assert steps_in(tmp_path / "run") == list(range(FIRST + 1, FIRST + 1 + traced))
    assert list((tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz"))


def test_a_run_too_short_for_a_trace_says_so(tmp_path, caplog):
    train(tmp_path / "run", PLAIN, CONFIG)
    train(tmp_path / "run", PLAIN, TrainingConfig(epochs=2, batch_size=BATCH, quiet=True, profile=2), resume=True)
    assert "--profile 2: nothing is traced, since only 0 steps were trained here" in caplog.text
    assert not (tmp_path / "run" / "profile").exists()
