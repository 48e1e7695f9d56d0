"""Calls that have been asked and not yet answered."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from distdqn.runtime.engine import Engine, Handle, Ref


@dataclass
class Call:
    """One call in flight. `refs` are its results, the last of them small and opened by the coordinator;
    `context` is whatever its handler needs."""

    kind: str
    handle: Handle
    refs: tuple[Ref, ...]
    context: Any = None
    asked: float = field(default_factory=time.monotonic)


class Calls:
    """All calls in flight, by kind and by component, in the order in which they were asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._calls: dict[Ref, Call] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._answered: dict[str, float] = {}
        self._lives: dict[str, int] = {}

    def ask(self, kind: str, handle: Handle, method: str, *args: Any, returns: int = 1, context: Any = None) -> None:
        """Asks `handle` for `method(*args)`."""
        call = Call(kind, handle, self.engine.call(handle, method, *args, returns=returns), context)
        self._calls[call.refs[-1]] = call
        self._count[kind, handle.name] += 1

    def count(self, kind: str, handle: Handle) -> int:
        """Calls of this kind in flight to one component, its earlier lives included."""
        return self._count[kind, handle.name]

    def of(self, kind: str) -> list[Call]:
        """Calls of this kind in flight, oldest first."""
        return [c for c in self._calls.values() if c.kind == kind]

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
        self._count[call.kind, call.handle.name] -= 1
        self._answered[call.handle.name] = time.monotonic()
        self._lives[call.handle.name] = call.handle.life
        return call

    def has_answered(self, handle: Handle) -> bool:
        """True once this life of the component has answered a call."""
        return self._lives.get(handle.name) == handle.life

    def waiting(self, kind: str, now: float) -> dict[Handle, float]:
        """Seconds that each component with calls of this kind has let pass since it answered last, or since
        the oldest of them was asked."""
        waits: dict[Handle, float] = {}
        for call in self.of(kind):
            since = max(call.asked, self._answered.get(call.handle.name, 0.0))
            waits[call.handle] = max(waits.get(call.handle, 0.0), now - since)
        return waits
