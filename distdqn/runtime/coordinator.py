"""The recipe: who is asked for what, and when.

```
        ┌───────────────────────── weights ◀──────────────────────────┐
        ▼                                                             │
     rollout ──▶ add ──▶ [limiter] ──▶ sample ──▶ update ──▶ priorities
     └── Experience ──┘                └───────── Learning ──────────┘
                                                    └──▶ state ──▶ checkpoint ──▶ evaluate ──▶ record
                                                         └────────────── Saving ──────────────────┘
```

Each word is a call to a component; the flow below it asks, and its task goes on with the answer. Only the last, small
result of a call is opened here, the rest is handed on by reference.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from distdqn.config import RunConfig
from distdqn.runtime.clock import Clock
from distdqn.runtime.drain import Drain
from distdqn.runtime.engine import ComponentFailed, ComponentLost, Engine
from distdqn.runtime.experience import Experience
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.learning import Learning
from distdqn.runtime.nodes import Nodes
from distdqn.runtime.roster import Roster
from distdqn.runtime.saving import Saving
from distdqn.runtime.shards import Shards
from distdqn.runtime.system import System
from distdqn.types import State


class Coordinator:
    """Runs until the budget is used up or `stop` is set.

    Args:
        log: called with the metrics every `log_every_seconds`. event: called with a line for people.
        keeper: saves checkpoints, videos and bad batches. wall: the clock that it goes by.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        roster: Roster,
        keeper: Keeper,
        log: Callable[[dict[str, float]], None],
        event: Callable[[str], None],
        wall: Clock = time,
    ) -> None:
        self.config, self.log, self.wall = config, log, wall
        self.system = System(config, engine, roster, event, keeper.fault, wall)
        self.shards = Shards(self.system)
        self.learning = Learning(self.system, self.shards, keeper)
        self.experience = Experience(self.system, self.shards, self.learning.publish)
        self.saving = Saving(self.system, self.shards, keeper, self._log)
        self.drain = Drain(self.system, self.experience, self.learning, self.saving)
        self.nodes = Nodes(engine)
        self._training = True
        self.started = False
        """Whether there is anything to save; False where it was told to stop while it started."""
        self._next_log = self.wall.monotonic() + config.log_every_seconds

    def start(
        self, learner: State | None = None, counters: State | None = None, seen: Mapping[str, float] | None = None
    ) -> None:
        """Starts the components, from a checkpoint's `learner` state and `counters` where they are given, and
        the last metrics that were `seen`."""
        s = self.system
        if counters is not None:
            s.progress.restore(counters["progress"], seen)
            s.limiter.restore(counters["limiter"])
            s.limiter.refill(0)
            self.saving.restore(counters)
            self.shards.restore(counters.get("replay"))
        self.learning.make_learner()
        for i in range(self.config.replay.shards):
            self.shards.start(i)
        self.saving.start_evaluator()
        self.experience.start()
        try:
            self.learning.start_learner(learner)  # the only one that is waited for, while the others start
            if learner is None:
                self.saving.save_first()
        except (ComponentLost, ComponentFailed) as error:
            s.replace(s.handles["learner"], str(error))
        self.started = not s.stopping

    @property
    def stop(self) -> bool:
        """Set from outside, at any moment, to stop early."""
        return self.system.told_to_stop

    @stop.setter
    def stop(self, stop: bool) -> None:
        self.system.told_to_stop = stop

    def run(self) -> bool:
        """Trains; True when the budget is used up, False when it was stopped early."""
        s = self.system
        while not (s.progress.done or self.stop):
            if s.calls.clock >= s.asks_at:
                self._ask()
            else:
                self.wall.sleep(0.05)
            for call in s.calls.ready(timeout=0.2):
                s.answer(call)
            if not s.lockstep:
                s.look()
                self.drain.look()
            self._log_if_due()
        return s.progress.done

    def _ask(self) -> None:
        self.experience.ask()
        if self.system.lockstep:
            self.system.drain()
        self.learning.ask()
        self.saving.ask()

    def pause(self) -> None:
        """Takes in everything that is in flight and asks for nothing new; `run` goes on from there."""
        while len(self.system.calls):
            for call in self.system.calls.ready(timeout=1.0):
                self.system.answer(call)

    def finish(self, evaluate: bool, timeout: float) -> bool:
        """Saves, evaluates at the end if asked to, and logs a last time; True where all of that was done. Gives up
        after `timeout` seconds. Once it is told to stop it waits for the save alone, and nobody is replaced."""
        self._log()
        self._training = False
        deadline = self.wall.monotonic() + timeout
        if self.stop or not evaluate:
            self.system.stopping = True
        self.saving.save(evaluate, final=True)
        while self.wall.monotonic() < deadline and (self.saving.saving if self.stop else self.saving.busy):
            self.system.stopping |= self.stop
            if self.system.stopping:
                self.system.cancel("update")
            for call in self.system.calls.ready(timeout=0.2):
                if call.method in (*Saving.METHODS, "update", "add"):
                    self.system.answer(call)
            self.saving.go_on()
            if not self.system.lockstep:
                self.system.look()
            self._log_if_due()
        self._log()
        return self.saving.evaluated if evaluate else self.saving.saved

    def _log_if_due(self) -> None:
        if self.wall.monotonic() >= self._next_log:
            self._next_log = self.wall.monotonic() + self.config.log_every_seconds
            self._log()

    def _log(self, extra: dict[str, Any] | None = None) -> None:
        s = self.system
        values = s.progress.metrics(s.limiter.samples_per_insert, self._training)
        self.log({**values, **self.nodes.metrics(), **(extra or {})})
