"""Actors that come and go with the machines, on a cluster that is pretended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.engine import ComponentLost, Handle, Needs, Ref, Room
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.local import LocalEngine
from distdqn.runtime.roster import Roster
from distdqn.runtime.staff import EVERY_SECONDS
from distdqn.types import RolloutStats


class Cluster(LocalEngine):
    """Machines of so many cores, of which each component takes one; who has none waits."""

    def __init__(self, **cores: int) -> None:
        super().__init__()
        self.cores, self.at, self.wanted = cores, dict[str, str](), list[int]()
        self.headless = False
        self.starts, self.pending = list[str](), dict[Ref, Handle]()

    def rooms(self) -> dict[str, Room]:
        if self.headless:
            raise ComponentLost("no head")
        taken = list(self.at.values())
        return {name: Room(name, n, 0, n - taken.count(name)) for name, n in self.cores.items()}

    def want(self, cpus: int) -> None:
        self.wanted.append(cpus)

    def start(self, name: str, place: Any, build: Callable[..., Any], *args: Any) -> Handle:
        assert isinstance(place, Needs)
        if place.node:  # a probe, which takes nothing
            return super().start(name, place, build, *args)
        assert place.cpus == 1
        self.at.pop(name, None)
        self.starts.append(name)
        return super().start(name, place, build, *args)

    def placed(self, handle: Handle) -> bool:
        if handle.name not in self.at:
            free = None if self.headless else next((n for n, room in self.rooms().items() if room.free > 0), None)
            if free is None:
                return False
            self.at[handle.name] = free
        return True

    def ready(self, handle: Handle) -> Ref:
        ref = super().ready(handle)
        self.pending[ref] = handle
        return ref

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        return [ref for ref in refs if ref not in self.pending or self.placed(self.pending[ref])]

    def kill(self, handle: Handle) -> None:
        self.at.pop(handle.name, None)
        for ref in [ref for ref, pending in self.pending.items() if pending == handle]:
            del self.pending[ref]
            ref.error = ComponentLost("it was ended")
        super().kill(handle)

    def vanish(self, machine: str) -> None:
        del self.cores[machine]
        for name in [name for name, at in self.at.items() if at == machine]:
            self.kill(self._components[name][0])


class Wall:
    """A clock that goes on when it is looked at, and with each rollout."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.002
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def trained(
    tmp_path: Path, cluster: Cluster, happens: Callable[[int, Callable[[], list[int]]], None], frames: int, *keys: str
) -> tuple[Coordinator, list[str]]:
    """A run in which `happens` is called after each rollout with the rollouts so far and who there is."""
    overrides = ["experiment=catch", "engine=local", "actors.count=auto", "replay.min_size=500", "replay.shards=1"]
    more = ["learner.threads=1", "evaluation.threads=1", "evaluation.every_seconds=null", f"run_dir={tmp_path / 'run'}"]
    config = compose([*overrides, *more, "engine.address=auto", f"budget.env_frames={frames}", *keys])
    events, rollouts, spec, wall = list[str](), 0, check_env(config.env), Wall()
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, spec, dict, events.append)
        roster = Roster(config, spec, cluster, 1, 0, 0.0)
        coordinator = Coordinator(config, cluster, roster, keeper, lambda _: None, events.append, wall)
        s = coordinator.system
        rollout = s.progress.rollout

        def there() -> list[int]:
            return sorted(int(name[6:]) for name in s.handles if name.startswith("actor-"))

        def count(stats: RolloutStats, version: int) -> None:
            nonlocal rollouts
            rollouts += 1
            wall.now += 1.0
            rollout(stats, version)
            happens(rollouts, there)

        s.progress.rollout = count  # type: ignore[method-assign]
        coordinator.start()
        assert coordinator.run()
        coordinator.pause()
        cluster.close()
    return coordinator, events


def test_actors_follow_the_machines(tmp_path: Path) -> None:
    cluster, seen = Cluster(**{"": 6}), dict[int, list[int]]()

    def happens(rollouts: int, there: Callable[[], list[int]]) -> None:
        seen[rollouts] = there()
        if rollouts == 20:
            cluster.cores["far"] = 4
        cluster.headless = 40 <= rollouts < 52
        if rollouts == 60:
            cluster.vanish("far")
        if rollouts == 110:
            cluster.cores["further"] = 2

    coordinator, events = trained(
        tmp_path,
        cluster,
        happens,
        150 * 32,
        "actors.envs_per_actor=2",
        "actors.rollout_steps=16",
        "learner.batch_size=16",
    )
    assert seen[19] == [0, 1, 2]  # the learner, the shard and the evaluator have the other cores
    assert seen[20 + 30] == list(range(7)) == seen[59]  # within 30 seconds, one a rollout
    assert seen[109] == [0, 1, 2] and seen[110 + 30] == list(range(5))
    assert "4 actors join, 7 in all" in events and "2 actors join, 5 in all" in events
    assert any(e.endswith("3 in all") and "leave" in e for e in events)
    progress = coordinator.system.progress
    assert progress.faults["actor_restarts"] == 4 and progress.count["lost"] == 0
    on_the_way = progress.count["emitted"] - progress.count["stored"] - progress.count["dropped"]
    assert on_the_way == 0 and EVERY_SECONDS < 30


def test_who_is_retired_gives_what_it_plays_and_the_cluster_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this clock games take no time, so that the actors seem to wait."""
    monkeypatch.setattr("distdqn.runtime.crew.WAITS_S", 40.0)
    cluster, numbers = Cluster(**{"": 11}), list[int]()

    def happens(rollouts: int, there: Callable[[], list[int]]) -> None:
        numbers.append(len(there()))

    keys = ("actors.autoscale=true", "actors.min=6", "actors.envs_per_actor=2", "actors.rollout_steps=16")
    coordinator, events = trained(tmp_path, cluster, happens, 200 * 32, *keys, "learner.batch_size=16")
    assert list(dict.fromkeys(numbers)) == [8, 7, 6]  # all that there is room for, and then fewer
    progress = coordinator.system.progress
    assert progress.faults["actor_restarts"] == 0 and progress.count["emitted"] == progress.count["stored"]
    assert cluster.wanted == [3 + 7, 3 + 6]
    assert "2 actors join, 8 in all" in events and events.count("1 actor leaves, 7 in all") == 1
