"""The components of a run, the calls to them, and what happens when one dies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from distdqn.config import RunConfig
from distdqn.replay.limiter import SamplesPerInsert
from distdqn.runtime.calls import Call, Calls
from distdqn.runtime.engine import ComponentLost, DataLost, Engine, Handle, Ref
from distdqn.runtime.progress import Progress
from distdqn.runtime.roster import Roster

MOST_DEATHS = 5
"""Deaths of one component in a row, without an answer in between, after which the run gives up."""
START_SECONDS = 180.0
"""Longer than any start, so that only a machine or a cluster that is gone takes it."""
_ABOUT_STATE = {"add", "sample", "priorities", "update", "weights", "state"}
"""Calls whose effect is gone when the component that answered has died since."""


class RunFailed(RuntimeError):
    """The run cannot go on; the message says why."""


class System:
    """What the flows (`Experience`, `Learning`, `Saving`) share.

    A flow registers who handles the answers to its calls and who starts its components:

        system.on("rollout", did=self.did_rollout, lost=self.lost_rollout)
        system.starts("actor", self.start_actor)
        system.ask("rollout", "actor-0", "rollout", system.weights, returns=2)

    `did(call, value)` gets the last, small result of a call; `lost(call)` is told that there will be none.

    Attributes:
        handles: the present life of each component, by name.
        weights: reference to the newest published weights. version: updates that the learner has made.
    """

    def __init__(self, config: RunConfig, engine: Engine, roster: Roster, event: Callable[[str], None]) -> None:
        self.config, self.engine, self.roster, self.event = config, engine, roster, event
        self.lockstep = config.engine.lockstep
        self.calls = Calls(engine)
        self.progress = Progress(config.budget, config.actors.count, by_clock=not self.lockstep)
        actors, learner = config.actors, config.learner
        self.rollout_size = actors.rollout_steps * actors.envs_per_actor
        self.draws_ahead = 1 if self.lockstep else learner.in_flight + 1
        self.rollouts_ahead = 1 if self.lockstep else actors.in_flight
        self.limiter = SamplesPerInsert(
            learner.samples_per_insert,
            config.replay.min_size,
            self.rollout_size,
            learner.batch_size * learner.updates_per_call * config.agent.sequence.length,
            insert_depth=actors.count * self.rollouts_ahead,
            sample_depth=self.draws_ahead,
        )
        self.handles: dict[str, Handle] = {}
        self.weights: Ref = None
        self.version = 0
        self._did: dict[str, Callable[[Call, Any], None]] = {}
        self._lost: dict[str, Callable[[Call], None]] = {}
        self._start: dict[str, Callable[[int], None]] = {}
        self._deaths: Counter[str] = Counter()

    def on(self, kind: str, did: Callable[[Call, Any], None], lost: Callable[[Call], None] | None = None) -> None:
        """Registers the handlers of a kind of call."""
        self._did[kind] = did
        if lost is not None:
            self._lost[kind] = lost

    def starts(self, component: str, start: Callable[[int], None]) -> None:
        """Registers who starts components called `component` or `component-INDEX`."""
        self._start[component] = start

    def ask(self, kind: str, name: str, method: str, *args: Any, returns: int = 1, context: Any = None) -> None:
        """Asks the component `name` for `method(*args)`."""
        self.calls.ask(kind, self.handles[name], method, *args, returns=returns, context=context)

    def answer(self, call: Call) -> None:
        """Takes the answer of a call that is ready, or finds out that there is none."""
        try:
            value = self.engine.fetch(call.refs[-1])
        except ComponentLost as error:
            self.replace(call.handle, str(error))
        except DataLost as error:
            self.event(f"{call.kind}: {error}")
        else:
            if call.kind not in _ABOUT_STATE or self.handles.get(call.handle.name) == call.handle:
                self._deaths[call.handle.name] = 0
                self._did[call.kind](call, value)
                return
        if call.kind in self._lost:
            self._lost[call.kind](call)

    def drain(self) -> None:
        """Answers every call in the order in which it was asked, those that this brings about too."""
        while len(self.calls):
            self.answer(self.calls.oldest())

    def replace(self, dead: Handle, why: str) -> None:
        """Starts a component anew in the place of a dead one, unless that has been done."""
        name = dead.name
        if self.handles.get(name) != dead:
            return
        self._deaths[name] += 1
        if self._deaths[name] > MOST_DEATHS:
            raise RunFailed(f"{name} died {self._deaths[name]} times in a row: {why}")
        kind, _, index = name.partition("-")
        self.progress.faults[f"{kind}_restarts"] += 1
        self.event(f"{name} lost, restarted")
        try:
            self._start[kind](int(index or 0))
        except ComponentLost as error:
            self.replace(self.handles[name], str(error))

    def replace_hung(self) -> None:
        """Replaces actors that have not answered for `actors.timeout_s`, or `START_SECONDS` where they are still
        starting: an emulator can hang for ever."""
        for handle, seconds in self.calls.waiting("rollout", time.monotonic()).items():
            limit = self.config.actors.timeout_s
            if not self.calls.has_answered(handle):
                limit = max(limit, START_SECONDS)
            if seconds > limit and self.handles.get(handle.name) == handle:
                self.event(f"{handle.name} gave no answer for {seconds:.0f} s")
                self.engine.kill(handle)
                self.replace(handle, "its emulator hung")
