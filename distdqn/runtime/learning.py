"""From shards to the learner and back: minibatches drawn as the limiter allows, priorities returned, weights
published."""

import numpy as np

from distdqn.algo.priority import beta_at
from distdqn.runtime.calls import Call, Task
from distdqn.runtime.components import GivenUp, RunFailed
from distdqn.runtime.engine import NoAnswer, Ref
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.shards import Shards
from distdqn.runtime.system import System
from distdqn.types import State, UpdateStats, Weights


class Learning:
    """Owns the learner and the draws."""

    def __init__(self, system: System, shards: Shards, keeper: Keeper) -> None:
        self.system, self.shards, self.keeper = system, shards, keeper
        self._draws: dict[int, str] = {}
        """What is being drawn, and whom each waits for."""
        self.held = False
        """No draws are begun: the learner is about to move."""
        self._published, self._published_at = 0, 0.0
        self._positions = system.config.agent.sequence.length
        """Loss positions of a window: each counts as a sample, for the limiter and in the metrics."""
        system.starts("learner", self._start_anew)

    def make_learner(self) -> None:
        """Asks for the learner's process, before anybody else takes its room."""
        self.system.handles["learner"] = self.system.roster.learner()

    def start_learner(self, state: State | None) -> None:
        """Hands the learner a checkpoint's state where there is one, and waits for its weights."""
        s, learner = self.system, self.system.handles["learner"]
        if state is not None:
            s.first_answer(learner, s.engine.call(learner, "restore", state)[0])
        (s.weights,) = s.engine.call(learner, "weights")
        s.version = self._published = s.first_answer(learner, s.weights).version

    def _start_anew(self, index: int) -> None:
        state = self._saved()
        self.make_learner()
        self.start_learner(state)

    def _saved(self) -> State | None:
        """What a learner that died is restored from; None where nothing was learned yet."""
        state = self.keeper.newest()
        if state is None and self.system.progress.count["learner_updates"]:
            raise GivenUp("the learner is lost, and no checkpoint can be read that another could go on from")
        return state

    def ask(self) -> None:
        """Draws as many minibatches ahead of the learner as may be, in lockstep one call's worth at a time."""
        s, c = self.system, self.system.config.learner
        while not self.held and len(self._waiting()) < s.draws_ahead and not s.progress.done:
            updates = c.updates_per_call
            if (limit := s.config.budget.updates) is not None:
                asked = len(self._draws) * updates + s.progress.count["learner_updates"]
                updates = min(updates, limit - asked)
            samples = updates * c.batch_size * self._positions
            if updates < 1 or s.limiter.room_to_sample() < samples or self.shards.mass().sum() <= 0:
                return
            s.begin(self._draw(updates))
            if s.lockstep:
                s.drain()

    def _draw(self, updates: int) -> Task:
        """The life of a draw: its parts are sampled by the shards and learned from, their priorities returned."""
        s, size, replay = self.system, self.system.config.learner.batch_size, self.system.config.replay
        mass = self.shards.mass()
        shares = mass / mass.sum()
        s.progress.count["draws"] += 1
        draw = s.progress.count["draws"]
        sizes = split(np.random.default_rng((s.config.seed, draw)), shares, size, updates, replay.shards_per_draw)
        beta = beta_at(s.progress.fraction, replay.beta, replay.beta_final)
        samples = updates * size * self._positions
        s.limiter.reserve_sample(samples)

        def ask(i: int) -> Call:
            share = min(float(shares[i]), 1.0)
            return s.ask(f"shard-{i}", "sample", tuple(sizes[:, i].tolist()), beta, share, draw, returns=2)

        parts = {i: ask(i) for i in np.nonzero(sizes.sum(0))[0].tolist()}
        try:
            batches = []
            for i, part in parts.items():
                self._draws[draw] = f"shard-{i}"
                try:
                    yield part
                except NoAnswer:
                    if not (s.lockstep and self.shards.journal):
                        raise
                    part = ask(i)  # a successor with the same contents gives the same windows
                    yield part
                batches.append(part.refs[0])
            self._draws[draw] = "learner"
            update = s.ask("learner", "update", s.progress.fraction, *batches, returns=len(batches) + 1)
            stats: UpdateStats = yield update
        except NoAnswer:
            del self._draws[draw]
            s.limiter.commit_sample(0, samples)
            return
        del self._draws[draw]
        s.limiter.commit_sample(samples, samples)
        self._learned(stats)
        if replay.kind == "prioritized":
            for i, priorities in zip(parts, update.refs, strict=False):
                s.begin(self._return(i, priorities))
        c = s.config.learner
        soon = not s.lockstep and s.calls.clock < self._published_at + c.publish_seconds
        if s.version - self._published >= c.publish_period and not soon:
            self.publish()

    def _return(self, index: int, priorities: Ref) -> Task:
        """Without a journal a successor knows by their epoch that they are not its own, and counts them as stale."""
        yield from self.shards.change(index, "update_priorities", priorities, tries=2 if self.shards.journal else 1)

    @property
    def drawing(self) -> bool:
        """True while minibatches are drawn or learned from."""
        return bool(self._draws)

    def _waiting(self) -> list[str]:
        """Whom the draws wait for, but for those that have been silent for a while: others go on without them."""
        return [name for name in self._draws.values() if name not in self.system.silent]

    def _learned(self, stats: UpdateStats) -> None:
        s = self.system
        s.progress.update(stats)
        s.version = stats.version
        if stats.skipped:
            s.event(f"{stats.skipped} updates skipped: their loss was not finite")
        if stats.aborted:
            where = self.keeper.keep_bad_batch(stats.bad_batch)
            what = f"the loss was not finite {s.config.learner.max_bad_updates} times in a row"
            raise RunFailed(f"{what}; the last batch's provenance is {where}")

    def publish(self) -> None:
        """Asks the learner for its weights, unless that has been done."""
        if not self.system.calls.of("weights"):
            self._published_at = self.system.calls.clock
            self.system.begin(self._publish())

    def _publish(self) -> Task:
        call = self.system.ask("learner", "weights")
        weights: Weights = yield call
        self.system.weights, self._published = call.refs[0], weights.version


def split(rng: np.random.Generator, shares: np.ndarray, size: int, updates: int, most: int) -> np.ndarray:
    """Windows that each shard gives to each of `updates` minibatches of `size`, int64 `[updates, shards]`.

    `shares` are the shards' parts of the sampling mass. The split is multinomial by them, so that the shards together
    draw as one shard would. Where there are more shards than `most`, that many times a shard is drawn, and each gives
    an equal number of windows, rounded at random: a window is as likely as before in every place of a minibatch, and no
    more than `most` shards are asked, however many there are.
    """
    if len(shares) <= most:
        return rng.multinomial(size, shares, size=updates)
    ends = np.cumsum(rng.multinomial(most, shares)) * size
    return np.diff((ends + rng.integers(most, size=(updates, 1))) // most, axis=1, prepend=0)
