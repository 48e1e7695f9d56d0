"""The door `distdqn scale --simulate`: how far a config goes on machines that are not there."""

import json
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distdqn.bench.stages import measure_stages
from distdqn.config import RunConfig, to_mapping
from distdqn.config.compose import compose
from distdqn.config.scale import ScaleConfig, compose_scale, node_counts
from distdqn.envs.registry import check_env
from distdqn.machine import inspect
from distdqn.nets.qnetwork import QNetwork
from distdqn.record.console import make_console
from distdqn.replay.storage import EPOCHS
from distdqn.runtime.preflight import batch_bytes
from distdqn.runtime.simulated import Machines
from distdqn.scale import table
from distdqn.scale.outcome import Outcome
from distdqn.scale.pretended import Costs
from distdqn.scale.simulation import at_nodes, simulate
from distdqn.types import EnvSpec

NODES = (1, 8, 64, 512)
EFFICIENT = 0.9
"""Of the throughput of one node times their number, for a system that the coordinator still drives."""
MOST_ACTORS = 50_000
"""The search for that ends here."""


def simulated(overrides: list[str], seconds: float, out: Path | None, plot: Path | None) -> int:
    """Simulates the config that `overrides` compose, which says what a node brings, on the numbers of nodes that
    nodes=1,8,64 names. What scale.KEY=VALUE does not say of its costs is measured here, `seconds` for each stage. The
    figures go to the file `out` too, and a picture to `plot`. Gives the exit code.

    Raises:
        ConfigError: a bad key or value, one line that names it.
    """
    counts, texts = node_counts(overrides, NODES)
    about_scale = [text for text in texts if text.lstrip("+").startswith("scale.")]
    settings = compose_scale(about_scale)
    config = compose([text for text in texts if text not in about_scale])
    at_nodes(config, counts[-1])  # what cannot be is said at once
    spec = check_env(config.env)
    console = make_console()
    with console.status("what work costs here"):
        costs, gpu = measure(config, spec, settings, seconds)
    outcomes = []
    with console.status("") as status:
        for nodes in counts:
            status.update(f"{nodes} nodes")
            outcomes.append(_simulate(config, spec, costs, settings, gpu, nodes))
        status.update("the largest that one coordinator drives")
        driven = list(largest(config, spec, costs, settings, gpu))
    table.pretended(config, settings, costs, outcomes, driven, console)
    if out:
        figures = _figures(config, settings, costs, outcomes, driven)
        out.write_text(json.dumps(figures, indent=1) + "\n")
    if plot:
        from distdqn.report.scaling import plot_scaling

        title = f"{config.name}, {config.actors.places} actors a node, simulated"
        plot_scaling(title, [(o.nodes, o.frames_per_s, o.binds) for o in outcomes], plot)
    return 0


def measure(config: RunConfig, spec: EnvSpec, settings: ScaleConfig, seconds: float) -> tuple[Costs, bool]:
    """What work costs, and whether gradient steps are made on a GPU."""
    s, windows = settings, config.learner.batch_size * config.learner.updates_per_call
    measured: dict[str, float] = {}
    on_gpu = s.update_ms is not None
    keys = ("step_us", "add_us", "sample_us", "priority_us", "update_ms", "transition_bytes")
    if any(getattr(s, key) is None for key in keys):
        with tempfile.TemporaryDirectory(prefix="distdqn-scale-") as folder:
            stages = measure_stages(replace(config, run_dir=str(Path(folder) / "run")), spec, seconds)
        on_gpu |= stages.device != "cpu"
        rates = {"step_us": stages.act, "add_us": stages.add, "sample_us": stages.sample}
        measured = {key: 1e6 * min(cost.wall, cost.cpu) for key, cost in rates.items()}
        measured["priority_us"] = 1e6 * stages.priority.cpu
        measured["update_ms"] = 1e3 * stages.learn.wall * config.learner.batch_size
        measured["transition_bytes"] = stages.transition_bytes
    if s.weights_mb is None:
        network = QNetwork(config.agent.network, spec, config.agent.contexts)
        measured["weights_mb"] = sum(p.numel() * p.element_size() for p in network.parameters()) / 1e6
    measured["sample_bytes"] = batch_bytes(config, spec) / windows

    def cost(key: str) -> float:
        given: float | None = getattr(s, key)
        return measured[key] if given is None else given

    return Costs(
        step=cost("step_us") / 1e6,
        add=cost("add_us") / 1e6,
        sample=cost("sample_us") / 1e6,
        priority=cost("priority_us") / 1e6,
        update=cost("update_ms") / 1e3,
        carry=s.carry_ns / 1e9,
        transition=cost("transition_bytes"),
        window=cost("sample_bytes"),
        weights=cost("weights_mb") * 1e6,
    ), on_gpu


def _simulate(config: RunConfig, spec: EnvSpec, costs: Costs, settings: ScaleConfig, gpu: bool, nodes: int) -> Outcome:
    s = settings
    engine = (s.ask_us / 1e6, s.look_us / 1e6, s.open_us / 1e6)
    machines = Machines(nodes, s.cores, s.bandwidth * 1e6, s.latency_ms / 1e3, *engine)
    return simulate(at_nodes(config, nodes), spec, costs, machines, s.seconds, gpu)


def largest(config: RunConfig, spec: EnvSpec, costs: Costs, settings: ScaleConfig, gpu: bool) -> Iterator[Outcome]:
    """The systems that the coordinator drives where shards, learner and network cost nothing, the number of nodes
    doubled each time, and then halved in, as long as they have `EFFICIENT` of the throughput of the first."""
    free = costs.for_nothing()
    first = _simulate(config, spec, free, settings, gpu, 1)
    yield first
    low, high = 1, 0
    while not high or high - low > max(1, low // 8):
        nodes = (low + high) // 2 if high else 2 * low
        if (
            nodes * max(config.actors.places, config.replay.shards) > MOST_ACTORS
            or nodes * config.replay.shards > EPOCHS
        ):
            return
        outcome = _simulate(config, spec, free, settings, gpu, nodes)
        if outcome.steps_per_s >= EFFICIENT * nodes * first.steps_per_s:
            low = nodes
            yield outcome
        else:
            high = nodes


def _figures(
    config: RunConfig, settings: ScaleConfig, costs: Costs, outcomes: list[Outcome], driven: list[Outcome]
) -> dict[str, Any]:
    return {
        "kind": "simulated, weak scaling",
        **software(),
        "config": to_mapping(config),
        "scale": to_mapping(settings),
        "costs": asdict(costs),
        "systems": [plain(o) for o in outcomes],
        "coordinator": [plain(o) for o in driven],
    }


def plain(outcome: Outcome) -> dict[str, Any]:
    """As it is written to a file."""
    return {**asdict(outcome), "binds": outcome.binds}


def software() -> dict[str, Any]:
    """What figures depend on beside the config."""
    versions = {name: version(name) for name in ("distdqn", "numpy", "ray", "torch")}
    return {
        "versions": versions | {"python": platform.python_version()},
        "machine": {"cores": inspect().cores, "processor": platform.processor() or platform.machine()},
    }
