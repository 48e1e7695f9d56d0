"""Stable-Baselines3's DQN in turn with distdqn, on equal terms.

Equal: the game and its protocol, 84 x 84 grey frames, stacks of 4, the 2015 network (SB3's `CnnPolicy` is the
same), batch 32, a gradient step every 4 agent steps, uniform replay of the same size, already warm, one-step
targets, Huber loss, Adam, epsilon 0.1 throughout, the device and the cores. Not equal: how each uses them, which
is what is measured. distdqn plays and learns in several processes; SB3 does one after the other and may use
PyTorch's threads.

SB3 runs in four forms, and each is quoted: one environment with `train_freq=4`, as it is mostly used, and four
environments with `train_freq=1`, which is the same ratio but infers for four at once; each with one and with
`cores` threads. Periods alternate within each round, so that all see the same machine.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from distdqn.bench.measure import family_cpu
from distdqn.bench.table import mark
from distdqn.bench.whole import TrialRun
from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.learn.device import pick_device
from distdqn.machine import inspect
from distdqn.runtime.engine import Engine
from distdqn.types import EnvSpec

ROUNDS = 3
TARGET = 2.0
"""Ratio to the peer with one environment, as it is mostly used."""
EPSILON = 0.1
CAPACITY, WARM = 10_000, 2_000
"""Transitions in each replay, and those there before learning starts."""
TERMS = (
    "experiment=dqn_2015",
    f"agent.exploration.epsilon={EPSILON}",
    f"agent.exploration.final_epsilon={EPSILON}",
    f"replay.capacity={CAPACITY}",
    f"replay.min_size={WARM}",
    "learner.optimizer.kind=adam",
    "learner.optimizer.max_grad_norm=10",
)
EQUAL = {
    "env.kind": "atari",
    "env.frame_size": 84,
    "env.stack": 4,
    "env.frame_skip": 4,
    "agent.network.torso.kind": "dqn_2015",
    "agent.network.head.hidden": (512,),
    "agent.network.head.dueling": False,
    "agent.bootstrap.kind": "max",
    "agent.n_step": 1,
    "replay.kind": "uniform",
    "learner.optimizer.kind": "adam",
    "learner.batch_size": 32,
    "learner.samples_per_insert": 8.0,
}
"""What no override may change."""


@dataclass(frozen=True)
class Comparison:
    """Agent steps/s of distdqn and of each form of the peer, one figure a round; `idle_cpu`: CPU seconds per second
    that distdqn's paused processes took meanwhile from the peer."""

    distdqn: list[float]
    peer: dict[str, list[float]]
    idle_cpu: float

    def ratio(self, environments: int) -> float:
        """Median of distdqn over that of the peer's better form with so many environments."""
        forms = [statistics.median(v) for k, v in self.peer.items() if k.startswith(f"{environments} env")]
        return statistics.median(self.distdqn) / max(forms)


def peer_config(overrides: list[str]) -> RunConfig:
    """distdqn's config: the equal terms, and `overrides` for what they leave open (`env.game`, `actors.*`).

    Raises:
        ConfigError: SB3 is not installed, or an override breaks the terms.
    """
    for module in ("stable_baselines3", "cv2"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"peer: {module} is not installed; pip install 'distdqn[bench]' brings it")
    config = compose([*TERMS, *overrides])
    for key, wanted in EQUAL.items():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        if value != wanted:
            raise ConfigError(f"{key}={value}: must be {wanted}, since both play on equal terms")
    return config


def compare(config: RunConfig, spec: EnvSpec, engine: Engine, seconds: float) -> Comparison:
    """Runs both in turns of `seconds` each, and as much again in distdqn to get under way."""
    cores = inspect().cores
    peers = {n: _Peer(config, n) for n in (1, 4)}
    forms = [(n, threads) for n in peers for threads in sorted({1, cores})]
    own: list[float] = []
    rates: dict[str, list[float]] = {_name(*form): [] for form in forms}
    idle: list[float] = []
    with TrialRun(config, spec, engine) as run:
        run.warm_up()
        for peer in peers.values():
            peer.learn(seconds / 2)
        for _ in range(ROUNDS):
            own.append(run.measure(seconds, drop=seconds / 2).reached(config.learner.samples_per_insert))
            run.coordinator.pause()
            cpu, start = _others_cpu(), time.perf_counter()
            for n, threads in forms:
                torch.set_num_threads(threads)
                rates[_name(n, threads)].append(peers[n].learn(seconds))
            idle.append((_others_cpu() - cpu) / (time.perf_counter() - start))
    return Comparison(own, rates, statistics.median(idle))


