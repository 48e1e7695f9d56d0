"""What both engines promise: results, errors, deaths, restarts, processes that are shared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distdqn.runtime.engine import Beside, ComponentFailed, ComponentLost, DataLost, Engine, Handle, Needs, Room
from distdqn.runtime.local import LocalEngine

PROCESS = Needs(cpus=0)
ROOT = Path(__file__).resolve().parents[2]
ORPHAN = """
import os, time
from pathlib import PurePath
import psutil
from distdqn.runtime.engine import ComponentLost, Needs
from distdqn.runtime.ray import RayEngine

engine = RayEngine(None, 1, 0, 100 * 1024**2)
path = engine.start("path-0", Needs(cpus=0), PurePath, "a")
engine.fetch(engine.call(path, "as_posix")[0])
print("parent", os.getppid(), flush=True)
[raylet] = [p for p in psutil.Process().children() if p.name() == "raylet"]
raylet.kill()
try:
    while True:
        engine.fetch(engine.call(path, "as_posix")[0], timeout=60)
        time.sleep(0.1)
except ComponentLost:
    print("lost", flush=True)
engine.close()
print("closed", flush=True)
"""


class Counter:
    def __init__(self, start: int) -> None:
        if start < 0:
            raise ValueError("cannot start below zero")
        self.value = start
        self.closed = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def both(self, amount: int) -> tuple[int, str]:
        return self.add(amount), f"now {self.value}"

    def pair(self) -> tuple[int, int]:
        return self.value, self.value

    def sum(self, *amounts: Any) -> int:
        return sum(a for a in amounts if isinstance(a, int))

    def fail(self) -> None:
        raise KeyError("no such thing")

    def niceness(self) -> int:
        return os.nice(0)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[Engine]:
    from distdqn.runtime.ray import RayEngine

    engine = RayEngine(None, 1, 0, 100 * 1024**2)
    yield engine
    engine.close()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    engine = LocalEngine() if request.param == "local" else request.getfixturevalue("ray_engine")
    yield engine
    for handle, _ in list(engine._components.values()):
        engine.kill(handle)
    engine._components.clear()


@pytest.fixture
def counter(engine: Engine) -> Handle:
    return engine.start("counter-0", PROCESS, Counter, 10)


def test_calls_run_in_order_and_keep_their_results(engine: Engine, counter: Handle) -> None:
    refs = [engine.call(counter, "add", n)[0] for n in (1, 2, 3)]
    assert [engine.fetch(r) for r in refs] == [11, 13, 16]
    assert [engine.fetch(r) for r in reversed(refs)] == [16, 13, 11]
    assert engine.wait(refs, timeout=0) == refs
    assert engine.wait([], timeout=0) == []
    assert (engine.pid(counter) == os.getpid()) is isinstance(engine, LocalEngine)


def test_several_returns_are_several_references(engine: Engine, counter: Handle) -> None:
    value, text = engine.call(counter, "both", 5, returns=2)
    assert (engine.fetch(value), engine.fetch(text)) == (15, "now 15")
    (pair,) = engine.call(counter, "pair")
    assert engine.fetch(pair) == (15, 15)
    one, other = engine.call(counter, "pair", returns=2)
    assert (engine.fetch(one), engine.fetch(other)) == (15, 15)
    with pytest.raises(ComponentFailed, match="2"):
        engine.fetch(engine.call(counter, "both", 5, returns=3)[0])


def test_references_arrive_as_values(engine: Engine, counter: Handle) -> None:
    two = engine.start("counter-1", PROCESS, Counter, 100)
    (ref,) = engine.call(counter, "add", 1)
    (result,) = engine.call(two, "add", ref)
    assert engine.fetch(result) == 111
    assert engine.fetch(engine.call(two, "sum", ref, engine.put(8), 1, result)[0]) == 11 + 8 + 1 + 111
    assert engine.fetch(engine.put([ref])) == [ref], "only an argument itself is a reference, not what is in it"


def test_an_error_is_raised_where_the_value_is_wanted(engine: Engine, counter: Handle) -> None:
    first, second = engine.call(counter, "fail", returns=2)
    for ref in (first, second):
        with pytest.raises(ComponentFailed, match=r"KeyError: .no such thing"):
            engine.fetch(ref)
    # the component is well
    assert engine.fetch(engine.call(counter, "add", 1)[0]) == 11
    with pytest.raises(ComponentFailed, match="unheard_of"):
        engine.fetch(engine.call(counter, "unheard_of")[0])


def test_a_bad_argument_does_not_reach_the_component(engine: Engine, counter: Handle) -> None:
    bad = engine.call(counter, "fail")[0]
    result = engine.call(counter, "add", bad)[0]
    with pytest.raises(Exception, match="no such thing"):
        engine.fetch(result)
    assert engine.fetch(engine.call(counter, "pair")[0]) == (10, 10)


def lost_call(engine: Engine, handle: Handle) -> tuple[Any, ...]:
    """The first call that a killed component does not answer: Ray's kill is on its way for a moment."""
    while True:
        refs = engine.call(handle, "both", 1, returns=2)
        try:
            engine.fetch(refs[0])
        except ComponentLost:
            return refs


