"""The components of a run, the calls to them, and what happens when one dies."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from distdqn.config import RunConfig
from distdqn.replay.limiter import SamplesPerInsert
from distdqn.runtime.calls import Call, Calls, Task
from distdqn.runtime.engine import ComponentLost, DataLost, Engine, Handle, NoAnswer, Ref
from distdqn.runtime.progress import Progress
from distdqn.runtime.roster import Roster
from distdqn.types import ShardStats

MOST_DEATHS = 5
"""Deaths of one component in a row, without an answer in between, after which the run gives up."""
START_SECONDS = 180.0
"""Longer than any start, so that only a machine or a cluster that is gone takes it."""
_ABOUT_STATE = {"add", "sample", "update_priorities", "update", "weights", "state"}
"""Calls whose effect is gone when the component that answered has died since."""


class RunFailed(RuntimeError):
    """The run cannot go on; the message says why."""


class System:
    """What the flows (`Experience`, `Learning`, `Saving`) share.

    A flow registers who starts its components, and asks them in tasks, which read in the order in which things happen:

        def segment(self):
            rollout = system.ask("actor-0", "rollout", system.weights, returns=2)
            stats = yield rollout                           # its last, small result; or raises `NoAnswer`
            yield system.ask("shard-0", "add", rollout.refs[0])

        system.starts("actor", self.start_actor)
        system.begin(self.segment())

    A task goes on within `answer` until it waits again; nothing else happens meanwhile.

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
        self._start: dict[str, Callable[[int], None]] = {}
        self._deaths: Counter[str] = Counter()

    def starts(self, component: str, start: Callable[[int], None]) -> None:
        """Registers who starts components called `component` or `component-INDEX`."""
        self._start[component] = start

    def ask(self, name: str, method: str, *args: Any, returns: int = 1) -> Call:
        """Asks the component `name` for `method(*args)`."""
        return self.calls.ask(self.handles[name], method, *args, returns=returns)

    def begin(self, task: Task) -> None:
        """Runs a task until it waits for an answer."""
        next(task).task = task

    def answer(self, call: Call) -> None:
        """Takes the answer of a call that is ready, or finds out that there is none, and goes on with its task."""
        name = call.handle.name
        call.answered = True
        try:
            call.value = self.engine.fetch(call.refs[-1])
            if call.method in _ABOUT_STATE and self.handles.get(name) != call.handle:
                raise ComponentLost(f"{name} has died since")
            self._deaths[name] = 0
            if isinstance(call.value, ShardStats):
                self.progress.shard(int(name.partition("-")[2]), call.value)
        except ComponentLost as error:
            call.error = error
            self.replace(call.handle, str(error))
        except DataLost as error:
            call.error = error
            self.event(f"{call.method}: {error}")
        if call.task is not None:
            self._go_on(call.task, call)

    def _go_on(self, task: Task, call: Call) -> None:
        while call.answered:  # a task may ask for several at once, and then wait for one after the other
            value, error = call.value, call.error
            call.value = call.error = None  # large, or with a traceback to all that is large
            try:
                call = task.send(value) if error is None else task.throw(error)
            except StopIteration:
                return
            except NoAnswer as uncaught:
                if uncaught is not error:
                    raise
                return
        call.task = task

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
