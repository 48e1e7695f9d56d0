"""The whole system under a stopwatch: the coordinator, its engine and all components, without evaluations."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from distdqn.bench.measure import arrival_rate, family_cpu, machine_cpu
from distdqn.config import BudgetConfig, RunConfig
from distdqn.config.stored import config_yaml
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.engine import Engine
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.preflight import check
from distdqn.runtime.progress import Progress
from distdqn.runtime.roster import Roster
from distdqn.runtime.run import learner_gpus
from distdqn.types import EnvSpec, RolloutStats, UpdateStats

LOOK_EVERY = 0.5
"""Seconds between two looks at the clock."""
PATIENCE = 900.0
"""Seconds after which a system that has not begun to learn is given up."""
NEVER = 1e9
FILL = 5000
"""Transitions after which learning starts here, where the config waits for more: filling is not measured."""


@contextmanager
def throwaway(config: RunConfig) -> Iterator[tuple[RunConfig, EnvSpec]]:
    """The config, checked, with a folder that is gone afterwards, and what it plays. Raises `ConfigError`: one line
    that names the key and what it may be."""
    spec = check_env(config.env)
    with tempfile.TemporaryDirectory(prefix="distdqn-bench-") as folder:
        config = replace(config, run_dir=str(Path(folder) / "run"))
        check(config, spec)
        yield config, spec


@dataclass(frozen=True)
class Window:
    """Some `seconds` of training. Idle fractions and `samples_per_step` as in the run's metrics; `cpu`: CPU
    seconds spent per second, by kind of component, the engine's own processes as `engine`; `other_load`: those
    that the rest of the machine spent meanwhile, by which the figures are too low; `resident`: bytes at the end, by
    kind of component, and `shard_bytes` what the shards say they take."""

    seconds: float
    steps_per_s: float
    samples_per_s: float
    updates_per_s: float
    actor_idle: float
    learner_idle: float
    cpu: dict[str, float]
    other_load: float
    resident: dict[str, float]
    shard_bytes: int

    @property
    def samples_per_step(self) -> float:
        """Windows learned from for each agent step."""
        return self.samples_per_s / self.steps_per_s if self.steps_per_s else 0.0

    def reached(self, ratio: float) -> float:
        """Agent steps/s that can go on: no more than the learner kept up with at `ratio` samples a step."""
        return min(self.steps_per_s, self.samples_per_s / ratio)


class _Stopwatch(Progress):
    def __init__(self, config: RunConfig) -> None:
        super().__init__(config.budget, config.actors.places)
        self.rollouts: list[tuple[float, RolloutStats]] = []
        self.learned: list[tuple[float, UpdateStats]] = []

    def rollout(self, stats: RolloutStats, version: int) -> None:
        super().rollout(stats, version)
        self.rollouts.append((time.perf_counter(), stats))

    def update(self, stats: UpdateStats) -> None:
        super().update(stats)
        self.learned.append((time.perf_counter(), stats))


class TrialRun(ExitStack):
    """A training run that starts, pauses (`coordinator.pause`) and goes on; `config.run_dir` becomes its folder."""

    def __init__(self, config: RunConfig, spec: EnvSpec, engine: Engine) -> None:
        super().__init__()
        config = self.config = _quiet(config)
        self.events: list[str] = []
        owned = self.enter_context(RunFolder.create(config.run_dir, config_yaml(config)))
        keeper = Keeper(owned, config, spec, dict, self.events.append)
        roster = Roster(config, spec, engine, 0, 0, learner_gpus(config))
        self.coordinator = Coordinator(config, engine, roster, keeper, lambda _: self._look(), self.events.append)
        self.watch = self.coordinator.system.progress = _Stopwatch(config)
        self._enough: Callable[[], bool] = lambda: True
        self.callback(self._kill)
        self.coordinator.start()
        self.kinds = {engine.pid(h): name.partition("-")[0] for name, h in self.coordinator.system.handles.items()}
        self.kinds[psutil.Process().pid] = "driver" if len(self.kinds) > 1 else "process"

    def _kill(self) -> None:
        for handle in self.coordinator.system.handles.values():
            self.coordinator.system.engine.kill(handle)

    def warm_up(self) -> None:
        """Runs until learning goes on: the replay has its least size, all is compiled. Raises `TimeoutError` if not."""
        first, start = self.config.learner.updates_per_call, time.perf_counter()
        self.run_until(lambda: self.updates > first or time.perf_counter() - start > PATIENCE)
        if self.updates <= first:
            raise TimeoutError(f"no update within {PATIENCE:.0f} s: replay.min_size may be out of reach")

    @property
    def updates(self) -> int:
        """Gradient steps so far."""
        return self.watch.count["learner_updates"]

    def measure(self, seconds: float, drop: float) -> Window:
        """Trains for `drop + seconds` and gives the figures of the latter."""
        self.run_for(drop)
        start, cpu, everything = time.perf_counter(), self._cpu(), machine_cpu()
        self.run_for(seconds)
        seconds = time.perf_counter() - start
        spent = {kind: (s - cpu.get(kind, 0.0)) / seconds for kind, s in self._cpu().items()}
        played, learned = self.watch.rollouts, self.watch.learned

        def rate(happened: Sequence[tuple[float, Any]], what: str) -> float:
            seen = [(t, getattr(stats, what)) for t, stats in happened if start <= t <= start + seconds]
            return arrival_rate([t for t, _ in seen], [amount for _, amount in seen], seconds)

        return Window(
            seconds=seconds,
            steps_per_s=rate(played, "steps"),
            samples_per_s=rate(learned, "samples"),
            updates_per_s=rate(learned, "updates"),
            actor_idle=min(1.0, max(0.0, 1 - rate(played, "seconds") / self.config.actors.places)),
            learner_idle=min(1.0, max(0.0, 1 - rate(learned, "seconds"))),
            cpu=spent,
            other_load=max(0.0, (machine_cpu() - everything) / seconds - sum(spent.values())),
            resident=self.resident(),
            shard_bytes=self.shard_bytes,
        )

    def run_for(self, seconds: float) -> None:
        """Trains for that long."""
        end = time.perf_counter() + seconds
        self.run_until(lambda: time.perf_counter() >= end)

    def run_until(self, enough: Callable[[], bool]) -> None:
        """Trains until `enough()`, which is asked every `LOOK_EVERY` seconds."""
        self._enough, self.coordinator.stop = enough, False
        self.coordinator.run()

    def _look(self) -> None:
        self.coordinator.stop = self._enough()

    def resident(self) -> dict[str, float]:
        """Resident bytes by kind of component."""
        resident: dict[str, float] = defaultdict(float)
        for pid, kind in self.kinds.items():
            with suppress(psutil.Error):
                resident[kind] += psutil.Process(pid).memory_info().rss
        return dict(resident)

    @property
    def shard_bytes(self) -> int:
        """What the shards say they take."""
        return sum(s.nbytes for s in self.watch.shards.values())

    def _cpu(self) -> dict[str, float]:
        spent: dict[str, float] = defaultdict(float)
        for pid, seconds in family_cpu().items():
            spent[self.kinds.get(pid, "engine")] += seconds
        return spent


def _quiet(config: RunConfig) -> RunConfig:
    return replace(
        config,
        budget=BudgetConfig(env_frames=None, seconds=NEVER),
        evaluation=replace(config.evaluation, every_seconds=None, video=False),
        checkpoint=replace(config.checkpoint, every_seconds=NEVER),
        replay=replace(config.replay, min_size=min(config.replay.min_size, FILL)),
        log_every_seconds=LOOK_EVERY,
    )
