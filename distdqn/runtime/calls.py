"""Calls that have been asked and not yet answered."""

import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from distdqn.runtime.engine import Engine, Handle, NoAnswer, Ref


@dataclass(eq=False)
class Call:
    """A call of a component. `refs` are its results, the last of them small and opened by the coordinator. Once it is
    `answered` either `value` is that last result or `error` says why there is none, and `task` goes on."""

    handle: Handle
    method: str
    refs: tuple[Ref, ...]
    asked: float = field(default_factory=time.monotonic)
    task: "Task | None" = None
    answered: bool = False
    value: Any = None
    error: NoAnswer | None = None


Task = Generator[Call, Any, None]
"""Calls that follow from each other: it yields a call to wait for its answer, which is the value of the `yield`;
where there is none the `yield` raises `NoAnswer`, and a task that does not catch it ends."""


class Calls:
    """All calls in flight, by method and by component, in the order in which they were asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._calls: dict[Ref, Call] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._answered: dict[str, tuple[Handle, float]] = {}

    def ask(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> Call:
        """Asks `handle` for `method(*args)`."""
        call = Call(handle, method, self.engine.call(handle, method, *args, returns=returns))
        self._calls[call.refs[-1]] = call
        self._count[method, handle.name] += 1
        return call

    def count(self, method: str, handle: Handle) -> int:
        """Calls of this method in flight to one component, its earlier lives included."""
        return self._count[method, handle.name]

    def of(self, method: str) -> list[Call]:
        """Calls of this method in flight, oldest first."""
        return [c for c in self._calls.values() if c.method == method]

    def __len__(self) -> int:
        return len(self._calls)

    def ready(self, timeout: float) -> list[Call]:
        """Takes out the calls that are answered, after at most `timeout` seconds."""
        return [self._take(ref) for ref in self.engine.wait(list(self._calls), timeout)]

    def oldest(self) -> Call:
        """Takes out the call that was asked first, answered or not."""
        return self._take(next(iter(self._calls)))

    def _take(self, ref: Ref) -> Call:
        call = self._calls.pop(ref)
        self._count[call.method, call.handle.name] -= 1
        self._answered[call.handle.name] = call.handle, time.monotonic()
        return call

    def has_answered(self, handle: Handle) -> bool:
        """True once this life of the component has answered a call."""
        return handle.name in self._answered and self._answered[handle.name][0] == handle

    def waiting(self, method: str, now: float) -> dict[Handle, float]:
        """Seconds since each component with calls of this method answered last, or since the oldest was asked."""
        waits: dict[Handle, float] = {}
        for call in self.of(method):
            since = max(call.asked, self._answered.get(call.handle.name, (call.handle, 0.0))[1])
            waits[call.handle] = max(waits.get(call.handle, 0.0), now - since)
        return waits
