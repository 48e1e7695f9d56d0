"""How a simulation is printed."""

from rich.console import Console
from rich.table import Table

from distdqn.config import RunConfig
from distdqn.config.scale import ScaleConfig
from distdqn.scale.pretended import Costs
from distdqn.scale.simulation import Outcome
from distdqn.types import EnvSpec

COLUMNS = ("nodes", "actors", "shards", "frames/s", "each", "ideal", "updates/s", "lag", "MB/s")
BUSY = {
    "actors": "act",
    "shards": "store",
    "learner": "learn",
    "network": "net",
    "cores": "cores",
    "coordinator": "lead",
}
"""Parts, and the heads of their columns."""


def show(
    config: RunConfig,
    spec: EnvSpec,
    settings: ScaleConfig,
    costs: Costs,
    outcomes: list[Outcome],
    driven: list[Outcome],
    console: Console,
) -> None:
    """Prints the table of `outcomes`, and the largest of the systems that are `driven` by the coordinator."""
    c, first = config, outcomes[0]
    what = f"{c.actors.places} actors of {c.actors.envs_per_actor} slots and {c.replay.shards} shards a node"
    title = f"distdqn scale --simulate: {c.name}, {what}, one learner"
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    busy = [part for part in BUSY if part in first.busy]
    for column in (*COLUMNS, *(BUSY[part] for part in busy)):
        grid.add_column(column, justify="right", no_wrap=True)
    grid.add_column("what binds", style="cyan", no_wrap=True)
    for o in outcomes:
        frames = o.steps_per_s * spec.frame_skip
        efficiency = o.steps_per_s / o.nodes / (first.steps_per_s / first.nodes)
        figures = (f"{o.nodes:,}", f"{o.actors:,}", f"{o.shards:,}", f"{frames:,.0f}", f"{frames / o.actors:,.0f}")
        rates = (f"{efficiency:.0%}", f"{o.updates_per_s:,.1f}", f"{o.lag:,.0f}", f"{o.network / 1e6:,.0f}")
        shares = (f"{o.busy[part]:.0%}" for part in busy)
        grid.add_row(*figures, *rates, *shares, o.binds)
    console.print(grid)
    console.print(
        "Weak scaling: each node brings actors and shards. each: frames/s of an actor; ideal: share of what so"
    )
    console.print("many times the first would do; lag: updates that actors are behind; then how busy actors, shards,")
    console.print("learner, the busiest network card and the coordinator are.")
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
