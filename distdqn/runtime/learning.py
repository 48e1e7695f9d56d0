"""From shards to the learner and back: minibatches are drawn as the limiter allows, priorities returned,
weights published."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from distdqn.algo.priority import beta_at
from distdqn.runtime.calls import Call
from distdqn.runtime.engine import Ref
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.system import START_SECONDS, RunFailed, System
from distdqn.types import ShardStats, State, UpdateStats, Weights


@dataclass
class Draw:
    """Minibatches on their way to the learner: the part that each shard drew."""

    samples: int
    parts: dict[int, Ref] = field(default_factory=dict)
    waiting: int = 0
    failed: bool = False


class Learning:
    """Owns the learner and the draws."""

    def __init__(self, system: System, keeper: Keeper) -> None:
        self.system, self.keeper = system, keeper
        self.rng = np.random.default_rng([system.config.seed, system.roster.session])
        self._draws = 0
        self._published = 0
        self._positions = system.config.agent.sequence.length
        """Loss positions of a window: each counts as a sample, for the limiter and in the metrics."""
        system.starts("learner", lambda _: self.start_learner(keeper.newest()))
        system.on("sample", self._did_sample, self._lost_sample)
        system.on("update", self._did_update, self._lost_update)
        system.on("priorities", self._did_priorities)
        system.on("weights", self._did_weights)

    def start_learner(self, state: State | None) -> None:
        """Starts the learner, from a checkpoint's state where there is one, and waits for its weights."""
        s = self.system
        learner = s.handles["learner"] = s.roster.learner()
        try:
            if state is not None:
                s.engine.fetch(s.engine.call(learner, "restore", state)[0], START_SECONDS)
            (s.weights,) = s.engine.call(learner, "weights")
            s.version = self._published = s.engine.fetch(s.weights, START_SECONDS).version
        except TimeoutError as error:
            raise RunFailed(
                f"the learner does not start ({error}): is the cluster still there? "
                "`distdqn resume` goes on from the last checkpoint"
            ) from None

    def ask(self) -> None:
        """Draws as many minibatches ahead of the learner as may be, in lockstep one call's worth at a time."""
        s, c = self.system, self.system.config.learner
        while self._draws < s.draws_ahead and not s.progress.done:
            updates = c.updates_per_call
            if (limit := s.config.budget.updates) is not None:
                asked = self._draws * updates + s.progress.count["learner_updates"]
                updates = min(updates, limit - asked)
            if (
                updates < 1
                or s.progress.mass <= 0
                or s.limiter.room_to_sample() < (updates * c.batch_size * self._positions)
            ):
                return
            self._draw(updates)
            if s.lockstep:
                s.drain()

    def _draw(self, updates: int) -> None:
        """A multinomial split by mass, so that the shards together draw as one shard would."""
        s = self.system
        size, replay = s.config.learner.batch_size, s.config.replay
        shares = np.array([s.progress.mass_of(i) for i in range(replay.shards)]) / s.progress.mass
        counts = self.rng.multinomial(size, shares, size=updates)
        beta = beta_at(s.progress.fraction, replay.beta, replay.beta_final)
        draw = Draw(updates * size * self._positions)
        s.limiter.reserve_sample(draw.samples)
        self._draws += 1
        for i in (int(i) for i in np.nonzero(counts.sum(0))[0]):
            draw.waiting += 1
            sizes, share = tuple(int(n) for n in counts[:, i]), min(float(shares[i]), 1.0)
            s.ask("sample", f"shard-{i}", "sample", sizes, beta, share, returns=2, context=(i, draw))

    def _did_sample(self, call: Call, stats: ShardStats) -> None:
        index, draw = call.context
        self.system.progress.shard(index, stats)
        draw.parts[index] = call.refs[0]
        self._part_came(draw)

    def _lost_sample(self, call: Call) -> None:
        draw: Draw = call.context[1]
        draw.failed = True
        self._part_came(draw)

    def _part_came(self, draw: Draw) -> None:
        draw.waiting -= 1
        if draw.waiting:
            return
        if draw.failed:
            self._end(draw, drawn=False)
            return
        parts = [draw.parts[i] for i in sorted(draw.parts)]
        progress = self.system.progress.fraction
        self.system.ask("update", "learner", "update", progress, *parts, returns=len(parts) + 1, context=draw)

    def _end(self, draw: Draw, drawn: bool) -> None:
        self._draws -= 1
        limiter = self.system.limiter
        if drawn:
            limiter.commit_sample(draw.samples, draw.samples)
        else:
            limiter.cancel_sample(draw.samples)

    def _did_update(self, call: Call, stats: UpdateStats) -> None:
        s, draw = self.system, call.context
        self._end(draw, drawn=True)
        s.progress.update(stats)
        s.version = stats.version
        if stats.skipped:
            s.event(f"{stats.skipped} updates skipped: their loss was not finite")
        if stats.aborted:
            path = self.keeper.keep_bad_batch(stats.bad_batch)
            raise RunFailed(
                f"the loss was not finite {s.config.learner.max_bad_updates} times in a row; "
                f"the last batch's provenance is in {path}"
            )
        if s.config.replay.kind == "prioritized":
            for index, ref in zip(sorted(draw.parts), call.refs, strict=False):
                # a shard that has taken a dead one's place knows them by their epoch, and counts them as stale
                s.ask("priorities", f"shard-{index}", "update_priorities", ref, context=index)
        due = s.version - self._published >= s.config.learner.publish_period
        if due and not s.calls.of("weights"):
            s.ask("weights", "learner", "weights")

    def _lost_update(self, call: Call) -> None:
        self._end(call.context, drawn=False)

    def _did_priorities(self, call: Call, stats: ShardStats) -> None:
        self.system.progress.shard(call.context, stats)

    def _did_weights(self, call: Call, weights: Weights) -> None:
        self.system.weights, self._published = call.refs[0], weights.version
