"""Virtual time and the engine in it, against visible arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from distdqn.runtime.engine import Handle, Needs
from distdqn.runtime.simulated import Machines, SimulatedEngine, Work
from distdqn.runtime.timeline import Timeline

LATENCY = 0.01


class Worker:
    """`work(seconds)`, `make(bytes)`, `take(thing)`: how long, how large, and what it is given."""

    def do(self, method: str, *args: Any) -> Work:
        if method == "work":
            return Work(args[0], (f"{args[0]} s",))
        if method == "make":
            return Work(0.0, ("thing", "small"), (args[0],))
        return Work(0.0, (f"took {args[0]}",))


class Cpu:
    """CPU seconds that the driver's thread has spent."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def make(cpu: Cpu | None = None, **machines: Any) -> tuple[SimulatedEngine, list[Handle]]:
    """Three machines with one worker each, the driver on the first."""
    settings: dict[str, Any] = {"nodes": 3, "latency": LATENCY, "bandwidth": 100.0, **machines}
    timeline = Timeline(cpu or Cpu())
    engine = SimulatedEngine(timeline, Machines(**settings), lambda _: Worker(), lambda name: int(name[-1]))
    return engine, [engine.start(f"worker-{i}", Needs(), Worker) for i in range(settings["nodes"])]


def wait_for_all(engine: SimulatedEngine, refs: set[Any]) -> list[tuple[float, Any]]:
    """When each answer came, and what it was."""
    came = []
    while refs:
        for ref in engine.wait(refs, 100.0):
            refs.remove(ref)
            came.append((pytest.approx(engine.timeline.now), engine.fetch(ref)))
    return came


def test_a_call_takes_its_way_and_its_time_and_those_to_one_component_their_turn() -> None:
    engine, (one, two, _) = make()
    refs = {engine.call(h, "work", seconds)[0] for h, seconds in ((one, 3.0), (one, 1.0), (two, 2.0))}
    way = 2 * LATENCY
    assert wait_for_all(engine, refs) == [(2 + way, "2.0 s"), (3 + way, "3.0 s"), (3 + 1 + way, "1.0 s")]
    assert engine.timeline.idle == pytest.approx(4 + way)
    assert engine.timeline.busy == 0


def test_nobody_waits_longer_than_was_said() -> None:
    engine, (one, *_) = make()
    (ref,) = engine.call(one, "work", 3.0)
    assert engine.wait({ref}, 0.5) == []
    assert engine.timeline.now == pytest.approx(0.5)
    with pytest.raises(TimeoutError):
        engine.fetch(ref, 1.0)
    assert engine.timeline.now == pytest.approx(1.5)
    assert engine.fetch(ref) == "3.0 s"
    assert engine.timeline.now == pytest.approx(3 + 2 * LATENCY)


def test_what_is_large_travels_once_to_a_machine_and_through_one_card_after_the_other() -> None:
    engine, (one, two, three) = make()
    thing, small = engine.call(one, "make", 500.0, returns=2)
    assert wait_for_all(engine, {small}) == [(2 * LATENCY, "small")]
    begin = 2 * LATENCY + LATENCY
    refs = {engine.call(h, "take", thing)[0] for h in (one, two, two, three)}
    came = wait_for_all(engine, refs)
    assert came[0] == (begin + LATENCY, "took thing")
    # 5 s to the second machine, and 5 s more from the same card to the third
    times = [when for when, _ in came[1:]]
    assert times == [begin + 5 + 2 * LATENCY] * 2 + [begin + 10 + 2 * LATENCY]
    assert engine.nodes[0].out_busy == engine.nodes[1].in_busy + engine.nodes[2].in_busy == 10


def test_cores_are_shared() -> None:
    engine, _ = make(nodes=1, cores=2)
    handles = [engine.start(f"other{i}-0", Needs(), Worker) for i in range(4)]
    refs = {engine.call(h, "work", seconds)[0] for h, seconds in zip(handles, (1.0, 1.0, 1.0, 3.0), strict=True)}
    came = wait_for_all(engine, refs)
    # four on two cores: half as fast until three of them end at 2, when the last has 2 of 3 left
    assert [when for when, _ in came] == [2 + 2 * LATENCY] * 3 + [2 + 2 + 2 * LATENCY]
    assert engine.nodes[0].core_seconds == 6


def test_what_the_driver_computes_takes_its_time_and_what_the_simulation_does_takes_none() -> None:
    cpu = Cpu()
    engine, (one, *_) = make(cpu, ask=0.3, look=0.2, open=0.1)
    cpu.seconds += 2.0
    (ref,) = engine.call(one, "work", 1.0)
    assert engine.timeline.now == pytest.approx(2.3)
    cpu.seconds += 5.0
    assert engine.timeline.monotonic() == pytest.approx(7.3)
    assert engine.wait({ref}, 9.0) == [ref]  # it has been there since 3.3
    assert engine.fetch(ref) == "1.0 s"
    assert engine.timeline.now == engine.timeline.busy == pytest.approx(7.3 + 0.2 + 0.1)


def test_a_driver_that_sleeps_is_idle_and_things_go_on() -> None:
    engine, (one, *_) = make()
    (ref,) = engine.call(one, "work", 1.0)
    engine.timeline.sleep(2.0)
    assert engine.timeline.now == engine.timeline.idle == pytest.approx(2.0)
    assert engine.wait({ref}, 0.0) == [ref]
