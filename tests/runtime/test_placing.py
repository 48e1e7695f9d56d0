"""Where the learner and its shards are to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distdqn.config import ConfigError, EngineConfig, LearnerConfig, ReplayConfig, RunConfig
from distdqn.runtime.engine import Room
from distdqn.runtime.placing import Plan, plan
from distdqn.runtime.preflight import bytes_per_transition, drawn_bytes
from distdqn.runtime.rollcall import Report, Software
from distdqn.types import EnvSpec

SPEC = EnvSpec("poles", (4,), "float32", 1, 2)
CONFIG = RunConfig(
    engine=EngineConfig(address="auto"),
    replay=ReplayConfig(capacity=4000, min_size=100, shards=4),
    learner=LearnerConfig(threads=2),
)
SHARD = bytes_per_transition(CONFIG, SPEC) * 1000


def planned(
    machines: dict[str, tuple[float, float, bool, float]], device: str = "auto", stores: dict[str, float] | None = None
) -> Plan:
    """`machines`: cores, GPUs, whether PyTorch computes on them, and how many shards fit into nine tenths of what is
    free. `stores`: bytes of their object stores."""
    store = stores or {}
    rooms = {
        name: Room(f"host{name}", cores, gpus, store=store.get(name, 0))
        for name, (cores, gpus, _, _) in machines.items()
    }
    reports = {
        name: Report(rooms[name].host, Software("", "", "", ""), int(fit * SHARD / 0.9) + 100, uses, True, True)
        for name, (_, _, uses, fit) in machines.items()
    }
    return plan(replace(CONFIG, learner=replace(CONFIG.learner, device=device)), SPEC, rooms, reports)


def test_the_learner_is_where_its_gpu_is_and_beside_the_driver_if_that_is_here() -> None:
    plain = (16, 0, False, 9)
    assert planned({"": plain, "a": plain}) == Plan(0, "", 4)
    assert planned({"": (16, 1, True, 9), "a": (16, 8, True, 99)}) == Plan(1, "", 4)
    assert planned({"": plain, "a": (16, 1, True, 9), "b": (16, 8, True, 99)}) == Plan(1, "b", 4)
    assert planned({"": plain, "a": (16, 1, True, 9)}, "cpu") == Plan(0, "", 4)
    assert planned({"": plain, "a": (16, 1, True, 9)}, "cuda") == Plan(1, "a", 4)


def test_a_gpu_that_pytorch_cannot_use_is_not_taken() -> None:
    plain, idle = (16, 0, False, 9), (16, 2, False, 9)
    assert planned({"": plain, "a": idle}) == Plan(0, "", 4, "the GPU of hosta is not used: PyTorch there cannot")
    assert planned({"": plain, "a": idle, "b": (16, 1, True, 9)}) == Plan(1, "b", 4)
    with pytest.raises(ConfigError, match=r"learner\.device=cuda: the GPU of hosta is not used"):
        planned({"": plain, "a": idle}, "cuda")
    with pytest.raises(ConfigError, match=r"learner\.device=cuda: no machine there has a GPU"):
        planned({"": plain}, "cuda")


def test_shards_are_beside_the_learner_as_far_as_memory_and_cores_go() -> None:
    assert [planned({"": (16, 0, False, fit)}).beside for fit in (0.5, 1, 2.5, 4, 99)] == [0, 1, 2, 4, 4]
    assert [planned({"": (cores, 0, False, 99)}).beside for cores in (1, 2, 3, 5, 6)] == [0, 0, 1, 3, 4]
    away = {"": (64, 0, False, 99), "a": (4, 1, True, 99)}
    assert planned(away) == Plan(1, "a", 2)
    assert planned({"a": (16, 0, False, 9), "": (0, 0, False, 9)}).beside == 0


def test_an_object_store_that_is_small_for_the_learner_is_said() -> None:
    need, plain = drawn_bytes(CONFIG, SPEC), (16, 0, False, 9)
    machines = {"": plain, "a": (16, 1, True, 9)}
    assert planned(machines, stores={"": 1, "a": need}).remark == ""  # the learner is on a
    said = planned(machines, stores={"": need, "a": need - 1}).remark
    assert "hosta's object store holds" in said and f"--object-store-memory={need}" in said
    assert "host's object store" in planned({"": plain, "b": plain}, stores={"": 1, "b": need}).remark
    said = planned({"": plain, "a": (16, 2, False, 9)}, stores={"": 1}).remark
    assert said.startswith("the GPU of hosta is not used: PyTorch there cannot; the learner may want")
