"""How an experiment or a simulation is printed."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from distdqn.config import RunConfig
from distdqn.config.scale import ScaleConfig
from distdqn.scale.outcome import Outcome
from distdqn.scale.pretended import Costs

BUSY = ("actors", "shards", "learner", "network", "cores", "coordinator")
"""Parts, in the order of their rows."""
NAMES = {"network": "busiest network card", "cores": "busiest machine's cores"}


def show(title: str, outcomes: Sequence[Outcome], console: Console, to_score: dict[int, str] | None = None) -> None:
    """Prints a column for each of `outcomes`, the first of which is what the others are compared with. `to_score`:
    seconds until a score was reached, by the number of machines."""
    first = outcomes[0]
    console.print(title, style="bold", highlight=False)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("nodes", no_wrap=True)
    for o in outcomes:
        grid.add_column(f"{o.nodes:,}", justify="right", no_wrap=True)

    def row(name: str, value: Callable[[Outcome], str], style: str = "") -> None:
        grid.add_row(name, *map(value, outcomes), style=style)

    def efficiency(o: Outcome) -> str:
        ideal = first.frames_per_s / first.nodes * o.nodes
        return f"{o.frames_per_s / ideal:.0%}" if ideal else "–"

    row("actors", lambda o: f"{o.actors:,}")
    row("shards", lambda o: f"{o.shards:,}")
    row("frames/s", lambda o: f"{o.frames_per_s:,.0f}", "bold")
    row("  of an actor", lambda o: f"{o.frames_per_s / o.actors:,.0f}")
    row("  of what is ideal", efficiency)
    row("updates/s", lambda o: f"{o.updates_per_s:,.1f}")
    row("samples/s", lambda o: f"{o.samples_per_s:,.0f}")
    row("updates that actors are behind", lambda o: f"{o.lag:,.0f}")
    row("MB/s that travel", lambda o: f"{o.network / 1e6:,.1f}")
    for part in BUSY:
        if part in first.busy:
            row(f"{NAMES.get(part, part)} busy", lambda o, part=part: f"{o.busy.get(part, 0.0):.0%}")  # type: ignore[misc]
    if to_score:
        row("to the score", lambda o: to_score.get(o.nodes, "–"))
    row("what binds", lambda o: o.binds, "cyan")
    console.print(grid)


def pretended(
    config: RunConfig,
    settings: ScaleConfig,
    costs: Costs,
    outcomes: list[Outcome],
    driven: list[Outcome],
    console: Console,
) -> None:
    """Prints a simulation's `outcomes`, and the largest of the systems that are `driven` by the coordinator."""
    c = config
    what = f"{c.actors.places} actors of {c.actors.envs_per_actor} slots and {c.replay.shards} shards a node"
    show(f"distdqn scale --simulate, weak scaling: {c.name}, {what}, one learner", outcomes, console)
    work = f"agent step {costs.step * 1e6:,.0f} µs, update {costs.update * 1e3:,.1f} ms"
    size = f"transition {costs.transition:,.0f} B, sample {costs.window / 1e3:,.1f} kB"
    weights = f"weights {costs.weights / 1e6:,.1f} MB"
    network = f"network {settings.bandwidth:,.0f} MB/s, {settings.latency_ms:g} ms"
    console.print(f"Pretended: {work}, {size}, {weights}, {network}.")
    last = driven[-1]
    least = f"{last.actors:,} actors on {last.nodes:,} nodes, {last.steps_per_s:,.0f} transitions/s"
    message = f"{last.message * 1e6:,.0f} µs for each of {last.messages:,.0f} messages/s"
    console.print(
        f"The coordinator drives {least}, where shards, learner and network cost nothing: {message}, "
        f"{last.busy['coordinator']:.0%} busy."
    )
