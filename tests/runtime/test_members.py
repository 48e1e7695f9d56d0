from __future__ import annotations

from typing import Any

from distdqn.runtime.engine import Room
from distdqn.runtime.members import Members


def node(name: str, host: str, alive: bool = True, **has: float) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerHostname": host, "Alive": alive, "Resources": has}


NODES = [
    node("a", "z", CPU=4, object_store_memory=7),
    node("b", "y", CPU=4),
    node("c", "x", CPU=4, GPU=1),
    node("d", "w", memory=1),
    node("e", "v", False, CPU=4),
]


def test_so_many_machines_are_used_and_stay_the_same() -> None:
    members = Members(None)
    assert list(members.rooms(NODES, (), {"a": {"CPU": 3}}, "a").values()) == [
        Room("z", 4, 0, 3, store=7),
        Room("y", 4, 0),
        Room("x", 4, 1),
    ]
    members = Members(2)
    assert set(members.rooms(NODES, (), {}, "a")) == {"", "c"} and members.used == ["a", "c"]
    assert set(members.rooms(NODES[:2], (), {}, "a")) == {"", "b"}  # c has gone
    assert set(members.rooms(NODES, (), {}, "a")) == {"", "b"}, "who is used stays so, whoever joins"


def test_who_is_to_leave_is_there_but_not_used() -> None:
    members = Members(2)
    members.rooms(NODES, (), {}, "a")
    rooms = members.rooms(NODES, ("c",), {"c": {"CPU": 4}}, "a")
    assert members.used == ["a", "b"] and rooms["c"] == Room("x", 4, 1, 0, leaving=True)
