"""How the figures are printed."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from distdqn.bench.limits import Costs, Limit, Shape
from distdqn.bench.measure import ROUNDS, Cost
from distdqn.bench.stages import Stages
from distdqn.bench.transport import Transport
from distdqn.bench.whole import Window
from distdqn.config import RunConfig
from distdqn.types import EnvSpec

MIB = 1024**2
Row = tuple[str, str, str, str]
"""Stage, figure, CPU seconds per unit, remark."""
BUSY = 0.1
"""Cores taken by others from which on the table says so."""
ACTING_TARGET, WHOLE_TARGET = 0.90, 0.85


@dataclass(frozen=True)
class Report:
    """Everything that the table shows. `bound`: what the stages' costs imply for the whole; `cpu_alone`: CPU seconds of
    an agent step by kind of component, as they imply; `fraction`: what the whole reached of the bound, and
    `fraction_without_transport` if the engine's part were free."""

    config: RunConfig
    spec: EnvSpec
    stages: Stages
    transport: Transport
    costs: Costs
    shape: Shape
    window: Window
    events: tuple[str, ...]
    bound: Limit
    cpu_alone: dict[str, float]
    fraction: float
    fraction_without_transport: float


def mark(value: float, target: float) -> str:
    """Says in colour whether the target is reached."""
    return f"[green]target {target:g} reached[/]" if value >= target else f"[yellow]target {target:g}[/]"


def _micro(seconds: float) -> str:
    micro = seconds * 1e6
    return f"{micro:,.0f} µs" if micro >= 10 else f"{micro:.2f} µs"


def _row(name: str, cost: Cost, unit: str, note: str) -> Row:
    return name, f"{cost.rate:,.0f} {unit}/s", _micro(cost.cpu), note


def show(r: Report, console: Console) -> None:
    """Prints the table."""
    c = r.config
    what = f"{c.name}, {r.spec.name}, {c.actors.places} x {c.actors.envs_per_actor} environments"
    where = f"batch {c.learner.batch_size} on {r.stages.device}, {r.shape.cores} cores, engine {c.engine.kind}"
    title = f"distdqn bench: {what}, {where}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("stage", style="cyan", no_wrap=True)
    table.add_column("figure", no_wrap=True)
    table.add_column("CPU per unit", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for rows in (_of_components(r), _of_the_whole(r), _of_memory(r)):
        for row in rows:
            table.add_row(*row)
        table.add_section()
    console.print(table)
    how = "rates by the clock, CPU of all threads; the whole runs without evaluations."
    console.print(f"Medians of {ROUNDS} rounds; {how}")
    for event in r.events:
        console.print(f"  event: {event}", markup=False)


def _of_components(r: Report) -> Iterator[Row]:
    s, c = r.stages, r.config
    call = f"{c.learner.updates_per_call} x {c.learner.batch_size} a call"
    threads = f"{c.actors.threads} thread{'s' * (c.actors.threads > 1)}"
    frames = f"{s.emulators.rate * r.spec.frame_skip:,.0f} frames/s"
    yield _row("emulators alone", s.emulators, "agent steps", f"{frames}; one actor, {threads}, random actions")
    yield _row("inference alone", s.inference, "agent steps", f"batches of {c.actors.envs_per_actor}")
    aside = f"{s.acting_wall:.1%} by the clock; the two in turn, without an actor, reach {s.in_turn_cpu:.1%}"
    # CPU time is nearly blind to other load, but also to how well several threads work side by side
    reached = s.acting_cpu if c.actors.threads == 1 else s.acting_wall
    note = f"{reached:.1%} of emulators + inference ({aside}), {mark(reached, ACTING_TARGET)}"
    yield _row("acting", s.act, "agent steps", note)
    yield _row("adding", s.add, "transitions", f"{c.replay.kind} shard of {s.transitions:,}")
    yield _row("sampling", s.sample, "samples", call)
    if s.priority.wall:
        yield _row("priorities", s.priority, "samples", call)
    else:
        yield "priorities", "none", "", "uniform replay has no use for them"
    carried = f"a sample is {s.sample_bytes / 1e3:.1f} kB, a transition {s.transition_bytes / 1e3:.2f} kB"
    figure = f"{1 / r.transport.wall / 1e6:,.0f} MB/s, call {r.transport.round_trip * 1e3:.2f} ms"
    note = f"{carried}: {1 / r.costs.carry_sample.wall:,.0f} samples/s"
    yield "through the engine", figure, _micro(r.costs.carry_sample.cpu), note
    yield _row("learner at hand", s.learn, "samples", f"{s.learn.rate / c.learner.batch_size:,.1f} updates/s")


def _of_the_whole(r: Report) -> Iterator[Row]:
    w, steps = r.window, max(r.window.steps_per_s, 1e-9)
    bounds = ", ".join(f"{name} {value:,.0f}" for name, value in r.bound.bounds.items())
    note = f"from {r.bound.binding}; {bounds}; at {r.shape.ratio:g} samples a step"
    yield ("limit of the whole", f"{r.bound.steps_per_s:,.0f} agent steps/s", _micro(sum(r.cpu_alone.values())), note)
    used = sum(w.cpu.values())
    frames = f"{w.steps_per_s * r.spec.frame_skip:,.0f} frames/s over {w.seconds:.0f} s"
    yield "whole system", f"{w.steps_per_s:,.0f} agent steps/s", _micro(used / steps), frames
    note = f"{w.updates_per_s:,.1f} updates/s, {w.samples_per_step:.2f} samples a step"
    yield "", f"{w.samples_per_s:,.0f} samples/s", "", note
    note = f"learner idle {w.learner_idle:.1%}; {used:.2f} of {r.shape.cores} cores busy with it"
    if w.other_load > BUSY:
        note += f", [yellow]{w.other_load:.2f} with something else: measure on a quiet machine[/]"
    yield "", f"actors idle {w.actor_idle:.1%}", "", note
    note = f"{r.fraction_without_transport:.1%} of the limit without the engine's part"
    yield "fraction of the limit", f"{r.fraction:.1%}", "", f"{mark(r.fraction, WHOLE_TARGET)}; {note}"
    for kind, cores in sorted(w.cpu.items(), key=lambda item: -item[1]):
        alone = r.cpu_alone.get(kind)
        note = f"{_micro(alone)} as its stages imply, without carrying" if alone else ""
        yield f"  CPU of {kind}", f"{cores:.2f} cores", _micro(cores / steps), note
    note = f"{_micro(r.cpu_alone['carrying'])} as the way through the engine implies"
    yield "  carrying, in all", "", "", note


def _of_memory(r: Report) -> Iterator[Row]:
    s, w = r.stages, r.window
    note = f"resident memory grew by {s.rss_growth / s.nbytes:.3f} of that while {s.transitions:,} filled a shard"
    yield "bytes per transition", f"{s.nbytes / s.transitions:,.0f}", "", note
    yield "  on its way, on disk", f"{s.transition_bytes:,.0f}, {s.journal_bytes:,.0f}", "", "segments as they travel"
    yield "resident memory", f"{sum(w.resident.values()) / MIB:,.0f} MiB", "", "of the whole system at its end"
    for kind, size in w.resident.items():
        of_shards = kind == "shard" and w.shard_bytes
        note = f"{size / w.shard_bytes:.2f} of what the shards say they take" if of_shards else ""
        yield f"  {kind}", f"{size / MIB:,.0f} MiB", "", note
