"""The door `distdqn bench`: measures, prints one table, and with `out=FILE` writes the figures."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from distdqn.bench import table
from distdqn.bench.limits import Costs, Shape, cpu_of_a_step, limit, undisturbed
from distdqn.bench.measure import Cost
from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.machine import inspect
from distdqn.runtime.preflight import check
from distdqn.types import EnvSpec

WHOLE = 6
"""The whole system is measured this many times as long as a stage: a single rollout may take a second."""


@dataclass(frozen=True)
class Options:
    """Keys of this door's own. `seconds` for each stage; `memory_minutes` of watching after the replay is full,
    0 for none; `peer` to compare with; `agents` to compare with each other; `out` file for the figures."""

    seconds: float = 5.0
    memory_minutes: float = 0.0
    peer: str = ""
    agents: tuple[str, ...] = ()
    out: str = ""


def bench(overrides: list[str]) -> int:
    """Measures the config that `overrides` compose on this machine. Gives the exit code.

    Raises:
        ConfigError: a bad key or value, one line that names it.
    """
    options, rest = split(overrides)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 118)
    if options.agents:
        from distdqn.bench.agents import compare

        return _write(compare(options.agents, rest, options.seconds, console), options.out)
    if options.peer:
        from distdqn.bench.peer import peer_config

        config = peer_config(rest)
    else:
        config = compose(rest)
    spec = check_env(config.env)
    with tempfile.TemporaryDirectory(prefix="distdqn-bench-") as folder:
        config = replace(config, run_dir=str(Path(folder) / "run"))
        check(config, spec)
        try:
            run = _beside_peer if options.peer else _stages_and_whole
            figures = run(config, spec, options, console)
        except TimeoutError as error:
            print(f"distdqn: {error}", file=sys.stderr)
            return 1
    return _write(figures, options.out)


def _write(figures: dict[str, Any], out: str) -> int:
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def split(overrides: list[str]) -> tuple[Options, list[str]]:
    """This door's own keys, checked, and the overrides that are left for the config.

    Raises:
        ConfigError: one line that names the key and what it may be.
    """
    values: dict[str, Any] = {}
    rest = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or key not in Options.__dataclass_fields__:
            rest.append(text)
        elif key in ("seconds", "memory_minutes"):
            values[key] = _number(key, value)
        elif key == "agents":
            from distdqn.bench.agents import named

            values[key] = named(value)
        else:
            values[key] = value
    options = Options(**values)
    if options.peer not in ("", "sb3"):
        raise ConfigError(f"peer={options.peer}: must be sb3")
    if options.agents and (options.peer or options.memory_minutes):
        other = "peer" if options.peer else "memory_minutes"
        raise ConfigError(f"{other}={getattr(options, other)}: must be left out with agents=")
    if options.out and not (Path(options.out).absolute().parent.is_dir() and not Path(options.out).is_dir()):
        raise ConfigError(f"out={options.out}: must be a file in a folder that exists")
    return options, rest


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise ConfigError(f"{key}={text}: must be a number above 0")
    return value


def _engine(config: RunConfig, spec: EnvSpec) -> Any:
    from distdqn.runtime.run import make_engine

    return make_engine(config, spec)


def _stages_and_whole(config: RunConfig, spec: EnvSpec, options: Options, console: Console) -> dict[str, Any]:
    from distdqn.bench.stages import measure_stages, size_of
    from distdqn.bench.transport import measure_transport
    from distdqn.bench.whole import System

    seconds, ratio = options.seconds, config.learner.samples_per_insert
    with console.status("stages, each on its own"):
        stages = measure_stages(config, spec, seconds)
    batch_bytes = size_of(stages.batch) / len(stages.batch)
    segment_bytes = size_of(stages.segment) / max(1, int(stages.segment.valid.sum()))
    with console.status("starting the engine"):
        engine = _engine(config, spec)
    try:
        with console.status("the way through the engine"):
            way = measure_transport(engine, stages.batch, seconds)
        costs = Costs(
            undisturbed(stages.act, config.actors.threads),
            undisturbed(stages.add),
            undisturbed(stages.sample),
            undisturbed(stages.priority),
            undisturbed(stages.learn, config.learner.threads if stages.device == "cpu" else 0),
            carry_step=Cost(way.wall * segment_bytes, way.cpu * segment_bytes),
            carry_sample=Cost(way.wall * batch_bytes, way.cpu * batch_bytes),
        )
        shape = Shape(
            inspect().cores,
            config.actors.count,
            config.replay.shards,
            ratio,
            gpu=stages.device != "cpu",
            serial=config.engine.kind == "local",
        )
        with console.status("the whole system"), System(config, spec, engine, Path(config.run_dir)) as system:
            system.warm_up()
            window = system.measure(WHOLE * seconds, drop=seconds)
            memory = system.memory()
            if options.memory_minutes:
                system.fill()
                memory = system.watch_memory(60 * options.memory_minutes)
    finally:
        engine.close()
    bound = limit(costs, shape)
    without_way = limit(replace(costs, carry_step=Cost(0, 0), carry_sample=Cost(0, 0)), shape)
    reached = window.reached(ratio)
    report = table.Report(
        config,
        spec,
        stages,
        way,
        costs,
        shape,
        bound,
        cpu_of_a_step(costs, shape),
        window,
        memory,
        fraction=reached / bound.steps_per_s,
        fraction_without_way=reached / without_way.steps_per_s,
        batch_bytes=batch_bytes,
        segment_bytes=segment_bytes,
    )
    table.show(report, console)
    for event in system.events:
        console.print(f"  event: {event}", markup=False)
    return {
        "cores": shape.cores,
        "frame_skip": spec.frame_skip,
        "stages": {k: v for k, v in vars(stages).items() if isinstance(v, (int, float, str))}
        | {k: asdict(v) for k, v in vars(stages).items() if isinstance(v, Cost)},
        "engine": asdict(way),
        "limit": {"bounds": bound.bounds, "binding": bound.binding, "steps_per_s": bound.steps_per_s},
        "whole": asdict(window),
        "memory": asdict(memory),
        "fraction_of_limit": report.fraction,
        "fraction_of_limit_without_engine": report.fraction_without_way,
    }


def _beside_peer(config: RunConfig, spec: EnvSpec, options: Options, console: Console) -> dict[str, Any]:
    from distdqn.bench import peer

    engine = _engine(config, spec)
    try:
        with console.status("ours and Stable-Baselines3's DQN in turn"):
            found = peer.compare(config, spec, engine, Path(config.run_dir), 2 * options.seconds)
    finally:
        engine.close()
    figures = peer.figures(found)
    table.show_peer(config, found.ours, found.peer, (found.ratio(1), found.ratio(4)), found.idle_cpu, console)
    return figures
