"""How fast each composition acts and learns, beside DQN of 2015."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from distdqn.act.actor import Actor
from distdqn.bench.measure import ROUNDS, Work, turn
from distdqn.config import ConfigError, EngineConfig, ReplayConfig, RunConfig
from distdqn.config.compose import compose
from distdqn.config.keys import conf_dir, experiments
from distdqn.envs.registry import check_env
from distdqn.learn.learner import Learner
from distdqn.replay.shard import ReplayShard
from distdqn.runtime.preflight import bytes_per_transition, check
from distdqn.types import EnvSpec, Weights

REFERENCE = "dqn_2015"
SAME_FOR_ALL = ("actors.count=1", "actors.envs_per_actor=16", "actors.threads=1")
"""Ahead of the user's overrides, which may change it, for all again."""
SEQUENCE_BYTES = 2**29
"""On a CPU the stacked observations of a batch of sequences, as float32, take at most this: an update on
R2D2's 64 x 124 steps takes half a minute on a core."""
COMPILED = 256
"""Losses that torch.compile may hold. Those of all agents are one function to it, and after its usual 8 it
would leave the rest uncompiled."""


@dataclass(frozen=True)
class Row:
    """What one agent reaches. Ratios to the reference are medians over rounds in which both took their turn.

    `act_steps_per_s`: agent steps of all slots of one actor. `learn_samples_per_s`: loss positions, of which
    a sequence has many. `batch_size` windows are in the measured update, `batch_of_config` in one of a run.
    `parameters`: of the Q-network. `bytes_per_transition`: replay memory.
    """

    agent: str
    act_steps_per_s: float
    act_ratio: float
    learn_samples_per_s: float
    learn_ratio: float
    ms_per_update: float
    parameters: int
    bytes_per_transition: float
    batch_size: int
    batch_of_config: int
    learner_threads: int
    bf16: bool


def agents() -> list[str]:
    """The experiments that play any Atari game with an agent of their own, the reference first."""
    return sorted(filter(_is_agent, experiments()), key=lambda name: (name != REFERENCE, name))


def _is_agent(experiment: str) -> bool:
    """False for other environments, and for an experiment made for one game."""
    values = yaml.safe_load((conf_dir() / "experiment" / f"{experiment}.yaml").read_text())
    if "game" in values.get("env", {}):
        return False
    defaults = values["defaults"]
    bases = [base for base in defaults if isinstance(base, str) and base != "_self_"]
    return {"override /env": "atari"} in defaults or any(map(_is_agent, bases))


def named(asked: Sequence[str]) -> tuple[str, ...]:
    """The reference, which is always measured, and the agents `asked` for; without any, all.

    Raises:
        ConfigError: one line with the unknown name and those that there are.
    """
    known = agents()
    for name in asked:
        if name not in known:
            raise ConfigError(f"{name}: must be one of {', '.join(known)}")
    return tuple(dict.fromkeys([REFERENCE, *(asked or known)]))


def prepare(name: str, overrides: list[str]) -> tuple[RunConfig, EnvSpec]:
    """The agent's config and what it plays, checked.

    Raises:
        ConfigError: one line that names the key and what it may be.
    """
    for text in overrides:
        if text.lstrip("+").startswith("experiment="):
            raise ConfigError(f"{text}: must be left out, the names say which experiments")
    config = compose([f"experiment={name}", *SAME_FOR_ALL, *overrides])
    spec = check_env(config.env)
    room = max(config.actors.rollout_steps * 2, config.learner.batch_size)
    no_run = replace(
        config,
        engine=EngineConfig(kind="local"),
        run_dir=tempfile.gettempdir(),
        replay=ReplayConfig(capacity=room, min_size=1),
    )
    check(no_run, spec)  # all but the memory of a replay that is not built here
    return config, spec


class Candidate:
    """One agent, warmed up: an actor that plays, and a learner with a batch at hand of what it played.

    `acting` is work in agent steps, `learning` in loss positions, of which an update has `positions`.
    """

    def __init__(self, config: RunConfig, spec: EnvSpec) -> None:
        self.config, self.spec = config, spec
        self.learner = Learner(config.agent, config.learner, spec, config.seed)
        self.weights, self.versions = self.learner.weights().arrays, count()
        self.actor = Actor(config.env, config.agent, config.actors, 0, config.seed)
        on_cpu = self.learner.device.type == "cpu"
        self.batch_size = batch_size(config, spec) if on_cpu else config.learner.batch_size
        self.positions = self.batch_size * config.agent.sequence.length
        self.acting = Work(lambda: int(self._rollout()[1].steps), config.actors.threads)
        self.learning = Work(self._update, config.learner.threads)
        steps = config.actors.rollout_steps
        shard = ReplayShard(config.replay, 2 * steps * config.actors.envs_per_actor, steps, 0, config.seed)
        while not shard.add(self._rollout()[0]).mass:
            pass  # the first rollout's window starts may all lie before the streams began
        self.batch = shard.sample((self.batch_size,), config.replay.beta)[0]
        turn(self.learning, 0.0)

    def _rollout(self) -> Any:
        return self.actor.rollout(Weights(next(self.versions), self.weights))  # fresh weights, as in a run

    def _update(self) -> int:
        self.learner.update(0.0, self.batch)
        return self.positions


