"""Machines that are to leave are emptied first, on a cluster that is pretended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distdqn import checkpoint
from distdqn.runtime.coordinator import Coordinator
from tests.runtime.machines import Cluster, trained

KEYS = ("actors.envs_per_actor=2", "actors.rollout_steps=16", "learner.batch_size=16", "learner.samples_per_insert=1")
GONE = "nothing of this run is on far any more"


def drained(
    tmp_path: Path, cluster: Cluster, machine: str, vanishes: bool, *keys: str
) -> tuple[Coordinator, list[str], list[list[int]]]:
    """A run of 90 rollouts, at the 30th of which `machine` is to leave; at the 60th it `vanishes`. Who played then."""
    seen = list[list[int]]()

    def happens(rollouts: int, there: Callable[[], list[int]]) -> None:
        seen.append(there())
        if rollouts == 30:
            cluster.leaving.add(machine)
        if rollouts == 60 and vanishes:
            assert machine not in cluster.at.values()
            cluster.vanish(machine)

    coordinator, events = trained(tmp_path, cluster, happens, 90 * 32, *KEYS, *keys)
    progress = coordinator.system.progress
    count = progress.count
    assert not cluster.lost and not any(progress.faults.values())
    assert count["emitted"] == count["stored"] > 0 == count["lost"]
    return coordinator, events, seen


def test_actors_give_back_their_work_before_their_machine_goes(tmp_path: Path) -> None:
    cluster = Cluster(**{"": 4, "far": 4})
    _, events, seen = drained(tmp_path, cluster, "far", True)
    assert seen[29] == [0, 1, 2, 3, 4] and seen[59] == seen[89] == [0]
    assert events.count("far is to leave: its 4 actors give back their work first") == events.count(GONE) == 1


def test_all_else_goes_on_elsewhere_where_it_was(tmp_path: Path) -> None:
    cluster = Cluster(**{"far": 5, "": 7})
    coordinator, events, seen = drained(tmp_path, cluster, "far", True, "actors.count=3")
    assert seen[29] == seen[89] == [0, 1, 2]
    told = "its 2 actors give back their work first; evaluator, learner, shard-0 move where there is room"
    assert events.count(f"far is to leave: {told}") == events.count(GONE) == 1
    started = {name: cluster.starts.count(name) for name in cluster.starts}
    assert started == {"learner": 2, "shard-0": 2, "evaluator": 2, "actor-0": 2, "actor-1": 2, "actor-2": 1}
    s = coordinator.system
    assert s.version == s.progress.count["learner_updates"] > 0  # no update was lost
    assert s.progress.transitions == s.progress.count["stored"]  # nor did the shard lose anything


def test_who_finds_no_room_elsewhere_stays(tmp_path: Path) -> None:
    cluster = Cluster(**{"far": 5, "": 1})
    _, events, seen = drained(tmp_path, cluster, "far", False, "actors.count=3")
    assert seen[29] == [0, 1, 2] and GONE not in events
    assert all(cluster.starts.count(name) == 1 for name in ("learner", "shard-0", "evaluator"))
    assert {name for name, at in cluster.at.items() if at == "far"} == {"learner", "shard-0", "evaluator"}


def test_what_other_machines_do_not_see_does_not_move(tmp_path: Path) -> None:
    cluster = Cluster(**{"far": 2, "": 7})
    _, events, _ = drained(tmp_path, cluster, "far", False, "actors.count=3", f"replay.journal_dir={tmp_path}")
    assert "far is to leave: learner moves where there is room; what shard-0 holds goes with it" in events
    assert cluster.starts.count("learner") == 2 and cluster.starts.count("shard-0") == 1


def test_a_driver_whose_machine_is_to_leave_saves(tmp_path: Path) -> None:
    cluster = Cluster(**{"": 6, "far": 2})
    _, events, seen = drained(tmp_path, cluster, "", False, "actors.count=3", "checkpoint.every_seconds=10000")
    assert events.count(", where this run's driver is, is to leave: the run is saved, and goes on for now") == 1
    assert seen[29] == seen[89] == [0, 1, 2] and cluster.starts.count("learner") == 1
    assert len(checkpoint.names(tmp_path / "run" / "checkpoints")) == 2
