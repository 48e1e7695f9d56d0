"""An engine that pretends: components on many machines, a network between them, all in virtual time.

What a call goes through, as with Ray:

    the driver asks ──latency──▶ at the component's node: arguments that are elsewhere travel there ──▶ its turn comes
    ──▶ it works, on cores of that node ──latency──▶ the small last result is at the driver; large ones stay there
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from distdqn.runtime.engine import Beside, Handle, Needs, Ref, Room
from distdqn.runtime.timeline import Timeline


@dataclass(frozen=True)
class Work:
    """What a call comes to: `seconds` on `cores` of its node, 0 for work that is done elsewhere, as on a GPU; its
    `values`, and the bytes of each that travel (`sizes`, 0 for the small ones)."""

    seconds: float
    values: tuple[Any, ...]
    sizes: tuple[float, ...] = ()
    cores: int = 1


class Pretended(Protocol):
    """Stands for a component."""

    def do(self, method: str, *args: Any) -> Work:
        """What `method(*args)` comes to, asked when the call begins."""


@dataclass(frozen=True)
class Machines:
    """`nodes` of the same kind. `cores` of each, None for as many as are asked for; `bandwidth` of each, bytes/s in
    each direction; `latency` one way, seconds. `ask`, `look`, `open`: CPU seconds of the driver inside the real engine
    for a call, for a look at what is there, and for an answer."""

    nodes: int
    cores: int | None = None
    bandwidth: float = 3.125e9
    latency: float = 1e-4
    ask: float = 0.0
    look: float = 0.0
    open: float = 0.0


class _Result:
    """A value, at `node` and wherever it has travelled: `there` says since when."""

    __slots__ = ("done", "node", "size", "there", "value")

    def __init__(self, node: int) -> None:
        self.node, self.done, self.value, self.size = node, False, None, 0.0
        self.there: dict[int, float] = {}


class _Node:
    """Cores shared equally by what runs on them, and a network card."""

    def __init__(self, timeline: Timeline, cores: int | None) -> None:
        self.timeline, self.cores = timeline, cores
        self.out_free = self.in_free = self.out_busy = self.in_busy = self.core_seconds = 0.0
        self._work, self._since, self._width, self._stamp = 0.0, 0.0, 0, 0
        self._jobs: list[tuple[float, int, int, Callable[[float], None]]] = []

    def run(self, when: float, work: Work, then: Callable[[float], None]) -> None:
        """Does `work` from `when` on, beside what runs there already, and then calls `then(its end)`."""
        self.core_seconds += work.seconds * work.cores
        if self.cores is None or not work.cores:
            self.timeline.at(when + work.seconds, then)
            return
        self._share(when)
        self._stamp += 1
        heapq.heappush(self._jobs, (self._work + work.seconds, self._stamp, work.cores, then))
        self._width += work.cores
        self._plan(when)

    def _speed(self) -> float:
        return min(1.0, (self.cores or 1) / self._width)

    def _share(self, when: float) -> None:
        if self._width:
            self._work += (when - self._since) * self._speed()
        self._since = when

    def _plan(self, when: float) -> None:
        if self._jobs:
            self._stamp += 1
            left = max(0.0, self._jobs[0][0] - self._work)
            self.timeline.at(when + left / self._speed(), self._due, self._stamp)

    def _due(self, when: float, stamp: int) -> None:
        if stamp != self._stamp:
            return  # others came or went meanwhile
        self._share(when)
        _, _, width, then = heapq.heappop(self._jobs)
        self._width -= width
        self._plan(when)
        then(when)


class _Component:
    def __init__(self, handle: Handle, node: int, pretended: Pretended) -> None:
        self.handle, self.node, self.pretended = handle, node, pretended
        self.waiting: deque[tuple[float, str, tuple[Any, ...], tuple[_Result, ...]]] = deque()
        self.working = False
        self.busy = 0.0


class SimulatedEngine:
    """See `engine.Engine`, and this page. Nothing dies here, and no call is taken back.

    Args:
        make: gives what stands for the component of a name; what the coordinator would build is not built.
        place: gives the node of the component of a name; the driver is on node 0.
    """

    def __init__(
        self, timeline: Timeline, machines: Machines, make: Callable[[str], Pretended], place: Callable[[str], int]
    ) -> None:
        self.timeline, self.machines, self._make, self._place = timeline, machines, make, place
        self.nodes = [_Node(timeline, machines.cores) for _ in range(machines.nodes)]
        self.components: dict[str, _Component] = {}
        self.messages = 0
        self._random = random.Random(0)
        self._there: dict[Ref, None] = {}

    def start(self, name: str, place: Needs | Beside, build: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle(name, 0)
        self.components[name] = _Component(handle, self._place(name), self._make(name))
        return handle

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        timeline, component = self.timeline, self.components[handle.name]
        timeline.leave(self.machines.ask)
        refs = tuple([_Result(component.node) for _ in range(returns)])
        timeline.at(timeline.now + self.machines.latency, self._arrive, component, method, args, refs)
        self.messages += 1
        timeline.enter()
        return refs

    def ready(self, handle: Handle) -> Ref:
        return self.call(handle, "ready")[0]

    def wait(self, refs: Collection[Ref], timeout: float) -> list[Ref]:
        timeline, there = self.timeline, self._there
        timeline.leave(self.machines.look)
        timeline.run(lambda: bool(there), timeline.now + timeout)
        found = [ref for ref in there if ref in refs]
        for ref in found:
            del there[ref]
        timeline.enter()
        return found

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        timeline = self.timeline
        timeline.leave(self.machines.open)
        timeline.run(lambda: ref.done, timeline.now + (timeout or float("inf")))
        self._there.pop(ref, None)
        timeline.enter()
        if not ref.done:
            raise TimeoutError("no answer yet")
        return ref.value

    def placed(self, handle: Handle) -> bool:
        return True

    def rooms(self) -> dict[str, Room]:
        return {}  # nobody looks at what is not there

    def residents(self) -> dict[str, list[Handle]]:
        return {}

    def want(self, cpus: int) -> None:
        """Nobody makes machines here."""

    def put(self, value: Any) -> Ref:
        ref = _Result(0)
        ref.value, ref.done = value, True
        return ref

    def cancel(self, ref: Ref) -> None:
        """It is answered all the same."""

    def kill(self, handle: Handle) -> None:
        """Nobody is killed here."""

    def pid(self, handle: Handle) -> int:
        return 0

    def close(self) -> None:
        self.components.clear()

    def _arrive(
        self, when: float, component: _Component, method: str, args: tuple[Any, ...], refs: tuple[_Result, ...]
    ) -> None:
        ready = max([when, *(self._travel(when, a, component.node) for a in args if isinstance(a, _Result) and a.size)])
        component.waiting.append((ready, method, args, refs))
        if not component.working:
            self._begin(when, component)

    def _travel(self, when: float, result: _Result, to: int) -> float:
        """When `result` is at node `to`. It comes from any of the nodes that have it, as with Ray."""
        if to == result.node:
            return when
        if to not in result.there:
            holders = [result.node, *(node for node, since in result.there.items() if since <= when)]
            source, target = self.nodes[self._random.choice(holders)], self.nodes[to]
            seconds = result.size / self.machines.bandwidth
            source.out_free = max(when, source.out_free) + seconds
            target.in_free = max(source.out_free - seconds, target.in_free) + seconds
            source.out_busy += seconds
            target.in_busy += seconds
            result.there[to] = target.in_free + self.machines.latency
        return max(when, result.there[to])

    def _begin(self, when: float, component: _Component) -> None:
        ready, method, args, refs = component.waiting.popleft()
        component.working = True
        if ready > when:
            self.timeline.at(ready, self._work, component, method, args, refs)
        else:
            self._work(when, component, method, args, refs)

    def _work(
        self, when: float, component: _Component, method: str, args: tuple[Any, ...], refs: tuple[_Result, ...]
    ) -> None:
        values = [a.value if isinstance(a, _Result) else a for a in args]
        work = Work(0.0, (None,)) if method == "ready" else component.pretended.do(method, *values)
        for ref, value in zip(refs, work.values, strict=True):
            ref.value = value
        for ref, size in zip(refs, work.sizes, strict=False):
            ref.size = size
        component.busy += work.seconds
        self.nodes[component.node].run(when, work, lambda end: self._end(end, component, refs))

    def _end(self, when: float, component: _Component, refs: tuple[_Result, ...]) -> None:
        self.timeline.at(when + self.machines.latency, self._answer, refs)
        component.working = False
        if component.waiting:
            self._begin(when, component)

    def _answer(self, when: float, refs: tuple[_Result, ...]) -> None:
        for ref in refs:
            ref.done = True
        self._there[refs[-1]] = None
