"""Machines that are pretended: components run in this process, each on one of them as far as it has cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.engine import ComponentLost, Handle, Needs, Ref, Room
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.local import LocalEngine
from distdqn.runtime.roster import Roster
from distdqn.types import RolloutStats


class Cluster(LocalEngine):
    """Machines of so many cores, of which each component takes one; who has none waits. Rollouts come one at a time:
    those that were on their way to us when their actor was ended are `lost`."""

    def __init__(self, **cores: int) -> None:
        super().__init__()
        self.cores, self.at, self.wanted = cores, dict[str, str](), list[int]()
        self.headless = False
        self.leaving = set[str]()
        self.starts, self.pending = list[str](), dict[Ref, Handle]()
        self.playing, self.lost = dict[Ref, Handle](), list[str]()
        self.asked = dict[Ref, Handle]()

    def rooms(self) -> dict[str, Room]:
        if self.headless:
            raise ComponentLost("no head")
        taken, cores = list(self.at.values()), dict(self.cores)
        free = {name: 0 if name in self.leaving else n - taken.count(name) for name, n in cores.items()}
        return {name: Room(name, n, 0, free[name], name in self.leaving) for name, n in cores.items()}

    def residents(self) -> dict[str, list[Handle]]:
        at = dict(self.at)
        return {machine: [self._components[n][0] for n in at if at[n] == machine] for machine in set(at.values())}

    def want(self, cpus: int) -> None:
        self.wanted.append(cpus)

    def start(self, name: str, place: Any, build: Callable[..., Any], *args: Any) -> Handle:
        assert isinstance(place, Needs)
        if place.node:  # a probe, which takes nothing
            return super().start(name, place, build, *args)
        assert place.cpus == 1
        self.at.pop(name, None)
        self.starts.append(name)
        handle = super().start(name, place, build, *args)
        self.placed(handle)
        return handle

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        refs = super().call(handle, method, *args, returns=returns)
        self.asked[refs[-1]] = handle
        if method == "packed_rollout":
            self.playing[refs[-1]] = handle
        return refs

    def placed(self, handle: Handle) -> bool:
        if handle.name not in self.at:
            free = None if self.headless else next((n for n, room in self.rooms().items() if room.free > 0), None)
            if free is None:
                return False
            self.at[handle.name] = free
        return True

    def ready(self, handle: Handle) -> Ref:
        ref = super().ready(handle)
        self.asked[ref] = self.pending[ref] = handle
        return ref

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        ready = [ref for ref in refs if self._answers(ref)]
        played = [ref for ref in ready if ref in self.playing]
        for ref in played[:1]:
            del self.playing[ref]
        return [ref for ref in ready if ref not in played[1:]]

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        if timeout is not None and not self._answers(ref):
            raise TimeoutError
        return super().fetch(ref, timeout)

    def _answers(self, ref: Ref) -> bool:
        """Not before there is room for whom it was asked of."""
        asked = self.asked[ref]
        return ref.error is not None or self._components[asked.name] == (asked, None) or self.placed(asked)

    def kill(self, handle: Handle) -> None:
        self.at.pop(handle.name, None)
        for ref in [ref for ref, pending in self.pending.items() if pending == handle]:
            del self.pending[ref]
            ref.error = ComponentLost("it was ended")
        for ref in [ref for ref, playing in self.playing.items() if playing == handle]:
            ref.error = ComponentLost("it was ended")
            self.lost.append(handle.name)
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
        cluster.cores[""] += 10  # for who still waits
        coordinator.pause()
        cluster.close()
    return coordinator, events
