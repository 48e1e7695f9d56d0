"""Virtual time: a heap of what happens when. What the coordinator computes meanwhile takes its real CPU time."""

import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import Any


class Timeline:
    """A clock (`runtime.clock`) for a simulation that is driven by a process under measurement.

    That process, the driver, is either computing, which moves `now` on by the CPU time that it takes, or it asks the
    simulation for something: `leave` is called first and `enter` last, so that the simulation's own work costs nothing.

    Args:
        cpu: CPU seconds that the driver's thread has spent; a constant makes a simulation the same each time.

    Attributes:
        now: the driver's time, in seconds. busy: those of them in which it computed. idle: those in which it waited.
    """

    def __init__(self, cpu: Callable[[], float] = time.thread_time) -> None:
        self.now = self.busy = self.idle = 0.0
        self._cpu = cpu
        self._mark = cpu()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = count()

    def leave(self, seconds: float = 0.0) -> None:
        """The driver asks the simulation for something, which takes `seconds` of its own time."""
        spent = self._cpu() - self._mark + seconds
        self.now += spent
        self.busy += spent

    def enter(self) -> None:
        """The driver computes from now on."""
        self._mark = self._cpu()

    def monotonic(self) -> float:
        """The driver's time."""
        self.leave()
        self.enter()
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets so much time pass."""
        self.leave()
        self.run(lambda: False, self.now + seconds)
        self.enter()

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        """Lets `what(when, *args)` happen at `when`."""
        heapq.heappush(self._heap, (when, next(self._count), what, args))

    def run(self, enough: Callable[[], bool], until: float) -> None:
        """Lets everything happen that is due, then waits until `enough()`, or at the latest `until`, in seconds."""
        heap = self._heap
        while heap and heap[0][0] <= self.now:
            self._next()
        while not enough():
            if not heap or heap[0][0] > until:
                self._pass(until)
                return
            self._pass(heap[0][0])
            self._next()

    def _next(self) -> None:
        when, _, what, args = heapq.heappop(self._heap)
        what(when, *args)

    def _pass(self, when: float) -> None:
        if when > self.now:
            self.idle += when - self.now
            self.now = when
