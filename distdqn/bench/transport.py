"""The way through the engine: how long a small call takes, and what it costs to hand a batch on."""

import statistics
import time
from collections import deque
from dataclasses import dataclass

from distdqn.bench.measure import ROUNDS, Cost, family_cpu
from distdqn.runtime.engine import Engine, Needs, Ref
from distdqn.types import Batch, nbytes

AHEAD = 3
"""Batches on their way at once."""


class Station:
    """Hands a batch on as a shard does, or takes one as the learner does."""

    def __init__(self, batch: Batch | None = None) -> None:
        self.batch = batch

    def give(self) -> tuple[Batch | None, int]:
        """The batch, and a small second result."""
        return self.batch, 0

    def take(self, batch: Batch) -> int:
        """Its length."""
        return len(batch)


@dataclass(frozen=True)
class Transport:
    """`round_trip`: seconds from a small call to its answer. `wall` and `cpu`: seconds for each byte of a batch
    that goes from one component to another; `cpu` is that of all processes of the engine together."""

    round_trip: float
    wall: float
    cpu: float

    def carrying(self, nbytes: float) -> Cost:
        """The cost of so many bytes."""
        return Cost(self.wall * nbytes, self.cpu * nbytes)


def measure_transport(engine: Engine, batch: Batch, seconds: float) -> Transport:
    """Measures both, `seconds` each."""
    sender = engine.start("bench-sender", Needs(cpus=0), Station, batch)
    receiver = engine.start("bench-receiver", Needs(cpus=0), Station)

    def ask() -> Ref:
        given, _ = engine.call(sender, "give", returns=2)
        return engine.call(receiver, "take", given)[0]

    def ping() -> float:
        start = time.perf_counter()
        (answer,) = engine.call(receiver, "give")  # it has no batch
        engine.wait([answer], 60.0)
        engine.fetch(answer)
        return time.perf_counter() - start

    ping(), engine.fetch(ask())
    trips, end = [ping()], time.perf_counter() + seconds
    while time.perf_counter() < end:
        trips.append(ping())
    walls, cpus = [], []
    for _ in range(ROUNDS):
        bytes_carried, on_their_way = 0, deque(ask() for _ in range(AHEAD))
        start, cpu = time.perf_counter(), sum(family_cpu().values())
        while bytes_carried == 0 or time.perf_counter() - start < seconds / ROUNDS:
            engine.fetch(on_their_way.popleft())
            bytes_carried += nbytes(batch)
            on_their_way.append(ask())
        walls.append((time.perf_counter() - start) / bytes_carried)
        for ref in on_their_way:
            engine.fetch(ref)
        cpus.append((sum(family_cpu().values()) - cpu) / (bytes_carried + AHEAD * nbytes(batch)))
    engine.kill(sender)
    engine.kill(receiver)
    return Transport(statistics.median(trips), statistics.median(walls), statistics.median(cpus))