def _others_cpu() -> float:
    """CPU seconds that distdqn's other processes have spent."""
    return sum(seconds for pid, seconds in family_cpu().items() if pid != os.getpid())


def _name(environments: int, threads: int) -> str:
    return f"{environments} environment{'s' * (environments > 1)}, {threads} thread{'s' * (threads > 1)}"


class _Peer:
    """SB3's DQN with `environments` slots, a gradient step every 4 agent steps of all together."""

    def __init__(self, config: RunConfig, environments: int) -> None:
        import ale_py
        import gymnasium
        from stable_baselines3 import DQN
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import VecFrameStack

        gymnasium.register_envs(ale_py)
        protocol = config.env.protocol
        game = "".join(word.capitalize() for word in config.env.game.split("_"))
        env = make_atari_env(
            f"ALE/{game}-v5",
            environments,
            config.seed,
            env_kwargs={
                "frameskip": 1,
                "repeat_action_probability": protocol.sticky,
                "full_action_space": protocol.full_action_set,
                "max_num_frames_per_episode": protocol.max_frames,
            },
            wrapper_kwargs={
                "noop_max": protocol.noop_max,
                "frame_skip": config.env.frame_skip,
                "screen_size": config.env.frame_size,
                "terminal_on_life_loss": protocol.life_loss_terminates,
                "clip_reward": config.agent.reward == "clip",
            },
        )
        self.model = DQN(
            "CnnPolicy",
            VecFrameStack(env, config.env.stack),
            learning_rate=config.learner.optimizer.learning_rate,
            buffer_size=config.replay.capacity,
            learning_starts=config.replay.min_size,
            batch_size=config.learner.batch_size,
            gamma=config.agent.discount,
            train_freq=4 // environments,
            gradient_steps=1,
            target_update_interval=4 * config.learner.target.period,
            exploration_initial_eps=EPSILON,
            exploration_final_eps=EPSILON,
            max_grad_norm=config.learner.optimizer.max_grad_norm or float("inf"),
            optimize_memory_usage=True,
            replay_buffer_kwargs={"handle_timeout_termination": False},
            seed=config.seed,
            device=pick_device(config.learner.device).type,
        )
        self.model.learn(config.replay.min_size + 100, reset_num_timesteps=False)

    def learn(self, seconds: float) -> float:
        """Trains for about `seconds`; agent steps/s."""
        from stable_baselines3.common.callbacks import BaseCallback

        end = time.perf_counter() + seconds

        class Until(BaseCallback):
            def _on_step(self) -> bool:
                return time.perf_counter() < end

        steps, start = self.model.num_timesteps, time.perf_counter()
        self.model.learn(10**9, callback=Until(), reset_num_timesteps=False)
        return (self.model.num_timesteps - steps) / (time.perf_counter() - start)


def figures(comparison: Comparison) -> dict[str, Any]:
    """What is printed, as plain values."""
    c = comparison
    return {**asdict(c), "ratio_one_environment": c.ratio(1), "ratio_four_environments": c.ratio(4)}


def show(config: RunConfig, found: Comparison, console: Console) -> None:
    """Prints the comparison: ratios over the peer's better forms with one and with four environments."""
    name = f"Stable-Baselines3 {version('stable-baselines3')}"
    title = f"distdqn beside {name}: {config.env.game}, agent steps/s"
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="cyan")
    table.add_column("median", justify="right")
    table.add_column("rounds")
    slots = f"{config.actors.count} x {config.actors.envs_per_actor} environments"
    rows = {f"distdqn, {slots}": found.distdqn} | {f"SB3, {form}": rates for form, rates in found.peer.items()}
    for label, rates in rows.items():
        table.add_row(label, f"{statistics.median(rates):,.0f}", ", ".join(f"{x:,.0f}" for x in rates))
    console.print(title, style="bold")
    console.print(table)
    one, four = found.ratio(1), found.ratio(4)
    console.print(f"ratio {one:.2f} to SB3 with one environment, {mark(one, TARGET)}; {four:.2f} to SB3 with four")
    terms = f"Batch {config.learner.batch_size}, a gradient step every 4 agent steps, 2015 network, 84 x 84."
    console.print(f"{terms} distdqn, paused, took {found.idle_cpu:.1%} of a core from the peer.")
