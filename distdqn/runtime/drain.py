"""A machine that is to leave the cluster, drained or about to be taken away: who is on it goes first."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress

from distdqn.runtime.calls import Task
from distdqn.runtime.engine import Handle, NoAnswer, Room
from distdqn.runtime.experience import Experience
from distdqn.runtime.learning import Learning
from distdqn.runtime.saving import Saving
from distdqn.runtime.system import System

EVERY_SECONDS = 2.0
"""Between two looks at the machines: one that is to leave may have half a minute left."""


class Drain:
    """Empties machines that are to leave.

    Actors are asked for nothing more, and end once what they played is stored. Shards and the evaluator are started
    anew where there is room, shards from their journals; then the learner, from a checkpoint that is made for it. New
    actors come after them. Who finds no room elsewhere stays, and is replaced like anybody whose machine has gone. So
    does who is on the driver's own machine: whoever takes that away tells the driver to end.
    """

    def __init__(self, system: System, experience: Experience, learning: Learning, saving: Saving) -> None:
        self.system, self.experience, self.learning, self.saving = system, experience, learning, saving
        replay = system.config.replay
        self._shared = replay.journal and not replay.journal_dir
        """Every machine sees the journals."""
        self._next_look = 0.0
        self._rooms: Mapping[str, Room] = {}
        """Empty while it is not known who fits where."""
        self._there: Mapping[str, tuple[str, list[Handle]]] = {}
        """The host of each machine that is to leave, and who is on it."""
        self._asking: threading.Thread | None = None
        self._known, self._empty = set[str](), set[str]()
        self._tried = set[Handle]()
        """Who has moved, or was to."""
        self._saves_for: Handle | None = None

    def look(self) -> None:
        """Looks at the machines when it is time, and goes on with those that are to leave. Waits only for a learner
        that moves."""
        s, now = self.system, self.system.wall.monotonic()
        if s.stopping or s.config.engine.address is None:
            return
        self.experience.held = self.learning.held = False
        for machine, (host, there) in self._there.items():
            self._go_on(machine, host, there)
        if now >= self._next_look and not (self._asking and self._asking.is_alive()):
            self._next_look = now + EVERY_SECONDS
            self._asking = threading.Thread(target=self._ask, name="machines", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        """In a thread: a cluster whose head is gone answers late."""
        with suppress(NoAnswer):
            rooms = self.system.engine.rooms()
            seen = {name: host for name, (host, there) in self._there.items() if there}  # it may have gone since
            leaving = seen | {name: room.host for name, room in rooms.items() if room.leaving}
            there = self.system.engine.residents() if leaving else {}
            self._rooms, self._there = rooms, {name: (host, there.get(name, [])) for name, host in leaving.items()}

    def _go_on(self, machine: str, host: str, there: list[Handle]) -> None:
        present = {handle.name: handle for handle in there if self.system.handles.get(handle.name) == handle}
        if machine not in self._known:
            self._known.add(machine)
            self._announce(machine, host, sorted(present))
        if not there and machine not in self._empty:
            self._empty.add(machine)
            self.system.event(f"nothing of this run is on {host} any more")
        if not machine:
            return
        for name, handle in present.items():
            if name.startswith("actor"):
                self.experience.let_go(handle)
            elif handle not in self._tried and self._may_move(name):
                if self._fits(name):
                    self._move(handle, any(other in self.experience.going for other in there))
                self.experience.held |= not self._rooms or self._fits(name)

    def _announce(self, machine: str, host: str, names: list[str]) -> None:
        if machine:
            self.system.event(f"{host} is to leave: {'; '.join(_plans(names, self._shared))}")
        else:
            self.system.event(f"{host}, where this run's driver is, is to leave: the run is saved, and goes on for now")
            self.saving.save(evaluate=False)

    def _may_move(self, name: str) -> bool:
        """Whether nothing is lost by it at present."""
        if name == "evaluator":
            return not self.saving.playing
        return name == "learner" or (self._shared and self.system.joined(name))

    def _fits(self, name: str) -> bool:
        """Whether some machine that stays has room for the component `name`."""
        gpus = self.system.roster.gpus if name == "learner" else 0
        cpus = self.system.roster.cpus_for(name)
        return any(room.free >= cpus and room.gpus >= gpus for room in self._rooms.values() if not room.leaving)

    def _move(self, handle: Handle, busy: bool) -> None:
        """Starts a component anew, the learner once nobody there is `busy` giving back work."""
        if handle.name == "evaluator":
            self._start_anew(handle)
        elif handle.name != "learner":
            self._tried.add(handle)
            self._rooms = {}
            self.system.begin(self._move_shard(handle))
        elif not busy:
            self._move_learner(handle)

    def _move_shard(self, handle: Handle) -> Task:
        """What it has acknowledged is on the disk that all share; for the rest its successor is asked again."""
        yield self.system.ask(handle.name, "cut", False)
        self._start_anew(handle)

    def _move_learner(self, handle: Handle) -> None:
        """It learns from all that was drawn, and goes on elsewhere from there."""
        self.learning.held = True
        if self.learning.drawing or self.saving.saving:
            return
        if self._saves_for != handle:
            self._saves_for = handle
            self.saving.save(evaluate=False)
            return
        self._tried.add(handle)
        self.learning.held = False
        if self.saving.saved:
            self._start_anew(handle)

    def _start_anew(self, handle: Handle) -> None:
        self._tried.add(handle)
        self._rooms = {}
        if self.system.handles.get(handle.name) == handle:
            self.system.start_anew(handle.name)


def _plans(names: list[str], shared: bool) -> Iterator[str]:
    """What becomes of the components `names` of a machine that is to leave, for people."""
    actors = sum(name.startswith("actor") for name in names)
    lost = [name for name in names if name.startswith("shard") and not shared]
    moved = [name for name in names if not name.startswith("actor") and name not in lost]
    if actors:
        yield f"its {actors} actors give back their work first" if actors > 1 else "its actor gives back its work first"
    if moved:
        yield f"{', '.join(moved)} {'moves' if len(moved) == 1 else 'move'} where there is room"
    if lost:
        yield f"what {', '.join(lost)} {'holds' if len(lost) == 1 else 'hold'} goes with it"
    if not names:
        yield "nothing of this run is on it"
