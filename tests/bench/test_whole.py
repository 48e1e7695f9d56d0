from pathlib import Path

import pytest

from distdqn.bench.whole import FILL, System, Window
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.runtime.local import LocalEngine


def test_a_system_runs_pauses_and_goes_on(tmp_path: Path) -> None:
    config = compose(["experiment=catch", "engine=local", "replay.min_size=500", "replay.capacity=4000"])
    with System(config, check_env(config.env), LocalEngine(), tmp_path / "run") as system:
        system.warm_up()
        assert system.updates > 0
        first = system.measure(0.3, drop=0.0)
        system.pause()
        assert len(system.coordinator.system.calls) == 0
        steps = system.watch.count["env_steps"]
        assert len(system.watch.rollouts) > 0
        second = system.measure(0.3, drop=0.0)
        assert system.watch.count["env_steps"] > steps
        for window in (first, second):
            assert window.seconds >= 0.3 and window.steps_per_s > 0 and set(window.cpu) == {"process"}
        system.fill()
        assert system.watch.transitions > 3000
        memory = system.watch_memory(0.1)
        assert memory.full and memory.minutes > 0 and memory.start["process"] > 0
        assert memory.shard_says == sum(s.nbytes for s in system.watch.shards.values())
    assert system.events == []


def test_nothing_but_training_happens_and_filling_is_short(tmp_path: Path) -> None:
    config = compose(["experiment=catch", "engine=local", "replay.min_size=20000"])
    with System(config, check_env(config.env), LocalEngine(), tmp_path / "run") as system:
        assert system.config.replay.min_size == FILL
        assert system.config.evaluation.every_seconds is None
        assert system.config.budget.env_frames is None


def test_what_was_reached_is_what_the_learner_kept_up_with() -> None:
    window = Window(10, 100, 700, 7, 0, 0, {}, 0)
    assert window.reached(ratio=8) == pytest.approx(700 / 8)
    assert window.reached(ratio=4) == 100
    assert window.samples_per_step == 7
