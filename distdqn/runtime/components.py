"""Who takes part in a run at present, and who takes the place of one that died, failed or fell silent."""

import time
from collections.abc import Callable
from typing import Any

from distdqn.config import RunConfig
from distdqn.runtime.calls import Call, Calls
from distdqn.runtime.clock import Clock
from distdqn.runtime.engine import ComponentFailed, ComponentLost, Engine, Handle, Ref
from distdqn.runtime.progress import Progress
from distdqn.runtime.watch import ROOM_SECONDS, START_SECONDS, Watch

WAIT_SECONDS = 1.0


class RunFailed(RuntimeError):
    """The run cannot go on; the message says why."""


class GivenUp(RunFailed):
    """A component could not be kept alive: the run is saved, and can be resumed once the cause is gone."""


class Components:
    """The components of a run, each started anew as often as it takes.

    Args:
        event: called with a line for people. fault: called with where a component raised, and the traceback.
        wall: the clock that everything here goes by.

    Attributes:
        handles: the present life of each component, by name.
        told_to_stop: somebody wants the run to end. stopping: nobody is replaced any more.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        event: Callable[[str], None],
        fault: Callable[[str, str], None],
        wall: Clock = time,
    ) -> None:
        self.config, self.engine, self.event, self.fault, self.wall = config, engine, event, fault, wall
        self.calls = Calls(engine, wall)
        self.watch = Watch(config, engine, self.calls)
        self.progress = Progress(config.budget, config.actors.places, not config.engine.lockstep, wall)
        self.handles: dict[str, Handle] = {}
        self.told_to_stop = self.stopping = False
        self._silent_starts = 0
        self.make_room: Callable[[int], None] = lambda cpus: None
        """Called with the CPUs of a learner that waits for room, while nobody else can go on."""
        self._start: dict[str, Callable[[int], None]] = {}

    def starts(self, component: str, start: Callable[[int], None]) -> None:
        """Registers who starts components called `component` or `component-INDEX`."""
        self._start[component] = start

    @property
    def silent(self) -> set[str]:
        """Components that have not answered for a while."""
        return self.watch.silent

    def joined(self, name: str) -> bool:
        """Whether work may be given to the component `name`: it has been made, and is not silent."""
        handle = self.handles.get(name)
        return handle is not None and self.calls.has_answered(handle) and name not in self.silent

    def failed(self, call: Call, error: ComponentFailed) -> None:
        """A method raised: its component is in an unknown state, so another takes its place."""
        name = call.handle.name
        if self.handles.get(name) != call.handle:
            return
        self.progress.faults["failures"] += 1
        self.fault(f"{name}.{call.method}", error.trace)
        self.event(f"{name}.{call.method} failed: {error} (faults.log)")
        if self.watch.failed(name, str(error)) and name == "learner":
            size = self.config.learner.batch_size
            raise GivenUp(f"learner.batch_size={size}: the device's memory was used up twice in a row, lower it")
        self.engine.kill(call.handle)
        self.replace(call.handle, str(error))

    def replace(self, dead: Handle, why: str) -> None:
        """Starts a component anew in the place of a dead one, unless that has been done. An evaluator that cannot be
        kept alive is left out until an evaluation is due; anybody else's end is the run's, which raises `GivenUp`."""
        name = dead.name
        if self.handles.get(name) != dead or self.stopping:
            return
        kind = name.partition("-")[0]
        if (how := self.watch.died(name)) is not None:
            if kind != "evaluator":
                raise GivenUp(f"{name} {how}: {why}")
            self.event(f"the evaluator {how}, the next evaluation tries again: {why}")
            del self.handles[name]
            return
        self.progress.faults[f"{kind}_restarts"] += 1
        self.event(f"{name} lost, restarted")
        self.start_anew(name)

    def start_anew(self, name: str) -> None:
        """Starts the next life of a component, wherever there is room for it."""
        kind, _, index = name.partition("-")
        try:
            self._start[kind](int(index or 0))
        except (ComponentLost, ComponentFailed) as error:
            self.replace(self.handles[name], str(error))

    def look(self) -> None:
        """Passes over who has been silent for long, and replaces him when patience is at an end."""
        if self.stopping:
            return
        gone, lines = self.watch.look(self.handles)
        for line in lines:
            self.event(line)
        for call, seconds in gone:
            self.event(f"{call.handle.name} gave no answer for {seconds:.0f} s")
            self.engine.kill(call.handle)
            self.replace(call.handle, f"it gave no answer to {call.method}")

    def first_answer(self, learner: Handle, ref: Ref) -> Any:
        """An answer of a learner that starts. Its patience begins when there is room for it in the cluster.

        Raises:
            ComponentLost: it gave none, or died, or the run is to end. GivenUp: nor did the one before it.
        """
        left, placeless = START_SECONDS, 0.0
        while left > 0:
            if self.told_to_stop:
                self.stopping = True
                raise ComponentLost("the run is to end")
            try:
                answer = self.engine.fetch(ref, WAIT_SECONDS)
            except TimeoutError:
                if self.engine.placed(learner):
                    left -= WAIT_SECONDS
                    continue
                placeless += WAIT_SECONDS
                if placeless == ROOM_SECONDS:
                    self.event("the learner waits for room in the cluster")
                if placeless % ROOM_SECONDS == 0:
                    self.make_room(self.config.learner.threads)
            else:
                self._silent_starts = 0
                return answer
        self.engine.kill(learner)
        self._silent_starts += 1
        if self._silent_starts > 1:
            why = "is the cluster still there?"
            raise GivenUp(f"the learner does not start within {START_SECONDS:.0f} s, twice in a row: {why}")
        self.event(f"learner gave no answer for {START_SECONDS:.0f} s")
        raise ComponentLost("it does not start")