def test_a_dead_component_is_lost(engine: Engine, counter: Handle) -> None:
    other = engine.start("counter-1", PROCESS, Counter, 0)
    (earlier,) = engine.call(counter, "add", 1)
    assert engine.fetch(earlier) == 11
    engine.kill(counter)
    for ref in (lost := lost_call(engine, counter)):
        with pytest.raises(ComponentLost):
            engine.fetch(ref)
    with pytest.raises(DataLost):  # whom it was handed to is well
        engine.fetch(engine.call(other, "add", lost[0])[0])
    assert engine.fetch(earlier) == 11, "what it gave before is the caller's"
    assert engine.fetch(engine.call(other, "add", 1)[0]) == 1
    engine.kill(counter)  # twice is once


def test_a_restart_is_a_new_life(engine: Engine, counter: Handle) -> None:
    engine.call(counter, "add", 5)
    engine.kill(counter)
    second = engine.start("counter-0", PROCESS, Counter, 10)
    assert (second.name, second.life) == ("counter-0", counter.life + 1)
    with pytest.raises(ComponentLost):
        engine.fetch(engine.call(counter, "add", 1)[0])
    assert engine.fetch(engine.call(second, "add", 1)[0]) == 11
    engine.kill(counter)  # the new life does not die of it
    assert engine.fetch(engine.call(second, "add", 1)[0]) == 12
    third = engine.start("counter-0", PROCESS, Counter, 0)  # without a death in between
    assert third.life == counter.life + 2
    with pytest.raises(ComponentLost):
        engine.fetch(engine.call(second, "add", 1)[0])


def test_two_share_a_process(engine: Engine, counter: Handle) -> None:
    beside = engine.start("counter-1", Beside("counter-0"), Counter, 0)
    apart = engine.start("counter-2", PROCESS, Counter, 0)
    assert engine.pid(beside) == engine.pid(counter)
    assert (engine.pid(apart) == engine.pid(counter)) is isinstance(engine, LocalEngine)
    given = engine.call(counter, "add", 1)[0]
    assert engine.fetch(engine.call(beside, "add", given)[0]) == 11
    assert engine.fetch(engine.call(counter, "add", 1)[0]) == 12
    with pytest.raises(KeyError):
        engine.start("counter-3", Beside("nobody"), Counter, 0)
    for name in ("counter-2", "counter-3"):
        with pytest.raises(ValueError, match=f"{name} cannot be beside counter-1, which is itself beside counter-0"):
            engine.start(name, Beside("counter-1"), Counter, 0)
    assert engine.fetch(engine.call(apart, "add", 1)[0]) == 1, "who was refused another place lives on"


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_those_who_share_a_process_die_together_and_start_one_by_one(engine: Engine, killed: int, first: int) -> None:
    starts = [("counter-0", PROCESS, Counter, 10), ("counter-1", Beside("counter-0"), Counter, 0)]
    handles = [engine.start(*s) for s in starts]
    engine.kill(handles[killed])
    for handle in handles:
        lost_call(engine, handle)
    new = {first: engine.start(*starts[first])}
    assert engine.fetch(engine.call(new[first], "add", 1)[0]) == (11, 1)[first]
    with pytest.raises(ComponentLost):  # each needs its own start
        engine.fetch(engine.call(handles[1 - first], "add", 1)[0])
    new[1 - first] = engine.start(*starts[1 - first])
    assert engine.fetch(engine.call(new[0], "add", 1)[0]) == 11 + (first == 0)
    assert engine.fetch(engine.call(new[1], "add", 1)[0]) == 1 + (first == 1)
    assert engine.pid(new[0]) == engine.pid(new[1])