def batch_size(config: RunConfig, spec: EnvSpec) -> int:
    """Windows of an update on a CPU: the config's, or of long sequences halved until they fit."""
    size, sequence = config.learner.batch_size, config.agent.sequence
    window = 4 * spec.stack * int(np.prod(spec.frame_shape)) * config.agent.window
    while size > 1 and sequence.length > 1 and size * window > SEQUENCE_BYTES:
        size //= 2
    return size


def take_turns(reference: Work, other: Work, seconds: float) -> list[tuple[float, float]]:
    """Seconds of a unit of `reference` and of `other` in each round, until `other` has had its `seconds`: that
    is after `ROUNDS` rounds, or fewer where a single chunk takes longer than its turn."""
    rounds: list[tuple[float, float]] = []
    spent = 0.0
    while spent < seconds:
        first = turn(reference, seconds / ROUNDS).wall
        start = time.perf_counter()
        rounds.append((first, turn(other, seconds / ROUNDS).wall))
        spent += time.perf_counter() - start
    return rounds


def measure(name: str, candidate: Candidate, reference: Candidate, seconds: float) -> Row:
    """Acting, then learning, each in turns with the reference."""
    act = take_turns(reference.acting, candidate.acting, seconds)
    learn = take_turns(reference.learning, candidate.learning, seconds)
    learner, config = candidate.learner, candidate.config
    sample = statistics.median(own for _, own in learn)
    return Row(
        agent=name,
        act_steps_per_s=1 / statistics.median(own for _, own in act),
        act_ratio=statistics.median(other / own for other, own in act),
        learn_samples_per_s=1 / sample,
        learn_ratio=statistics.median(other / own for other, own in learn),
        ms_per_update=1e3 * sample * candidate.positions,
        parameters=sum(p.numel() for p in learner.online.parameters()),
        bytes_per_transition=bytes_per_transition(config, candidate.spec),
        batch_size=candidate.batch_size,
        batch_of_config=config.learner.batch_size,
        learner_threads=config.learner.threads,
        bf16=learner.online.bf16,
    )


def compare(names: tuple[str, ...], overrides: list[str], seconds: float, console: Console) -> dict[str, Any]:
    """Measures the agents, `seconds` for the acting and for the learning of each, prints the table and gives
    the figures. No more than one agent and the reference are in memory at a time.

    Raises:
        ConfigError: a bad key or value, before anything is measured.
    """
    from torch._dynamo import config as dynamo

    with console.status("composing"):
        prepared = {name: prepare(name, overrides) for name in names}
    rows: list[Row] = []
    with dynamo.patch(recompile_limit=COMPILED):
        with console.status(REFERENCE):
            reference = Candidate(*prepared[REFERENCE])
        for name, (config, spec) in prepared.items():
            with console.status(f"{name}, {len(rows) + 1} of {len(names)}"):
                candidate = reference if name == REFERENCE else Candidate(config, spec)
                rows.append(measure(name, candidate, reference, seconds))
            if candidate is not reference:
                candidate.actor.close()
            del candidate
            gc.collect()
    reference.actor.close()
    actors = reference.config.actors
    common = {
        "env": reference.spec.name,
        "slots": actors.envs_per_actor,
        "actor_threads": actors.threads,
        "device": reference.learner.device.type,
    }
    title = "{env}, each with one actor of {slots} slots on {actor_threads} thread(s), learner on {device}"
    show("distdqn: agents on " + title.format(**common), rows, console)
    return {"reference": REFERENCE, **common, "agents": [asdict(row) for row in rows]}


def show(title: str, rows: list[Row], console: Console) -> None:
    """Prints the table."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("agent", style="cyan", no_wrap=True)
    ratio = f"x\n{REFERENCE}"
    for header in (
        "act\nsteps/s",
        ratio,
        "learn\nsamples/s",
        ratio,
        "ms per\nupdate",
        "million\nparameters",
        "bytes per\ntransition",
    ):
        table.add_column(header, justify="right", vertical="bottom")
    table.add_column("learner", overflow="fold")
    for r in rows:
        table.add_row(
            r.agent,
            f"{r.act_steps_per_s:,.0f}",
            f"{r.act_ratio:.2f}",
            f"{r.learn_samples_per_s:,.0f}",
            f"{r.learn_ratio:.2f}",
            f"{r.ms_per_update:,.1f}",
            f"{r.parameters / 1e6:.2f}",
            f"{r.bytes_per_transition:,.0f}",
            _remark(r),
        )
    console.print(table)
    console.print(f"Medians of rounds; {REFERENCE} to itself shows the noise. Samples are loss positions.")


def _remark(row: Row) -> str:
    """The terms of the update."""
    of = f" of {row.batch_of_config}" * (row.batch_size < row.batch_of_config)
    return f"batch {row.batch_size}{of}, {row.learner_threads} thread(s){', bf16' * row.bf16}"
