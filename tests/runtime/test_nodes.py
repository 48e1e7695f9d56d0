"""The machines of a run: who is looked at, what is shown of whom, and who is gone."""

from __future__ import annotations

import ctypes
import time
from dataclasses import replace
from typing import Any

import pytest

from distdqn import machine
from distdqn.machine import Usage, usage
from distdqn.runtime import nodes
from distdqn.runtime.engine import ComponentLost, Handle, Ref, Room
from distdqn.runtime.local import LocalEngine
from distdqn.runtime.nodes import EVERY_SECONDS, STALE_ROUNDS, Nodes, Probe

BEFORE = Usage("a", 100.0, 50.0, 400.0, 1000, 2000, 0.25, 0.125)
NAMES = {"cpu", "memory", "shared_memory", "received", "sent"}


def test_figures_are_shares_and_rates_since_an_earlier_moment() -> None:
    assert BEFORE.figures() == {"memory": 0.25, "shared_memory": 0.125}
    now = replace(BEFORE, at=110.0, busy_s=60.0, core_s=440.0, received=1500, sent=2000, gpu=0.5, gpu_memory=0.75)
    assert now.figures(BEFORE) == {
        "memory": 0.25,
        "shared_memory": 0.125,
        "cpu": (60 - 50) / (440 - 400),
        "received": (1500 - 1000) / 10,
        "sent": 0,
        "gpu": 0.5,
        "gpu_memory": 0.75,
    }
    assert "cpu" not in BEFORE.figures(BEFORE)  # no time has passed


def test_this_machine_is_looked_at() -> None:
    first = usage()
    while (now := usage()).core_s == first.core_s:
        time.sleep(0.01)
    assert set(now.figures(first)) >= NAMES and first.host and "/" not in first.host
    assert 0 < now.memory < 1 and 0 <= now.shared_memory <= 1 and now.busy_s <= now.core_s


class _Gpus:
    """NVIDIA's library with two GPUs, of which the second does not say how busy it is."""

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 3
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, i: int, device: Any) -> int:
        device._obj.value = i + 1
        return 1 if i == 2 else 0  # not for us

    def nvmlDeviceGetUtilizationRates(self, device: ctypes.c_void_p, rates: Any) -> int:
        rates[0] = 40
        return 3 if device.value == 2 else 0

    def nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> int:
        memory[0], memory[1], memory[2] = 80 << 30, 0, (device.value or 0) * (20 << 30)
        return 0


def test_gpus_are_there_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_nvml", lambda: None)
    assert (usage().gpu, usage().gpu_memory) == (None, None)
    monkeypatch.setattr(machine, "_nvml", _Gpus)
    assert (usage().gpu, usage().gpu_memory) == (0.4, 0.5)


