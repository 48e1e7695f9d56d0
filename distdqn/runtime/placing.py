"""Which machine of a cluster the learner is to be on, and who beside it."""

from collections.abc import Mapping
from dataclasses import dataclass

from distdqn.config import ConfigError, RunConfig
from distdqn.runtime.engine import Room
from distdqn.runtime.preflight import GIB, bytes_per_transition, drawn_bytes
from distdqn.runtime.rollcall import SHARE, Report
from distdqn.types import EnvSpec


@dataclass(frozen=True)
class Plan:
    """Where components are to be, as long as there is room.

    Attributes:
        gpus: that the learner takes, 0 or 1.
        home: the engine's name of the learner's machine.
        beside: so many shards are to be on it, the others anywhere.
        remark: for people, empty where there is none.
    """

    gpus: float = 0.0
    home: str = ""
    beside: int = 0
    remark: str = ""


def plan(config: RunConfig, spec: EnvSpec, rooms: Mapping[str, Room], reports: Mapping[str, Report]) -> Plan:
    """The learner is where its GPU is, on this machine if that has one, so that it lives as long as the driver. Shards
    are beside it as far as its memory goes: what they send it is some fifty times what actors send them, which is
    packed, and each machine has one network card.

    Args:
        rooms, reports: of each machine, by the engine's name for it; who is to leave has not been asked for a report.
    Raises:
        ConfigError: a GPU is asked for, and no machine's PyTorch can use one.
    """
    device, gpus, home, remark = config.learner.device, 0.0, "", ""
    having = [name for name, room in rooms.items() if room.gpus >= 1 and name in reports]
    if device != "cpu" and (able := [name for name in having if reports[name].gpu]):
        gpus, home = 1.0, "" if "" in able else max(able, key=lambda name: reports[name].memory_free)
    elif device != "cpu" and (having or device != "auto"):
        where = ", ".join(rooms[name].host for name in having)
        remark = f"the GPU of {where} is not used: PyTorch there cannot" if having else "no machine there has a GPU"
        if device != "auto":
            raise ConfigError(f"learner.device={device}: {remark}")
    stores = [rooms[home].store] if home in rooms else [room.store for room in rooms.values()]
    if 0 < (store := min(stores, default=0)) < (need := drawn_bytes(config, spec)):
        host = f"{rooms[home].host}'s" if home in rooms else "a machine's"
        what = f"{need / GIB:.1f} GiB for minibatches on their way, {host} object store holds {store / GIB:.1f}"
        slow = f"the learner may want {what}: Ray writes the rest to disk, which is slow"
        remark = "; ".join(filter(None, (remark, f"{slow} (`ray start --object-store-memory={need}`)")))
    each = bytes_per_transition(config, spec) * config.replay.capacity / config.replay.shards
    cores = rooms[home].cpus - config.learner.threads if home in rooms else 0
    beside = min(int(SHARE * reports[home].memory_free // each), int(cores), config.replay.shards)
    return Plan(gpus, home, max(0, beside), remark)
