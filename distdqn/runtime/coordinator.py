"""The wiring and the loop: who is asked for what, when, and where the answer goes.

```
            weights ──────────────────────────────────────────────┐
   rollout ──▶ add ──▶ (limiter) ──▶ sample ──▶ update ──▶ priorities
                                                   └──▶ state ──▶ checkpoint ──▶ evaluate ──▶ record
```

Each arrow is a handler below: `_asked_X` asks, `_did_X` takes the answer, `_lost_X` cleans up where the
component died. Only the last, small result of a call is opened here; the rest is handed on by reference.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distdqn.algo.priority import beta_at
from distdqn.config import RunConfig
from distdqn.replay.limiter import SamplesPerInsert
from distdqn.runtime.calls import Call, Calls
from distdqn.runtime.engine import ComponentLost, DataLost, Engine, Handle, Ref
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.progress import Progress
from distdqn.runtime.roster import Roster
from distdqn.types import Evaluation, Recording, RolloutStats, ShardStats, State, UpdateStats, Weights

MOST_DEATHS = 5
"""Deaths of one component in a row, without an answer in between, after which the run gives up."""
MOST_ADDS = 3
"""Tries to store a segment before it is dropped."""


_ABOUT_STATE = {"add", "sample", "priorities", "update", "weights", "state"}


class RunFailed(RuntimeError):
    """The run cannot go on; the message says why."""


@dataclass
class Draw:
    """Minibatches on their way from the shards to the learner."""

    samples: int
    parts: dict[int, Ref] = field(default_factory=dict)
    waiting: int = 0
    epochs: dict[int, Handle] = field(default_factory=dict)
    failed: bool = False


class Coordinator:
    """Runs until the budget is used up or `stop` is set.

    Args:
        log: called with the metrics every `log_every_seconds`. event: called with a line for people.
        keeper: saves checkpoints, videos and bad batches.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        roster: Roster,
        keeper: Keeper,
        log: Callable[[dict[str, float]], None],
        event: Callable[[str], None],
    ) -> None:
        self.config, self.engine, self.roster, self.keeper = config, engine, roster, keeper
        self.log, self.event = log, event
        self.lockstep = config.engine.lockstep
        self.calls = Calls(engine)
        self.progress = Progress(config.budget, config.actors.count, by_clock=not self.lockstep)
        self.rng = np.random.default_rng([config.seed, roster.session])
        a, learner = config.actors, config.learner
        self.quantum = a.rollout_steps * a.envs_per_actor
        self.draws_ahead = learner.in_flight + 1
        self.limiter = SamplesPerInsert(
            learner.samples_per_insert,
            config.replay.min_size,
            self.quantum,
            learner.batch_size * learner.updates_per_call,
            insert_depth=a.count * (1 if self.lockstep else a.in_flight),
            sample_depth=1 if self.lockstep else self.draws_ahead,
        )
        self.version = 0
        self.published = 0
        self.next_shard = 0
        self.draws = 0
        self.deaths: Counter[str] = Counter()
        self.stop = False
        self.training = True
        self.handles: dict[str, Handle] = {}
        now = time.monotonic()
        self.next_log, self.next_save = now + config.log_every_seconds, now + config.checkpoint.every_seconds
        self.next_evaluation = now + (config.evaluation.every_seconds or float("inf"))

    # the recipe

    def start(self, learner_state: State | None = None, counters: State | None = None) -> None:
        """Starts the components, from a checkpoint's state where one is given."""
        if counters is not None:
            self.progress.restore(counters["progress"])
            self.limiter.restore(counters["limiter"])
            self.limiter.refill(0)
        for i in range(self.config.replay.shards):
            self._start_shard(i)
        for i in range(self.config.actors.count):
            self.handles[f"actor-{i}"] = self.roster.actor(i)
        self.handles["evaluator"] = self.roster.evaluator()
        self._start_learner(learner_state)  # the only one that is waited for, while the others start
        if learner_state is None:
            self._save_first()

    def run(self) -> bool:
        """Trains; True when the budget is used up, False when it was stopped early."""
        while not (self.progress.done or self.stop):
            self._ask_rollouts()
            if self.lockstep:
                self._drain()
            self._ask_draws()
            self._ask_saving()
            for call in self.calls.ready(timeout=0.2):
                self._answer(call)
            self._replace_hung()
            self._log_if_due()
        return self.progress.done

    def finish(self, evaluate: bool, timeout: float) -> None:
        """Saves, evaluates at the end if asked to, and logs a last time. Gives up after `timeout` seconds."""
        self._log()
        self.training = False
        deadline = time.monotonic() + timeout
        self._ask_state(evaluate=evaluate, final=True)
        wanted = ("state", "evaluate", "record")
        while time.monotonic() < deadline and (any(self.calls.of(k) for k in wanted) or self.keeper.busy):
            for call in self.calls.ready(timeout=0.2):
                if call.kind in (*wanted, "update", "add"):
                    self._answer(call)
            self._log_if_due()
            if self.stop and evaluate:
                break
        self._log()

    def counters(self) -> State:
        """What a checkpoint holds besides the learner."""
        return {"progress": self.progress.state(), "limiter": self.limiter.state()}

    # actors to shards

    def _actor_handles(self) -> list[Handle]:
        return [self.handles[f"actor-{i}"] for i in range(self.config.actors.count)]

    def _ask_rollouts(self) -> None:
        ahead = 1 if self.lockstep else self.config.actors.in_flight
        for depth in range(ahead):
            for handle in self._actor_handles():
                if self.calls.count("rollout", handle) > depth or self.limiter.room_to_insert() < self.quantum:
                    continue
                self.limiter.reserve_insert(self.quantum)
                steps = self.progress.count["env_steps"]
                self.calls.ask("rollout", handle, "rollout", self.weights, steps, returns=2)

    def _did_rollout(self, call: Call, stats: RolloutStats) -> None:
        self.progress.rollout(stats, self.version)
        self._ask_add(call.refs[0], stats.transitions, tries=1)

    def _lost_rollout(self, call: Call) -> None:
        self.limiter.cancel_insert(self.quantum)

    def _ask_add(self, segment: Ref, transitions: int, tries: int) -> None:
        index = self.next_shard
        self.next_shard = (index + 1) % self.config.replay.shards
        context = (index, segment, transitions, tries)
        self.calls.ask("add", self.handles[f"shard-{index}"], "add", segment, context=context)

    def _did_add(self, call: Call, stats: ShardStats) -> None:
        index, _, transitions, _ = call.context
        self.progress.shard(index, stats)
        self.progress.count["stored"] += transitions
        self.limiter.commit_insert(transitions, self.quantum)

    def _lost_add(self, call: Call) -> None:
        _, segment, transitions, tries = call.context
        if tries < MOST_ADDS:
            self._ask_add(segment, transitions, tries + 1)
        else:
            self.limiter.cancel_insert(self.quantum)
            self.progress.count["dropped"] += transitions
            self.progress.faults["dropped_transitions"] += transitions

    # shards to the learner and back

    def _ask_draws(self) -> None:
        c = self.config.learner
        while self.draws < (1 if self.lockstep else self.draws_ahead):
            updates = c.updates_per_call
            if (limit := self.config.budget.updates) is not None:
                asked = self.draws * updates + self.progress.count["learner_updates"]
                updates = min(updates, limit - asked)
            total = sum(s.mass for s in self.progress.shards.values())
            if updates < 1 or total <= 0 or self.limiter.room_to_sample() < updates * c.batch_size:
                return
            self._ask_draw(updates, total)
            if self.lockstep:
                self._drain()
                if self.progress.done or self.stop:
                    return

    def _ask_draw(self, updates: int, total: float) -> None:
        """A multinomial split by mass, so that the shards together draw as one shard would."""
        size = self.config.learner.batch_size
        shares = np.array([self.progress.shards[i].mass if i in self.progress.shards else 0.0
                           for i in range(self.config.replay.shards)]) / total  # fmt: skip
        counts = self.rng.multinomial(size, shares, size=updates)
        self.limiter.reserve_sample(updates * size)
        draw = Draw(updates * size)
        self.draws += 1
        replay = self.config.replay
        beta = beta_at(self.progress.fraction, replay.beta, replay.beta_final)
        for i in np.nonzero(counts.sum(0))[0]:
            handle = draw.epochs[int(i)] = self.handles[f"shard-{i}"]
            draw.waiting += 1
            sizes = tuple(int(n) for n in counts[:, i])
            self.calls.ask("sample", handle, "sample", sizes, beta, min(float(shares[i]), 1.0), returns=2,
                           context=(int(i), draw))  # fmt: skip

    def _did_sample(self, call: Call, stats: ShardStats) -> None:
        index, draw = call.context
        self.progress.shard(index, stats)
        draw.parts[index] = call.refs[0]
        self._draw_moved(draw)

    def _lost_sample(self, call: Call) -> None:
        call.context[1].failed = True
        self._draw_moved(call.context[1])

    def _draw_moved(self, draw: Draw) -> None:
        draw.waiting -= 1
        if draw.waiting:
            return
        if draw.failed:
            self._end_draw(draw, drawn=False)
            return
        parts = [draw.parts[i] for i in sorted(draw.parts)]
        self.calls.ask("update", self.handles["learner"], "update", self.progress.fraction, *parts,
                       returns=len(parts) + 1, context=draw)  # fmt: skip

    def _end_draw(self, draw: Draw, drawn: bool) -> None:
        self.draws -= 1
        if drawn:
            self.limiter.commit_sample(draw.samples, draw.samples)
        else:
            self.limiter.cancel_sample(draw.samples)

    def _did_update(self, call: Call, stats: UpdateStats) -> None:
        draw: Draw = call.context
        self._end_draw(draw, drawn=True)
        self.progress.update(stats)
        self.version = stats.version
        if stats.bad_batch:
            self.event(f"a loss was not finite: {stats.skipped} updates skipped")
        if stats.aborted:
            path = self.keeper.keep_bad_batch(stats.bad_batch)
            raise RunFailed(f"the loss was not finite {self.config.learner.max_bad_updates} times in a row; "
                            f"the last batch's provenance is in {path}")  # fmt: skip
        if self.config.replay.kind == "prioritized":
            for index, ref in zip(sorted(draw.parts), call.refs, strict=False):
                handle = self.handles[f"shard-{index}"]
                if handle == draw.epochs[index]:
                    self.calls.ask("priorities", handle, "update_priorities", ref, context=(index,))
        if self.version - self.published >= self.config.learner.publish_period and not self.calls.of("weights"):
            self.calls.ask("weights", self.handles["learner"], "weights")

    def _lost_update(self, call: Call) -> None:
        self._end_draw(call.context, drawn=False)

    def _did_priorities(self, call: Call, stats: ShardStats) -> None:
        self.progress.shard(call.context[0], stats)

    def _did_weights(self, call: Call, weights: Weights) -> None:
        self.weights, self.published = call.refs[0], weights.version

    # saving and evaluating

    def _ask_saving(self) -> None:
        now = time.monotonic()
        evaluate = now >= self.next_evaluation and not (self.calls.of("evaluate") or self.calls.of("record"))
        if (evaluate or now >= self.next_save) and not self.calls.of("state"):
            self.next_save = now + self.config.checkpoint.every_seconds
            if evaluate:
                self.next_evaluation = now + (self.config.evaluation.every_seconds or float("inf"))
            self._ask_state(evaluate)

    def _ask_state(self, evaluate: bool, final: bool = False) -> None:
        self.calls.ask("state", self.handles["learner"], "state", context=(evaluate, final))

    def _did_state(self, call: Call, state: State) -> None:
        evaluate, final = call.context
        name = self.keeper.save(state, self.counters(), self.progress.count["learner_updates"])
        episodes = self.config.evaluation.final_episodes if final else self.config.evaluation.episodes
        if evaluate and episodes and name is not None:
            weights = self.engine.put(Weights(int(state["updates"]), state["online"]))
            self.keeper.protect(name)
            self.calls.ask("evaluate", self.handles["evaluator"], "evaluate", weights, episodes,
                           context=(name, weights, final))  # fmt: skip

    def _save_first(self) -> None:
        """A run can be resumed from its first second on."""
        (state,) = self.engine.call(self.handles["learner"], "state")
        self.keeper.save(self.engine.fetch(state), self.counters(), 0)

    def _lost_evaluate(self, call: Call) -> None:
        _, weights, final = call.context
        if final:
            episodes = self.config.evaluation.final_episodes
            self.calls.ask("evaluate", self.handles["evaluator"], "evaluate", weights, episodes,
                           context=call.context)  # fmt: skip

    def _lost_state(self, call: Call) -> None:
        evaluate, final = call.context
        if final:
            self._ask_state(evaluate, final)

    def _did_evaluate(self, call: Call, result: Evaluation) -> None:
        name, weights, final = call.context
        best = self.keeper.evaluated(name, result, final)
        self._log(self.keeper.scores(result))
        if best and self.config.evaluation.video:
            self.calls.ask("record", self.handles["evaluator"], "record", weights, context=(name,))

    def _did_record(self, call: Call, recording: Recording) -> None:
        self.keeper.film(call.context[0], recording)

    # answers, faults, figures

    def _drain(self) -> None:
        """Answers every call in the order in which it was asked, those that this brings about too."""
        while len(self.calls):
            self._answer(self.calls.oldest())

    def _answer(self, call: Call) -> None:
        try:
            value = self.engine.fetch(call.refs[-1])
        except ComponentLost as error:
            self._replace(call.handle, str(error))
        except DataLost as error:
            self.event(f"{call.kind}: {error}")
        else:
            # a late answer of a component that has died since: what it did to its state is gone with it
            if call.kind not in _ABOUT_STATE or self.handles.get(call.handle.name) == call.handle:
                self.deaths[call.handle.name] = 0
                getattr(self, f"_did_{call.kind}")(call, value)
                return
        if lost := getattr(self, f"_lost_{call.kind}", None):
            lost(call)

    def _replace(self, dead: Handle, why: str) -> None:
        """Starts a component anew in the place of a dead one, unless that has been done."""
        name = dead.name
        if self.handles.get(name) != dead:
            return
        self.deaths[name] += 1
        if self.deaths[name] > MOST_DEATHS:
            raise RunFailed(f"{name} died {self.deaths[name]} times in a row: {why}")
        kind, _, index = name.partition("-")
        self.progress.faults[f"{kind}_restarts"] += 1
        self.event(f"{name} lost, restarted")
        if kind == "actor":
            self.handles[name] = self.roster.actor(int(index))
        elif kind == "shard":
            gone = self.progress.shards.pop(int(index), None)
            held = gone.transitions if gone else 0
            self.progress.count["lost"] += held
            self.progress.faults["lost_transitions"] += held
            self._start_shard(int(index))
            self.limiter.refill(self.progress.transitions)
        elif kind == "learner":
            try:
                self._start_learner(self.keeper.newest())
            except ComponentLost as error:
                self._replace(self.handles[name], str(error))
        else:
            self.handles[name] = self.roster.evaluator()

    def _start_shard(self, index: int) -> None:
        self.handles[f"shard-{index}"] = self.roster.shard(index)

    def _start_learner(self, state: State | None) -> None:
        learner = self.handles["learner"] = self.roster.learner()
        if state is not None:
            self.engine.fetch(self.engine.call(learner, "restore", state)[0])
        self.weights = self.engine.call(learner, "weights")[0]
        self.version = self.published = self.engine.fetch(self.weights).version

    def _replace_hung(self) -> None:
        if self.lockstep:
            return
        for handle, seconds in self.calls.waiting("rollout", time.monotonic()).items():
            if seconds > self.config.actors.timeout_s and self.handles.get(handle.name) == handle:
                self.event(f"{handle.name} gave no answer for {seconds:.0f} s")
                self.engine.kill(handle)
                self._replace(handle, "its emulator hung")

    def _log_if_due(self) -> None:
        if time.monotonic() >= self.next_log:
            self.next_log = time.monotonic() + self.config.log_every_seconds
            self._log()

    def _log(self, extra: dict[str, Any] | None = None) -> None:
        self.log({**self.progress.metrics(self.limiter.samples_per_insert, self.training), **(extra or {})})
