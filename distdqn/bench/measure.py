"""Clocks: what a unit of work costs, measured in turns because other load on a machine comes and goes."""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch

ROUNDS = 5
"""Repetitions of each stage; their median is quoted."""


@dataclass(frozen=True)
class Cost:
    """What one unit of work takes: `wall` seconds by the clock, and `cpu` seconds, those that all threads
    concerned spent running. Other load on the machine stretches the first and leaves the second nearly alone."""

    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Units per second by the clock."""
        return 1 / self.wall


@dataclass(frozen=True)
class Work:
    """A stage: `chunk` does a piece of it and gives the units done; `threads` are torch's meanwhile."""

    chunk: Callable[[], int]
    threads: int = 1


def interleave(works: Mapping[str, Work], seconds: float, rounds: int = ROUNDS) -> dict[str, list[Cost]]:
    """Each stage's cost in each of `rounds` rounds, in every one of which all of them take their turn. Stages of the
    same round saw the same machine, so ratios are formed within a round. `seconds`: for each stage, all rounds
    together; every turn does at least one chunk."""
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for work in works.values():  # caches, allocators and compilers warm up
        torch.set_num_threads(work.threads)
        work.chunk()
    for _ in range(rounds):
        for name, work in works.items():
            costs[name].append(turn(work, seconds / rounds))
    return costs


def turn(work: Work, seconds: float) -> Cost:
    """Works for `seconds`, at least one unit, and gives the cost of a unit."""
    torch.set_num_threads(work.threads)
    units = 0
    wall, cpu = time.perf_counter(), time.process_time()
    while units == 0 or time.perf_counter() - wall < seconds:
        units += work.chunk()
    return Cost((time.perf_counter() - wall) / units, (time.process_time() - cpu) / units)


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def fraction(parts: Sequence[Sequence[Cost]], whole: Sequence[Cost], clock: str) -> float:
    """How much of a stage's cost its parts explain, at 1 all of it: the median over the rounds of
    sum(parts) / whole, which for rates is whole rate / harmonic combination of the parts' rates."""
    rounds = zip(*parts, whole, strict=True)
    return statistics.median(sum(getattr(c, clock) for c in r[:-1]) / max(getattr(r[-1], clock), 1e-12) for r in rounds)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The least-squares slope of `y` over `x`; 0 where `x` does not vary."""
    dx = np.asarray(x, float) - np.mean(x) if len(x) else np.zeros(0)
    return float(dx @ np.asarray(y, float) / (dx @ dx)) if dx.any() else 0.0


def arrival_rate(times: Sequence[float], amounts: Sequence[float], seconds: float) -> float:
    """Units per second of what arrives in lumps: `amounts[i]` at `times[i]`, within `seconds`. A count over a window is
    wrong by up to a lump; the slope of the running total, read in the middle of each of its jumps, is not."""
    if len(times) < 4 or max(times) == min(times):
        return sum(amounts) / seconds
    return slope(times, np.cumsum(amounts) - np.asarray(amounts) / 2)  # type: ignore[arg-type]


def family_cpu() -> dict[int, float]:
    """CPU seconds spent so far by this process and each of its living descendants, by pid, to the kernel's 10 ms."""
    spent, me = {}, psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            spent[process.pid] = times.user + times.system
    return spent


def machine_cpu() -> float:
    """CPU seconds that everything on this machine has spent, what its host took away included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
