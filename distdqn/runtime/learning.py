"""From shards to the learner and back: minibatches drawn as the limiter allows, priorities returned, weights
published."""

import numpy as np

from distdqn.algo.priority import beta_at
from distdqn.runtime.calls import Task
from distdqn.runtime.engine import NoAnswer
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.system import START_SECONDS, RunFailed, System
from distdqn.types import State, UpdateStats, Weights


class Learning:
    """Owns the learner and the draws."""

    def __init__(self, system: System, keeper: Keeper) -> None:
        self.system, self.keeper = system, keeper
        self.rng = np.random.default_rng([system.config.seed, system.roster.session])
        self._draws = self._published = 0
        self._positions = system.config.agent.sequence.length
        """Loss positions of a window: each counts as a sample, for the limiter and in the metrics."""
        system.starts("learner", lambda _: self.start_learner(keeper.newest()))

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
            why = "is the cluster still there? `distdqn resume` goes on from the last checkpoint"
            raise RunFailed(f"the learner does not start ({error}): {why}") from None

    def ask(self) -> None:
        """Draws as many minibatches ahead of the learner as may be, in lockstep one call's worth at a time."""
        s, c = self.system, self.system.config.learner
        while self._draws < s.draws_ahead and not s.progress.done:
            updates = c.updates_per_call
            if (limit := s.config.budget.updates) is not None:
                asked = self._draws * updates + s.progress.count["learner_updates"]
                updates = min(updates, limit - asked)
            samples = updates * c.batch_size * self._positions
            if updates < 1 or s.progress.mass <= 0 or s.limiter.room_to_sample() < samples:
                return
            s.begin(self._draw(updates))
            if s.lockstep:
                s.drain()

    def _draw(self, updates: int) -> Task:
        """The life of a draw: its parts are sampled by the shards and learned from, their priorities returned."""
        s, size, replay = self.system, self.system.config.learner.batch_size, self.system.config.replay
        # a multinomial split by mass, so that the shards together draw as one shard would
        shares = np.array([s.progress.mass_of(i) for i in range(replay.shards)]) / s.progress.mass
        sizes = self.rng.multinomial(size, shares, size=updates)
        beta = beta_at(s.progress.fraction, replay.beta, replay.beta_final)
        samples = updates * size * self._positions
        s.limiter.reserve_sample(samples)
        self._draws += 1
        parts = {
            i: s.ask(f"shard-{i}", "sample", tuple(sizes[:, i].tolist()), beta, min(float(shares[i]), 1.0), returns=2)
            for i in np.nonzero(sizes.sum(0))[0].tolist()
        }
        try:
            batches = []
            for part in parts.values():
                yield part
                batches.append(part.refs[0])
            update = s.ask("learner", "update", s.progress.fraction, *batches, returns=len(batches) + 1)
            stats: UpdateStats = yield update
        except NoAnswer:
            self._draws -= 1
            s.limiter.commit_sample(0, samples)
            return
        self._draws -= 1
        s.limiter.commit_sample(samples, samples)
        self._learned(stats)
        if replay.kind == "prioritized":
            for i, priorities in zip(parts, update.refs, strict=False):
                # a shard that has taken a dead one's place knows them by their epoch, and counts them as stale
                s.ask(f"shard-{i}", "update_priorities", priorities)
        if s.version - self._published >= s.config.learner.publish_period:
            self.publish()

    def _learned(self, stats: UpdateStats) -> None:
        s = self.system
        s.progress.update(stats)
        s.version = stats.version
        if stats.skipped:
            s.event(f"{stats.skipped} updates skipped: their loss was not finite")
        if stats.aborted:
            path = self.keeper.keep_bad_batch(stats.bad_batch)
            what = f"the loss was not finite {s.config.learner.max_bad_updates} times in a row"
            raise RunFailed(f"{what}; the last batch's provenance is in {path}")

    def publish(self) -> None:
        """Asks the learner for its weights, unless that has been done."""
        if not self.system.calls.of("weights"):
            self.system.begin(self._publish())

    def _publish(self) -> Task:
        call = self.system.ask("learner", "weights")
        weights: Weights = yield call
        self.system.weights, self._published = call.refs[0], weights.version