class Cluster(LocalEngine):
    """Other machines, whose probes answer as they are told: with what they see, or not, or never."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names, self.state = list(names), dict.fromkeys(names, "well")
        self.killed: list[str] = []
        self.looks = 0

    def rooms(self) -> dict[str, Room]:
        others = {name: Room(name, 2, 0, free=1) for name in self.names}
        empty = {"idle": Room("idle", 2, 0, free=2), "leaving": Room("leaving", 2, 0, leaving=True)}  # nobody is there
        return {"": Room("here", 2, 0), **others, **empty}

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        name = handle.name.removeprefix("probe-")
        (ref,) = super().call(handle, method, *args)
        self.looks += 1
        ref.value = replace(ref.value, host=name, core_s=ref.value.core_s + self.looks)
        if self.state[name] == "lost":
            ref.error = ComponentLost("gone")
        return (ref,)

    def wait(self, refs: Any, timeout: float) -> list[Ref]:
        assert timeout == 0, "nobody waits"
        return [ref for ref in refs if ref.value is None or self.state[ref.value.host] != "silent"]

    def kill(self, handle: Handle) -> None:
        self.killed.append(handle.name.removeprefix("probe-"))
        super().kill(handle)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(nodes.time, "monotonic", lambda: now[0])
    return now


def rounds(watched: Nodes, clock: list[float], number: int) -> dict[str, float]:
    """The metrics of the last of so many looks at all machines."""
    found: dict[str, float] = {}
    for _ in range(number):
        watched._listing.join()
        time.sleep(0.03)  # the kernel counts the cores' time in steps of 0.01 s
        clock[0] += EVERY_SECONDS
        found = watched.metrics()
    return found


def hosts(metrics: dict[str, float]) -> set[str]:
    return {name.split("/")[1] for name in metrics if name.startswith("node/")}


def test_one_machine_needs_no_probe(clock: list[float]) -> None:
    watched, here = Nodes(LocalEngine()), usage().host
    clock[0] += 5
    found = watched.metrics()
    assert hosts(found) == {here} and {f"node/{here}/{name}" for name in ("memory", "shared_memory")} <= set(found)
    assert found["run/driver_cpu"] >= 0
    clock[0] += EVERY_SECONDS - 1
    assert watched.metrics() == {}  # not so soon


def test_every_machine_is_shown_and_who_is_gone_is_not(clock: list[float]) -> None:
    engine = Cluster("n1", "n2", "n3")
    watched, here = Nodes(engine), usage().host
    assert hosts(rounds(watched, clock, 1)) == {here}  # asked, and not waited for
    found = rounds(watched, clock, 2)
    assert hosts(found) == {here, "n1", "n2", "n3"} and {f"node/n1/{name}" for name in NAMES} <= set(found)
    engine.state["n2"] = "lost"
    engine.names = ["n1", "n2"]
    assert hosts(rounds(watched, clock, 2)) == {here, "n1"}
    assert sorted(set(engine.killed)) == ["n2", "n3"]
    engine.state["n2"] = "well"
    assert hosts(rounds(watched, clock, 3)) == {here, "n1", "n2"}  # it came back


def test_who_is_silent_is_shown_for_a_while_and_then_left_out(clock: list[float]) -> None:
    engine = Cluster("n1")
    watched = Nodes(engine)
    rounds(watched, clock, 3)
    engine.state["n1"] = "silent"
    assert "n1" in hosts(rounds(watched, clock, 1))
    assert "n1" not in hosts(rounds(watched, clock, STALE_ROUNDS + 1)) and "n1" in engine.killed


def test_a_process_may_take_long_to_start(clock: list[float]) -> None:
    engine = Cluster("n1")
    engine.state["n1"] = "silent"
    watched = Nodes(engine)
    rounds(watched, clock, STALE_ROUNDS + 3)
    assert engine.killed == []
    engine.state["n1"] = "well"
    assert "n1" in hosts(rounds(watched, clock, 1))


def test_many_machines_are_looked_at_less_often_and_none_is_left_out(clock: list[float]) -> None:
    engine = Cluster(*(f"n{i}" for i in range(220)))
    watched = Nodes(engine)
    rounds(watched, clock, 1)
    assert rounds(watched, clock, 1) == {}  # 10 + (220 - 20) / 2 seconds
    for _ in range(6):  # not all processes are started at once
        clock[0] += 100
        found = rounds(watched, clock, 1)
    assert len(hosts(found)) == 1 + 220 and engine.killed == []


def test_a_machine_that_cannot_be_looked_at_ends_nothing(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Usage:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(nodes, "usage", refuse)
    assert Probe().look() is None
    assert set(rounds(Nodes(LocalEngine()), clock, 3)) == {"run/driver_cpu"}


def test_a_cluster_that_cannot_be_asked_ends_nothing(clock: list[float]) -> None:
    class Headless(LocalEngine):
        def rooms(self) -> dict[str, Room]:
            raise ConnectionError("no head")

    assert hosts(rounds(Nodes(Headless()), clock, 2)) == {usage().host}
