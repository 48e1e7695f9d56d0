"""Actors that come and go with the machines, on a cluster that is pretended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distdqn.runtime.staff import EVERY_SECONDS
from tests.runtime.machines import Cluster, trained


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


def test_actors_make_room_for_those_of_whom_there_is_but_one(tmp_path: Path) -> None:
    cluster, seen = Cluster(**{"far": 4, "": 4}), list[list[int]]()

    def happens(rollouts: int, there: Callable[[], list[int]]) -> None:
        seen.append(there())
        if rollouts == 30:
            assert [cluster.at[name] for name in ("learner", "shard-0", "evaluator")] == ["far"] * 3
            cluster.vanish("far")

    keys = (
        "actors.envs_per_actor=2",
        "actors.rollout_steps=16",
        "learner.batch_size=16",
        "learner.samples_per_insert=1",
    )
    coordinator, events = trained(tmp_path, cluster, happens, 80 * 32, *keys, "checkpoint.every_seconds=10")
    assert seen[29] == [0, 1, 2, 3, 4] and seen[-1] == [1, 2]
    assert cluster.at["learner"] == cluster.at["shard-0"] == ""
    assert "the learner waits for room in the cluster" in events
    assert coordinator.system.progress.count["lost"] == 0
