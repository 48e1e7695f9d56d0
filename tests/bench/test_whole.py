import pytest

from distdqn.bench.whole import FILL, TrialRun, Window, throwaway
from distdqn.config.compose import compose
from distdqn.runtime.local import LocalEngine


def test_a_system_runs_pauses_and_goes_on() -> None:
    config = compose(["experiment=catch", "engine=local", "replay.min_size=500", "replay.capacity=4000"])
    with throwaway(config) as (config, spec), TrialRun(config, spec, LocalEngine()) as run:
        run.warm_up()
        assert run.updates > 0
        first = run.measure(0.3, drop=0.0)
        run.coordinator.pause()
        assert len(run.coordinator.system.calls) == 0
        steps = run.watch.count["env_steps"]
        assert len(run.watch.rollouts) > 0
        second = run.measure(0.3, drop=0.0)
        assert run.watch.count["env_steps"] > steps
        for window in (first, second):
            assert window.seconds >= 0.3 and window.steps_per_s > 0 and window.cpu["process"] > 0
        run.run_until(lambda: run.watch.transitions > 3000)
        assert run.watch.transitions > 3000
        assert second.resident["process"] > second.shard_bytes > 0
    assert run.events == []


def test_nothing_but_training_happens_and_filling_is_short() -> None:
    config = compose(["experiment=catch", "engine=local", "replay.min_size=20000"])
    with throwaway(config) as (config, spec), TrialRun(config, spec, LocalEngine()) as run:
        assert run.config.replay.min_size == FILL
        assert run.config.evaluation.every_seconds is None
        assert run.config.budget.env_frames is None


def test_what_was_reached_is_what_the_learner_kept_up_with() -> None:
    window = Window(10, 100, 700, 7, 0, 0, {}, 0, {}, 0)
    assert window.reached(ratio=8) == pytest.approx(700 / 8)
    assert window.reached(ratio=4) == 100
    assert window.samples_per_step == 7
