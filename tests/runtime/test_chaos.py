"""Components die at any moment, answers come late or never: the run ends, and every transition is accounted for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn import checkpoint
from distdqn.config import RunConfig
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime import run as module
from distdqn.runtime.calls import Call
from distdqn.runtime.components import GivenUp
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.engine import ComponentFailed, ComponentLost, DataLost, Handle, Ref, StoreFull
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.local import LocalEngine
from distdqn.runtime.progress import FAULTS, Progress
from distdqn.runtime.roster import Roster
from distdqn.runtime.watch import START_SECONDS
from distdqn.types import RolloutStats, UpdateStats

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
        if self.rng.random() < LOSSES and method in ("packed_rollout", "add", "sample", "update", "update_priorities"):
            for ref in refs:
                ref.error = DataLost(f"{method}: an object is gone")
        self._waiting[refs[-1]] = handle
        return refs

    def ready(self, handle: Handle) -> Ref:
        ref = super().ready(handle)
        self._waiting[ref] = handle
        return ref

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        alive = [h for h, component in self._components.values() if component is not None]
        if self.rng.random() < DEATHS and alive:
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


@contextmanager
def coordinated(config: RunConfig, engine: LocalEngine, events: list[str]) -> Iterator[Coordinator]:
    """A run that has not been started, in a folder of its own."""
    spec = check_env(config.env)
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, spec, dict, events.append)
        roster = Roster(config, spec, engine, 1, 0, 0.0)
        yield Coordinator(config, engine, roster, keeper, lambda _: None, events.append)


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
        assert coordinator.learning._draws == {}
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
            asked.extend([name] * (method == "packed_rollout"))
            return ask(name, method, *args, **more)

        coordinator.system.ask = count  # type: ignore[method-assign]
        coordinator.start()
        coordinator.run()
        engine.close()
    played = [asked.count(f"actor-{i}") for i in range(4)]
    assert max(played) - min(played) <= 2, played


class Full(LocalEngine):
    """A cluster that has no room for the second actor until somebody makes some."""

    room = False

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Ref] = []

    def placed(self, handle: Handle) -> bool:
        return self.room or handle.name != "actor-1"

    def ready(self, handle: Handle) -> Ref:
        ref = super().ready(handle)
        if not self.placed(handle):
            self.pending.append(ref)
        return ref

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        return [ref for ref in refs if self.room or ref not in self.pending]


def test_who_has_no_room_is_waited_for_and_joins_in(tmp_path: Path) -> None:
    overrides = ["experiment=catch", "engine=local", "actors.count=2", "replay.min_size=500", "budget.env_frames=20000"]
    config = compose([*overrides, "evaluation.every_seconds=null", f"run_dir={tmp_path / 'run'}"])
    engine = Full()
    events: list[str] = []
    played: list[int] = []
    with coordinated(config, engine, events) as coordinator:
        s = coordinator.system
        rollout = s.progress.rollout

        def count(stats: RolloutStats, version: int) -> None:
            played.append(stats.actor)
            s.calls.clock += 3
            engine.room |= s.progress.count["env_frames"] > 10000
            rollout(stats, version)

        s.progress.rollout = count  # type: ignore[method-assign]
        coordinator.start()
        assert coordinator.run()
        engine.close()
    assert events[0] == "actor-1 waits for room in the cluster" and len(events) == 1
    assert s.progress.faults["actor_restarts"] == 0 and s.calls.clock > START_SECONDS
    assert 1 not in played[: len(played) // 2] and 1 in played


class Unwell(LocalEngine):
    """Raises where it is told to."""

    def __init__(self, **raises: BaseException) -> None:
        super().__init__()
        self.raises = raises

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        refs = super().call(handle, method, *args, returns=returns)
        if method in self.raises:
            for ref in refs:
                ref.error = self.raises[method]
        return refs


@pytest.mark.parametrize(
    ("method", "error", "said"),
    [
        ("packed_rollout", ComponentFailed(ValueError("bad"), ""), "actor-0 died 6 times in a row: ValueError: bad"),
        ("update", ComponentFailed(ValueError("bad"), ""), "learner died 6 times in a row: ValueError: bad"),
        (
            "update",
            ComponentFailed(RuntimeError("CUDA out of memory"), ""),
            "learner.batch_size=32: the device's memory was used up twice in a row, lower it",
        ),
    ],
)
def test_who_cannot_be_kept_alive_ends_the_run_after_a_save(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: Any,
    said: str,
) -> None:
    overrides = ["experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "track=disabled"]
    config = compose([*overrides, "learner.batch_size=32", "tensorboard=false", f"run_dir={tmp_path / 'run'}"])
    monkeypatch.setattr(module, "make_engine", lambda *_: Unwell(**{method: error}))
    assert module.train(config, check_env(config.env)) == 3
    output = capsys.readouterr()
    assert output.err.strip() == f"distdqn: {said}"
    assert checkpoint.names(tmp_path / "run" / "checkpoints") and "a resume goes on from step-" in output.out


def test_an_evaluator_that_always_fails_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "budget.env_frames=20000"]
    config = compose([*overrides, "evaluation.every_seconds=0.01", f"run_dir={tmp_path / 'run'}"])
    engine = Unwell(proceed=ComponentFailed(ValueError("bad"), ""))
    events: list[str] = []
    with coordinated(config, engine, events) as coordinator:
        coordinator.start()
        assert coordinator.run()
        assert not coordinator.finish(evaluate=True, timeout=20)  # so that the run is not called done
        assert coordinator.saving.saved
        engine.close()
    assert any(line.startswith("the evaluator ") and "the next evaluation tries again" in line for line in events)


def test_the_last_evaluation_takes_the_place_of_one_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distdqn.runtime.saving.SLICE_SECONDS", 0.0)  # a step a slice: 999 episodes outlast the wait
    overrides = ["experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "evaluation.episodes=999"]
    more = ["evaluation.every_seconds=null", "evaluation.final_episodes=3", "evaluation.video=false"]
    config = compose([*overrides, *more, f"run_dir={tmp_path / 'run'}"])
    with coordinated(config, LocalEngine(), []) as coordinator:
        s, saving, keeper = coordinator.system, coordinator.saving, coordinator.saving.keeper
        played: list[tuple[int, bool]] = []
        evaluated = keeper.evaluated

        def note(name: str, result: Any, final: bool) -> bool:
            played.append((len(result.returns), final))
            return evaluated(name, result, final)

        monkeypatch.setattr(keeper, "evaluated", note)
        coordinator.start()
        saving.save(evaluate=True)
        while not s.calls.of("proceed"):
            for call in s.calls.ready(timeout=0.1):
                s.answer(call)
            saving.go_on()
        assert coordinator.finish(evaluate=True, timeout=20)
        s.engine.close()
    assert played == [(3, True)]
    assert s.progress.faults["evaluator_restarts"] == s.progress.faults["failures"] == 0


def test_a_learner_without_a_checkpoint_is_not_replaced_by_a_random_one(tmp_path: Path) -> None:
    overrides = ["experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500"]
    config = compose([*overrides, "evaluation.every_seconds=null", f"run_dir={tmp_path / 'run'}"])
    spec, engine = check_env(config.env), LocalEngine()
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, spec, dict, print)
        coordinator = Coordinator(config, engine, Roster(config, spec, engine, 1, 0, 0.0), keeper, print, print)
        s = coordinator.system
        update = s.progress.update

        def lose(stats: UpdateStats) -> None:
            update(stats)
            if s.progress.count["learner_updates"] > 20:
                for path in folder.checkpoints.glob("step-*/manifest.json"):
                    path.unlink()
                engine.kill(s.handles["learner"])

        s.progress.update = lose  # type: ignore[method-assign]
        coordinator.start()
        with pytest.raises(GivenUp, match="no checkpoint can be read"):
            coordinator.run()
        engine.close()


class SilentStart(LocalEngine):
    """Its learners give no answer to the first `silent` calls of `method`."""

    def __init__(self, method: str, silent: int) -> None:
        super().__init__()
        self.method, self.silent, self.calls = method, silent, dict[Ref, str]()

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        refs = super().call(handle, method, *args, returns=returns)
        if method == self.method and self.silent:
            self.silent -= 1
            self.calls[refs[-1]] = method
        return refs

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        if ref in self.calls:
            assert timeout is not None, "it would be waited for without an end"
            raise TimeoutError
        return super().fetch(ref, timeout)


@pytest.mark.parametrize("method", ["weights", "state"])
def test_a_learner_that_is_silent_while_it_starts_is_replaced_once(tmp_path: Path, method: str) -> None:
    overrides = ["experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "budget.env_frames=3000"]
    config = compose([*overrides, "evaluation.every_seconds=null", f"run_dir={tmp_path / 'run'}"])
    events: list[str] = []
    with coordinated(config, SilentStart(method, 1), events) as coordinator:
        coordinator.start()
        assert coordinator.run()
    assert events == ["learner gave no answer for 180 s", "learner lost, restarted"]
    assert coordinator.system.progress.faults["learner_restarts"] == 1


def test_learners_that_are_silent_while_they_start_end_the_run(tmp_path: Path) -> None:
    config = compose(["experiment=catch", "engine=local", f"run_dir={tmp_path / 'run'}"])
    with coordinated(config, SilentStart("weights", 2), []) as coordinator, pytest.raises(GivenUp, match="twice in"):
        coordinator.start()


def test_who_is_told_to_stop_while_the_learner_starts_waits_for_nobody(tmp_path: Path) -> None:
    config = compose(["experiment=catch", "engine=local", f"run_dir={tmp_path / 'run'}"])
    engine = SilentStart("weights", 1)
    with coordinated(config, engine, []) as coordinator:
        asked: list[float | None] = []

        def fetch(ref: Ref, timeout: float | None = None) -> Any:
            asked.append(timeout)
            coordinator.stop = True
            return SilentStart.fetch(engine, ref, timeout)

        engine.fetch = fetch  # type: ignore[method-assign]
        coordinator.start()
        assert not coordinator.started and len(asked) == 1
        assert coordinator.system.progress.faults["learner_restarts"] == 0


def test_what_was_asked_just_now_is_not_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["experiment=catch", "engine=local", f"run_dir={tmp_path / 'run'}"])
    engine, taken_back = LocalEngine(), list[Ref]()
    monkeypatch.setattr(engine, "cancel", taken_back.append)
    with coordinated(config, engine, []) as coordinator:
        coordinator.start()
        s = coordinator.system
        first = s.ask("learner", "weights")
        s.calls.clock += 2
        second = s.ask("learner", "weights")
        s.cancel("weights")
        assert taken_back == [first.refs[-1]]
        s.calls.clock += 2
        s.cancel("weights")
        assert taken_back == [first.refs[-1], second.refs[-1]]


def test_the_clocks_of_saving_go_on_after_a_resume(tmp_path: Path) -> None:
    config = compose(["experiment=catch", "engine=local", f"run_dir={tmp_path / 'run'}"])
    spec, engine = check_env(config.env), LocalEngine()
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, spec, dict, print)

        def fresh() -> Coordinator:
            return Coordinator(config, engine, Roster(config, spec, engine, 1, 0, 0.0), keeper, print, print)

        first, second = fresh().saving, fresh().saving
        first._next_save -= 7
        first._next_evaluation -= 5
        second.restore(first.counters())
        assert second._next_save == pytest.approx(first._next_save, abs=0.5)
        assert second._next_evaluation == pytest.approx(first._next_evaluation, abs=0.5)


class NoRoom(LocalEngine):
    """Its object store is full: nothing can be put there, and every third rollout finds no place."""

    rollouts = 0

    def put(self, value: Any) -> Ref:
        raise StoreFull("no room")

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        refs = super().call(handle, method, *args, returns=returns)
        self.rollouts += method == "packed_rollout"
        if method == "packed_rollout" and self.rollouts % 3 == 0:
            for ref in refs:
                ref.error = StoreFull("no room")
        return refs


def test_a_full_store_makes_pauses_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distdqn.runtime.system.FULL_SECONDS", 0.01)
    overrides = ["experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "budget.env_frames=10000"]
    config = compose([*overrides, "evaluation.every_seconds=0.1", f"run_dir={tmp_path / 'run'}"])
    engine = NoRoom()
    events: list[str] = []
    with coordinated(config, engine, events) as coordinator:
        coordinator.start()
        assert coordinator.run()
        assert not coordinator.finish(evaluate=True, timeout=20)
        engine.close()
    assert coordinator.system.progress.faults["store_full"] > 3
    assert coordinator.system.progress.faults["actor_restarts"] == 0
    assert any("is not evaluated, the object store is full" in line for line in events)
