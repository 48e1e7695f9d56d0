"""Components die at any moment, answers come late or never: the run ends, and every transition is accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn import checkpoint
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime.calls import Call
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.engine import ComponentLost, DataLost, Handle, Ref
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.local import LocalEngine
from distdqn.runtime.progress import FAULTS, Progress
from distdqn.runtime.roster import Roster

COUNTERS = (
    "env_frames",
    "env_steps",
    "learner_updates",
    "replay/emitted",
    "replay/stored",
    "replay/dropped",
    "actor/episodes",
    *(f"faults/{name}" for name in FAULTS),
)
DEATHS, LOSSES, ANSWERED = 0.03, 0.03, 0.7


class Chaos(LocalEngine):
    """Answers come late; with them some component may die, which takes what it has not answered with it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.deaths: dict[str, int] = {}
        self._waiting: dict[Any, Handle] = {}

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        refs = super().call(handle, method, *args, returns=returns)
        if self.rng.random() < LOSSES and method in ("rollout", "add", "sample", "update", "update_priorities"):
            for ref in refs:
                ref.error = DataLost(f"{method}: an object is gone")
        self._waiting[refs[-1]] = handle
        return refs

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        if self.rng.random() < DEATHS:
            alive = [h for h, component in self._components.values() if component is not None]
            self._die(alive[self.rng.integers(len(alive))])
        ready = [r for r in refs if self.rng.random() < ANSWERED]
        for ref in ready:
            self._waiting.pop(ref)
        return ready

    def _die(self, handle: Handle) -> None:
        kind = handle.name.partition("-")[0]
        self.deaths[kind] = self.deaths.get(kind, 0) + 1
        self.kill(handle)
        for ref, asked in self._waiting.items():
            if asked == handle:
                ref.error = ComponentLost(f"{handle.name} died")


def on_the_way(progress: Progress) -> int:
    return progress.count["emitted"] - progress.count["stored"] - progress.count["dropped"]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_outlives_deaths_at_any_moment(tmp_path: Path, seed: int) -> None:
    config = compose(
        [
            "experiment=catch",
            "engine=local",
            "actors.count=3",
            "actors.envs_per_actor=2",
            "actors.rollout_steps=16",
            "replay.shards=3",
            "replay.min_size=300",
            "replay.capacity=3000",
            "learner.samples_per_insert=2",
            "learner.batch_size=16",
            "learner.updates_per_call=2",
            "budget.env_frames=4500",
            f"seed={seed}",
            "checkpoint.every_seconds=0.2",
            "evaluation.every_seconds=0.3",
            "evaluation.episodes=2",
            "evaluation.final_episodes=3",
            "evaluation.envs=2",
            "evaluation.video=false",
            "log_every_seconds=0.02",
            f"run_dir={tmp_path / 'run'}",
        ]
    )
    spec, engine = check_env(config.env), Chaos(seed)
    lines: list[dict[str, float]] = []
    events: list[str] = []
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, spec, dict, events.append)
        roster = Roster(config, spec, engine, 1, 0, 0.0)
        coordinator = Coordinator(config, engine, roster, keeper, lines.append, events.append)
        coordinator.start()
        assert coordinator.run()
        s = coordinator.system
        in_rollouts = len(s.calls.of("add")) * s.rollout_size
        assert 0 <= on_the_way(s.progress) <= in_rollouts
        coordinator.pause()
        coordinator.finish(evaluate=True, timeout=20)
        coordinator.pause()
        dead = [name.partition("-")[0] for name, (_, component) in engine._components.items() if component is None]
        engine.close()

        assert on_the_way(s.progress) == 0, s.progress.count
        assert s.limiter.inserted == s.progress.count["stored"]
        assert s.limiter.sampled == s.progress.count["samples"]
        assert s.limiter._inserts_in_flight == s.limiter._samples_in_flight == 0
        assert coordinator.learning._draws == 0
        assert len(keeper.final["final_evaluation"]["returns"]) == 3

        for name in COUNTERS:
            values = [line[name] for line in lines]
            assert values == sorted(values), f"{name} went back"
        faults = s.progress.faults
        for kind, deaths in engine.deaths.items():  # those that were asked for nothing more are not missed
            assert deaths - dead.count(kind) <= faults[f"{kind}_restarts"] <= deaths, (kind, engine.deaths, faults)
        assert s.progress.count["learner_updates"] > 100

        found = checkpoint.newest_valid(folder.checkpoints)
        assert found is not None
        resumed = Progress(config.budget, config.actors.count)
        resumed.restore(found[1]["counters"]["progress"])
        assert on_the_way(resumed) == 0
        assert resumed.count["env_frames"] == s.progress.count["env_frames"]


def test_actors_take_turns_where_the_learner_is_slower(tmp_path: Path) -> None:
    config = compose(
        [
            "experiment=catch",
            "engine=local",
            "actors.count=4",
            "actors.envs_per_actor=2",
            "replay.min_size=500",
            "learner.samples_per_insert=8",
            "budget.env_frames=4000",
            "evaluation.every_seconds=null",
            f"run_dir={tmp_path / 'run'}",
        ]
    )
    spec, engine = check_env(config.env), LocalEngine()
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, spec, dict, print)
        roster = Roster(config, spec, engine, 1, 0, 0.0)
        coordinator = Coordinator(config, engine, roster, keeper, lambda _: None, print)
        asked: list[str] = []
        ask = coordinator.system.ask

        def count(name: str, method: str, *args: Any, **more: Any) -> Call:
            asked.extend([name] * (method == "rollout"))
            return ask(name, method, *args, **more)

        coordinator.system.ask = count  # type: ignore[method-assign]
        coordinator.start()
        coordinator.run()
        engine.close()
    played = [asked.count(f"actor-{i}") for i in range(4)]
    assert max(played) - min(played) <= 2, played
