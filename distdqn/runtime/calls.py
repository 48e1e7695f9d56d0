"""Calls that have been asked and not yet answered."""

import time
from collections import Counter, defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from distdqn.runtime.clock import Clock
from distdqn.runtime.engine import Engine, Handle, NoAnswer, Ref


@dataclass(eq=False)
class Call:
    """A call of a component. `refs` are its results, the last of them small and opened by the coordinator. Once it is
    `answered` either `value` is that last result or `error` says why there is none, and `task` goes on."""

    handle: Handle
    method: str
    refs: tuple[Ref, ...]
    asked: float
    task: "Task | None" = None
    answered: bool = False
    taken_back: bool = False
    value: Any = None
    error: NoAnswer | None = None


Task = Generator[Call, Any, None]
"""Calls that follow from each other: it yields a call to wait for its answer, which is the value of the `yield`;
where there is none the `yield` raises `NoAnswer`, and a task that does not catch it ends."""


NOBODY_ASKED = 0.02
"""Seconds until the next look where there is nothing to wait for, while a checkpoint is being written, say."""
LONGEST_LOOK = 1.0
"""Seconds that pass on the clock of the calls, beside the time waited for answers, from one look to the next."""


class Calls:
    """All calls in flight, by method and by component, in the order in which they were asked.

    Attributes:
        clock: seconds in which answers were looked for: while this process was stopped, suspended or busy for long, no
            answer could be taken, and nobody was late.
    """

    def __init__(self, engine: Engine, wall: Clock = time) -> None:
        self.engine, self.wall = engine, wall
        self.clock, self._looked = 0.0, wall.monotonic()
        self._calls: dict[Ref, Call] = {}
        self._of = defaultdict[str, dict[Ref, Call]](dict)
        self._count: Counter[tuple[str, str]] = Counter()
        self._answered: dict[str, tuple[Handle, float]] = {}

    def ask(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> Call:
        """Asks `handle` for `method(*args)`."""
        return self._add(Call(handle, method, self.engine.call(handle, method, *args, returns=returns), self.clock))

    def await_start(self, handle: Handle, method: str | None = None) -> Call:
        """A call that is answered once `handle` has been made, with what `method` gives."""
        ref = self.engine.call(handle, method)[0] if method else self.engine.ready(handle)
        return self._add(Call(handle, "start", (ref,), self.clock))

    def _add(self, call: Call) -> Call:
        self._calls[call.refs[-1]] = self._of[call.method][call.refs[-1]] = call
        self._count[call.method, call.handle.name] += 1
        return call

    def count(self, method: str, handle: Handle) -> int:
        """Calls of this method in flight to one component, its earlier lives included."""
        return self._count[method, handle.name]

    def of(self, method: str) -> list[Call]:
        """Calls of this method in flight, oldest first."""
        return list(self._of[method].values()) if method in self._of else []

    def all(self) -> list[Call]:
        """All in flight, oldest first."""
        return list(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

    def ready(self, timeout: float) -> list[Call]:
        """Takes out the calls that are answered, after at most `timeout` seconds."""
        if not self._calls:
            self.wall.sleep(min(timeout, NOBODY_ASKED))
        answered = self.engine.wait(self._calls.keys(), timeout)
        now = self.wall.monotonic()
        self.clock, self._looked = self.clock + min(now - self._looked, timeout + LONGEST_LOOK), now
        return [self._take(ref) for ref in answered]

    def oldest(self) -> Call:
        """Takes out the call that was asked first, answered or not."""
        return self._take(next(iter(self._calls)))

    def _take(self, ref: Ref) -> Call:
        call = self._calls.pop(ref)
        del self._of[call.method][ref]
        self._count[call.method, call.handle.name] -= 1
        self._answered[call.handle.name] = call.handle, self.clock
        return call

    def has_answered(self, handle: Handle) -> bool:
        """True once this life of the component has answered a call."""
        return handle.name in self._answered and self._answered[handle.name][0] == handle

    def waiting(self) -> dict[Handle, tuple[Call, float]]:
        """The oldest call of each component, and the seconds on `clock` since it was asked, or since the component
        answered last."""
        waits: dict[Handle, tuple[Call, float]] = {}
        for call in self._calls.values():
            if call.handle not in waits:
                handle, answered = self._answered.get(call.handle.name, (None, 0.0))
                since = max(call.asked, answered if handle == call.handle else 0.0)
                waits[call.handle] = call, self.clock - since
        return waits
