"""Calls in flight: order, counts, waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from distdqn.runtime import calls as module
from distdqn.runtime.calls import Calls
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


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


@pytest.fixture
def calls(engine: SlowEngine) -> Calls:
    return Calls(engine)  # type: ignore[arg-type]


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


def waiting(calls: Calls) -> dict[Handle, tuple[str, float]]:
    return {handle: (call.method, seconds) for handle, (call, seconds) in calls.waiting().items()}


def test_waiting_begins_with_the_oldest_call(calls: Calls) -> None:
    calls.ask(ONE, "rollout")
    calls.clock += 3
    calls.ask(ONE, "state")
    calls.ask(TWO, "rollout")
    calls.clock += 4
    assert waiting(calls) == {ONE: ("rollout", 7), TWO: ("rollout", 4)}


def test_waiting_begins_anew_with_each_answer(engine: SlowEngine, calls: Calls) -> None:
    calls.ask(ONE, "rollout")
    calls.ask(ONE, "rollout")
    calls.clock += 50
    engine.there = {0}
    calls.ready(0)
    answered = calls.clock
    calls.clock += 20
    calls.ask(ONE, "rollout")
    assert waiting(calls) == {ONE: ("rollout", calls.clock - answered)}
    # a new life has not answered yet, and is asked anew
    new = Handle("actor-0", 1)
    calls.ask(new, "rollout")
    calls.clock += 1
    assert waiting(calls) == {ONE: ("rollout", calls.clock - answered), new: ("rollout", 1)}


def test_time_in_which_nobody_looked_counts_against_nobody(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    calls._looked = now
    calls.ask(ONE, "rollout")
    for _ in range(3):
        now += 0.5
        calls.ready(timeout=0.2)
    now += 3600  # the process was stopped, or its machine suspended
    calls.ready(timeout=0.2)
    assert waiting(calls) == {ONE: ("rollout", pytest.approx(1.5 + 0.2 + module.LONGEST_LOOK))}
