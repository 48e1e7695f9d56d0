"""Actors that come and go with the machines, where `actors.count=auto`."""

from collections.abc import Callable, Collection
from contextlib import suppress

from distdqn.runtime.crew import Crew
from distdqn.runtime.engine import Handle, NoAnswer
from distdqn.runtime.system import System

EVERY_SECONDS = 5.0
"""Between two looks at what room there is: machines that join have actors well within half a minute."""
PATIENCE = 3
"""Looks for which an actor that has no room is kept: a machine has gone, and others may have some."""


class Staff:
    """Starts actors where there is room, and lets go those for whom there is none or who are too many.

    Args:
        start: starts the actor of a place on the exploration ladder; free ones are taken from the first on, so that
            they stay assigned. let_go: asks an actor for nothing more, and ends it in time. going: who is let go.
    """

    def __init__(
        self, system: System, start: Callable[[int], None], let_go: Callable[[Handle], None], going: Collection[Handle]
    ) -> None:
        self.system, self.start, self.let_go, self.going = system, start, let_go, going
        self.crew = Crew(system.config.actors, system.wall.monotonic)
        self._next_look = 0.0
        self._without: dict[Handle, int] = {}
        """Looks in which each had no room."""

    def look(self) -> None:
        """Looks at the machines when it is time, and changes what has to be changed."""
        s, now = self.system, self.system.wall.monotonic()
        if now < self._next_look or s.stopping:
            return
        self._next_look = now + EVERY_SECONDS
        try:
            room = self._room()
        except NoAnswer:  # the cluster's head is not there: its end is for others to see
            return
        there = {name: handle for name, handle in s.handles.items() if name.startswith("actor-")}
        playing = [handle for handle in there.values() if s.calls.has_answered(handle)]
        self._without = {
            h: self._without.get(h, 0) + 1
            for h in s.handles.values()
            if not s.calls.has_answered(h) and not s.engine.placed(h)
        }
        without = [handle for handle, looks in self._without.items() if looks >= PATIENCE]
        spare = len(there) - s.config.actors.min
        gone = [handle for handle in without if handle.name in there][: max(0, spare)]
        for handle in gone:
            self.let_go(handle)
        starting = len(there) - len(playing) - len(gone)
        s.progress.actors = max(1, len(playing))
        change = self.crew.change(room, len(playing), starting, s.progress.actor_idle, s.progress.learner_idle)
        if change.cpus is not None:
            s.engine.want(change.cpus + s.config.other_cpus)
            s.event(f"the cluster is asked for room for {change.cpus // s.config.actors.threads} actors")
        waits = 0 if self.going else sum(s.roster.cpus_for(h.name) for h in without if h.name not in there)
        retired = self._spare(playing, waits) if waits else self._by_machine(playing)[: change.retire]
        for handle in retired:
            self.let_go(handle)
        taken = {*s.handles, *(handle.name for handle in self.going)}
        free = (i for i in range(s.config.actors.places) if f"actor-{i}" not in taken)
        for _, index in zip(range(change.start), free, strict=False):
            self.start(index)
        if (less := len(retired) + len(gone)) or change.start:
            many, verb = (change.start, "join") if change.start else (less, "leave")
            moved = f"{many} actors {verb}" if many > 1 else f"1 actor {verb}s"
            s.event(f"{moved}, {len(there) + change.start - less} in all")

    def make_room(self, cpus: int) -> None:
        """Ends actors at once for a learner that waits for room, and for which everybody waits."""
        playing = [h for name, h in self.system.handles.items() if name.startswith("actor-")]
        for handle in self._spare(playing, cpus):
            del self.system.handles[handle.name]
            self.system.engine.kill(handle)

    def _spare(self, playing: list[Handle], cpus: int) -> list[Handle]:
        """Whose cores others may have."""
        actors = self.system.config.actors
        return self._by_machine(playing)[: max(0, min(-(-cpus // actors.threads), len(playing) - actors.min))]

    def _by_machine(self, playing: list[Handle]) -> list[Handle]:
        """Those first without whom a machine is the sooner empty, and can be given back, or has room."""
        order, nowhere = dict[Handle, tuple[int, int, str]](), (len(self.system.handles), 0, "")
        with suppress(NoAnswer):
            for machine, there in self.system.engine.residents().items():
                actors = [handle for handle in there if handle.name.startswith("actor")]
                others = sum(not handle.name.startswith(("actor", "probe")) for handle in there)
                order |= dict.fromkeys(actors, (others, len(actors), machine))
        return sorted(playing, key=lambda handle: (*order.get(handle, nowhere), -_place(handle)))

    def _room(self) -> int:
        """Actors for which cores are free that nobody else waits for."""
        s, threads = self.system, self.system.config.actors.threads
        waits = sum(
            s.roster.cpus_for(name)
            for name, handle in s.handles.items()
            if not s.calls.has_answered(handle) and not s.engine.placed(handle)
        )
        return max(0, sum(int(room.free // threads) for room in s.engine.rooms().values()) - -(-waits // threads))


def _place(handle: Handle) -> int:
    return int(handle.name.partition("-")[2])
