"""What must be true before anything heavy starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distdqn.config import ConfigError, RunConfig
from distdqn.machine import Machine, disk_free, inspect
from distdqn.types import EnvSpec

GIB = 1024**3
DISK_NEEDED = GIB // 2
"""Checkpoints of the largest of our networks, videos and metrics of a long run."""


def bytes_per_transition(config: RunConfig, spec: EnvSpec) -> float:
    """Replay memory that one transition takes, its priority included."""
    steps, window = config.actors.rollout_steps, config.agent.n_step
    frame = int(np.prod(spec.frame_shape)) * np.dtype(spec.frame_dtype).itemsize
    frames = (spec.stack - 1 + steps + window) * frame
    per_step = (8 + 4 + 1 + 1 + 4) * (steps + window)
    leaves = 1
    while leaves < config.replay.capacity // config.replay.shards:
        leaves *= 2
    tree = 2 * leaves * 8 * config.replay.shards / config.replay.capacity
    return (frames + per_step + steps) / steps + tree


def batch_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Size of what one call of the learner is fed."""
    frame = int(np.prod(spec.frame_shape)) * np.dtype(spec.frame_dtype).itemsize
    return config.learner.batch_size * config.learner.updates_per_call * (spec.stack + config.agent.n_step) * frame


def object_store_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Shared memory for everything that can be on its way at once, three times over."""
    frame = int(np.prod(spec.frame_shape)) * np.dtype(spec.frame_dtype).itemsize
    rollout = config.slots * (config.actors.rollout_steps + config.agent.n_step + spec.stack) * frame
    flight = (config.learner.in_flight + 2) * batch_bytes(config, spec) + (config.actors.in_flight + 1) * rollout
    return max(256 * 1024**2, 3 * flight)


def check(config: RunConfig, spec: EnvSpec, machine: Machine | None = None) -> None:
    """Refuses a run that this machine cannot hold.

    Raises:
        ConfigError: one line that names the key and what would fit.
    """
    machine = machine or inspect()
    if config.agent.network.torso in ("dqn_2013", "dqn_2015") and not spec.pixels:
        raise ConfigError(f"agent.network.torso={config.agent.network.torso}: needs images, but {spec.name} gives "
                          f"vectors of {spec.frame_shape[0]} numbers; use mlp")  # fmt: skip
    if config.learner.device.startswith("cuda") and not machine.gpus and config.engine.address is None:
        raise ConfigError(f"learner.device={config.learner.device}: no CUDA device here; use cpu or auto")
    if config.agent.n_step > 1 and config.agent.network.torso == "tabular" and spec.pixels:
        raise ConfigError("agent.network.torso=tabular: needs one-hot vectors, env gives images; use mlp")
    if config.engine.address is None:
        each = bytes_per_transition(config, spec)
        need = each * config.replay.capacity
        if need > machine.memory_free * 0.9:
            fits = int(machine.memory_free * 0.8 / each / 1000) * 1000
            raise ConfigError(f"replay.capacity={config.replay.capacity}: needs {need / GIB:.1f} GiB of memory, "
                              f"{machine.memory_free / GIB:.1f} GiB are free; {fits} would fit")  # fmt: skip
        store = object_store_bytes(config, spec)
        if config.engine.kind == "ray" and store > machine.shared_memory_free:
            raise ConfigError(f"learner.batch_size={config.learner.batch_size}: batches and rollouts on their way "
                              f"need {store / GIB:.1f} GiB of shared memory, /dev/shm has "
                              f"{machine.shared_memory_free / GIB:.1f} GiB; lower learner.batch_size, "
                              "learner.updates_per_call or actors.envs_per_actor")  # fmt: skip
    free = disk_free(Path(config.run_dir))
    if free < DISK_NEEDED:
        raise ConfigError(f"run_dir={config.run_dir}: {free / GIB:.2f} GiB free on that disk, "
                          f"a run needs {DISK_NEEDED / GIB:.1f} GiB")  # fmt: skip
