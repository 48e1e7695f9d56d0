"""The run's counters, which never go back, and the metrics made from them."""

import time
from collections import defaultdict, deque
from collections.abc import Mapping

from distdqn.config import BudgetConfig
from distdqn.runtime.clock import Clock
from distdqn.types import RolloutStats, ShardStats, State, UpdateStats

FAULTS = (
    *(f"{component}_restarts" for component in ("actor", "shard", "learner", "evaluator")),
    *("failures", "store_full", "bad_updates", "dropped_transitions", "lost_transitions"),
)
SHORTEST_S = 0.25
"""Time that rates are worked out over at the least: an evaluation may be logged right after the last line."""
RECENT_S, RECENT_GAMES = 60.0, 100
"""What the `run/` metrics and the recent return are means over, so that they read calmly."""
SETTLED_S = 10.0
"""Learning has to have gone on for so long before it is said who waited meanwhile."""
RECORDED = {
    "env_frames": "env_frames",
    "env_steps": "env_steps",
    "learner_updates": "learner_updates",
    "episodes": "actor/episodes",
    "emitted": "replay/emitted",
    "stored": "replay/stored",
    "lost": "faults/lost_transitions",
    "stale": "replay/stale_priorities",
}
"""Counters and the metrics that show them."""
COUNTERS = (*RECORDED, "samples", "dropped", "draws")


