"""Actors that come and go with the machines, where `actors.count=auto`."""

from collections.abc import Callable

from distdqn.runtime.crew import Crew
from distdqn.runtime.engine import Handle, NoAnswer
from distdqn.runtime.system import System

EVERY_SECONDS = 5.0
"""Between two looks at what room there is: machines that join have actors well within half a minute."""
PATIENCE = 3
"""Looks for which an actor that has no room is kept: a machine has gone, and others may have some."""


class Staff:
    """Starts actors where there is room, and lets go those for whom there is none or who are too many. An actor that is
    let go is asked nothing more, and ends once what it plays has come.

    Args:
        start: starts the actor of a place on the exploration ladder; free ones are taken from the first on, so that
            they stay assigned.
    """

    def __init__(self, system: System, start: Callable[[int], None]) -> None:
        self.system, self.start = system, start
        self.crew = Crew(system.config.actors, system.wall.monotonic)
        self._next_look = 0.0
        self._without: dict[Handle, int] = {}
        """Looks in which each had no room."""
        self._leaving: dict[Handle, float] = {}
        """Who has been let go, and until when it is waited for."""

    def look(self) -> None:
        """Looks at the machines when it is time, and changes what has to be changed."""
        s, now = self.system, self.system.wall.monotonic()
        if now < self._next_look or s.stopping:
            return
        self._next_look = now + EVERY_SECONDS
        self._see_off(now)
        try:
            room = self._room()
        except NoAnswer:  # the cluster's head is not there: its end is for others to see
            return
        there = {name: handle for name, handle in s.handles.items() if name.startswith("actor-")}
        playing = [handle for handle in there.values() if s.calls.has_answered(handle)]
        self._without = {
            h: self._without.get(h, 0) + 1
            for h in there.values()
            if not s.calls.has_answered(h) and not s.engine.placed(h)
        }
        spare = len(there) - s.config.actors.min
        gone = [handle for handle, looks in self._without.items() if looks >= PATIENCE][: max(0, spare)]
        for handle in gone:
            self._let_go(handle, now)
        starting = len(there) - len(playing) - len(gone)
        s.progress.actors = max(1, len(playing))
        change = self.crew.change(room, len(playing), starting, s.progress.actor_idle, s.progress.learner_idle)
        if change.cpus is not None:
            s.engine.want(change.cpus + s.config.other_cpus)
            s.event(f"the cluster is asked for room for {change.cpus // s.config.actors.threads} actors")
        for handle in sorted(playing, key=_place)[len(playing) - change.retire :]:
            self._let_go(handle, now)
        free = (i for i in range(s.config.actors.places) if f"actor-{i}" not in s.handles)
        for _, index in zip(range(change.start), free, strict=False):
            self.start(index)
        if (less := change.retire + len(gone)) or change.start:
            many, verb = (change.start, "join") if change.start else (less, "leave")
            moved = f"{many} actors {verb}" if many > 1 else f"1 actor {verb}s"
            s.event(f"{moved}, {len(there) + change.start - less} in all")

    def _room(self) -> int:
        """Actors for which cores are free that nobody else waits for."""
        s, threads = self.system, self.system.config.actors.threads
        waits = sum(
            s.roster.cpus_for(name)
            for name, handle in s.handles.items()
            if not s.calls.has_answered(handle) and not s.engine.placed(handle)
        )
        return max(0, sum(int(room.free // threads) for room in s.engine.rooms().values()) - -(-waits // threads))

    def _let_go(self, handle: Handle, now: float) -> None:
        del self.system.handles[handle.name]
        self._without.pop(handle, None)
        self._leaving[handle] = now + self.system.config.actors.timeout_s
        if not self.system.calls.has_answered(handle):
            self._leaving[handle] = now

    def _see_off(self, now: float) -> None:
        """Ends who has nothing left to give."""
        in_flight = {call.handle for call in self.system.calls.all()}
        for handle, until in list(self._leaving.items()):
            if handle not in in_flight or now >= until:
                del self._leaving[handle]
                if handle.name not in self.system.handles:  # else its place was taken, and it has ended
                    self.system.engine.kill(handle)


def _place(handle: Handle) -> int:
    return int(handle.name.partition("-")[2])