@pytest.mark.parametrize("again", [0, 1])
def test_who_starts_anew_ends_what_shares_its_process(engine: Engine, again: int) -> None:
    starts = [("counter-0", PROCESS, Counter, 10), ("counter-1", Beside("counter-0"), Counter, 0)]
    handles = [engine.start(*s) for s in starts]
    new = engine.start(*starts[again])
    lost_call(engine, handles[1 - again])
    assert engine.fetch(engine.call(new, "add", 1)[0]) == (11, 1)[again]


@pytest.mark.slow
def test_a_constructor_that_fails_is_a_component_lost_in_its_own_words(ray_engine: Engine) -> None:
    engine = ray_engine
    broken = engine.start("counter-9", PROCESS, Counter, -1)
    with pytest.raises(ComponentLost, match="cannot start below zero"):
        engine.fetch(engine.call(broken, "add", 1)[0])
    sound = engine.start("counter-9", PROCESS, Counter, 1)
    assert engine.fetch(engine.call(sound, "add", 1)[0]) == 2
    beside = engine.start("counter-8", Beside("counter-9"), Counter, -1)
    for handle in (beside, sound):
        with pytest.raises(ComponentLost, match="cannot start below zero"):
            engine.fetch(engine.call(handle, "add", 1)[0])


@pytest.mark.slow
def test_who_yields_has_a_lower_priority(ray_engine: Engine) -> None:
    usual, yields = (
        ray_engine.start(f"counter-{name}", needs, Counter, 0)
        for name, needs in (("a", PROCESS), ("b", Needs(cpus=0, yields=True)))
    )
    niceness = [ray_engine.fetch(ray_engine.call(h, "niceness")[0]) for h in (usual, yields)]
    assert niceness[1] == min(19, niceness[0] + 10)


@pytest.mark.slow
def test_ray_exports_one_class_for_all_components(ray_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    manager, exported = ray._private.worker.global_worker.function_actor_manager, []
    monkeypatch.setattr(manager, "export_actor_class", lambda cls, *args: exported.append(cls))
    handles = [ray_engine.start(f"counter-{i}", PROCESS, Counter, i) for i in range(3)]
    assert [ray_engine.fetch(ray_engine.call(h, "add", 1)[0]) for h in handles] == [1, 2, 3]
    assert exported == []


@pytest.mark.slow
def test_lives_that_are_over_leave_nothing_behind(ray_engine: Any) -> None:
    for n in range(3):
        handle = ray_engine.start("counter-9", PROCESS, Counter, n)
        assert ray_engine.fetch(ray_engine.call(handle, "add", 1)[0]) == n + 1
    ray_engine.kill(handle)
    assert not set(ray_engine._methods) - set(ray_engine._hosts.values())


def test_a_process_without_a_parent_outlives_the_raylet(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open(log, "wb") as out:  # the shell ends at once, so that nobody is the parent of what it leaves behind
        command = [sys.executable, "-c", ORPHAN]
        subprocess.run(["sh", "-c", '"$@" &', "sh", *command], stdout=out, stderr=out, cwd=ROOT, check=True)
    deadline = time.monotonic() + 120
    while "closed" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "lost" in log.read_text() and "closed" in log.read_text(), log.read_text()


def test_components_are_closed_once() -> None:
    engine = LocalEngine()
    first = engine.start("counter-0", PROCESS, Counter, 0)
    engine.start("counter-1", PROCESS, Counter, 0)
    killed, kept = (engine._components[f"counter-{i}"][1] for i in range(2))
    engine.kill(first)
    assert (killed.closed, kept.closed) == (1, 0)
    engine.close()
    assert (killed.closed, kept.closed) == (1, 1)


def test_what_a_component_needs_is_asked_of_single_machines() -> None:
    from distdqn.runtime.joining import no_room

    nodes = [Room("a", 4, 0), Room("b", 2, 1)]
    assert no_room(nodes, 6, 1, [Needs(2, 1), Needs(4)]) is None
    assert no_room(nodes, 7, 1, []) == (
        "the run asks for 7 CPUs, that cluster has 6; lower actors.count or add machines"
    )
    assert "asks for 2 GPUs, that cluster has 1" in str(no_room(nodes, 6, 2, []))
    assert no_room(nodes, 6, 1, [Needs(4, 1)]) == (
        "no single machine there has the 4 CPUs and 1 GPU of one component; lower its threads"
    )
    assert "the 5 CPUs of one component" in str(no_room(nodes, 6, 0, [Needs(5)]))
