"""The door `distdqn bench`: measures, prints one table, and with `--out FILE` writes the figures."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from distdqn.bench import table
from distdqn.bench.limits import FREE, Costs, Shape, cpu_of_a_step, limit, undisturbed
from distdqn.bench.measure import Cost
from distdqn.bench.stages import measure_stages
from distdqn.bench.transport import measure_transport
from distdqn.bench.whole import TrialRun, throwaway
from distdqn.config import RunConfig
from distdqn.config.compose import compose
from distdqn.machine import inspect
from distdqn.record.console import make_console
from distdqn.runtime.run import make_engine
from distdqn.types import EnvSpec

WHOLE = 6
"""The whole system is measured this many times as long as a stage: a single rollout may take a second."""


def bench(overrides: list[str], seconds: float, out: Path | None) -> int:
    """Measures the config that `overrides` compose on this machine, `seconds` for each stage; the figures go to the
    file `out` too. Gives the exit code. Raises `ConfigError`: a bad key or value, one line that names it."""
    console = make_console()
    with throwaway(compose(overrides)) as (config, spec):
        try:
            report = _measure(config, spec, seconds, console)
        except TimeoutError as error:
            print(f"distdqn: {error}", file=sys.stderr)
            return 1
    table.show(report, console)
    write(_figures(report), out)
    return 0


def write(figures: dict[str, Any], out: Path | None) -> None:
    """Writes the figures as JSON where a file is named."""
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n")


def _measure(config: RunConfig, spec: EnvSpec, seconds: float, console: Console) -> table.Report:
    with console.status("stages, each on its own"):
        stages = measure_stages(config, spec, seconds)
    with console.status("starting the engine"):
        engine = make_engine(config, spec)
    try:
        with console.status("the way through the engine"):
            transport = measure_transport(engine, stages.batch, seconds)
        with console.status("the whole system"), TrialRun(config, spec, engine) as run:
            run.warm_up()
            window = run.measure(WHOLE * seconds, drop=seconds)
    finally:
        engine.close()
    learner, on_cpu = config.learner, stages.device == "cpu"
    ratio, serial = learner.samples_per_insert, config.engine.kind == "local"
    shape = Shape(inspect().cores, config.actors.places, config.replay.shards, ratio, serial)
    costs = Costs(
        undisturbed(stages.act, config.actors.threads),
        undisturbed(stages.add),
        undisturbed(stages.sample),
        undisturbed(stages.priority),
        undisturbed(stages.learn, learner.threads if on_cpu else 0),
        carry_step=transport.carrying(stages.transition_bytes),
        carry_sample=transport.carrying(stages.sample_bytes),
    )
    bound, reached = limit(costs, shape), window.reached(ratio)
    free = limit(replace(costs, carry_step=FREE, carry_sample=FREE), shape)
    fractions = (reached / bound.steps_per_s, reached / free.steps_per_s)
    measured = (config, spec, stages, transport, costs, shape, window, tuple(run.events))
    return table.Report(*measured, bound, cpu_of_a_step(costs, shape), *fractions)


def _figures(report: table.Report) -> dict[str, Any]:
    stages, bound = vars(report.stages), report.bound
    return {
        "cores": report.shape.cores,
        "frame_skip": report.spec.frame_skip,
        "stages": {k: v for k, v in stages.items() if isinstance(v, (int, float, str))}
        | {k: asdict(v) for k, v in stages.items() if isinstance(v, Cost)},
        "engine": asdict(report.transport),
        "limit": {"bounds": bound.bounds, "binding": bound.binding, "steps_per_s": bound.steps_per_s},
        "whole": asdict(report.window),
        "fraction_of_limit": report.fraction,
        "fraction_of_limit_without_engine": report.fraction_without_transport,
    }
