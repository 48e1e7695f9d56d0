"""How the memory of a run's processes grows once the replay is full."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from distdqn.bench.measure import slope
from distdqn.bench.whole import LOOK_EVERY, TrialRun
from distdqn.config import RunConfig
from distdqn.runtime.engine import Engine
from distdqn.types import EnvSpec

MIB = 1024**2


@dataclass(frozen=True)
class Growth:
    """Resident bytes by kind of component at the `start` and the `end` of `minutes`, medians of the first and
    last fifth; `own` is what of their sum is not shared between processes at the end; `slope` and `own_slope` are
    the least-squares growth of the sums in bytes a minute. `shard_bytes` is what the shards say they take."""

    minutes: float
    start: dict[str, float]
    end: dict[str, float]
    own: float
    slope: float
    own_slope: float
    shard_bytes: int


def watch(config: RunConfig, spec: EnvSpec, engine: Engine, minutes: float) -> Growth:
    """Trains until every shard is full, then looks at the memory for `minutes`."""
    with TrialRun(config, spec, engine) as run:
        run.warm_up()
        shards = run.watch.shards
        run.run_until(lambda: len(shards) == config.replay.shards and all(s.evicted for s in shards.values()))
        looks = [(time.perf_counter() / 60, run.resident(), _own(run))]
        while looks[-1][0] - looks[0][0] < minutes:
            run.run_for(LOOK_EVERY)
            looks.append((time.perf_counter() / 60, run.resident(), _own(run)))
        return growth(looks, run.shard_bytes)


def _own(run: TrialRun) -> float:
    """Resident bytes of the run's processes that are not shared between them."""
    own = 0.0
    for pid in run.kinds:
        with contextlib.suppress(psutil.Error):
            memory = psutil.Process(pid).memory_info()
            own += memory.rss - memory.shared
    return own


def growth(looks: Sequence[tuple[float, dict[str, float], float]], shard_bytes: int) -> Growth:
    """What `looks` come to: minutes by the clock, resident bytes by kind, and what is not shared of their sum."""
    times, kinds, own = zip(*looks, strict=True)
    fifth = max(1, len(looks) // 5)
    return Growth(
        minutes=times[-1] - times[0],
        start=_median(kinds[:fifth]),
        end=_median(kinds[-fifth:]),
        own=own[-1],
        slope=slope(times, [sum(k.values()) for k in kinds]),
        own_slope=slope(times, own),
        shard_bytes=shard_bytes,
    )


def _median(looks: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median by kind."""
    return {kind: sorted(k.get(kind, 0.0) for k in looks)[len(looks) // 2] for kind in looks[0]}


def show(config: RunConfig, found: Growth, console: Console) -> None:
    """Prints the table."""
    title = f"distdqn: resident memory of {config.name} in {found.minutes:.1f} min with a full replay, MiB"
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="cyan")
    for header in ("at first", "at last"):
        table.add_column(header, justify="right")
    rows = {kind: (found.start[kind], size) for kind, size in found.end.items()}
    for kind, sizes in (rows | {"in all": (sum(found.start.values()), sum(found.end.values()))}).items():
        table.add_row(kind, *(f"{size / MIB:,.0f}" for size in sizes))
    console.print(title, style="bold")
    console.print(table)
    own = f"without what is shared {found.own_slope / MIB:+,.1f}"
    console.print(f"Growth {found.slope / MIB:+,.1f} MiB/min, {own}; shards say {found.shard_bytes / MIB:,.0f} MiB.")
