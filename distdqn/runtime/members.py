"""Which machines of a Ray cluster a run uses."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from distdqn.runtime.engine import Room


class Members:
    """The machines that are used: at most `most` of those that stay, None for all. Who is used remains so; then this
    machine comes first, then those with a GPU, then by name.

    Attributes:
        used: Ray's names of them.
    """

    def __init__(self, most: int | None) -> None:
        self.most, self.used = most, list[str]()

    def rooms(
        self,
        nodes: Sequence[Mapping[str, Any]],
        leaving: Collection[str],
        free: Mapping[str, Mapping[str, float]],
        here: str,
    ) -> dict[str, Room]:
        """Chooses anew, and gives what each machine has for components, also those that are to leave.

        Args:
            nodes: as Ray lists them. leaving: names of those that are to leave. free: what each has left.
            here: the name of this machine, which is "" in what is returned.
        """

        def order(name: str) -> tuple[bool, bool, bool, str, str]:
            node = there[name]
            gpu = node["Resources"].get("GPU")
            return name not in self.used, name != here, not gpu, node["NodeManagerHostname"], name

        there = {node["NodeID"]: node for node in nodes if node["Alive"] and node["Resources"].get("CPU")}
        self.used = sorted((name for name in there if name not in leaving), key=order)[: self.most]
        found = dict[str, Room]()
        for name, node in there.items():
            has, goes = node["Resources"], name in leaving
            if goes or name in self.used:
                left = 0.0 if goes else free.get(name, {}).get("CPU", 0.0)
                own = "" if name == here else name
                store = has.get("object_store_memory", 0.0)
                found[own] = Room(node["NodeManagerHostname"], has["CPU"], has.get("GPU", 0.0), left, goes, store)
        return found
