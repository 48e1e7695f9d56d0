"""What every machine of a run does: `node/HOST/NAME` metrics, collected without anybody waiting for them."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from distdqn.machine import Usage, usage
from distdqn.runtime.engine import Engine, Handle, Needs, NoAnswer, Ref

EVERY_SECONDS = 10.0
"""Between two looks at each machine; half a second more for each beyond twenty, so that the metrics of a large cluster
do not fill a disk."""
STALE_ROUNDS = 3
"""A machine that has not answered for so many looks is not shown any more."""
START_SECONDS, MOST_STARTS = 180.0, 50
"""Its process may take so long until its first answer; and so many are started at once."""


class Probe:
    """Looks at the machine that it is on."""

    def look(self) -> Usage | None:
        """What it does now; None where that cannot be found out."""
        with suppress(Exception):
            return usage()
        return None


@dataclass
class _Machine:
    """A machine that was looked at: the last two answers, the clock at the last one, and the look on its way."""

    probe: Handle | None = None
    last: Usage | None = None
    before: Usage | None = None
    answered: float = field(default_factory=time.monotonic)
    look: Ref = None

    def take(self, seen: Usage | None) -> None:
        self.before, self.last, self.answered = self.last, seen, time.monotonic()


class Nodes:
    """The machines of `engine`: this one, looked at from here, and the others, each by a process of its own that does
    nothing else. Whatever becomes of those is no fault of the run's: who gives no answer is left out, and looked for
    again a round later."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._probe, self._here = Probe(), _Machine()
        self._here.take(self._probe.look())
        self._others: dict[str, _Machine] = {}
        self._process = psutil.Process()
        self._cpu_s, self._since = self._spent(), time.monotonic()
        self._every, self._next = EVERY_SECONDS, 0.0
        self._names: list[str] = []
        self._listing = self._list()

    def metrics(self) -> dict[str, float]:
        """`node/HOST/NAME` of every machine, and `run/driver_cpu`, the share of a core that this process took; empty
        but every `EVERY_SECONDS`. Never waits."""
        now = time.monotonic()
        if now < self._next:
            return {}
        self._every = EVERY_SECONDS + max(0, len(self._names) - 20) / 2
        self._next = now + self._every
        self._here.take(self._probe.look())
        with suppress(Exception):  # whatever becomes of a probe is no end of a run
            self._visit(now)
        found: dict[str, float] = {}
        for machine in (*self._others.values(), self._here):
            if machine.last is not None:
                figures = machine.last.figures(machine.before)
                found |= {f"node/{machine.last.host}/{name}": value for name, value in figures.items()}
        spent = self._spent()
        if now > self._since:
            found["run/driver_cpu"] = float(f"{(spent - self._cpu_s) / (now - self._since):.4g}")
        self._cpu_s, self._since = spent, now
        return found

    def _visit(self, now: float) -> None:
        """Takes the answers that have come, and looks anew at those that have answered."""
        for name in [name for name in self._names if name not in self._others][:MOST_STARTS]:
            probe = self._engine.start(f"probe-{name}", Needs(cpus=0, node=name), Probe)
            self._others[name] = _Machine(probe)
        for name, machine in list(self._others.items()):
            assert machine.probe is not None
            try:
                if machine.look is not None and self._engine.wait([machine.look], 0):
                    look, machine.look = machine.look, None
                    machine.take(self._engine.fetch(look))
                if machine.look is None:
                    (machine.look,) = self._engine.call(machine.probe, "look")
                patience = STALE_ROUNDS * self._every
                gone = now - machine.answered > (patience if machine.last else max(patience, START_SECONDS))
            except NoAnswer:
                gone = True
            if gone or name not in self._names:
                self._engine.kill(machine.probe)
                del self._others[name]
        if not self._listing.is_alive():
            self._listing = self._list()

    def _list(self) -> threading.Thread:
        """Asks which machines there are, in a thread: a cluster whose head is gone answers late."""

        def ask() -> None:
            with suppress(Exception):
                rooms = self._engine.rooms()
                used = {name: room for name, room in rooms.items() if name and room.free < room.cpus}
                self._names = [name for name, room in used.items() if not room.leaving]

        listing = threading.Thread(target=ask, name="nodes", daemon=True)
        listing.start()
        return listing

    def _spent(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system
