"""The steady state of a real run, read from its metrics."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from distdqn.config import ConfigError
from distdqn.config.stored import load_config
from distdqn.record import jsonl
from distdqn.record.machines import by_machine
from distdqn.scale.outcome import Outcome

RATE = "actor/env_steps_per_s"
"""A record that has it was made while training went on."""


def window(run: Path, warm_up: float) -> list[dict[str, float]]:
    """The records of training that came at least `warm_up` seconds after the first update."""
    records = [record for record in jsonl.read(run / "metrics.jsonl") if RATE in record]
    learning = next((r["time_s"] for r in records if r["learner_updates"] > 0), None)
    return [r for r in records if learning is not None and r["time_s"] >= learning + warm_up]


def seconds(records: Sequence[dict[str, float]]) -> float:
    """That lie between the first and the last of `records`."""
    return records[-1]["time_s"] - records[0]["time_s"] if records else 0.0


def measured(run: Path, warm_up: float, nodes: int | None = None) -> Outcome:
    """What the run in the folder `run` did after its first `warm_up` seconds of learning, counted from the totals at
    both ends; shares of time are means. `nodes`: None for as many as its metrics tell of.

    Raises:
        ConfigError: no run, or one that has not gone on for long enough.
    """
    config, records = load_config(run), window(run, warm_up)
    passed = seconds(records)
    if not passed:
        raise ConfigError(f"{run}: its metrics do not go on for {warm_up:g} s after its first update")
    first, last = records[0], records[-1]

    def rate(name: str) -> float:
        return (last[name] - first[name]) / passed

    def mean(name: str) -> float:
        return statistics.fmean([r[name] for r in records[1:] if name in r] or [0.0])

    hosts: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for host, figures in by_machine(record).items():
            for name, value in figures.items():
                hosts.setdefault(host, {}).setdefault(name, []).append(value)
    busy = {
        "actors": 1 - mean("actor/idle_fraction"),
        "learner": 1 - mean("learner/idle_fraction"),
        "coordinator": mean("run/driver_cpu"),
    }
    if cores := [statistics.fmean(figures["cpu"]) for figures in hosts.values() if "cpu" in figures]:
        busy["cores"] = max(cores)
    return Outcome(
        nodes=nodes or max(1, len(hosts)),
        actors=round(last["actor/count"]),
        shards=config.replay.shards,
        frames_per_s=rate("env_frames"),
        steps_per_s=rate("env_steps"),
        samples_per_s=mean("learner/samples_per_s"),
        updates_per_s=rate("learner_updates"),
        lag=mean("actor/weights_lag"),
        network=sum(statistics.fmean(figures["sent"]) for figures in hosts.values() if "sent" in figures),
        busy=busy,
    )


def time_to(run: Path, score: float) -> float | None:
    """Seconds until an evaluation of the run reached `score`; None where none did."""
    reached = (r for r in jsonl.read(run / "metrics.jsonl") if r.get("eval/return_mean", -float("inf")) >= score)
    return next((r["time_s"] for r in reached), None)


def median(outcomes: Sequence[Outcome]) -> Outcome:
    """Of systems of one size: each figure's median."""

    def middle(values: Iterable[float]) -> float:
        return statistics.median(values)

    kinds = {"nodes", "actors", "shards", "busy"}
    plain = {f.name: middle(getattr(o, f.name) for o in outcomes) for f in fields(Outcome) if f.name not in kinds}
    busy = {part: middle(o.busy[part] for o in outcomes if part in o.busy) for part in outcomes[0].busy}
    sizes = {name: round(middle(getattr(o, name) for o in outcomes)) for name in ("nodes", "actors", "shards")}
    return Outcome(**sizes, **plain, busy=busy)  # type: ignore[arg-type]