class Progress:
    """Counts over the whole run, resumes included, and means over the time since the last metrics. Where the run
    is in its budget and how fast it goes are the `run/` metrics.

    Transitions: `emitted` by actors = `stored` + `dropped` + those on their way; `lost` are those stored in a
    shard that died.
    """

    def __init__(self, budget: BudgetConfig, actors: int, by_clock: bool = True, wall: Clock = time) -> None:
        self.budget, self.actors, self.by_clock, self.wall = budget, actors, by_clock, wall
        self.actor_idle = self.learner_idle = 0.0
        """Shares of the time over the last minute, 0 before learning has gone on for a while."""
        self.count: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.faults: dict[str, int] = dict.fromkeys(FAULTS, 0)
        self.shards: dict[int, ShardStats] = {}
        self._earlier_s = 0.0
        self._start = self.wall.monotonic()
        self._since = self._start
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)
        self._returns: deque[float] = deque(maxlen=RECENT_GAMES)
        self._recent: deque[tuple[float, ...]] = deque()
        self._busy = {"rollout_s": 0.0, "update_s": 0.0}
        """Since this session began."""

    @property
    def time_s(self) -> float:
        """Seconds of running, earlier sessions included."""
        return self._earlier_s + self.wall.monotonic() - self._start

    @property
    def fraction(self) -> float:
        """Share of the budget used, in [0, 1]; the first limit that is reached counts. In lockstep the clock
        is left out, since what is learned must not depend on it."""
        return self._share(self.by_clock)

    def _share(self, by_clock: bool) -> float:
        b = self.budget
        shares = [
            self.count["env_frames"] / b.env_frames if b.env_frames else 0.0,
            self.count["learner_updates"] / b.updates if b.updates else 0.0,
            self.time_s / b.seconds if b.seconds and by_clock else 0.0,
        ]
        return min(1.0, max(shares))

    @property
    def done(self) -> bool:
        """True once the budget is used up."""
        return self.fraction >= 1 or bool(self.budget.seconds and self.time_s >= self.budget.seconds)

    def _mean(self, name: str, value: float, weight: float = 1.0) -> None:
        self._sums[name] += value * weight
        self._weights[name] += weight

    def rollout(self, stats: RolloutStats, version: int) -> None:
        """A rollout ended, while the learner was at `version`."""
        self.count["env_frames"] += stats.frames
        self.count["env_steps"] += stats.steps
        self.count["emitted"] += stats.transitions
        self.count["episodes"] += len(stats.returns)
        self._returns.extend(stats.returns)
        self._sums["rollout_s"] += stats.seconds
        self._busy["rollout_s"] += stats.seconds
        self._sums["steps"] += stats.steps
        self._mean("actor/weights_lag", max(0, version - stats.weights_version))
        if stats.bonus_mean:
            self._mean("actor/bonus", stats.bonus_mean)
        for episode_return, length, epsilon in zip(stats.returns, stats.lengths, stats.epsilons, strict=True):
            self._mean("actor/episode_return", episode_return)
            self._mean("actor/episode_length", length)
            self._mean("actor/epsilon", epsilon)

    def update(self, stats: UpdateStats) -> None:
        """A learner call ended."""
        self.count["learner_updates"] += stats.updates
        self.count["samples"] += stats.samples
        self.faults["bad_updates"] += stats.skipped
        self._sums["update_s"] += stats.seconds
        self._busy["update_s"] += stats.seconds
        self._sums["updates"] += stats.updates
        self._sums["samples"] += stats.samples
        if stats.updates:
            for name, value in stats.metrics.items():
                self._mean(f"learner/{name}", value, stats.updates)
        self._mean("learner/sample_lag", stats.weights_lag)

    def shard(self, index: int, stats: ShardStats) -> None:
        """A shard answered."""
        previous = self.shards.get(index)
        self.count["stale"] += stats.stale - (previous.stale if previous else 0)
        for name in ("bytes_in", "bytes_out"):
            self._sums[name] += getattr(stats, name) - (getattr(previous, name) if previous else 0)
        self.shards[index] = stats
        if stats.sampled and (previous is None or stats.sampled > previous.sampled):
            self._mean("replay/sample_age", stats.sample_age)

    @property
    def transitions(self) -> int:
        """Transitions that the shards hold."""
        return sum(s.transitions for s in self.shards.values())

    def metrics(self, samples_per_insert: float, training: bool = True) -> dict[str, float]:
        """The metrics of the time since the last call; rates and idle fractions only while `training`. So soon after
        the last call that rates would say nothing, these and the means wait for the next one."""
        now = self.wall.monotonic()
        seconds = max(now - self._since, 1e-9)
        sums, soon = self._sums, training and seconds < SHORTEST_S
        values: dict[str, float] = {
            "time_s": self.time_s,
            **{metric: self.count[name] for name, metric in RECORDED.items()},
            "run/fraction": self._share(by_clock=True),
            "replay/transitions": self.transitions,
            "replay/samples_per_insert": samples_per_insert,
            "replay/dropped": self.count["dropped"],
            "replay/rss_bytes": sum(s.rss for s in self.shards.values()),
            "replay/journal_bytes": sum(s.journal_bytes for s in self.shards.values()),
            **{f"faults/{name}": n for name, n in self.faults.items()},
        }
        if held := self.transitions:
            values["replay/bytes_per_transition"] = sum(s.nbytes for s in self.shards.values()) / held
        if self._returns:
            values["actor/recent_return"] = sum(self._returns) / len(self._returns)
        if self.done:
            values["run/seconds_left"] = 0.0
        if soon:
            return values
        values |= {name: sums[name] / w for name, w in self._weights.items() if w}
        if training:
            values["actor/count"] = self.actors
            values["actor/env_steps_per_s"] = sums["steps"] / seconds
            values["actor/idle_fraction"] = _idle(sums["rollout_s"], seconds * self.actors)
            values["replay/bytes_in_per_s"] = sums["bytes_in"] / seconds
            values["replay/bytes_out_per_s"] = sums["bytes_out"] / seconds
            values["learner/updates_per_s"] = sums["updates"] / seconds
            values["learner/samples_per_s"] = sums["samples"] / seconds
            values["learner/idle_fraction"] = _idle(sums["update_s"], seconds)
            values |= self._pace()
        self._since = now
        self._sums, self._weights = defaultdict(float), defaultdict(float)
        return values

    def _pace(self) -> dict[str, float]:
        """Frames and updates per second over the last minute of training, the seconds that the budget lasts at these
        speeds, and who waited meanwhile, since learning began; what is not known yet is left out."""
        counted = (self.time_s, self.count["env_frames"], self.count["learner_updates"])
        now = (*counted, *self._busy.values(), self.faults["store_full"])
        self._recent.append(now)
        while len(self._recent) > 2 and self._recent[1][0] <= now[0] - RECENT_S:
            self._recent.popleft()
        seconds, frames, updates = (n - then for n, then in zip(counted, self._recent[0], strict=False))
        if not seconds:
            return {}
        speeds = (1.0, frames / seconds, updates / seconds)
        limits = zip((self.budget.seconds, self.budget.env_frames, self.budget.updates), counted, speeds, strict=True)
        left = [max(limit - used, 0.0) / speed for limit, used, speed in limits if limit and speed]
        values = {"run/frames_per_s": speeds[1], "run/updates_per_s": speeds[2]}
        learning = next(then for then in self._recent if then[2] or then is now)
        seconds, _, _, rollout_s, update_s, store_full = (n - then for n, then in zip(now, learning, strict=True))
        if seconds >= SETTLED_S:
            self.actor_idle = values["run/actors_idle"] = _idle(rollout_s, seconds * self.actors)
            self.learner_idle = values["run/learner_idle"] = _idle(update_s, seconds)
            values["run/store_full"] = store_full
        return {**values, "run/seconds_left": min(left)} if left else values

    def state(self) -> State:
        """The counters."""
        return {"count": dict(self.count), "faults": dict(self.faults), "time_s": self.time_s}

    def restore(self, state: State, seen: Mapping[str, float] | None = None) -> None:
        """Goes on from what `state` gave. Transitions that were on their way then are gone: dropped.

        Args:
            seen: the last metrics that were recorded. A process that was killed has counted on after its last
                checkpoint, and counters never go back.
        """
        seen = seen or {}
        shown = {name: f"faults/{name}" for name in self.faults}
        for own, key, metrics in ((self.count, "count", RECORDED), (self.faults, "faults", shown)):
            own.update({k: int(v) for k, v in state[key].items()})
            own.update({name: max(own[name], int(seen.get(metric, 0))) for name, metric in metrics.items()})
        self.count["dropped"] = self.count["emitted"] - self.count["stored"]
        self._earlier_s = max(float(state["time_s"]), seen.get("time_s", 0.0))
        self._start = self._since = self.wall.monotonic()


def _idle(busy: float, available: float) -> float:
    return min(1.0, max(0.0, 1 - busy / available))
