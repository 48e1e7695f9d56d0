"""Everything in one process: results, errors, deaths, restarts."""

from __future__ import annotations

import os
from typing import Any

import pytest

from distdqn.runtime.engine import ComponentLost, Handle, Needs
from distdqn.runtime.local import LocalEngine


class Counter:
    def __init__(self, start: int) -> None:
        self.value = start
        self.closed = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def both(self, amount: int) -> tuple[int, str]:
        return self.add(amount), f"now {self.value}"

    def pair(self) -> tuple[int, int]:
        return self.value, self.value

    def fail(self) -> None:
        raise KeyError("no such thing")

    def close(self) -> None:
        self.closed += 1


def started(value: int = 10) -> tuple[LocalEngine, Handle]:
    engine = LocalEngine()
    return engine, engine.start("counter-0", Needs(), Counter, value)


def component(engine: LocalEngine, name: str) -> Any:
    return engine._components[name][1]


def test_calls_run_in_order_and_keep_their_results() -> None:
    engine, counter = started()
    refs = [engine.call(counter, "add", n)[0] for n in (1, 2, 3)]
    assert [engine.fetch(r) for r in refs] == [11, 13, 16]
    assert [engine.fetch(r) for r in reversed(refs)] == [16, 13, 11]
    assert engine.wait(refs, timeout=0) == refs
    assert engine.wait([], timeout=0) == []
    assert engine.pid(counter) == os.getpid()


def test_several_returns_are_several_references() -> None:
    engine, counter = started()
    value, text = engine.call(counter, "both", 5, returns=2)
    assert (engine.fetch(value), engine.fetch(text)) == (15, "now 15")
    (pair,) = engine.call(counter, "pair")
    assert engine.fetch(pair) == (15, 15)


def test_references_arrive_as_values() -> None:
    engine, one = started(1)
    two = engine.start("counter-1", Needs(), Counter, 100)
    (ref,) = engine.call(one, "add", 1)
    (result,) = engine.call(two, "add", ref)
    assert engine.fetch(result) == 102
    assert engine.fetch(engine.call(two, "add", engine.put(8))[0]) == 110
    assert engine.fetch(engine.put([ref])) == [ref], "only an argument itself is a reference, not what is in it"


def test_an_error_is_raised_where_the_value_is_wanted() -> None:
    engine, counter = started()
    first, second = engine.call(counter, "fail", returns=2)
    for ref in (first, second):
        with pytest.raises(KeyError, match="no such thing"):
            engine.fetch(ref)
    # the component is well
    assert engine.fetch(engine.call(counter, "add", 1)[0]) == 11
    with pytest.raises(AttributeError, match="unheard_of"):
        engine.fetch(engine.call(counter, "unheard_of")[0])


def test_a_bad_argument_does_not_reach_the_component() -> None:
    engine, counter = started()
    bad = engine.call(counter, "fail")[0]
    result = engine.call(counter, "add", bad)[0]
    with pytest.raises(Exception, match="no such thing"):
        engine.fetch(result)
    assert component(engine, "counter-0").value == 10


def test_a_dead_component_is_lost() -> None:
    engine, counter = started()
    other = engine.start("counter-1", Needs(), Counter, 0)
    (earlier,) = engine.call(counter, "add", 1)
    engine.kill(counter)
    for ref in engine.call(counter, "both", 1, returns=2):
        with pytest.raises(ComponentLost, match="counter-0"):
            engine.fetch(ref)
    assert engine.fetch(earlier) == 11, "what it gave before is the caller's"
    assert engine.fetch(engine.call(other, "add", 1)[0]) == 1
    engine.kill(counter)  # twice is once


def test_a_restart_is_a_new_life() -> None:
    engine, first = started()
    engine.call(first, "add", 5)
    engine.kill(first)
    second = engine.start("counter-0", Needs(), Counter, 10)
    assert (first.name, first.life, second.name, second.life) == ("counter-0", 0, "counter-0", 1)
    with pytest.raises(ComponentLost):
        engine.fetch(engine.call(first, "add", 1)[0])
    assert engine.fetch(engine.call(second, "add", 1)[0]) == 11
    engine.kill(first)  # the new life does not die of it
    assert engine.fetch(engine.call(second, "add", 1)[0]) == 12
    third = engine.start("counter-0", Needs(), Counter, 0)  # without a death in between
    assert third.life == 2
    with pytest.raises(ComponentLost):
        engine.fetch(engine.call(second, "add", 1)[0])


def test_components_are_closed_once() -> None:
    engine, first = started()
    second = engine.start("counter-1", Needs(), Counter, 0)
    killed, kept = component(engine, "counter-0"), component(engine, "counter-1")
    engine.kill(first)
    assert (killed.closed, kept.closed) == (1, 0)
    engine.close()
    assert (killed.closed, kept.closed) == (1, 1)
    assert second.name == "counter-1"
