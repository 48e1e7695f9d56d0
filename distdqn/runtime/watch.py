"""Who is silent, who waits for room, who dies too often: the patience of a run."""

from collections import Counter, defaultdict, deque

from distdqn.config import RunConfig
from distdqn.runtime.calls import Call, Calls
from distdqn.runtime.engine import Engine, Handle

MOST_DEATHS, MOST_AN_HOUR = 5, 30
"""Deaths of one component in a row, without an answer in between, and exceptions within an hour, after which the run
gives up."""
START_SECONDS = 180.0
"""Longer than any start, so that only a machine or a cluster that is gone takes it."""
SILENT_SECONDS = 10.0
"""Without an answer for so long, a shard is passed over; it is replaced when its patience is at an end."""
ROOM_SECONDS = 30.0
"""A component that has no process for so long is said to wait for room: starting one takes a while on a busy host."""


class Watch:
    """Looks at calls that have no answer, and counts deaths.

    Attributes:
        silent: components that have not answered for a while. waiting: those that wait for room in the cluster.
    """

    def __init__(self, config: RunConfig, engine: Engine, calls: Calls) -> None:
        self.config, self.engine, self.calls = config, engine, calls
        self.silent, self.waiting = set[str](), set[str]()
        self.replays: dict[str, float] = {}
        """Seconds that a shard may take besides to do again what its journal holds."""
        self._deaths: Counter[str] = Counter()
        self._out_of_memory = set[str]()
        self._failures: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST_AN_HOUR))
        self._first: set[tuple[Handle, str]] = set()
        """What each life has answered at least once."""
        self._next_look = 0.0
        self._placeless: dict[Handle, float] = {}

    def answered(self, call: Call) -> None:
        """A component answered: it is well."""
        name = call.handle.name
        if call.method != "start":
            self._deaths[name] = 0
            self._out_of_memory.discard(name)
        self._first.add((call.handle, call.method))

    def failed(self, name: str, why: str) -> bool:
        """A method raised; True where it used up the device's memory for the second time in a row."""
        self._failures[name].append(self.calls.wall.monotonic())
        again = name in self._out_of_memory
        if "out of memory" not in why:
            return False
        self._out_of_memory.add(name)
        return again

    def died(self, name: str) -> str | None:
        """A component died; says so where that was too often, and forgets it then."""
        self._deaths[name] += 1
        failures = self._failures[name]
        often = len(failures) == MOST_AN_HOUR and self.calls.wall.monotonic() - failures[0] < 3600
        if not often and self._deaths[name] <= MOST_DEATHS:
            return None
        how = f"failed {MOST_AN_HOUR} times an hour" if often else f"died {self._deaths[name]} times in a row"
        self._deaths[name] = 0
        failures.clear()
        return how

    def patience(self, call: Call) -> float:
        """Seconds that a call may take: an emulator can hang for ever, a process be stopped, a network be cut."""
        if call.method == "start":
            return max(START_SECONDS, self.config.engine.timeout_s) + self.replays.get(call.handle.name, 0.0)
        limit = self.config.actors.timeout_s if "rollout" in call.method else self.config.engine.timeout_s
        return limit if (call.handle, call.method) in self._first else max(limit, START_SECONDS)

    def look(self, present: dict[str, Handle]) -> tuple[list[tuple[Call, float]], list[str]]:
        """Once a second: the calls whose patience is at an end, with the seconds, and lines for people. A life that
        waits for room in the cluster is neither silent nor dead."""
        clock, gone, lines = self.calls.clock, list[tuple[Call, float]](), list[str]()
        if clock < self._next_look:
            return gone, lines
        self._next_look = clock + 1
        silent, waiting = set[str](), set[str]()
        for handle, (call, seconds) in self.calls.waiting().items():
            name = handle.name
            if seconds < SILENT_SECONDS or present.get(name) != handle:
                continue
            if not self.calls.has_answered(handle) and not self.engine.placed(handle):
                if clock - self._placeless.setdefault(handle, clock - seconds) > ROOM_SECONDS:
                    waiting.add(name)
                call.asked = clock  # its patience begins when there is room
            elif seconds > self.patience(call):
                gone.append((call, seconds))
            elif name.startswith("shard") and call.method != "start":
                silent.add(name)  # of the others, what they are asked for may take as long
        lines += [f"{name} is silent, passed over meanwhile" for name in sorted(silent - self.silent)]
        if new := sorted(waiting - self.waiting):
            lines.append(f"{', '.join(new)} {'waits' if len(new) == 1 else 'wait'} for room in the cluster")
        joined = {name for name, handle in present.items() if self.calls.has_answered(handle)}
        self.silent, self.waiting = silent, waiting | (self.waiting - joined)
        return gone, lines
