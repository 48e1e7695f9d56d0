"""Calls in flight: order, counts, waiting."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from distdqn.runtime import calls as module
from distdqn.runtime.calls import Call, Calls
from distdqn.runtime.engine import Handle

ONE, TWO = Handle("actor-0", 0), Handle("actor-1", 0)


class SlowEngine:
    """Numbers its references; a test says which of them are there."""

    def __init__(self) -> None:
        self.asked: list[tuple[Handle, str, tuple[Any, ...]]] = []
        self.there: set[int] = set()
        self.refs = 0

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[int, ...]:
        self.asked.append((handle, method, args))
        self.refs += returns
        return tuple(range(self.refs - returns, self.refs))

    def wait(self, refs: Sequence[int], timeout: float) -> list[int]:
        return [r for r in refs if r in self.there]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


@pytest.fixture
def calls(engine: SlowEngine) -> Calls:
    return Calls(engine)  # type: ignore[arg-type]


@pytest.fixture
def clock(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that `calls` reads, and at which each call is asked."""
    clock, ask = Clock(), calls.ask

    def ask_now(handle: Handle, method: str) -> Call:
        call = ask(handle, method)
        call.asked = clock.now
        return call

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(calls, "ask", ask_now)
    return clock


def test_what_is_asked(engine: SlowEngine, calls: Calls) -> None:
    call = calls.ask(ONE, "rollout", "weights", 7, returns=2)
    assert engine.asked == [(ONE, "rollout", ("weights", 7))]
    assert calls.of("rollout") == [call]
    assert (call.handle, call.method, call.refs, call.answered) == (ONE, "rollout", (0, 1), False)


def test_counts_by_method_and_component(engine: SlowEngine, calls: Calls) -> None:
    for handle in (ONE, ONE, TWO):
        calls.ask(handle, "rollout")
    calls.ask(ONE, "state")
    assert len(calls) == 4
    assert [calls.count("rollout", h) for h in (ONE, TWO)] == [2, 1]
    assert [calls.count("state", h) for h in (ONE, TWO)] == [1, 0]
    assert calls.count("rollout", Handle("actor-0", 1)) == 2, "earlier lives count"
    assert [len(calls.of(k)) for k in ("rollout", "state", "other")] == [3, 1, 0]
    engine.there = {0}
    assert [c.refs for c in calls.ready(0)] == [(0,)]
    assert calls.ready(0) == []
    assert [calls.count("rollout", h) for h in (ONE, TWO)] == [1, 1]
    assert len(calls) == 3


def test_a_call_is_ready_when_its_last_and_small_result_is(engine: SlowEngine, calls: Calls) -> None:
    calls.ask(ONE, "sample", returns=2)
    engine.there = {0}
    assert calls.ready(0) == []
    engine.there = {1}
    assert [c.refs for c in calls.ready(0)] == [(0, 1)]


def test_order(engine: SlowEngine, calls: Calls) -> None:
    asked = [calls.ask(ONE if number % 2 else TWO, "add") for number in range(5)]
    engine.there = {3, 1}
    assert calls.ready(0) == [asked[1], asked[3]]
    assert calls.of("add") == [asked[0], asked[2], asked[4]]
    asked.append(calls.ask(ONE, "add"))
    # answered or not, the oldest comes first
    assert [calls.oldest() for _ in range(4)] == [asked[i] for i in (0, 2, 4, 5)]
    assert len(calls) == 0
    assert calls.count("add", ONE) == calls.count("add", TWO) == 0


def test_waiting_begins_with_the_oldest_call(calls: Calls, clock: Clock) -> None:
    calls.ask(ONE, "rollout")
    clock.now += 3
    calls.ask(ONE, "rollout")
    calls.ask(TWO, "rollout")
    calls.ask(TWO, "state")
    assert calls.waiting("rollout", clock.now + 4) == {ONE: 7, TWO: 4}
    assert calls.waiting("add", clock.now) == {}


def test_waiting_begins_anew_with_each_answer(engine: SlowEngine, calls: Calls, clock: Clock) -> None:
    calls.ask(ONE, "rollout")
    calls.ask(ONE, "rollout")
    clock.now += 50
    engine.there = {0}
    calls.ready(0)
    assert calls.waiting("rollout", clock.now + 5) == {ONE: 5}
    clock.now += 20
    calls.ask(ONE, "rollout")
    assert calls.waiting("rollout", clock.now) == {ONE: 20}
    # a new life has not answered yet, and is asked anew
    new = Handle("actor-0", 1)
    calls.ask(new, "rollout")
    assert calls.waiting("rollout", clock.now + 1) == {ONE: 21, new: 1}
